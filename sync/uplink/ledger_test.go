package uplink

import (
	"cmp"
	"context"
	"fmt"
	"hash/crc64"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// ledger is a Source in memory.
type ledger struct {
	id tributary.LedgerID

	mu     sync.Mutex     // guards what follows
	groups []record.Chunk // and gaps
	gone   []record.Entry // what was in the gaps
	from   tributary.LSN  // base
	next   tributary.LSN
	closed bool
	grown  chan struct{} // closed and replaced when groups or closed change
}

func newLedger() *ledger {
	return &ledger{id: tributary.NewLedgerID(), grown: make(chan struct{})}
}

func (l *ledger) Ledger() tributary.LedgerID { return l.id }

func (l *ledger) Base() tributary.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from
}

func (l *ledger) end() tributary.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

func (l *ledger) ChainAt(lsn tributary.LSN) (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lsn == 0 {
		return 0, true
	}
	for _, g := range l.groups {
		if g.Next == lsn && lsn >= l.from {
			return g.Chain, true
		}
	}
	return 0, false
}

func (l *ledger) Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	for {
		l.mu.Lock()
		c, ok := l.read(from, maxBytes)
		end, closed, grown := l.next, l.closed, l.grown
		l.mu.Unlock()
		switch {
		case ok:
			return c, nil
		case from < end:
			return record.Chunk{}, fmt.Errorf("record %d is inside a group", from)
		case closed:
			return record.Chunk{}, io.EOF
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return record.Chunk{}, ctx.Err()
		}
	}
}

func (l *ledger) read(from tributary.LSN, maxBytes int) (c record.Chunk, ok bool) {
	first, ok := slices.BinarySearchFunc(l.groups, from, func(g record.Chunk, lsn tributary.LSN) int { return cmp.Compare(g.From, lsn) })
	if !ok {
		return l.restOfGap(first-1, from)
	}
	if l.groups[first].Gap != nil {
		return l.groups[first], true
	}
	c.From = from
	c.Entries = make([]record.Entry, 0, maxBytes/256+len(l.groups[first].Entries))
	for _, g := range l.groups[first:] {
		if maxBytes <= 0 || g.Gap != nil {
			break
		}
		c.Next, c.Chain = g.Next, g.Chain
		c.Entries = append(c.Entries, g.Entries...)
		maxBytes -= 256 * len(g.Entries)
	}
	return c, true
}

// restOfGap is what Read gives from inside a gap: a store cannot tell which of
// its streams are behind from.
func (l *ledger) restOfGap(i int, from tributary.LSN) (c record.Chunk, ok bool) {
	if i < 0 || l.groups[i].Gap == nil || from >= l.groups[i].Next {
		return c, false
	}
	c = l.groups[i]
	gap := *c.Gap
	gap.Streams = nil
	c.From, c.Gap = from, &gap
	return c, true
}

// drop makes a gap of the groups and gaps of [from, to), which begins and ends
// with one.
func (l *ledger) drop(from, to tributary.LSN, reason record.GapReason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := slices.IndexFunc(l.groups, func(g record.Chunk) bool { return g.From == from })
	last := slices.IndexFunc(l.groups, func(g record.Chunk) bool { return g.Next == to })
	gap := record.Gap{Reason: reason, Streams: map[string]int64{}}
	for _, g := range l.groups[first : last+1] {
		for _, e := range g.Entries {
			gap.Streams[e.Stream]++
			gap.FirstMillis, gap.LastMillis = cmp.Or(gap.FirstMillis, e.Millis), e.Millis
		}
		if g.Gap != nil {
			for stream, n := range g.Gap.Streams {
				gap.Streams[stream] += n
			}
			gap.FirstMillis, gap.LastMillis = cmp.Or(gap.FirstMillis, g.Gap.FirstMillis), g.Gap.LastMillis
		}
		l.gone = append(l.gone, g.Entries...)
	}
	c := record.Chunk{From: from, Next: to, Chain: l.groups[last].Chain, Gap: &gap}
	l.groups = slices.Replace(l.groups, first, last+1, c)
}

// add appends one group.
func (l *ledger) add(records ...record.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := record.Chunk{From: l.next}
	for _, r := range records {
		g.Entries = append(g.Entries, record.Entry{LSN: l.next, Record: r})
		l.next++
	}
	g.Next = l.next
	chain := crc64.New(crc64.MakeTable(crc64.ECMA))
	if n := len(l.groups); n > 0 {
		fmt.Fprint(chain, l.groups[n-1].Chain)
	}
	for _, e := range g.Entries {
		_, _ = chain.Write(e.Key)
		_, _ = chain.Write(e.Value)
	}
	g.Chain = chain.Sum64()
	l.groups = append(l.groups, g)
	close(l.grown)
	l.grown = make(chan struct{})
}

// fill appends groups of n records in all, of 5 keys, with values that say
// where they are.
func (l *ledger) fill(stream string, n, perGroup int) {
	for n > 0 {
		var g []record.Record
		for i := range min(perGroup, n) {
			lsn := uint64(l.end()) + uint64(i)
			g = append(g, record.Record{
				Stream: stream, Millis: time.Now().UnixMilli(),
				Key:   []byte(fmt.Sprintf("device-%d", lsn%5)),
				Value: []byte(fmt.Sprintf("value %d of the ledger", lsn)),
			})
		}
		l.add(g...)
		n -= len(g)
	}
}

func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.grown)
	l.grown = make(chan struct{})
}
