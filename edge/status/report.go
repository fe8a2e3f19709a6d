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
	Uplink Uplink `json:"uplink"`
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
	Failed        string  `json:"failed,omitempty"` // why the log takes nothing more
	DamagedRanges int     `json:"damaged_ranges"`
}

// Uplink says how far the records are in Kafka.
type Uplink struct {
	State        string    `json:"state"` // connecting, forwarding, waiting, stopped
	What         string    `json:"what,omitempty"`
	Do           string    `json:"do,omitempty"`
	Since        time.Time `json:"since"`
	Waiting      uint64    `json:"waiting"` // records not in Kafka yet
	Ledgers      int       `json:"ledgers"` // that have such records
	Sent         uint64    `json:"sent"`    // records, since the start
	SentBytes    uint64    `json:"sent_bytes"`
	Transactions uint64    `json:"transactions"`
	DeadLetters  uint64    `json:"dead_letters"`
	Failed       uint64    `json:"failed"`
	Fenced       uint64    `json:"fenced"`
	Cluster      string    `json:"kafka_cluster_id,omitempty"`
}

// patience is how long the uplink may be away before the node turns yellow.
const patience = 30 * time.Second

// Judge sets Colour and Reasons.
func (r *Report) Judge(now time.Time) {
	r.Colour, r.Reasons = Green, []string{}
	say := func(c Colour, format string, args ...any) {
		if c == Red || r.Colour == Green {
			r.Colour = c
		}
		r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...))
	}
	if r.Log.Failed != "" {
		say(Red, "%s; restart the node to go on with a new ledger once the disk is well", r.Log.Failed)
	}
	if r.Uplink.State == "stopped" {
		say(Red, "the uplink has stopped: %s. Nothing is lost: %d records wait. %s", strings.TrimSuffix(r.Uplink.What, "."), r.Uplink.Waiting, r.Uplink.Do)
	}
	if r.Log.Refusing && r.Log.NoSegment != "" {
		say(Red, "devices are told to wait: no further segment can be prepared: %s; tried again every 5 s", r.Log.NoSegment)
	} else if r.Log.Refusing {
		say(Red, "the log is full and devices are told to wait: %d records are not in Kafka yet", r.Uplink.Waiting)
	} else if r.Log.NoSegment != "" {
		say(Yellow, "no further segment can be prepared: %s; tried again every 5 s", r.Log.NoSegment)
	} else if r.Log.FreeBytes < r.Log.MaxBytes/5 {
		say(Yellow, "less than a fifth of the log is free: %s", Bytes(r.Log.FreeBytes))
	}
	if r.Uplink.State == "waiting" && now.Sub(r.Uplink.Since) > patience {
		say(Yellow, "%s. Nothing is lost: %d records wait. %s", strings.TrimSuffix(r.Uplink.What, "."), r.Uplink.Waiting, r.Uplink.Do)
	}
	if r.Log.DamagedRanges > 0 {
		say(Yellow, "the disk has damaged %d stretches of the log: run \"tributary verify\" on the data directory", r.Log.DamagedRanges)
	}
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
	line("IN", "QoS 0 %d   QoS 1 %d   QoS 2 %d   on disk %d", r.MQTT.Received[0], r.MQTT.Received[1], r.MQTT.Received[2],
		r.MQTT.Durable[0]+r.MQTT.Durable[1]+r.MQTT.Durable[2])
	line("LOG", "%s of %s, %s free   flush mean %.1f ms max %.1f ms", Bytes(r.Log.UsedBytes), Bytes(r.Log.MaxBytes),
		Bytes(r.Log.FreeBytes), r.Log.FlushMeanMs, r.Log.FlushMaxMs)
	line("UPLINK", "%s   waiting %d records   sent %d (%s) in %d transactions", r.Uplink.State, r.Uplink.Waiting,
		r.Uplink.Sent, Bytes(int64(r.Uplink.SentBytes)), r.Uplink.Transactions)
	if r.Uplink.What != "" && len(r.Reasons) == 0 {
		line("", "%s. %s", strings.TrimSuffix(r.Uplink.What, "."), r.Uplink.Do)
	}
	line("REFUSED", "%d (full %d, disk %d, topic %d)   DEAD LETTER %d", r.MQTT.RefusedFull+r.MQTT.RefusedDisk+r.MQTT.RefusedTopic,
		r.MQTT.RefusedFull, r.MQTT.RefusedDisk, r.MQTT.RefusedTopic, r.Uplink.DeadLetters+r.MQTT.NoRoute)
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
