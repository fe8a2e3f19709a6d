package edge

import (
	"context"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/store"
)

// ledgerReader reads ledgers from any record on: the live one, which is another
// after a write to the disk has failed, and now and then an older one for a
// subscriber who was away. It is for one goroutine.
type ledgerReader struct {
	log    *store.Log
	r      *store.Reader // of the ledger that was read last; nil at first
	before *store.Reader // of the one before it; nil at first
	next   tributary.LSN // a group starts here in the ledger that was read last
}

// Read implements ingest.Reader.
func (l *ledgerReader) Read(ctx context.Context, ledger tributary.LedgerID, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	if l.r == nil || l.r.Ledger() != ledger {
		l.r, l.before, l.next = l.before, l.r, 0
	}
	if l.r == nil || l.r.Ledger() != ledger {
		r, err := l.log.Reader(ledger)
		if err != nil {
			return record.Chunk{}, err
		}
		if l.r != nil {
			l.r.Close()
		}
		l.r = r
	}
	if from != l.next {
		from = l.r.GroupStart(from)
	}
	c, err := l.r.Read(ctx, from, maxBytes)
	if err == nil {
		l.next = c.Next
	}
	return c, err
}

// Close frees what the reader holds.
func (l *ledgerReader) Close() {
	for _, r := range []*store.Reader{l.r, l.before} {
		if r != nil {
			r.Close()
		}
	}
}

// nextLedger returns the ledger to forward when those in done are: the oldest
// that Kafka does not have all of, and the live one last.
func (n *Node) nextLedger(done map[tributary.LedgerID]bool) tributary.LedgerID {
	for _, l := range n.log.Ledgers() {
		if !l.Live && !l.Copy && !done[l.ID] && n.up.position(l.ID).Next < l.To {
			return l.ID
		}
	}
	return n.log.Ledger()
}

const (
	// longAgo is before this program was written: no clock that is right says so.
	longAgo = 1_735_689_600_000 // 2025-01-01
	// clockPatience is how long the uplink waits for a clock that is wrong beyond
	// doubt. Once records have left with such a time, nothing puts it right, and
	// Kafka may delete them as too old.
	clockPatience = 2 * time.Minute
)

// awaitClock returns when the time of day can be right, or patience is over.
func (n *Node) awaitClock(ctx context.Context) {
	if n.clock.Wall() >= longAgo {
		return
	}
	n.logger.Warn("the clock has not been set; the uplink waits a little for it, so that records do not reach Kafka with a wrong time",
		"clock", time.UnixMilli(n.clock.Wall()).UTC().Format(time.RFC3339), "patience", clockPatience.String())
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for over := time.After(clockPatience); n.clock.Wall() < longAgo; {
		select {
		case <-tick.C:
		case <-over:
			n.logger.Warn("the clock is still not set; records go to Kafka with the times that it gives")
			return
		case <-ctx.Done():
			return
		}
	}
}
