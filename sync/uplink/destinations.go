package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// destination is a topic that gave trouble and has not taken records since.
type destination struct {
	trouble error
	since   time.Time // of the first trouble
	tried   time.Time // last time that it was looked at or sent to
	gaveUp  bool      // its records go to the dead-letter topic when they cannot be sent
}

// destinations finds out whether the topics that l needs can be written to, and
// creates those that it may create, before a transaction is open. It returns
// why the records of which topics go to the dead-letter topic this time: those
// that giveUp says. Before that, trouble is an error, so that all wait. One bad destination does not stop the others for good, and a
// short mishap does not put records where nobody looks for them.
func (s *session) destinations(ctx context.Context, l load) (diverted map[string]error, err error) {
	var ask []string
	for name := range l.topics() {
		switch {
		case s.known[name]:
		case !validTopic(name):
			s.troubled(name, &topicError{name, kerr.InvalidTopicException})
		case s.resting(name):
		default:
			ask = append(ask, name)
		}
	}
	if len(ask) > 0 {
		if err := s.lookAt(ctx, ask); err != nil {
			return nil, err
		}
	}
	for name := range l.topics() {
		d := s.topics[name]
		if s.known[name] || d == nil {
			continue
		}
		if !s.giveUp(d) {
			return nil, d.trouble
		}
		if diverted == nil {
			diverted = map[string]error{}
		}
		diverted[name] = d.trouble
	}
	if diverted != nil || s.poison.pending() {
		return diverted, s.deadLetterReady(ctx)
	}
	return diverted, nil
}

// resting reports whether a topic has been given up for now and is not to be
// looked at yet.
func (s *session) resting(name string) bool {
	d := s.topics[name]
	return d != nil && s.giveUp(d) && time.Since(d.tried) < s.cfg.TopicGrace
}

// graceRest is how many graces have to pass after one that was used up before
// a topic gets the next one.
const graceRest = 10

// giveUp decides whether d is waited for any longer. There is one grace for the
// whole ledger and not one for each topic: devices may choose names, and each new
// one would hold up all the others for another TopicGrace. A partition without a
// leader is nothing that a device can bring about, and mostly an election that
// is soon over, so that always has a grace of its own.
func (f *forwarder) giveUp(d *destination) bool {
	switch {
	case f.cfg.DeadLetter == "":
		return false
	case d.gaveUp, errors.Is(d.trouble, kerr.InvalidTopicException):
	case time.Since(d.since) >= f.cfg.TopicGrace:
		f.graceUsed = time.Now()
	case time.Since(f.graceUsed) >= graceRest*f.cfg.TopicGrace, isLeaderless(d.trouble):
		return false
	}
	d.gaveUp = true
	return true
}

func isLeaderless(err error) bool {
	return errors.Is(err, kerr.LeaderNotAvailable) || errors.Is(err, kerr.ListenerNotFound)
}

// lookAt asks Kafka about topics, creates what is missing and may be created,
// and notes what can be written to and what cannot. Its error is one that is not
// about these topics.
func (s *session) lookAt(ctx context.Context, names []string) error {
	topics, _, err := s.metadata(ctx, names...)
	if err != nil {
		return err
	}
	var old []extent
	for _, name := range names {
		err := topics[name].usable()
		if err == nil {
			old = append(old, topics[name].partitions()...)
		}
		if errors.Is(err, kerr.UnknownTopicOrPartition) && s.cfg.CreateTopics {
			err = s.create(ctx, name, s.cfg.Partitions, nil)
		}
		if err == nil {
			s.known[name] = true
			if d := s.topics[name]; d != nil {
				d.tried = time.Now() // it may still refuse; only a commit clears it
			}
			continue
		}
		if _, ok := errors.AsType[*topicError](err); !ok {
			return err
		}
		s.troubled(name, err)
	}
	return s.remains(ctx, old)
}

// deadLetterReady makes sure that the dead-letter topic can be written to. There
// is nowhere else to go, so it is waited for.
func (s *session) deadLetterReady(ctx context.Context) error {
	name := s.cfg.DeadLetter
	if s.known[name] {
		return nil
	}
	if err := s.lookAt(ctx, []string{name}); err != nil {
		return err
	}
	if !s.known[name] {
		return fmt.Errorf("dead letters: %w", s.topics[name].trouble)
	}
	return nil
}

// troubled notes that a topic gave trouble.
func (f *forwarder) troubled(name string, err error) {
	d := f.topics[name]
	if d == nil {
		d = &destination{since: time.Now()}
		f.topics[name] = d
	}
	d.trouble, d.tried = err, time.Now()
}

// topics returns the topics that l's records are meant for.
func (l *load) topics() map[string]bool {
	names := map[string]bool{}
	last := ""
	for i := range l.chunks {
		for j := range l.chunks[i].Entries {
			if t := l.chunks[i].Entries[j].Stream; t != "" && t != last {
				names[t] = true
				last = t
			}
		}
	}
	return names
}
