// Package uplink moves one ledger into Apache Kafka exactly once, as a
// read_committed reader sees it.
//
// Forward is the whole of it: it fences whoever forwarded the ledger before,
// reads from Kafka how far the ledger is, and then sends chunk after chunk,
// each in one transaction together with the record that says how far the
// ledger is now. The package trusts Kafka's answers and nothing else: not its
// own memory, not a time-out, not silence. Start reading at forwarder.run, then
// session.open and session.transact.
//
// This is the only package of the product that knows franz-go.
package uplink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// Source is one ledger, as uplink needs it. Forward calls Read from one
// goroutine at a time, and the other methods while no Read is running or
// while one is.
//
// Records that were durable and are gone are a gap of the ledger, and as much a
// part of it as the others, until the position is known to be behind them.
// Meanwhile a gap may grow, and groups may become one, whatever was read of them.
type Source interface {
	Ledger() tributary.LedgerID
	// Base is the oldest LSN still held, or known to be gone: where the oldest
	// group or gap begins.
	Base() tributary.LSN
	// ChainAt returns the chain at lsn, which must be a group boundary in
	// [Base, end]; ok is false otherwise. The end of a gap is such a boundary, and
	// the chain there is the one that Read gives. Inside a gap and where it begins,
	// ok is false if the chain is not known.
	ChainAt(lsn tributary.LSN) (chain uint64, ok bool)
	// Read blocks until a durable group starts at from, then returns as many
	// whole consecutive groups as fit maxBytes, and at least one. Where a gap
	// begins, and anywhere inside one, it returns a chunk that is the rest of the
	// gap and nothing else: only Kafka may know what groups were in it. It returns
	// io.EOF when the ledger is closed and from is its end or beyond.
	Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error)
}

// Forward moves src into Kafka until the ledger has ended and all of it is
// committed, and then returns nil. It also returns nil, after a warning in the
// log and without telling watch, when the ledger has ended before the position
// in Kafka: what this node has lost of it is there; of a Copy it is told, without a
// warning. Before that it returns only
// what is wrong with cfg, ctx's error, or a *StoppedError; everything else that
// goes wrong is told to watch and tried again for ever, with a back-off. It
// blocks; when it returns, its goroutines and connections are gone.
//
// Any number of Forwards of one ledger may run at once, in one process or on
// many machines: Kafka lets one of them commit, and the others back off. Each
// record of a named stream is then in its topic exactly once (U1), the records
// of one key in the order of their LSNs (U2), and what Kafka refuses for good
// is in Config.DeadLetter, which also has one record for each gap (U4).
func Forward(ctx context.Context, cfg Config, src Source, watch Observer) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	f := newForwarder(cfg, src, watch)
	opts, err := options(cfg, src.Ledger(), f.poison.limit)
	if err == nil {
		err = kgo.ValidateOpts(opts...)
	}
	if err != nil {
		return fmt.Errorf("configure the Kafka client: %w", err)
	}
	return f.run(ctx)
}

// forwarder is what outlives the client of one session: what has been learnt
// about topics and poison, and how often it was tried. Only Forward's own
// goroutine touches it.
type forwarder struct {
	cfg   Config
	src   Source
	watch Observer
	pace  pace
	hold  *hold // nil: there are no marks to wait at

	floor        tributary.LSN // known to be committed: the hint, or our own last commit
	room         int           // size of the next chunk, in bytes: halved by failures, doubled by commits
	fresh        bool          // nobody has begun a transaction for the ledger: Config.Fresh
	topics       map[string]*destination
	graceUsed    time.Time // when a topic last went through all of its TopicGrace
	poison       *poison
	windows      map[string]window // of topics that refused the times of records
	counters     Counters
	unsent       bool     // a transaction failed and none has been committed since
	failures     int      // in a row, without a commit
	fencings     int      // in a row, without a commit
	remedies     int      // immediate retries in a row, without a commit
	unconfirmed  []string // topics of the last commit, whose markers may still be lost
	warnedPolicy bool     // that the positions topic cannot be described
}

// pace is how long to wait between tries.
type pace struct {
	first, most             time.Duration // after any failure
	fencedFirst, fencedMost time.Duration // after another forwarder took over (R25)
}

