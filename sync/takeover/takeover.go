// Package takeover forwards the ledgers of other nodes that nobody else forwards:
// which of the copies that this node holds, when, one after the other, and until
// when (R25, R26).
package takeover

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/origin"
	"github.com/tributary-edge/tributary/sync/uplink"
	"github.com/tributary-edge/tributary/sync/view"
)

// A Log is the log of this node. Its methods may be called from many goroutines
// at once; see log/store for what they promise.
type Log interface {
	// Copies returns the copies that are held, in the order in which they came.
	Copies() []view.Holding
	// CopyEnd returns where what is held of a ledger ends, durable or about to be.
	CopyEnd(id tributary.LedgerID) (next tributary.LSN, chain uint64, held bool)
	// Damaged says whether a record of a ledger is known to be missing here.
	Damaged(id tributary.LedgerID, lsn tributary.LSN) bool
	// Follow returns a Reader of a ledger.
	Follow(id tributary.LedgerID) (Reader, error)
}

// A Reader reads one ledger; see log/store.Reader.
type Reader interface {
	uplink.Source
	Close()
}

// A Forwarder forwards copies. Its fields are set before Run.
type Forwarder struct {
	View *view.View
	Log  Log
	// Kafka is where to. Forwarder says how long records linger, and that it is a
	// copy.
	Kafka uplink.Config
	// Own says whether this node has written a ledger.
	Own func(id tributary.LedgerID) bool
	// Committed is told of each transaction, from many goroutines at once.
	Committed func(c uplink.Commit)
	Logger    *slog.Logger

	origins map[tributary.LedgerID]origin.Origin // of ledgers that were looked at; Run's own

	mu     sync.Mutex // guards what follows
	taken  map[tributary.LedgerID]bool
	needed map[tributary.LedgerID]bool // others wait for them, and nobody here knows who wrote them
	stuck  map[tributary.LedgerID]Stuck
	skips  map[tributary.LedgerID]tributary.LSN // an operator gives up what is missing below
	silent map[tributary.LedgerID]time.Time     // ledgers that are not to be taken over again before
}

const (
	// lookEvery is how often it looks for ledgers that are due.
	lookEvery = 500 * time.Millisecond
	// mostTaken is how many ledgers are taken over at a time: each has a client of Kafka,
	// and a node that was started again and again leaves many.
	mostTaken = 8
	// mostLinger is how long records of others wait before they go to Kafka: they have
	// waited enough, and who lingers may be fenced before it has sent anything.
	mostLinger = time.Second
	// stoppedRetry is how long a ledger rests that cannot be forwarded from here.
	stoppedRetry = time.Minute
)

// Run forwards what is due, and returns when ctx ends.
func (f *Forwarder) Run(ctx context.Context) error {
	f.mu.Lock()
	f.taken, f.silent = map[tributary.LedgerID]bool{}, map[tributary.LedgerID]time.Time{}
	f.stuck, f.skips = map[tributary.LedgerID]Stuck{}, map[tributary.LedgerID]tributary.LSN{}
	f.mu.Unlock()
	f.origins = map[tributary.LedgerID]origin.Origin{}
	cfg := f.Kafka
	cfg.Linger, cfg.Copy = min(cfg.Linger, mostLinger), true
	if pace := cfg.Pace; pace != nil {
		cfg.Pace = func() (linger time.Duration, batchBytes int) {
			linger, batchBytes = pace()
			return min(linger, mostLinger), batchBytes
		}
	}
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		held := f.Log.Copies()
		for _, id := range f.inTurn(ctx, f.View.Due(held, time.Now()), held) {
			if f.begin(id) {
				all.Go(func() { f.finish(ctx, cfg, id) })
			}
		}
	}
}

// Forwards says whether a ledger is being forwarded.
func (f *Forwarder) Forwards(id tributary.LedgerID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken[id]
}

// Needs says whether a ledger that another node has should be had here, to know who
// wrote it: one that is due waits for it.
func (f *Forwarder) Needs(id tributary.LedgerID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.needed[id]
}

// begin says whether a ledger is to be taken over now, and remembers that it is.
func (f *Forwarder) begin(id tributary.LedgerID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.taken[id] || len(f.taken) >= mostTaken || time.Now().Before(f.silent[id]) || f.isStuck(id) {
		return false
	}
	f.taken[id] = true
	return true
}

// finish forwards a ledger of another node for as long as there is more, and Kafka
// lets this node.
func (f *Forwarder) finish(ctx context.Context, cfg uplink.Config, id tributary.LedgerID) {
	f.Logger.Info("forwarding the ledger of another node, whose position in Kafka stands still", "ledger", id.String())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.taken, id)
	}()
	r, err := f.Log.Follow(id)
	if err != nil {
		f.Logger.Warn("cannot read a copy", "ledger", id.String(), "error", err)
		return
	}
	defer r.Close()
	part := &following{Reader: r, f: f}
	err = uplink.Forward(ctx, cfg, part, &taker{f: f, ledger: id, cancel: cancel})
	var stopped *uplink.StoppedError
	switch {
	case err == nil && part.missing != nil:
		f.sticks(*part.missing)
	case err == nil:
		f.Logger.Info("the ledger of another node is in Kafka as far as it is held here", "ledger", id.String())
	case errors.As(err, &stopped):
		f.Logger.Warn("the ledger of another node cannot be forwarded from here", "ledger", id.String(), "error", err)
		f.mu.Lock()
		f.silent[id] = time.Now().Add(stoppedRetry)
		f.mu.Unlock()
	}
}

// taker observes the forwarding of another node's ledger: it ends as soon as
// somebody else forwards it (R25).
type taker struct {
	f      *Forwarder
	ledger tributary.LedgerID
	cancel context.CancelFunc
}

// Committed implements uplink.Observer.
func (t *taker) Committed(c uplink.Commit) { t.f.Committed(c) }

// State implements uplink.Observer.
func (t *taker) State(st uplink.Status) {
	if st.Counters.Fenced > 0 {
		t.f.Logger.Info("somebody else forwards the ledger of another node now", "ledger", t.ledger.String())
		t.cancel()
	}
}
