package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary"
)

// session is one client's life: from the fence to the first error. It is never
// repaired, only replaced.
type session struct {
	*forwarder
	cl           *kgo.Client
	decompressor kgo.Decompressor
	clusterID    string
	known        map[string]bool // topics that exist and may be written to
	out          outgoing        // what the current transaction sends
	describes    *bool           // whether Kafka knows DescribeProducers; nil: not asked yet

	id           int64 // the producer id and epoch that our position was read under,
	epoch        int16 // or that Kafka gave us for our own commit since
	pos          tributary.Position
	partition    int32  // of the positions topic, where pos is
	transactions uint64 // as in pos
}

// session forwards with a new client until the ledger has ended (nil) or
// something has gone wrong.
func (f *forwarder) session(ctx context.Context) error {
	opts, err := options(f.cfg, f.src.Ledger(), f.poison.limit)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	// An open transaction is left to the next session's fence, which ends it
	// under a new epoch. To end it here, under ours, would let a produce request
	// that is still on its way land after the end, in no transaction or in the
	// next one (KIP-890; R24).
	defer cl.Close()
	s := &session{forwarder: f, cl: cl, decompressor: kgo.DefaultDecompressor(), known: map[string]bool{}}
	switch err := s.open(ctx); {
	case errors.Is(err, errBeyond) && f.cfg.Copy:
		f.ready(s.pos, s.clusterID)
		return nil
	case errors.Is(err, errBeyond):
		f.cfg.Logger.Warn("Kafka has more of a ledger than this node: the disk has lost records that it had confirmed, and Kafka has them; what is left of the ledger stays on the disk",
			"ledger", f.src.Ledger().String(), "error", err)
		return nil
	case err != nil:
		return err
	}
	f.ready(s.pos, s.clusterID)
	return s.forward(ctx)
}

// open makes s the ledger's forwarder and finds out where to go on. The order
// is what exactly-once rests on: InitProducerID first, which ends whatever the
// previous forwarder has open and refuses all it still sends; only then is the
// position read, because from here on nobody but s can move it (U1, U3).
func (s *session) open(ctx context.Context) error {
	if err := s.lookAround(ctx); err != nil {
		return err
	}
	var early found
	if breakFence {
		early, _ = s.readPosition(ctx)
	}
	if err := s.fence(ctx); err != nil {
		return err
	}
	at, err := s.readPosition(ctx)
	if err != nil {
		return fmt.Errorf("read the position: %w", err)
	}
	if breakFence {
		at = early
		at.hanging = nil
	}
	if at.hanging != nil {
		return s.resolve(ctx, at)
	}
	if err := s.resume(ctx, at); err != nil {
		return err
	}
	return s.confirm(ctx)
}

// fence makes all earlier forwarders of the ledger harmless.
func (s *session) fence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.TransactionTimeout+10*time.Second)
	defer cancel()
	id, epoch, err := s.cl.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if id < 0 {
		return &StoppedError{
			What: "This Kafka has no transactions (it does not know InitProducerID), and without them nothing can be sent exactly once",
			Do:   "Use Apache Kafka 2.5 or newer, or a service that has transactions.",
		}
	}
	s.id, s.epoch = id, epoch
	return nil
}

