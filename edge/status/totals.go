package status

// Totals are the four figures that should be 0, since the start.
type Totals struct {
	// Lost is how many acknowledged records Kafka will never have, as far as is known:
	// those that a gap record names, those dropped that none names yet, and those that
	// the disk has damaged and Kafka lacks.
	Lost        uint64 `json:"lost"`
	Twice       uint64 `json:"twice"`        // records that this node has committed in Kafka twice, as the positions say
	Refused     uint64 `json:"refused"`      // messages that devices must keep, and of QoS 0 those that are gone
	DeadLetters uint64 `json:"dead_letters"` // records that are in the dead-letter topic, or go there
}

// Rates are messages per second, over the last ten seconds or so.
type Rates struct {
	WindowSeconds float64 `json:"window_seconds"` // measured over; 0: not yet
	In            float64 `json:"in"`             // from devices, durable here
	Out           float64 `json:"out"`            // into Kafka
}

// Sum sets Totals from the counts. missing is how many records the disk has damaged
// that Kafka lacks.
func (r *Report) Sum(missing uint64) {
	r.Totals = Totals{
		Lost:        r.Uplink.GapRecords + uint64(max(0, r.Log.UntoldRecords)) + missing,
		Twice:       r.Uplink.Twice,
		Refused:     r.MQTT.RefusedFull + r.MQTT.RefusedDisk + r.MQTT.RefusedTopic,
		DeadLetters: r.Uplink.DeadLetters + r.MQTT.NoRoute,
	}
}

// A History is how the rates and what waits were, oldest first. It begins anew with
// the process.
type History struct {
	Minutes Series `json:"minutes"` // the last ten, finely
	Day     Series `json:"day"`
}

// A Series has one value each for every step of time; the last one ends at End.
type Series struct {
	EverySeconds int       `json:"every_seconds"`
	End          int64     `json:"end"` // seconds since 1970
	In           []float32 `json:"in"`  // messages per second
	Out          []float32 `json:"out"`
	Waiting      []float32 `json:"waiting"` // records
}
