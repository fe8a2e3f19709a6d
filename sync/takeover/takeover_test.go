package takeover

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/sync/origin"
	"github.com/tributary-edge/tributary/sync/view"
)

// shelf is a log that holds copies, and nothing else.
type shelf struct {
	held    []view.Holding
	origins map[tributary.LedgerID]origin.Origin
	damaged map[tributary.LedgerID]tributary.LSN // that record is missing
}

func (s *shelf) Copies() []view.Holding { return slices.Clone(s.held) }

func (s *shelf) CopyEnd(id tributary.LedgerID) (next tributary.LSN, chain uint64, held bool) {
	for _, h := range s.held {
		if h.Ledger == id {
			return h.Durable, 0, true
		}
	}
	return 0, 0, false
}

func (s *shelf) Damaged(id tributary.LedgerID, lsn tributary.LSN) bool {
	at, is := s.damaged[id]
	return is && at == lsn
}

func (s *shelf) Follow(id tributary.LedgerID) (Reader, error) { return &book{s, id}, nil }

// book is a ledger on the shelf.
type book struct {
	s  *shelf
	id tributary.LedgerID
}

func (b *book) Ledger() tributary.LedgerID           { return b.id }
func (b *book) Base() tributary.LSN                  { return 0 }
func (b *book) ChainAt(tributary.LSN) (uint64, bool) { return 0, false }
func (b *book) Close()                               {}
func (b *book) Read(_ context.Context, from tributary.LSN, _ int) (c record.Chunk, err error) {
	end, _, _ := b.s.CopyEnd(b.id)
	switch {
	case from >= end:
		return c, io.EOF
	case b.s.Damaged(b.id, from):
		return record.Chunk{From: from, Next: from + 1, Gap: &record.Gap{Reason: record.Damaged}}, nil
	}
	c = record.Chunk{From: from, Next: from + 1}
	if o := b.s.origins[b.id]; from == 0 && o.Known() {
		c.Entries = []record.Entry{{Record: record.Record{Value: origin.Opening{NodeID: o.Node.String(), Boots: o.Boots}.Value()}}}
	}
	return c, nil
}

func newForwarder(s *shelf) *Forwarder {
	return &Forwarder{
		View: view.New(tributary.NodeID{1}, view.Default), Log: s, Own: func(tributary.LedgerID) bool { return false }, Logger: slog.New(slog.DiscardHandler),
		origins: map[tributary.LedgerID]origin.Origin{}, taken: map[tributary.LedgerID]bool{}, silent: map[tributary.LedgerID]time.Time{},
		stuck: map[tributary.LedgerID]Stuck{}, skips: map[tributary.LedgerID]tributary.LSN{},
	}
}

// U2, R14: the ledgers of a node go to Kafka in the order of its lives; one of which
// nobody here knows whose it is has to be had here first.
func TestInTurn(t *testing.T) {
	writer, other := tributary.NodeID{7}, tributary.NodeID{8}
	first, second, foreign, unknown := tributary.LedgerID{1}, tributary.LedgerID{2}, tributary.LedgerID{3}, tributary.LedgerID{4}
	s := &shelf{
		held:    []view.Holding{{Ledger: second, Durable: 10}, {Ledger: first, Durable: 10}, {Ledger: foreign, Durable: 10}},
		origins: map[tributary.LedgerID]origin.Origin{first: {Node: writer, Boots: 1}, second: {Node: writer, Boots: 2}, foreign: {Node: other, Boots: 9}},
	}
	f := newForwarder(s)
	turn := func(want ...tributary.LedgerID) {
		t.Helper()
		if got := f.inTurn(t.Context(), []tributary.LedgerID{second, first, foreign}, s.Copies()); !slices.Equal(got, want) {
			t.Errorf("in turn are %v, should be %v", got, want)
		}
	}
	turn(first, foreign)
	f.View.Moved(first, 10, time.Now())
	turn(second, first, foreign) // of the first there is nothing to forward: it is not due any more
	_, _ = f.View.Heard(tributary.NodeID{5}, tributary.LedgerID{}, []view.Holding{{Ledger: unknown, Durable: 10}}, time.Now())
	turn()
	if !f.Needs(unknown) || f.Needs(first) {
		t.Error("what all wait for is not asked for")
	}
	f.View.Moved(unknown, 10, time.Now())
	turn(second, first, foreign)
	if f.Needs(unknown) {
		t.Error("it is asked for, though nobody waits for it any more")
	}
}

// R15: what is missing in a copy is no gap, until it was healed or an operator gives it
// up; meanwhile nobody tries to forward it.
func TestStuck(t *testing.T) {
	id := tributary.LedgerID{1}
	s := &shelf{held: []view.Holding{{Ledger: id, Durable: 10}}, damaged: map[tributary.LedgerID]tributary.LSN{id: 4}}
	f := newForwarder(s)
	read := func(from tributary.LSN) (record.Chunk, error) {
		r, err := s.Follow(id)
		if err != nil {
			t.Fatal(err)
		}
		c := &following{Reader: r, f: f}
		got, err := c.Read(t.Context(), from, 1)
		if c.missing != nil {
			f.sticks(*c.missing)
		}
		return got, err
	}
	if _, err := read(3); err != nil || !f.begin(id) {
		t.Fatal(err)
	}
	delete(f.taken, id)
	if _, err := read(4); !errors.Is(err, io.EOF) {
		t.Errorf("what is missing is read: %v", err)
	}
	if all := f.Stuck(); len(all) != 1 || all[0].From != 4 || all[0].To != 5 || f.begin(id) {
		t.Fatalf("stuck are %v", all)
	}
	if _, err := f.Skip(tributary.LedgerID{9}); err == nil {
		t.Error("a ledger is skipped that is not stuck")
	}
	if _, err := f.Skip(id); err != nil || !f.begin(id) {
		t.Fatal(err)
	}
	delete(f.taken, id)
	if got, err := read(4); err != nil || got.Gap == nil {
		t.Errorf("%+v, %v; it was skipped", got, err)
	}
	f.View.Moved(id, 5, time.Now())
	if all := f.Stuck(); len(all) > 0 {
		t.Errorf("stuck are %v, and Kafka is beyond it", all)
	}
	f.skips = map[tributary.LedgerID]tributary.LSN{}
	s.damaged[id] = 7
	if _, err := read(7); !errors.Is(err, io.EOF) || f.begin(id) {
		t.Error("it is not stuck again")
	}
	delete(s.damaged, id) // it has come from another node
	if !f.begin(id) || len(f.Stuck()) > 0 {
		t.Error("it is stuck, and nothing is missing")
	}
}
