package status

import (
	"io"
	"strconv"
	"strings"
)

// MetricsType is the content type of what Metrics writes.
const MetricsType = "text/plain; version=0.0.4; charset=utf-8"

// Metrics writes the report in the text format of Prometheus. Names and labels
// are a promise: dashboards depend on them. No label has a value that a device
// could choose.
func (r *Report) Metrics(w io.Writer) error {
	m := &metrics{}
	r.nodeMetrics(m)
	r.MQTT.metrics(m)
	r.Log.metrics(m)
	r.Flash.metrics(m)
	r.Uplink.metrics(m)
	r.Config.metrics(m)
	_, err := io.WriteString(w, m.String())
	return err
}

// metrics gathers the lines.
type metrics struct{ strings.Builder }

// A point is one value of a metric, with its one label if the metric has one.
type point struct {
	label, value string
	number       float64
}

// gauge writes a metric that goes up and down.
func (m *metrics) gauge(name, help string, points ...point) { m.metric(name, "gauge", help, points) }

// counter writes a metric that only grows while the process lives; its name gets
// the suffix _total.
func (m *metrics) counter(name, help string, points ...point) {
	m.metric(name+"_total", "counter", help, points)
}

func (m *metrics) metric(name, kind, help string, points []point) {
	if len(points) == 0 {
		return
	}
	m.WriteString("# HELP tributary_" + name + " " + help + "\n# TYPE tributary_" + name + " " + kind + "\n")
	for _, p := range points {
		m.WriteString("tributary_" + name)
		if p.label != "" {
			m.WriteString("{" + p.label + `="` + escaped(p.value) + `"}`)
		}
		m.WriteString(" " + strconv.FormatFloat(p.number, 'g', -1, 64) + "\n")
	}
}

func escaped(label string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(label)
}

func one[T int | int64 | uint64 | float64](n T) point { return point{number: float64(n)} }

func of[T int64 | uint64 | float64](label, value string, n T) point {
	return point{label, value, float64(n)}
}

func yes(b bool) point {
	if b {
		return one(1)
	}
	return one(0)
}

func (r *Report) nodeMetrics(m *metrics) {
	m.gauge("build_info", "The version of the program; always 1.", of("version", r.Version, 1.0))
	m.gauge("start_time_seconds", "When the process started, since 1970.", one(float64(r.Started.UnixMilli())/1000))
	m.counter("starts", "Starts of this node so far.", one(r.Boots))
	colours := make([]point, 0, 3)
	for _, c := range []Colour{Green, Yellow, Red} {
		p := yes(r.Colour == c)
		p.label, p.value = "colour", string(c)
		colours = append(colours, p)
	}
	m.gauge("state", "1 for the colour that the node has.", colours...)
	m.gauge("lost_records", "Acknowledged records that Kafka will never have, as far as is known.", one(r.Totals.Lost))
	m.counter("twice_records", "Records committed in Kafka though it had them already.", one(r.Totals.Twice))
	if g := r.Gateways; g != nil {
		m.gauge("site_short", "1 while records are acknowledged without the copies that are wanted.", yes(g.Short))
		m.counter("site_unprotected_records", "Records acknowledged without the copies that are wanted.", one(g.Unprotected))
		m.gauge("site_stuck_ledgers", "Ledgers of other nodes that cannot be forwarded: all copies that are there are damaged.", one(len(g.Stuck)))
		m.gauge("site_alarms", "Alarms of the site raised within a day.", one(len(g.Alarms)))
		m.counter("site_let_in", "Devices for which the other nodes were asked.", one(g.LetIn))
		m.counter("site_unverified_sessions", "Sessions whose records are flagged, because a node did not answer.", one(g.Unverified))
		m.gauge("site_at_mark", "Ledgers that wait for what their devices sent to other nodes before.", one(len(g.AtMark)))
		m.gauge("site_copies", "Ledgers of other nodes of which this one holds a copy.", one(len(g.Copies)))
	}
}

func byQoS(counts [3]uint64) []point {
	points := make([]point, 0, len(counts))
	for qos, n := range counts {
		points = append(points, of("qos", strconv.Itoa(qos), n))
	}
	return points
}

