package uplink

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tributary-edge/tributary"
)

// poison is what is known about records that Kafka refuses for good.
//
// Kafka refuses a whole batch, kgo then fails all that waits for the same
// partition, and neither says which record it was. So the records that failed
// are suspects: the next transaction sends them in a few slices with a pause
// between, and the slice that fails is cut again, until one record is alone.
type poison struct {
	most     int32            // the limit of topics that are not in limits
	limits   map[string]int32 // largest batch of a topic, in bytes before compression
	asked    map[string]bool  // topics whose max.message.bytes was asked for
	slices   map[tributary.LSN]int
	culprits map[tributary.LSN]*culprit
}

// culprit is a record that Kafka refused when it was alone.
type culprit struct {
	reason string
	room   int // what is left of it must fit into this; 0: whole
}

// suspect is a record that failed with an error that speaks of its content.
type suspect struct {
	lsn   tributary.LSN
	topic string // that it was sent to: its own, or the dead-letter topic
	size  int
	err   error
}

const (
	cuts      = 8   // slices of one round
	leastRoom = 512 // a dead letter is not cut below this
)

func newPoison(most int32) *poison {
	return &poison{
		most:     most,
		limits:   map[string]int32{},
		asked:    map[string]bool{},
		culprits: map[tributary.LSN]*culprit{},
	}
}

// limit returns the largest batch, and so the largest record, to send to topic.
func (p *poison) limit(topic string) int32 {
	if n, ok := p.limits[topic]; ok {
		return n
	}
	return p.most
}

// slice returns the number of the slice that a record is in; 0 is no suspect's.
func (p *poison) slice(lsn tributary.LSN) int { return p.slices[lsn] }

// pending reports whether some record waits to be a dead letter.
func (p *poison) pending() bool { return len(p.culprits) > 0 }

// forget drops what is known about records below next: they are committed.
func (p *poison) forget(next tributary.LSN) {
	for lsn := range p.culprits {
		if lsn < next {
			delete(p.culprits, lsn)
		}
	}
	for lsn := range p.slices {
		if lsn < next {
			delete(p.slices, lsn)
		}
	}
}

// cutUp makes slices of suspects, which are in the order of LSNs. So the records
// of one key stay in order: slices are sent one after the other.
func (p *poison) cutUp(suspects []suspect) {
	p.slices = make(map[tributary.LSN]int, len(suspects))
	n := min(cuts, len(suspects))
	for i, s := range suspects {
		p.slices[s.lsn] = 1 + i*n/len(suspects)
	}
}

// isPoison reports whether err speaks of the content of a batch.
func isPoison(err error) bool {
	return isTooLarge(err) || errors.Is(err, kerr.InvalidRecord)
}

func isTooLarge(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// isolate decides what to do about suspects. Its error wraps errRemedy when the
// next session does something that this one did not.
func (s *session) isolate(ctx context.Context, suspects []suspect) error {
	first := suspects[0]
	if isTooLarge(first.err) && !s.poison.asked[first.topic] {
		s.poison.asked[first.topic] = true
		if s.learnLimit(ctx, first.topic) {
			s.poison.slices = nil
			return fmt.Errorf("topic %s: %w: %w", first.topic, first.err, errRemedy)
		}
	}
	if len(suspects) > 1 {
		s.poison.cutUp(suspects)
		return fmt.Errorf("topic %s: one of %d records: %w: %w", first.topic, len(suspects), first.err, errRemedy)
	}
	s.poison.slices = nil
	c := s.poison.culprits[first.lsn]
	switch {
	case s.cfg.DeadLetter == "":
		return &refusedError{first.topic, first.lsn, kafkaName(first.err)}
	case c == nil && first.topic != s.cfg.DeadLetter:
		s.poison.culprits[first.lsn] = &culprit{reason: kafkaName(first.err)}
	case isTooLarge(first.err):
		// Not even the dead-letter topic takes it: cut it (again).
		if c == nil {
			c = &culprit{reason: kafkaName(first.err)}
			s.poison.culprits[first.lsn] = c
		}
		c.room = min(first.size, int(s.poison.limit(first.topic))) / 2
		if c.room < leastRoom {
			c.room = leastRoom
			return &refusedError{first.topic, first.lsn, kafkaName(first.err)}
		}
	default:
		return &refusedError{first.topic, first.lsn, kafkaName(first.err)}
	}
	return fmt.Errorf("record %d for topic %s: %w: %w", first.lsn, first.topic, first.err, errRemedy)
}

// learnLimit asks for a topic's max.message.bytes and reports whether it is
// smaller than what was sent. A batch of that size before compression always
// fits.
func (s *session) learnLimit(ctx context.Context, topic string) bool {
	value, err := s.topicConfig(ctx, topic, "max.message.bytes")
	if err != nil {
		s.cfg.Logger.Warn("Kafka refuses batches as too large and does not let us see how large they may be; sending goes slowly",
			"topic", topic, "error", err)
		return false
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < leastRoom || int32(n) >= s.poison.limit(topic) {
		return false
	}
	s.poison.limits[topic] = int32(n)
	return true
}
