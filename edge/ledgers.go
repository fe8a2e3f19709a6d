package edge

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/store"
)

// ledgerReader reads ledgers from any record on: the live one, which is another
// after a write to the disk has failed, those of other gateways, and now and then an
// older one for a subscriber who was away. It is for one goroutine.
type ledgerReader struct {
	log  *store.Log
	open []placed // those that were read last, the last one first
}

// placed is a reader, and where a group starts.
type placed struct {
	*store.Reader

	next tributary.LSN
}

// mostReaders is how many ledgers are kept open: what some gateways write at present,
// and one or two for those who are behind.
const mostReaders = 6

// Read implements ingest.Reader. What is in Kafka and gone here is a gap.
func (l *ledgerReader) Read(ctx context.Context, ledger tributary.LedgerID, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	r, err := l.reader(ledger)
	if err != nil {
		return record.Chunk{}, err
	}
	start := from
	if from != r.next {
		start = r.GroupStart(from)
	}
	c, err := r.Read(ctx, start, maxBytes)
	if errors.Is(err, store.ErrTrimmed) {
		if base := r.Base(); base > from {
			c, err = record.Chunk{From: from, Next: base, Gap: &record.Gap{Reason: record.Dropped}}, nil
		}
	}
	if err == nil {
		r.next = c.Next
	}
	return c, err
}

// reader returns the reader of a ledger, and makes it the first.
func (l *ledgerReader) reader(ledger tributary.LedgerID) (*placed, error) {
	at := slices.IndexFunc(l.open, func(p placed) bool { return p.Ledger() == ledger })
	if at < 0 {
		r, err := l.log.Reader(ledger)
		if err != nil {
			return nil, err
		}
		if at = len(l.open); at == mostReaders {
			at--
			l.open[at].Close()
			l.open = l.open[:at]
		}
		l.open = append(l.open, placed{Reader: r})
	}
	p := l.open[at]
	copy(l.open[1:], l.open[:at])
	l.open[0] = p
	return &l.open[0], nil
}

// Close frees what the reader holds.
func (l *ledgerReader) Close() {
	for _, r := range l.open {
		r.Close()
	}
	l.open = nil
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
