package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/record"
)

// A history is all that is known of one ledger: what was appended, what the log
// has promised of it, and what it may forget.
type history struct {
	id        tributary.LedgerID
	entries   []record.Entry           // everything that was appended, by LSN
	offsets   map[partition]int64      // of the next record of each partition
	below     atomic.Uint64            // records: acknowledged, or reported as there by an Open; Run may promise more at any time
	forwarded tributary.LSN            // below: in Kafka
	chains    map[tributary.LSN]uint64 // at the group boundaries that were read
	drops     bool                     // a part of it was dropped, as the log was told to
	patchy    bool                     // see oracle
	healed    bool                     // a damaged part may have another copy
	uncounted bool                     // and could not be read at the time
	peer      bool                     // another node writes it: what is held is a copy
}

// promised returns below which record the log has promised all.
func (h *history) promised() tributary.LSN { return tributary.LSN(h.below.Load()) }

// promise notes that the log has promised all below next. One goroutine calls it at a time.
func (h *history) promise(next tributary.LSN) { h.below.Store(max(h.below.Load(), uint64(next))) }

// add notes that r was given the next LSN.
func (h *history) add(r *record.Record) {
	p := partition{r.Stream, r.Partition}
	h.entries = append(h.entries, record.Entry{LSN: tributary.LSN(len(h.entries)), Offset: h.offsets[p], Record: *r})
	h.offsets[p]++
}

// An oracle knows every ledger that was ever written to a disk.
type oracle struct {
	all []*history
	// patchy: a process may have used segments again while it could not see older
	// ones. Those are there again, and a hole behind them of what is in Kafka.
	patchy bool
}

func (o *oracle) begin(id tributary.LedgerID) *history {
	h := &history{id: id, patchy: o.patchy, offsets: map[partition]int64{}, chains: map[tributary.LSN]uint64{}}
	o.all = append(o.all, h)
	return h
}

// check reads everything that l holds and compares it with what was promised.
// What it finds is promised from then on: an Open that reports a record as
// there must not lose it later.
func (o *oracle) check(l *Log) error {
	order := -1
	for _, i := range l.Ledgers() {
		at := slices.IndexFunc(o.all, func(h *history) bool { return h.id == i.ID })
		if at >= 0 && (i.Copy != o.all[at].peer) {
			return fmt.Errorf("R1: ledger %d of %d is taken for a copy: %v", at+1, len(o.all), i.Copy)
		}
		if at >= 0 && (o.all[at].forwarded >= i.To || i.Copy) {
			continue // a segment that was to be used again: there is nothing left to send; or it began at any time
		}
		if at <= order {
			return fmt.Errorf("D3: ledger %v is unknown, or out of order: place %d after %d", i.ID, at, order)
		}
		order = at
	}
	for n, h := range o.all {
		if err := h.check(l); err != nil {
			return fmt.Errorf("ledger %d of %d: %w", n+1, len(o.all), err)
		}
	}
	return nil
}

func (h *history) check(l *Log) error {
	from, held := l.base(h.id)
	if h.peer && l.opt.DropOldest {
		h.below.Store(0) // it may have been dropped, and begun again: others hold it
	}
	if !held {
		if promised := h.promised(); promised > h.forwarded { // also when it was dropped: Kafka has to be told
			return fmt.Errorf("D1, D3: nothing is left; records up to %d were promised, up to %d forwarded", promised, h.forwarded)
		}
		return nil
	}
	if from > h.forwarded && (!h.peer || !l.opt.DropOldest) {
		return fmt.Errorf("D3: starts at record %d; only those up to %d were forwarded", from, h.forwarded)
	}
	r, err := l.Reader(h.id)
	if err != nil {
		return err
	}
	defer r.Close()
	at, size := from, 1
	for h.id != l.Ledger() || at < l.Durable() {
		c, err := r.Read(context.Background(), at, size)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("D3: read from record %d: %w", at, err)
		}
		if c.Gap != nil {
			if err := h.forgive(l, at, &c); err != nil {
				return err
			}
		} else if err := h.compare(at, &c); err != nil {
			return err
		}
		at, size = c.Next, size*3%10_007 // now one group, now many
	}
	if h.patchy {
		at = max(at, h.forwarded)
	}
	if promised := h.promised(); at < promised {
		return fmt.Errorf("D1, D3: ends at record %d; %d were promised", at, promised)
	}
	h.below.Store(uint64(at))
	return nil
}

