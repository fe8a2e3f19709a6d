// Package status is what a node says of itself: one Report, for people, for
// programs and for health checks.
package status

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A Colour is the whole state in one word.
type Colour string

// The three colours and their three rules.
const (
	Green  Colour = "green"
	Yellow Colour = "yellow" // something will turn red if nobody looks
	Red    Colour = "red"    // devices are being refused, or records cannot go on
)

// A Report is the state of one node at one moment. Its JSON is the answer of
// "tributary status --json" and of /api/status.
type Report struct {
	Colour  Colour    `json:"colour"`
	Reasons []string  `json:"reasons"` // why it is not green: sentences
	Node    string    `json:"node"`
	NodeID  string    `json:"node_id"`
	Site    string    `json:"site"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Boots   uint64    `json:"boots"` // starts of this node so far

	MQTT   MQTT   `json:"mqtt"`
	Log    Log    `json:"log"`
	Flash  Flash  `json:"flash"`
	Uplink Uplink `json:"uplink"`
	Config Config `json:"config"`

	Totals Totals `json:"totals"`
	Rates  Rates  `json:"rates"`

	Gateways *Gateways `json:"gateways,omitempty"` // absent: this node is alone
}

// Config says what came of the configuration.
type Config struct {
	BadReload    string   `json:"bad_reload"`    // what was wrong with it at the last reload, so that all stayed as it was; "" nothing
	NeedsRestart []string `json:"needs_restart"` // keys whose new values wait for one, such as "[log] segment"
	LastGood     string   `json:"last_good"`     // why the node runs with the last good one instead; "" it does not
}

// MQTT counts what devices do, since the start.
type MQTT struct {
	Listen       []string  `json:"listen"`
	Connections  int64     `json:"connections"`
	Received     [3]uint64 `json:"received"` // PUBLISH packets, by QoS
	Durable      [3]uint64 `json:"durable"`  // messages that are on this disk, by QoS
	NoRoute      uint64    `json:"no_route"` // of those, how many go to the dead-letter topic because their own is impossible
	Resent       uint64    `json:"resent"`   // QoS 2 messages sent again and not stored again
	RefusedFull  uint64    `json:"refused_full"`
	RefusedDisk  uint64    `json:"refused_disk"`
	RefusedTopic uint64    `json:"refused_topic"`

	Sessions        int64    `json:"sessions"` // of connected and of absent clients
	Subscriptions   int64    `json:"subscriptions"`
	Retained        int64    `json:"retained"`         // retained messages held
	Sent            uint64   `json:"sent"`             // PUBLISH packets to local subscribers
	SubscribersLost uint64   `json:"subscribers_lost"` // messages that local subscribers did not get: too slow, or away too long
	RefusedClients  uint64   `json:"refused_clients"`  // connections refused: too many, or not who they say
	Slowed          uint64   `json:"slowed"`           // times that a client had to wait because it sent too fast
	TooFast         uint64   `json:"too_fast"`         // connections closed because that went on for too long
	Withdrawn       uint64   `json:"withdrawn"`        // connections closed because after a reload the client would not be let in again
	BadReload       string   `json:"bad_reload"`       // why the last reload of passwords and rights failed; "" when it did not
	Doubts          []string `json:"doubts"`           // what is in force of these and yet worth a look
}

// Log says what is on this disk.
type Log struct {
	Ledger        string  `json:"ledger"` // the live one
	Next          uint64  `json:"next"`   // its next record
	Durable       uint64  `json:"durable"`
	UsedBytes     int64   `json:"used_bytes"`
	FreeBytes     int64   `json:"free_bytes"` // what may still be filled, or is in Kafka and may be used again
	MaxBytes      int64   `json:"max_bytes"`
	Refusing      bool    `json:"refusing"`             // it is full, and devices are told to wait
	NoSegment     string  `json:"no_segment,omitempty"` // why no further segment can be had, if it is not that the log is full
	Flushes       int64   `json:"flushes"`
	WrittenBytes  int64   `json:"written_bytes"`
	FlushMeanMs   float64 `json:"flush_mean_ms"`
	FlushMaxMs    float64 `json:"flush_max_ms"`
	FlushP50Ms    float64 `json:"flush_p50_ms"` // of the last minute; 0: there was none
	FlushP99Ms    float64 `json:"flush_p99_ms"`
	AckP50Ms      float64 `json:"ack_p50_ms"`       // from a record's coming to its being durable here, of the last minute
	AckP99Ms      float64 `json:"ack_p99_ms"`       // copies on other gateways may take longer
	Failed        string  `json:"failed,omitempty"` // why the log takes nothing more
	DamagedRanges int     `json:"damaged_ranges"`   // of files, found at the start
	Holes         []Hole  `json:"holes"`            // records that the disk has damaged, as far as is known

	LedgerEnded    string `json:"ledger_ended,omitempty"` // why the log had to go on in a new ledger
	DiskError      string `json:"disk_error,omitempty"`   // the last error of the disk that ended nothing
	DroppedRecords int64  `json:"dropped_records"`        // by on_full = "drop-oldest", since the start
	UntoldRecords  int64  `json:"untold_records"`         // dropped, now or before the start, and Kafka does not know yet
	HasAlarms      bool   `json:"has_alarms"`             // some route is for alarms
	DropsOldest    bool   `json:"drops_oldest"`           // on_full = "drop-oldest"
	RefusingAlarms bool   `json:"refusing_alarms"`        // the reserve for alarms is full, too
	Records        int64  `json:"records"`                // written, since the start
	ClockSynced    bool   `json:"clock_synced"`           // the time of day is synchronised
	RoomBytes      int64  `json:"room_bytes"`             // what can still be written, with what packing will save
	PackedFrom     int64  `json:"packed_from_bytes"`      // so much was packed,
	PackedTo       int64  `json:"packed_to_bytes"`        // into so much

	Filling           bool    `json:"filling"`              // what is not in Kafka grows
	GrowthBytesPerDay float64 `json:"growth_bytes_per_day"` // by so much, measured over the last minutes
	RoomDays          float64 `json:"room_days"`            // so long, when it is filling
	FullSoon          bool    `json:"full_soon"`            // it is full within a day
}

// A Hole is a stretch of a ledger, the records From to To-1, that the disk has
// damaged.
type Hole struct {
	Ledger string `json:"ledger"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
}

