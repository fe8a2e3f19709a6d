package uplink

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Headers that the uplink adds. Their names are fixed for ever.
const (
	headerLedger     = "tributary.ledger"
	headerLSN        = "tributary.lsn"
	headerDeadReason = "tributary.dead.reason" // why Kafka did not take it
	headerDeadTopic  = "tributary.dead.topic"  // where it was meant to go
	headerDeadSize   = "tributary.dead.size"   // bytes of the value before it was cut to fit
)

// outgoing is one load as Kafka records, in the order of LSNs.
type outgoing struct {
	records     []kgo.Record
	lsns        []tributary.LSN // of records
	bytes       int
	deadLetters int
}

// records builds what l sends. Records of diverted topics and poisoned ones
// become dead letters. Keys and values are borrowed from l.
func (s *session) records(l load, diverted map[string]error) (outgoing, error) {
	out := outgoing{
		records: make([]kgo.Record, 0, l.records),
		lsns:    make([]tributary.LSN, 0, l.records),
		bytes:   l.bytes - l.records*entryOverhead,
	}
	ledger := []byte(s.src.Ledger().String())
	headers := make([]kgo.RecordHeader, 0, l.headers())
	digits := make([]byte, 0, l.records*20)
	for _, entries := range l.chunks {
		for i := range entries {
			e := &entries[i]
			if e.Stream == "" {
				continue
			}
			first := len(headers)
			for _, h := range e.Headers {
				if !strings.HasPrefix(h.Key, "_") { // local
					headers = append(headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
				}
			}
			start := len(digits)
			digits = strconv.AppendUint(digits, uint64(e.LSN), 10)
			headers = append(headers,
				kgo.RecordHeader{Key: headerLedger, Value: ledger},
				kgo.RecordHeader{Key: headerLSN, Value: digits[start:len(digits):len(digits)]})
			r := kgo.Record{
				Topic:     e.Stream,
				Key:       e.Key,
				Value:     e.Value,
				Headers:   headers[first:len(headers):len(headers)],
				Timestamp: time.UnixMilli(e.Millis),
			}
			dead, err := s.bury(e, &r, diverted)
			if err != nil {
				return out, err
			}
			if dead {
				out.deadLetters++
			}
			out.records = append(out.records, r)
			out.lsns = append(out.lsns, e.LSN)
		}
	}
	return out, nil
}

// headers bounds the number of headers that l's records have.
func (l load) headers() int {
	n := 2 * l.records
	for _, entries := range l.chunks {
		for i := range entries {
			n += len(entries[i].Headers)
		}
	}
	return n
}

// bury makes r a dead letter if Kafka does not take e where it should go, and
// reports whether it did.
func (s *session) bury(e *record.Entry, r *kgo.Record, diverted map[string]error) (bool, error) {
	room := 0 // whole
	var reason string
	switch c := s.poison.culprits[e.LSN]; {
	case c != nil:
		reason, room = c.reason, c.room
	case diverted[e.Stream] != nil:
		reason = kafkaName(diverted[e.Stream])
	case recordSize(r) > int(s.poison.limit(e.Stream)):
		// It cannot be sent; do not open a transaction to find out.
		reason = kafkaName(kerr.MessageTooLarge)
	default:
		return false, nil
	}
	if s.cfg.DeadLetter == "" {
		return false, &refusedError{e.Stream, e.LSN, reason}
	}
	r.Topic = s.cfg.DeadLetter
	r.Headers = append(r.Headers, // a copy: its capacity is its length
		kgo.RecordHeader{Key: headerDeadReason, Value: []byte(reason)},
		kgo.RecordHeader{Key: headerDeadTopic, Value: []byte(e.Stream)})
	if limit := int(s.poison.limit(r.Topic)); room == 0 && recordSize(r)+batchOverhead > limit {
		room = limit
	}
	if room > 0 {
		cut(r, room)
	}
	return true, nil
}

// batchOverhead bounds what a batch of one record adds to the record.
const batchOverhead = 100

// recordSize is the size of r before compression, as kgo counts it but for a
// few bytes: never more than it.
func recordSize(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + 2
	}
	return n
}

// cut makes r fit into room and says so in a header: first the value is cut,
// then all headers but our own go, then the key.
func cut(r *kgo.Record, room int) {
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: headerDeadSize, Value: strconv.AppendInt(nil, int64(len(r.Value)), 10)})
	over := func() int { return recordSize(r) + 10*len(r.Headers) + batchOverhead - room }
	if n := over(); n > 0 {
		r.Value = r.Value[:max(0, len(r.Value)-n)]
	}
	if over() <= 0 {
		return
	}
	own := make([]kgo.RecordHeader, 0, 5)
	for _, h := range r.Headers {
		if strings.HasPrefix(h.Key, "tributary.") && len(h.Value) <= 256 {
			own = append(own, h)
		}
	}
	r.Headers = own
	if n := over(); n > 0 {
		r.Key = r.Key[:max(0, len(r.Key)-n)]
	}
}

// refusedError says that Kafka refuses one record for good, and that there is no
// dead-letter topic to put it into.
type refusedError struct {
	topic  string
	lsn    tributary.LSN
	reason string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("Kafka refuses record %d for topic %s: %s", e.lsn, e.topic, e.reason)
}