// forgive checks a gap: the log drops nothing unless it was told to, and says
// exactly what it has dropped.
func (h *history) forgive(l *Log, at tributary.LSN, c *record.Chunk) error {
	if c.From != at || c.Next <= at || len(c.Entries) > 0 || int(c.Next) > len(h.entries) {
		return fmt.Errorf("U4: gap [%d, %d) of %d records, asked for %d", c.From, c.Next, len(h.entries), at)
	}
	if (h.patchy || h.peer) && (c.Next <= h.forwarded || h.peer && l.opt.DropOldest) {
		return h.chain(c)
	}
	if c.Gap.Reason != record.Dropped || !h.drops && !l.opt.DropOldest {
		return fmt.Errorf("D3: records [%d, %d) are gone: %+v", c.From, c.Next, c.Gap)
	}
	h.drops = true
	if c.Gap.Streams != nil && !h.uncounted {
		counted := map[string]int64{}
		for i := range h.entries[at:c.Next] {
			counted[h.entries[at+tributary.LSN(i)].Stream]++
		}
		if !maps.Equal(counted, c.Gap.Streams) {
			return fmt.Errorf("U4: gap [%d, %d) counts %v, should be %v", c.From, c.Next, c.Gap.Streams, counted)
		}
	}
	return h.chain(c)
}

// compare checks a chunk that was read from record at on.
func (h *history) compare(at tributary.LSN, c *record.Chunk) error {
	if c.From != at || c.Next != at+tributary.LSN(len(c.Entries)) || c.Next == at {
		return fmt.Errorf("L1: chunk [%d, %d) with %d records, asked for %d", c.From, c.Next, len(c.Entries), at)
	}
	if int(c.Next) > len(h.entries) {
		return fmt.Errorf("D3: records up to %d, but only %d were ever appended", c.Next, len(h.entries))
	}
	for i := range c.Entries {
		if err := same(&c.Entries[i], &h.entries[at+tributary.LSN(i)]); err != nil {
			return fmt.Errorf("D3: record %d: %w", at+tributary.LSN(i), err)
		}
	}
	return h.chain(c)
}

// chain checks that the chain at the end of a chunk is what it was before.
func (h *history) chain(c *record.Chunk) error {
	if was, seen := h.chains[c.Next]; seen && was != c.Chain {
		return fmt.Errorf("L1: the chain at %d is %016x and was %016x", c.Next, c.Chain, was)
	}
	h.chains[c.Next] = c.Chain
	return nil
}

func same(got, want *record.Entry) error {
	switch {
	case got.LSN != want.LSN:
		return fmt.Errorf("L1: has LSN %d", got.LSN)
	case got.Stream != want.Stream || got.Partition != want.Partition:
		return fmt.Errorf("is in %s/%d, should be in %s/%d", got.Stream, got.Partition, want.Stream, want.Partition)
	case got.Offset != want.Offset:
		return fmt.Errorf("L2: has offset %d in %s/%d, should be %d", got.Offset, got.Stream, got.Partition, want.Offset)
	case got.Millis != want.Millis || !sameBytes(got.Key, want.Key) || !sameBytes(got.Value, want.Value):
		return errors.New("has another time, key or value than was appended")
	case !slices.EqualFunc(got.Headers, want.Headers, func(a, b record.Header) bool { return a.Key == b.Key && sameBytes(a.Value, b.Value) }):
		return fmt.Errorf("has headers %v, should be %v", got.Headers, want.Headers)
	}
	return nil
}

// sameBytes tells no bytes from none at all, as Kafka does.
func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// reopen opens the log again and checks all of it, as the next process would
// find it. It returns the open log.
func (o *oracle) reopen(fs disk.FS, opt Options) (*Log, Recovery, error) {
	l, found, err := Open(fs, opt)
	if err != nil {
		return nil, found, fmt.Errorf("D3: does not start again by itself: %w", err)
	}
	if len(found.Rot) > 0 && !o.patchy {
		return nil, found, fmt.Errorf("calls a power cut rot: %w", &found.Rot[0])
	}
	if err := o.check(l); err != nil {
		return nil, found, err
	}
	if _, err := Verify(fs); err != nil && !o.patchy {
		return nil, found, fmt.Errorf("verify: %w", err)
	}
	return l, found, nil
}
