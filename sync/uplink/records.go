package uplink

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
)

// Headers that the uplink adds. Their names are fixed for ever.
const (
	headerLedger     = "tributary.ledger"
	headerLSN        = "tributary.lsn"
	headerSession    = "tributary.session"     // the session of the device, and the number in it: see docs/format/handoff.md
	headerFlags      = "tributary.flags"       // what is not promised of it
	headerTime       = "tributary.time"        // the time that was logged, in Unix milliseconds, when it is not the timestamp
	headerGap        = "tributary.gap"         // why records are gone: the mark of a gap record
	headerDeadReason = "tributary.dead.reason" // why Kafka did not take it
	headerDeadTopic  = "tributary.dead.topic"  // where it was meant to go
	headerDeadSize   = "tributary.dead.size"   // bytes of the value before it was cut to fit
)

// outgoing is one load as Kafka records, in the order of LSNs.
type outgoing struct {
	records     []kgo.Record
	lsns        []tributary.LSN // of records
	headers     []kgo.RecordHeader
	digits      []byte // of the LSN and session headers
	bytes       int
	deadLetters int
	gaps        int    // records that say that others are gone
	gapRecords  uint64 // those others
}

// reset empties o for a load, keeping its memory: Kafka has answered for all the
// records in it, so kgo does not look at them any more.
func (o *outgoing) reset(l load) {
	headers := 3 * l.records // of our own; the stamp of a record makes room for another
	for i := range l.chunks {
		for j := range l.chunks[i].Entries {
			headers += len(l.chunks[i].Entries[j].Headers)
		}
	}
	// All of it is sized now: the records point into headers and digits.
	o.records = slices.Grow(o.records[:0], l.records)
	o.lsns = slices.Grow(o.lsns[:0], l.records)
	o.headers = slices.Grow(o.headers[:0], headers)
	o.digits = slices.Grow(o.digits[:0], l.records*maxDigits)
	o.bytes, o.deadLetters, o.gaps, o.gapRecords = l.bytes-l.overhead, 0, 0, 0
}

const maxDigits = 3*20 + 1 // of an LSN, and of a session: two numbers and a dot

// build makes s.out what l sends. Records of diverted topics and poisoned ones
// become dead letters, and a gap becomes the record that tells of it. Keys and
// values are borrowed from l.
func (s *session) build(l load, diverted map[string]error) error {
	o := &s.out
	o.reset(l)
	ledger, now := []byte(s.src.Ledger().String()), time.Now()
	for i := range l.chunks {
		c := &l.chunks[i]
		if c.Gap != nil {
			if err := s.tellOf(c, ledger, now); err != nil {
				return err
			}
			continue
		}
		for j := range c.Entries {
			e := &c.Entries[j]
			if e.Stream == "" {
				continue
			}
			o.lsns = append(o.lsns, e.LSN)
			o.records = append(o.records, kgo.Record{
				Topic:     e.Stream,
				Key:       e.Key,
				Value:     e.Value,
				Headers:   o.headersOf(e, ledger, s.hold),
				Timestamp: time.UnixMilli(e.Millis),
			})
			r := &o.records[len(o.records)-1]
			s.stamp(r, e, now)
			dead, err := s.bury(e, r, diverted, now)
			if err != nil {
				return err
			}
			if dead {
				o.deadLetters++
			}
		}
	}
	return nil
}

// headersOf returns e's headers as Kafka gets them. Their capacity is their
// length.
func (o *outgoing) headersOf(e *record.Entry, ledger []byte, held *hold) []kgo.RecordHeader {
	first, digits := len(o.headers), len(o.digits)
	var stamp []byte
	for _, h := range e.Headers {
		switch {
		case !strings.HasPrefix(h.Key, "_"):
			o.headers = append(o.headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		case h.Key == mark.StampKey:
			stamp = h.Value
		default: // local
		}
	}
	o.digits = strconv.AppendUint(o.digits, uint64(e.LSN), 10)
	o.headers = append(o.headers,
		kgo.RecordHeader{Key: headerLedger, Value: ledger},
		kgo.RecordHeader{Key: headerLSN, Value: o.digits[digits:len(o.digits):len(o.digits)]})
	if s, ok := mark.ParseStamp(stamp); ok {
		o.addSession(&s, held.isLate(e, &s))
	}
	return o.headers[first:len(o.headers):len(o.headers)]
}

// addSession adds what the stamp of a record says (R48).
func (o *outgoing) addSession(s *mark.Stamp, late bool) {
	digits := len(o.digits)
	o.digits = strconv.AppendUint(o.digits, s.Epoch, 10)
	o.digits = strconv.AppendUint(append(o.digits, '.'), s.N, 10)
	o.headers = append(o.headers, kgo.RecordHeader{Key: headerSession, Value: o.digits[digits:len(o.digits):len(o.digits)]})
	var flags []string
	if s.Flags&mark.Unverified != 0 {
		flags = append(flags, "unverified")
	}
	if late {
		flags = append(flags, "late-possible")
	}
	if s.Flags&mark.TwicePossible != 0 {
		flags = append(flags, "twice-possible")
	}
	if len(flags) > 0 {
		o.headers = append(o.headers, kgo.RecordHeader{Key: headerFlags, Value: []byte(strings.Join(flags, ","))})
	}
}

// bury makes r a dead letter if Kafka does not take e where it should go, and
// reports whether it did.
func (s *session) bury(e *record.Entry, r *kgo.Record, diverted map[string]error, now time.Time) (bool, error) {
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
	s.stamp(r, e, now)
	r.Headers = append(r.Headers, // a copy, or stamp's own
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
	own := make([]kgo.RecordHeader, 0, 6)
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
