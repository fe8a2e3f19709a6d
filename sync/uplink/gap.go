package uplink

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// gapVersion is the version of the gap record that this code writes:
// docs/format/gaps.md.
const gapVersion = 1

// gapNote is the value of a gap record, which stands in the dead-letter topic
// for the records [From, To) of a ledger (U4).
type gapNote struct {
	Version   int              `json:"v"`
	Kind      string           `json:"kind"`
	Reason    record.GapReason `json:"reason"`
	Site      string           `json:"site"`
	Node      string           `json:"node"`
	Ledger    string           `json:"ledger"`
	From      uint64           `json:"from"`
	To        uint64           `json:"to"`
	Count     uint64           `json:"count"`
	FirstTime *string          `json:"first_time"` // RFC 3339; null: not known
	LastTime  *string          `json:"last_time"`
	Streams   map[string]int64 `json:"streams"`
}

func (n gapNote) encode() []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("encode a gap: %v", err)) // strings and numbers always encode
	}
	return b
}

// tellOf adds the record for c, which is a gap, to what s sends.
func (s *session) tellOf(c *record.Chunk, ledger []byte, now time.Time) error {
	dead := s.cfg.DeadLetter
	if dead == "" {
		return &untoldError{from: c.From, next: c.Next, reason: c.Gap.Reason}
	}
	note := gapNote{
		Version: gapVersion, Kind: "gap", Reason: c.Gap.Reason,
		Site: s.cfg.Site, Node: s.cfg.Node, Ledger: string(ledger),
		From: uint64(c.From), To: uint64(c.Next), Count: uint64(c.Next - c.From),
		FirstTime: rfc3339(c.Gap.FirstMillis), LastTime: rfc3339(c.Gap.LastMillis),
		Streams: c.Gap.Streams,
	}
	r := kgo.Record{
		Topic: dead, Key: []byte(s.cfg.positionKey(s.src.Ledger())), Value: note.encode(), Timestamp: now,
		Headers: []kgo.RecordHeader{
			{Key: headerGap, Value: []byte(c.Gap.Reason)},
			{Key: headerLedger, Value: ledger},
			{Key: headerLSN, Value: fmt.Append(nil, uint64(c.From))},
		},
	}
	if s.poison.culprits[c.From] != nil || recordSize(&r)+batchOverhead > int(s.poison.limit(dead)) {
		note.Streams = summed(note.Streams)
		r.Value = note.encode()
	}
	o := &s.out
	o.lsns = append(o.lsns, c.From)
	o.records = append(o.records, r)
	o.bytes += recordSize(&r)
	o.gaps++
	o.gapRecords += note.Count
	return nil
}

// summed counts all streams but that of the control records together, so that
// the record fits a dead-letter topic of small messages.
func summed(streams map[string]int64) map[string]int64 {
	if len(streams) == 0 {
		return streams
	}
	sum := map[string]int64{}
	for name, n := range streams {
		if name != "" {
			name = record.OtherStreams
		}
		sum[name] += n
	}
	return sum
}

// rfc3339 returns a log time in UTC, or nil if it is not known or no date.
func rfc3339(millis int64) *string {
	t := time.UnixMilli(millis).UTC()
	if millis == 0 || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return new(t.Format("2006-01-02T15:04:05.000Z"))
}

// untoldError says that records are gone, and that there is no dead-letter topic
// to say so in.
type untoldError struct {
	from, next tributary.LSN
	reason     record.GapReason
}

func (e *untoldError) Error() string {
	return fmt.Sprintf("records %d to %d are gone (%s), and there is no dead-letter topic to say so in", e.from, e.next-1, e.reason)
}
