package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary"
)

// transact sends l and the position after it in one transaction, and returns
// nil only when Kafka has answered that it is committed (U3). After any error
// the outcome is unknown and s must not be used again.
func (s *session) transact(ctx context.Context, l load) error {
	diverted, err := s.destinations(ctx, l)
	if err != nil {
		return err
	}
	if err := s.build(l, diverted); err != nil {
		return err
	}
	out := &s.out
	if out.deadLetters+out.gaps > 0 {
		// The dead-letter topic may be needed for reasons found only now.
		if err := s.deadLetterReady(ctx); err != nil {
			return err
		}
	}
	answers, err := s.send(ctx, l)
	if err != nil {
		return s.learn(ctx, answers, err)
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	s.pos = tributary.Position{Ledger: s.pos.Ledger, Next: l.next, Chain: l.chain}
	s.transactions++
	s.unconfirmed = nil
	for name := range s.sentTo() {
		s.unconfirmed = append(s.unconfirmed, name)
	}
	for name := range l.topics() {
		if diverted[name] == nil {
			delete(s.topics, name) // it has taken records, so it is no trouble any more
		}
	}
	if out.deadLetters > 0 {
		s.cfg.Logger.Warn("Kafka refused records for good; they are in the dead-letter topic",
			"records", out.deadLetters, "topic", s.cfg.DeadLetter, "below_lsn", uint64(l.next))
	}
	if out.gaps > 0 {
		s.cfg.Logger.Warn("records are gone; the dead-letter topic says which",
			"records", out.gapRecords, "gaps", out.gaps, "topic", s.cfg.DeadLetter, "from_lsn", uint64(l.from), "below_lsn", uint64(l.next))
	}
	s.committed(Commit{
		Position: s.pos, Records: len(out.records) - out.gaps, DeadLetters: out.deadLetters, Gaps: out.gaps, GapRecords: out.gapRecords,
		Bytes: out.bytes, KafkaClusterID: s.clusterID,
	})
	// With transaction.version 2 each commit gives a new epoch.
	if s.id, s.epoch, err = s.cl.ProducerID(ctx); err != nil {
		return fmt.Errorf("after a commit: %w", err)
	}
	return nil
}

// send opens the transaction and returns nil only when every single record of it
// was acknowledged under the producer id and epoch that s owns. kgo would commit
// a transaction with a hole in it, and it renews its producer id by itself: under
// a renewed one, another forwarder may have committed in between.
func (s *session) send(ctx context.Context, l load) (*answers, error) {
	ctx, cancel := lasting(ctx, s.cfg.TransactionTimeout)
	defer cancel()
	s.fresh = false // from here on there may be a position, whatever we are told
	if err := s.cl.BeginTransaction(); err != nil {
		return nil, fmt.Errorf("begin a transaction: %w", err)
	}
	id, epoch, err := s.cl.ProducerID(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin a transaction: %w", err)
	}
	if id != s.id || epoch != s.epoch {
		return nil, fmt.Errorf("begin a transaction: the producer id changed from %d/%d to %d/%d", s.id, s.epoch, id, epoch)
	}
	a := &answers{id: id, epoch: epoch}
	slice := 0
	for i := range s.out.records {
		if n := s.poison.slice(s.out.lsns[i]); n != slice {
			if err := s.settle(ctx, a); err != nil {
				return a, err
			}
			slice = n
		}
		a.sent++
		s.cl.Produce(ctx, &s.out.records[i], a.promise)
	}
	a.sent++
	s.cl.Produce(ctx, &kgo.Record{
		Topic:     s.cfg.PositionsTopic,
		Partition: s.partition,
		Key:       []byte(s.cfg.positionKey(s.src.Ledger())),
		Value:     s.position(l.next, l.chain).encode(),
		Timestamp: time.Now(),
	}, a.promise)
	return a, s.settle(ctx, a)
}

// settle waits until everything produced so far is answered.
func (s *session) settle(ctx context.Context, a *answers) error {
	if err := s.cl.Flush(ctx); err != nil {
		if first := a.first(); first != nil {
			return fmt.Errorf("send records: %w", first)
		}
		return fmt.Errorf("send records: Kafka did not answer within the transaction timeout: %w", err)
	}
	return a.verdict()
}

// end commits. Its error says that the outcome is not known, whatever the error:
// the next session reads from Kafka what it was.
func (s *session) end(ctx context.Context) error {
	ctx, cancel := lasting(ctx, s.cfg.TransactionTimeout)
	defer cancel()
	if err := s.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// answers collects what Kafka says about the records of one transaction.
type answers struct {
	id    int64
	epoch int16
	sent  int // written by the sender alone

	mu     sync.Mutex // guards what follows
	came   int
	err    error
	failed map[*kgo.Record]error
}

// promise is called by kgo for each record, one at a time.
func (a *answers) promise(r *kgo.Record, err error) {
	if err == nil && (r.ProducerID != a.id || r.ProducerEpoch != a.epoch) {
		err = fmt.Errorf("acknowledged under producer id %d/%d, not %d/%d", r.ProducerID, r.ProducerEpoch, a.id, a.epoch)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.came++
	if err == nil {
		return
	}
	if a.failed == nil {
		a.failed, a.err = map[*kgo.Record]error{}, err
	}
	a.failed[r] = err
}

func (a *answers) first() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// verdict returns nil if every record sent so far was acknowledged.
func (a *answers) verdict() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return fmt.Errorf("send records: %w", a.err)
	}
	if a.came != a.sent {
		return fmt.Errorf("send records: %d answers to %d records", a.came, a.sent)
	}
	return nil
}

// learn finds out from the answers of a failed transaction what to do
// differently next time, and returns err or, wrapping errRemedy, what it was.
func (s *session) learn(ctx context.Context, a *answers, err error) error {
	if a == nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var suspects []suspect
	var untimely []string
	for i := range s.out.records {
		r := &s.out.records[i]
		switch e := a.failed[r]; {
		case e == nil:
		case isPoison(e):
			suspects = append(suspects, suspect{lsn: s.out.lsns[i], topic: r.Topic, size: recordSize(r), err: e})
		case errors.Is(e, kerr.InvalidTimestamp):
			if !slices.Contains(untimely, r.Topic) {
				untimely = append(untimely, r.Topic)
			}
		case errors.Is(e, kerr.TopicAuthorizationFailed), errors.Is(e, kerr.UnknownTopicOrPartition), errors.Is(e, kerr.UnknownTopicID):
			s.troubled(r.Topic, &topicError{r.Topic, e})
			err = &topicError{r.Topic, e}
		}
	}
	if len(untimely) > 0 {
		if err = s.retime(ctx, untimely); errors.Is(err, errRemedy) {
			return err
		}
	}
	if len(suspects) == 0 {
		return err
	}
	return s.isolate(ctx, suspects)
}

// isFenced reports whether err says that another forwarder has taken over, or
// that Kafka has given up our transaction for its time-out, which looks the same.
func isFenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}