// maxRemedies bounds the tries without a pause. Isolating one poisoned record
// among the most a chunk can have takes fewer.
const maxRemedies = 100

func newForwarder(cfg Config, src Source, watch Observer) *forwarder {
	return &forwarder{
		cfg:   cfg,
		src:   src,
		watch: watch,
		hold:  newHold(cfg, src.Ledger()),
		pace: pace{
			first: 250 * time.Millisecond, most: 15 * time.Second,
			fencedFirst: 500 * time.Millisecond, fencedMost: 30 * time.Second,
		},
		floor:   cfg.Hint,
		fresh:   cfg.Fresh,
		room:    cfg.batchBytes(),
		topics:  map[string]*destination{},
		poison:  newPoison(cfg.MaxMessageBytes),
		windows: map[string]window{},
	}
}

// run opens sessions until one of them ends well. Every session has a client
// of its own: kgo re-uses epoch and sequence numbers after a transaction that
// failed, and a broker before transaction.version 2 then takes new records for
// duplicates of the failed ones and acknowledges what it does not keep (U1).
func (f *forwarder) run(ctx context.Context) error {
	f.tell(Connecting, nil)
	for {
		began := time.Now()
		err := f.session(ctx)
		if err == nil || errors.As(err, new(*StoppedError)) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait := f.wait(err, time.Since(began))
		if wait == 0 {
			continue
		}
		f.tell(Waiting, err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait returns how long to wait before the next try after err: nothing when
// the session learnt what to do differently, a random time otherwise, so that
// a thousand gateways do not come back at the same instant. A session that lasted
// longer than any pause was no fight, though it may have had nothing to commit:
// whoever ends it does so for the first time.
func (f *forwarder) wait(err error, lasted time.Duration) time.Duration {
	if errors.Is(err, errRemedy) && f.remedies < maxRemedies {
		f.remedies++
		return 0
	}
	if isFenced(err) {
		f.counters.Fenced++
		if lasted > f.pace.fencedMost {
			f.fencings = 0
		}
		most := min(f.pace.fencedFirst<<min(f.fencings, 16), f.pace.fencedMost)
		f.fencings++
		return f.pace.fencedFirst + jitter(most)
	}
	f.failures++
	f.counters.Failed++
	most := min(f.pace.first<<min(f.failures, 16), f.pace.most)
	return most/2 + jitter(most/2)
}

func jitter(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

// ready is called when a session has read its position. One that is ahead of
// what we know was committed by another forwarder, or by us without an answer.
func (f *forwarder) ready(p tributary.Position, clusterID string) {
	if p.Next > f.floor {
		f.floor = p.Next
		f.poison.forget(p.Next)
		f.unsent = false
		f.watch.Committed(Commit{Position: p, KafkaClusterID: clusterID})
	}
	if !f.unsent {
		f.tell(Forwarding, nil)
	}
}

// committed is called when Kafka has answered that a transaction is committed,
// and only then (U3).
func (f *forwarder) committed(c Commit) {
	f.floor = c.Position.Next
	f.room = min(f.room*2, f.cfg.batchBytes())
	f.failures, f.fencings, f.remedies = 0, 0, 0
	f.counters.Transactions++
	f.counters.DeadLetters += uint64(c.DeadLetters)
	f.counters.Gaps += uint64(c.Gaps)
	f.counters.GapRecords += c.GapRecords
	f.poison.forget(c.Position.Next)
	f.watch.Committed(c)
	if f.unsent {
		f.unsent = false
		f.tell(Forwarding, nil)
	}
}

// failed is called when a transaction did not get a commit. The next chunk is
// smaller: on a slow link a chunk that does not fit into the transaction
// timeout would otherwise be tried for ever.
func (f *forwarder) failed() {
	f.unsent = true
	f.room = max(f.room/2, min(minRoom, f.cfg.batchBytes()))
}

const minRoom = 64 << 10

func (f *forwarder) tell(state State, err error) {
	s := Status{State: state, Counters: f.counters}
	if err != nil {
		t := explain(err, f.cfg)
		s.What, s.Do, s.Err = t.what, t.do, err
	}
	f.watch.State(s)
}

// ended reports whether err says that the ledger has ended.
func ended(err error) bool { return errors.Is(err, io.EOF) }