// Flash says what is written to the device that holds the data directory. Counts
// are since the start, what is per day or per record is of the last hour.
type Flash struct {
	Device string `json:"device,omitempty"` // "" if the kernel shows none

	Bytes        int64 `json:"bytes"` // given to the device by this node
	LogBytes     int64 `json:"log_bytes"`
	MetaBytes    int64 `json:"meta_bytes"`
	JournalBytes int64 `json:"journal_bytes"` // by the file system, for this node
	JournalKnown bool  `json:"journal_known"` // or else nothing is counted for it
	Flushes      int64 `json:"flushes"`

	KernelKnown   bool  `json:"kernel_known"`
	KernelBytes   int64 `json:"kernel_bytes"` // given to the device by all programs, as the kernel counts
	KernelFlushes int64 `json:"kernel_flushes"`

	WindowSeconds       float64 `json:"window_seconds"` // of what follows; below 60 it is too early to say what a day brings
	BytesPerDay         float64 `json:"bytes_per_day"`
	FlushesPerDay       float64 `json:"flushes_per_day"`
	KernelBytesPerDay   float64 `json:"kernel_bytes_per_day"`
	KernelFlushesPerDay float64 `json:"kernel_flushes_per_day"`
	BytesPerRecord      float64 `json:"bytes_per_record"`
	FlushesPerRecord    float64 `json:"flushes_per_record"`

	EnduranceBytes int64   `json:"endurance_bytes"` // as configured; 0: not known
	LifeYears      float64 `json:"life_years"`      // of a new card, at the kernel's rate or else our own; 0: not known
}