// resume checks that what Kafka says and what the ledger says are one history,
// and sets pos.
func (s *session) resume(ctx context.Context, at found) error {
	ledger, base := s.src.Ledger(), s.src.Base()
	if !at.ok {
		if s.floor > 0 || base > 0 {
			return &StoppedError{
				What: fmt.Sprintf("Kafka topic %s has no position of ledger %v, but %d records of it were committed", s.cfg.PositionsTopic, ledger, max(s.floor, base)),
				Do:   "Find out whether the topic was deleted, or this is another Kafka. Restore it, or ask the operator where to go on.",
			}
		}
		chain, _ := s.src.ChainAt(0)
		s.pos = tributary.Position{Ledger: ledger, Chain: chain}
		s.partition = at.partition
		return nil
	}
	next, p := tributary.LSN(at.position.Next), at.position
	chain, err := p.chain()
	if err != nil {
		return err
	}
	if p.KafkaClusterID != "" && s.clusterID != "" && p.KafkaClusterID != s.clusterID {
		return &StoppedError{
			What: fmt.Sprintf("The position of ledger %v was written in Kafka cluster %s, but this is cluster %s", ledger, p.KafkaClusterID, s.clusterID),
			Do:   "A mirror does not carry transactions over, so records may be missing or double here. Point [kafka] brokers at the old cluster, or ask the operator where to go on.",
		}
	}
	if next < s.floor {
		return &StoppedError{
			What: fmt.Sprintf("Kafka says that ledger %v is committed up to record %d, but it had been committed up to %d", ledger, next, s.floor),
			Do:   "This Kafka has lost data, or was restored from a backup. Ask the operator where to go on.",
		}
	}
	if next < base { // gaps are not below it
		return &StoppedError{
			What: fmt.Sprintf("Kafka has ledger %v up to record %d, but this node holds it only from %d", ledger, next, base),
			Do:   "Find the records between on another node of the site.",
		}
	}
	s.pos = tributary.Position{Ledger: ledger, Next: next, Chain: chain}
	s.partition, s.transactions = at.partition, p.Transactions
	return s.compare(ctx, s.pos)
}

// compare checks that the ledger has a group boundary at p, with p's chain. A
// position inside a gap cannot be compared: when the groups there were given up,
// Kafka may have had more of them than was known here. The chain at the end of
// the gap is what the next position is compared with.
func (s *session) compare(ctx context.Context, p tributary.Position) error {
	have, ok := s.src.ChainAt(p.Next)
	if ok && have == p.Chain {
		return nil
	}
	if ok {
		return &StoppedError{
			What: fmt.Sprintf("Ledger %v is not the same on this node and in Kafka: at record %d the chain here is %016x and there %016x", p.Ledger, p.Next, have, p.Chain),
			Do:   "The disk was copied or restored while the program ran. Check the ledger with `tributary verify`.",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // a live ledger would wait to get there
	defer cancel()
	c, err := s.src.Read(ctx, p.Next, 1)
	switch {
	case err == nil && c.Gap != nil:
		s.cfg.Logger.Info("Kafka has a part of what is gone here; going on behind that", "ledger", p.Ledger.String(), "from_lsn", uint64(p.Next))
		return nil
	case ended(err):
		return fmt.Errorf("committed up to record %d: %w", p.Next, errBeyond)
	}
	return &StoppedError{
		What: fmt.Sprintf("Kafka has ledger %v up to record %d, which is not the end of a group on this node, or is beyond what its disk holds", p.Ledger, p.Next),
		Do:   "The disk has lost records that it had confirmed; Kafka has them. Check the disk, and the ledger with `tributary verify`.",
	}
}

// errBeyond says that the ledger is closed, and ends before the position in
// Kafka. There is nothing to send, and nothing to compare the chain with.
var errBeyond = errors.New("the ledger ends before that on this node")

// forward sends chunk after chunk until the ledger has ended. While one is in
// flight the next one is gathered, so two are in memory.
func (s *session) forward(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	next := s.gather(ctx, s.pos.Next)
	defer func() {
		cancel()
		next.stop()
	}()
	for {
		l, err := next.take(ctx)
		if err != nil {
			return err
		}
		if !l.ended {
			next = s.gather(ctx, l.next)
		}
		if l.next > s.pos.Next {
			if err := s.transact(ctx, l); err != nil {
				if !errors.Is(err, errRemedy) {
					s.failed()
				}
				return err
			}
		}
		if l.ended && s.unconfirmed != nil {
			// Kafka answers a commit before it has written the markers. After this
			// ledger nobody would come to see that they are there.
			return fmt.Errorf("look whether all of the ledger is in force: %w", errRemedy)
		}
		if l.ended {
			return nil
		}
	}
}

// errRemedy is wrapped by errors after which to try again at once, because the
// session has learnt what to do differently.
var errRemedy = errors.New("trying again in another way")