func (d *MQTT) metrics(m *metrics) {
	m.gauge("mqtt_connections", "Devices that are connected.", one(d.Connections))
	m.counter("mqtt_received", "PUBLISH packets received.", byQoS(d.Received)...)
	m.counter("mqtt_durable", "Messages that are on this disk.", byQoS(d.Durable)...)
	m.counter("mqtt_resent", "QoS 2 messages that were sent again and not stored again.", one(d.Resent))
	m.counter("mqtt_no_route", "Messages that go to the dead-letter topic, because their own is impossible.", one(d.NoRoute))
	m.counter("mqtt_refused", "Messages that were refused.",
		of("reason", "full", d.RefusedFull), of("reason", "disk", d.RefusedDisk), of("reason", "topic", d.RefusedTopic))
	m.counter("mqtt_refused_clients", "Connections that were refused: too many, or not who they say.", one(d.RefusedClients))
	m.counter("mqtt_slowed", "Times that a client had to wait because it sent too fast.", one(d.Slowed))
	m.counter("mqtt_disconnected", "Connections that were closed: too fast for too long, or withdrawn by a reload.",
		of("reason", "rate", d.TooFast), of("reason", "withdrawn", d.Withdrawn))
	m.gauge("mqtt_sessions", "Sessions of connected and of absent clients.", one(d.Sessions))
	m.gauge("mqtt_subscriptions", "Subscriptions held.", one(d.Subscriptions))
	m.gauge("mqtt_retained", "Retained messages held.", one(d.Retained))
	m.counter("mqtt_sent", "PUBLISH packets to local subscribers.", one(d.Sent))
	m.counter("mqtt_subscribers_lost", "Messages that local subscribers did not get: too slow, or away too long.", one(d.SubscribersLost))
	m.gauge("mqtt_bad_reload", "1 while the last reload of passwords and rights has failed.", yes(d.BadReload != ""))
}

func (c *Config) metrics(m *metrics) {
	m.gauge("config_bad_reload", "1 while the last reload of the configuration has failed.", yes(c.BadReload != ""))
	m.gauge("config_needs_restart", "Keys whose new values wait for a restart.", one(len(c.NeedsRestart)))
	m.gauge("config_last_good", "1 while the node runs with the last good configuration, because its own is broken.", yes(c.LastGood != ""))
}

func (l *Log) metrics(m *metrics) {
	m.gauge("log_next_record", "Number of the next record of the running ledger.", one(l.Next))
	m.gauge("log_durable_record", "Number below which every record of the running ledger is durable.", one(l.Durable))
	m.gauge("log_used_bytes", "Bytes that records take.", one(l.UsedBytes))
	m.gauge("log_free_bytes", "Bytes that may still be filled, or are in Kafka and may be used again.", one(l.FreeBytes))
	m.gauge("log_limit_bytes", "Bytes that the log may have.", one(l.MaxBytes))
	m.gauge("log_refusing", "1 while devices are told to wait, because the log is full.", yes(l.Refusing))
	m.gauge("log_failed", "1 once a write or flush has failed.", yes(l.Failed != ""))
	m.gauge("log_damaged_ranges", "Stretches of the log that the disk has damaged.", one(l.DamagedRanges))
	m.gauge("log_holes", "Stretches of records that the disk has damaged, as far as is known.", one(len(l.Holes)))
	m.gauge("log_ledger_ended", "1 once a write has failed and the log has gone on in a new ledger.", yes(l.LedgerEnded != ""))
	m.counter("log_dropped_records", "Records dropped before they were in Kafka, by the policy for a full log.", one(l.DroppedRecords))
	m.gauge("log_untold_records", "Records dropped, now or before the start, of which Kafka does not know yet.", one(l.UntoldRecords))
	m.gauge("log_refusing_alarms", "1 while alarms are told to wait too, because their reserve is full.", yes(l.RefusingAlarms))
	m.counter("log_written_records", "Records written.", one(l.Records))
	m.counter("log_packed_from_bytes", "Bytes of segments that were packed.", one(l.PackedFrom))
	m.counter("log_packed_to_bytes", "Bytes of the packed segments.", one(l.PackedTo))
	m.gauge("log_room_bytes", "What can still be written before the log is full, with what packing will save.", one(l.RoomBytes))
	m.gauge("clock_synced", "1 while the time of day is synchronised.", yes(l.ClockSynced))
	m.counter("log_flushes", "Flushes by commits.", one(l.Flushes))
	m.counter("log_written_bytes", "Bytes given to the device by commits.", one(l.WrittenBytes))
	m.gauge("log_flush_mean_seconds", "Duration of a flush, moving mean.", one(l.FlushMeanMs/1000))
	m.gauge("log_flush_max_seconds", "Longest flush since the start.", one(l.FlushMaxMs/1000))
	m.gauge("log_flush_p99_seconds", "What 99 of 100 flushes of the last minute did not exceed.", one(l.FlushP99Ms/1000))
	m.gauge("log_ack_p50_seconds", "What half of the records of the last minute did not exceed until they were durable here.", one(l.AckP50Ms/1000))
	m.gauge("log_ack_p99_seconds", "What 99 of 100 records of the last minute did not exceed until they were durable here.", one(l.AckP99Ms/1000))
	m.gauge("log_growth_bytes_per_second", "By how much what is not in Kafka grows; 0 if it does not.", one(l.GrowthBytesPerDay/86400))
	if days := l.RoomDays; l.Filling || l.Refusing {
		if l.Refusing {
			days = 0
		}
		m.gauge("log_room_seconds", "How long the log has room at this rate; 0 while it refuses, absent while it is not filling.", one(days*86400))
	}
}

