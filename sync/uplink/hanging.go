package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tributary-edge/tributary"
)

// hanging is a transaction of our ledger that is still open in a partition after
// the fence. Before Kafka answers InitProducerID, it ends what the transactional id
// has open, and writes into each partition of it a marker that says how. Where a
// marker is missing Kafka has lost it, and brings it by nothing that it does
// itself: no timeout, no restart. Kafka 4.3 loses those of partitions without a
// leader at that moment (KAFKA-20734), e.g. of all when a cluster of one broker
// comes back from a crash.
//
// Kafka may have said that it is committed, so to abort it could lose records, and
// to leave it open holds up the ledger and the readers of its topics.
type hanging struct {
	topic     string
	partition int32
	id        int64 // the producer id
	epoch     int16
	offset    int64    // where it is open from, or a later one
	value     []byte   // of the position record
	position  position // in value
}

// resolve ends the transaction behind the position at: with commit, if Kafka has
// told us that it is committed or if all its records are there, with abort if none
// of it is in force. After either, its error wraps errRemedy: the next session
// reads the position again.
func (s *session) resolve(ctx context.Context, at found) error {
	h := at.hanging
	from, next := tributary.LSN(0), tributary.LSN(h.position.Next)
	if at.ok {
		from = tributary.LSN(at.position.Next)
	}
	stuck := &hangingError{hanging: *h, ledger: s.src.Ledger(), from: from}
	switch {
	case h.id == s.id && h.epoch >= s.epoch:
		return fmt.Errorf("somebody writes positions under epoch %d, and ours is %d: %w", h.epoch, s.epoch, kerr.ProducerFenced)
	case h.id != s.id:
		return stuck.because("it is under an old producer id; the one of this gateway is %d", s.id)
	case next <= from:
		return stuck.because("the position before it is record %d", from)
	}
	was, err := s.carried(ctx, max(from, s.src.Base()), next)
	if err != nil {
		return err
	}
	partitions, err := s.partitions(ctx, was.topics)
	if err != nil {
		return err
	}
	commit := s.floor >= next // Kafka has told us, or this node before
	switch {
	case commit:
	case from < s.src.Base():
		return stuck.because("this node holds the ledger only from record %d", s.src.Base())
	case was.short:
		return stuck.because("this node has lost the end of the ledger")
	default:
		if commit, err = s.decide(ctx, stuck, was, partitions); err != nil {
			return err
		}
	}
	s.cfg.Logger.Warn("Kafka lost the end of a transaction; this gateway ends it", "commit", commit, "ledger", s.src.Ledger().String(),
		"from_lsn", uint64(from), "below_lsn", uint64(next), "topic", s.cfg.PositionsTopic, "partition", h.partition, "offset", h.offset,
		"producer_id", h.id, "producer_epoch", h.epoch)
	return s.endHanging(ctx, commit, append(partitions, extent{topic: s.cfg.PositionsTopic, partition: h.partition}))
}

// carried is what a transaction over a part of the ledger has sent.
type carried struct {
	from, next tributary.LSN
	lsns       map[tributary.LSN]bool
	whole      bool     // lsns is all of it
	short      bool     // the ledger ends before next on this node
	topics     []string // where those may be
}