// Uplink says how far the records are in Kafka.
type Uplink struct {
	State     string    `json:"state"` // connecting, forwarding, waiting, stopped
	What      string    `json:"what,omitempty"`
	Do        string    `json:"do,omitempty"`
	Since     time.Time `json:"since"`
	Waiting   uint64    `json:"waiting"` // records not in Kafka yet
	Ledgers   int       `json:"ledgers"` // that have such records
	Sent      uint64    `json:"sent"`    // records, since the start
	SentBytes uint64    `json:"sent_bytes"`

	// What went over the connections to Kafka since the start, with requests, retries and
	// TLS, without TCP.
	WireSentBytes     uint64  `json:"wire_sent_bytes"`
	WireReceivedBytes uint64  `json:"wire_received_bytes"`
	WirePerRecord     float64 `json:"wire_bytes_per_record"` // both, for each record sent; 0 if there is none
	WireBytesPerDay   float64 `json:"wire_bytes_per_day"`    // both, as of the time since the start; 0 in the first minute

	Transactions uint64 `json:"transactions"`
	DeadLetters  uint64 `json:"dead_letters"`
	Gaps         uint64 `json:"gaps"`        // records in the dead-letter topic that say that others are gone
	GapRecords   uint64 `json:"gap_records"` // those others
	Failed       uint64 `json:"failed"`
	Fenced       uint64 `json:"fenced"`
	Twice        uint64 `json:"twice"` // records committed though Kafka had them already, as the positions say
	Cluster      string `json:"kafka_cluster_id,omitempty"`
}

// Wire notes what went over the connections to Kafka in the time since the start.
func (u *Uplink) Wire(sent, received uint64, since time.Duration) {
	u.WireSentBytes, u.WireReceivedBytes = sent, received
	if u.Sent > 0 {
		u.WirePerRecord = float64(sent+received) / float64(u.Sent)
	}
	if since >= time.Minute {
		u.WireBytesPerDay = float64(sent+received) / since.Hours() * 24
	}
}

// wire says what the link carries, for people.
func (u *Uplink) wire() string {
	text := ""
	if u.WirePerRecord > 0 {
		text = fmt.Sprintf("   link %.0f B a record", u.WirePerRecord)
	}
	if u.WireBytesPerDay > 0 {
		text += fmt.Sprintf(", %s a day", Bytes(int64(u.WireBytesPerDay)))
	}
	return text
}

// Text writes the report for people, on one screen.
func (r *Report) Text(w io.Writer, now time.Time) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, " %-8s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, " %s  %s  site %s  tributary %s  up %s  start %d\n", r.Node, strings.ToUpper(string(r.Colour)), r.Site, r.Version,
		now.Sub(r.Started).Round(time.Second), r.Boots)
	line("DEVICES", "%d connected on %s", r.MQTT.Connections, strings.Join(r.MQTT.Listen, " "))
	line("LOCAL", "%d sessions, %d subscriptions, %d retained   sent %d   not delivered %d   clients refused %d", r.MQTT.Sessions,
		r.MQTT.Subscriptions, r.MQTT.Retained, r.MQTT.Sent, r.MQTT.SubscribersLost, r.MQTT.RefusedClients)
	line("IN", "QoS 0 %d   QoS 1 %d   QoS 2 %d   on disk %d", r.MQTT.Received[0], r.MQTT.Received[1], r.MQTT.Received[2],
		r.MQTT.Durable[0]+r.MQTT.Durable[1]+r.MQTT.Durable[2])
	line("LOG", "%s of %s, %s free, %s%s   flush mean %.1f ms max %.1f ms", Bytes(r.Log.UsedBytes), Bytes(r.Log.MaxBytes),
		Bytes(r.Log.FreeBytes), r.Log.Room(), r.Log.perRecord(), r.Log.FlushMeanMs, r.Log.FlushMaxMs)
	line("FLASH", "%s", r.Flash.Text())
	line("UPLINK", "%s   waiting %d records   sent %d (%s) in %d transactions%s", r.Uplink.State, r.Uplink.Waiting,
		r.Uplink.Sent, Bytes(int64(r.Uplink.SentBytes)), r.Uplink.Transactions, r.Uplink.wire())
	if r.Uplink.What != "" && len(r.Reasons) == 0 {
		line("", "%s. %s", strings.TrimSuffix(r.Uplink.What, "."), r.Uplink.Do)
	}
	if r.Gateways != nil {
		line("SITE", "%s", r.Gateways.text())
	}
	line("LOST", "%d   TWICE %d   REFUSED %d (full %d, disk %d, topic %d)   DEAD LETTER %d   GAPS TOLD %d records in %d",
		r.Totals.Lost, r.Totals.Twice, r.Totals.Refused, r.MQTT.RefusedFull, r.MQTT.RefusedDisk, r.MQTT.RefusedTopic,
		r.Totals.DeadLetters, r.Uplink.GapRecords, r.Uplink.Gaps)
	for _, reason := range r.Reasons {
		fmt.Fprintf(&b, " ! %s\n", reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Bytes writes a number of bytes for people.
func Bytes(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30))
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