func (f *Flash) metrics(m *metrics) {
	m.counter("flash_written_bytes", "Bytes given to the device by this node, by what for.",
		of("part", "log", f.LogBytes), of("part", "meta", f.MetaBytes), of("part", "journal", f.JournalBytes))
	m.counter("flash_flushes", "Flushes of the device by this node.", one(f.Flushes))
	if f.KernelKnown {
		m.counter("flash_device_written_bytes", "Bytes given to the device by all programs since the node's start, as the kernel counts.", one(f.KernelBytes))
		m.counter("flash_device_flushes", "Flushes of the device by all programs since the node's start, as the kernel counts.", one(f.KernelFlushes))
	}
	if f.EnduranceBytes > 0 {
		m.gauge("flash_endurance_bytes", "What may be written to the card in its life, as configured.", one(f.EnduranceBytes))
	}
	if f.LifeYears > 0 && f.TellsLife() {
		m.gauge("flash_life_seconds", "Life of a new card at the rate of the last hour.", one(f.LifeYears*365.25*86400))
	}
}

func (u *Uplink) metrics(m *metrics) {
	states := make([]point, 0, 4)
	for _, s := range []string{"connecting", "forwarding", "waiting", "stopped"} {
		p := yes(u.State == s)
		p.label, p.value = "state", s
		states = append(states, p)
	}
	m.gauge("uplink_state", "1 for the state that the uplink has.", states...)
	m.gauge("uplink_waiting_records", "Records that are not in Kafka yet.", one(u.Waiting))
	m.gauge("uplink_waiting_ledgers", "Ledgers that have such records.", one(u.Ledgers))
	m.counter("uplink_sent_records", "Records committed in Kafka.", one(u.Sent))
	m.counter("uplink_sent_bytes", "Bytes of these records.", one(u.SentBytes))
	m.counter("uplink_wire_bytes", "Bytes over the connections to Kafka, with requests, retries and TLS, without TCP.",
		of("direction", "sent", u.WireSentBytes), of("direction", "received", u.WireReceivedBytes))
	m.counter("uplink_transactions", "Transactions committed.", one(u.Transactions))
	m.counter("uplink_dead_letters", "Records that Kafka refused and that are in the dead-letter topic.", one(u.DeadLetters))
	m.counter("uplink_gaps", "Gap records in the dead-letter topic.", one(u.Gaps))
	m.counter("uplink_gap_records", "Records that these say are gone.", one(u.GapRecords))
	m.counter("uplink_failed", "Attempts that failed and were begun anew.", one(u.Failed))
	m.counter("uplink_fenced", "Times that another process took over the transactional id.", one(u.Fenced))
}