// carried reads the records [from, next) of the ledger.
func (s *session) carried(ctx context.Context, from, next tributary.LSN) (carried, error) {
	out := carried{from: from, next: next, lsns: map[tributary.LSN]bool{}, whole: true}
	topics := map[string]bool{}
	if s.cfg.DeadLetter != "" {
		topics[s.cfg.DeadLetter] = true
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	for from < next {
		c, err := s.src.Read(ctx, from, s.cfg.batchBytes())
		if ended(err) {
			out.whole, out.short = false, true
			break
		}
		if err != nil {
			return out, fmt.Errorf("read the log at record %d: %w", from, err)
		}
		out.whole = out.whole && c.Gap == nil // Kafka may have what was there
		for i := range c.Entries {
			if e := &c.Entries[i]; e.Stream != "" && e.LSN < next {
				out.lsns[e.LSN] = true
				topics[e.Stream] = true
			}
		}
		from = c.Next
	}
	for name := range topics {
		if validTopic(name) {
			out.topics = append(out.topics, name)
		}
	}
	slices.Sort(out.topics)
	return out, nil
}

// readWait bounds how long the ledger is read for what it has had before.
const readWait = 30 * time.Second

// partitions returns all partitions of those topics that can be written to.
func (s *session) partitions(ctx context.Context, names []string) ([]extent, error) {
	if len(names) == 0 {
		return nil, nil
	}
	topics, _, err := s.metadata(ctx, names...)
	if err != nil {
		return nil, err
	}
	var out []extent
	for _, name := range names {
		t := topics[name]
		if t.badLeader != nil {
			return nil, t.usable()
		}
		if t.usable() == nil {
			out = append(out, t.partitions()...)
		}
	}
	return out, nil
}

// decide returns whether to commit a transaction of which nobody remembers
// whether it is committed. It is decided by what is there. If all its records are,
// it is what would be sent again. If not, and no partition has any of it in force,
// nobody has seen it, and it can be sent again. Neither can be said if a part of it
// is in force and another part is missing.
func (s *session) decide(ctx context.Context, stuck *hangingError, was carried, partitions []extent) (bool, error) {
	open, inForce := map[tributary.LSN]int{}, map[tributary.LSN]int{}
	states, err := s.producers(ctx, partitions)
	if err != nil {
		return false, stuck.unless(err, was.topics)
	}
	for _, e := range partitions {
		state, ok := states[e.at()]
		if !ok || state.open < 0 && state.epoch < stuck.epoch {
			continue // it has taken no part
		}
		if err := s.look(ctx, e, state, was.from, open, inForce); err != nil {
			return false, stuck.unless(err, []string{e.topic})
		}
	}
	for lsn, copies := range open {
		if lsn < was.from || lsn >= was.next || copies > 1 || inForce[lsn] > 0 {
			return false, stuck.because("record %d hangs there %d times, and is committed %d times", lsn, copies, inForce[lsn])
		}
	}
	missing := 0
	for lsn := range was.lsns {
		if open[lsn]+inForce[lsn] == 0 {
			missing++
		}
	}
	switch {
	case missing == 0 && was.whole:
		return true, nil
	case len(inForce) == 0:
		return false, nil
	}
	return false, stuck.because("of its records, %d are committed, %d hang and %d are missing", len(inForce), len(open), missing)
}

// endHanging ends whatever hangs of our producer id in those partitions: one
// empty transaction of ours over them makes Kafka write the markers again. If it is
// cut off half-way, Kafka aborts it. The answer is an error always: s has used an
// older protocol (a partition can be added without a record only before
// transaction.version 2), and is not to be used for more.
func (s *session) endHanging(ctx context.Context, commit bool, partitions []extent) error {
	ctx, cancel := lasting(ctx, s.cfg.TransactionTimeout)
	defer cancel()
	opts, err := options(s.cfg, s.src.Ledger(), s.poison.limit)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(opts, kgo.MaxVersions(kversion.V3_7_0()))...)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	defer cl.Close()
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = s.cfg.transactionalID(s.src.Ledger()), s.id, s.epoch
	for name, numbers := range byTopic(partitions) {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = name, numbers
		add.Topics = append(add.Topics, t)
	}
	added, err := add.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("end a hanging transaction: %w", err)
	}
	for _, t := range added.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("end a hanging transaction in partition %d: %w", p.Partition, addError(t.Topic, err))
			}
		}
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = add.TransactionalID, s.id, s.epoch, commit
	answer, err := end.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("end a hanging transaction: %w", err)
	}
	return fmt.Errorf("a transaction was hanging, and has been ended: %w", errRemedy)
}

// addError is why a partition could not be added to a transaction.
func addError(topic string, err error) error {
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		return &topicError{topic, err}
	}
	return err
}

func byTopic(partitions []extent) map[string][]int32 {
	out := map[string][]int32{}
	for _, e := range partitions {
		out[e.topic] = append(out[e.topic], e.partition)
	}
	return out
}

// hangingError says that a transaction hangs, and why a person has to decide.
type hangingError struct {
	hanging
	ledger tributary.LedgerID
	from   tributary.LSN // all before is committed
	why    string
	unread []string // topics that we may not read
}

func (e *hangingError) because(format string, args ...any) error {
	e.why = fmt.Sprintf(format, args...)
	return e
}

// unless returns e if Kafka does not let us look at topics, and err otherwise.
func (e *hangingError) unless(err error, topics []string) error {
	if errors.Is(err, errTooFar) {
		return e.because("%v", err)
	}
	if !isUntold(err) {
		return err
	}
	e.unread = topics
	return e.because("this gateway may not read %s, to see whether all of it is there", strings.Join(topics, ", "))
}

func (e *hangingError) Error() string {
	return fmt.Sprintf("a transaction hangs: in partition %d of topic %s it is open from offset %d (producer id %d, epoch %d), and %s",
		e.partition, e.topic, e.offset, e.id, e.epoch, e.why)
}

// explainHanging says what a person can do. To abort it by hand is right only if
// nothing of it is committed anywhere.
func explainHanging(e *hangingError, c Config) trouble {
	brokers := strings.Join(c.Brokers, ",")
	what := fmt.Sprintf("Kafka has lost the end of a transaction of this gateway: in partition %d of topic %s it is open from offset %d (producer id %d, epoch %d), and %s",
		e.partition, e.topic, e.offset, e.id, e.epoch, e.why)
	if len(e.unread) > 0 {
		commands := make([]string, len(e.unread))
		for i, name := range e.unread {
			commands[i] = "kafka-acls --bootstrap-server " + brokers + " --add --allow-principal " + c.principal() + " --operation Read --topic " + name
		}
		return trouble{what, "Ask the Kafka team to let it read them, and it ends the transaction by itself: " + strings.Join(commands, "; ")}
	}
	return trouble{what, fmt.Sprintf("Kafka will not end it by itself. Ask the Kafka team which partitions it hangs in: kafka-transactions --bootstrap-server %s find-hanging --broker-id ID. "+
		"Only if no record of ledger %v from %d on is committed in any topic, let them abort it in all of these, this one last, and this gateway sends the records again: "+
		"kafka-transactions --bootstrap-server %s abort --topic %s --partition %d --start-offset %d",
		brokers, e.ledger, e.from, brokers, e.topic, e.partition, e.offset)}
}
