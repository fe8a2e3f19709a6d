package view

import (
	"slices"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
)

var (
	self, other, writer = tributary.NodeID{1}, tributary.NodeID{2}, tributary.NodeID{3}
	ledgerOf            = tributary.LedgerID{9}
)

// clocked is a view that hears of Kafka, and of the nodes named, each second.
type clocked struct {
	*View

	now   time.Time
	kafka bool
	says  map[tributary.NodeID]func() (live tributary.LedgerID, holds []Holding)
}

func newClocked() *clocked {
	c := &clocked{View: New(self, Default), now: time.Unix(1_800_000_000, 0), kafka: true, says: map[tributary.NodeID]func() (tributary.LedgerID, []Holding){}}
	return c
}

func (c *clocked) tick(seconds int) {
	for range seconds {
		c.now = c.now.Add(time.Second)
		if c.kafka {
			c.ReadKafka(c.now)
		}
		for id, says := range c.says {
			live, holds := says()
			_, _ = c.Heard(id, live, holds, c.now)
		}
	}
}

// due ticks until the ledger is due, at most 200 seconds, and says when that was.
func (c *clocked) due(t *testing.T) int {
	t.Helper()
	const most = 200
	for at := range most {
		if due := c.Due([]Holding{{Ledger: ledgerOf, Durable: 10}}, c.now); len(due) > 0 {
			return at
		}
		c.tick(1)
	}
	return most
}

func says(live tributary.LedgerID, holds ...Holding) func() (tributary.LedgerID, []Holding) {
	return func() (tributary.LedgerID, []Holding) { return live, slices.Clone(holds) }
}

// R26: who forwards what, and when.
func TestDue(t *testing.T) {
	near := func(got, want int) bool { return got >= want-1 && got <= want+2 }
	t.Run("the writer is gone", func(t *testing.T) {
		c := newClocked()
		c.tick(1)
		if at := c.due(t); !near(at, 2) {
			t.Errorf("due after %d s", at)
		}
	})
	t.Run("the writer lives and cannot reach Kafka", func(t *testing.T) {
		c := newClocked()
		c.says[writer] = says(ledgerOf)
		c.tick(1)
		if at := c.due(t); !near(at, 60) {
			t.Errorf("due after %d s", at)
		}
	})
	t.Run("the writer is there again, as another process", func(t *testing.T) {
		c := newClocked()
		c.says[writer] = says(ledgerOf)
		c.tick(1)
		c.says[writer] = says(tributary.LedgerID{8})
		if at := c.due(t); !near(at, 2) {
			t.Errorf("due after %d s", at)
		}
	})
	t.Run("the writer lives, and ends its connection", func(t *testing.T) {
		c := newClocked()
		c.says[writer] = says(ledgerOf)
		c.tick(10)
		delete(c.says, writer)
		c.Left(writer)
		if due := c.Due([]Holding{{Ledger: ledgerOf, Durable: 10}}, c.now); len(due) == 0 {
			t.Error("not due, as if it were still there")
		}
	})
	t.Run("somebody forwards it", func(t *testing.T) {
		c := newClocked()
		for next := range tributary.LSN(100) {
			c.Moved(ledgerOf, next, c.now)
			c.tick(1)
			if due := c.Due([]Holding{{Ledger: ledgerOf, Durable: 1000}}, c.now); len(due) > 0 {
				t.Fatal("due while it moves")
			}
		}
	})
	t.Run("Kafka has all of it", func(t *testing.T) {
		c := newClocked()
		c.Moved(ledgerOf, 10, c.now)
		if at := c.due(t); at != 200 {
			t.Errorf("due after %d s", at)
		}
	})
	t.Run("Kafka cannot be read", func(t *testing.T) {
		c := newClocked()
		c.tick(10)
		c.kafka = false
		if at := c.due(t); at != 200 {
			t.Errorf("due after %d s", at)
		}
		c.kafka = true
		if at := c.due(t); !near(at, 2) {
			t.Errorf("due %d s after Kafka can be read again", at)
		}
	})
	t.Run("another one comes first", func(t *testing.T) {
		first := other
		if weight(ledgerOf, other) < weight(ledgerOf, self) {
			first = tributary.NodeID{2, 4}
		}
		for weight(ledgerOf, first) < weight(ledgerOf, self) {
			first[2]++
		}
		c := newClocked()
		c.says[first] = says(tributary.LedgerID{7}, Holding{Ledger: ledgerOf, Durable: 10})
		c.tick(1)
		if at := c.due(t); !near(at, 7) {
			t.Errorf("due after %d s", at)
		}
	})
	t.Run("another one would come first and has nothing", func(t *testing.T) {
		c := newClocked()
		c.says[other] = says(tributary.LedgerID{7}, Holding{Ledger: ledgerOf, Durable: 5, Position: 5})
		c.tick(1)
		if at := c.due(t); !near(at, 2) {
			t.Errorf("due after %d s", at)
		}
	})
}

// R6: each ledger has its own peers, and a node that goes changes only those that
// it was one of.
func TestPeers(t *testing.T) {
	var all []tributary.NodeID
	for n := range byte(5) {
		all = append(all, tributary.NodeID{n})
	}
	load := map[tributary.NodeID]int{}
	for i := range 1000 {
		id := tributary.LedgerID{byte(i), byte(i >> 8)}
		two := Peers(id, all, 2)
		for _, n := range two {
			load[n]++
		}
		without := slices.DeleteFunc(slices.Clone(all), func(n tributary.NodeID) bool { return n == all[4] })
		if now := Peers(id, without, 2); !slices.Contains(two, all[4]) && !slices.Equal(now, two) {
			t.Fatal("other peers though none of them has gone")
		}
	}
	for n, times := range load {
		if times < 300 || times > 500 {
			t.Errorf("node %v keeps %d of 1000 ledgers in two copies on five nodes", n, times)
		}
	}
}

// What a peer says that cannot be is left out, and said once; what many say does not
// fill the memory, and ledgers that nobody holds any more make room.
func TestDoubts(t *testing.T) {
	v := New(self, Default)
	live := tributary.LedgerID{1}
	v.Own = func() (tributary.LedgerID, tributary.LSN) { return live, 10 }
	now := time.Unix(1_800_000_000, 0)
	for n := range 3 {
		believed, doubt := v.Heard(other, ledgerOf, []Holding{
			{Ledger: ledgerOf, Durable: 10, Position: 1 << 60}, {Ledger: live, Durable: 1 << 60, Position: 11}, {Ledger: tributary.LedgerID{2}, Durable: 10, Position: 10},
		}, now)
		if len(believed) != 1 || (doubt != nil) != (n == 0) {
			t.Errorf("believed %v, doubt %v", believed, doubt)
		}
	}
	if v.Position(ledgerOf) != 0 || v.Position(live) != 0 || v.Position(tributary.LedgerID{2}) != 10 {
		t.Error("a position beyond the end of its ledger counts")
	}
	next := uint64(0)
	fill := func(id tributary.NodeID) {
		holds := make([]Holding, 1024)
		for i := range holds {
			next++
			holds[i] = Holding{Ledger: tributary.LedgerID{0: 7, 1: byte(next), 2: byte(next >> 8), 3: byte(next >> 16)}, Durable: 10}
		}
		_, _ = v.Heard(id, tributary.LedgerID{}, holds, now) // what is believed is looked at below
		now = now.Add(time.Second)
	}
	for n := range 200 {
		fill(tributary.NodeID{9, byte(n % 100)})
		if len(v.nodes) > mostNodes || len(v.ledgers) > mostLedgers {
			t.Fatalf("%d nodes, %d ledgers", len(v.nodes), len(v.ledgers))
		}
	}
	if believed, _ := v.Heard(other, tributary.LedgerID{}, []Holding{{Ledger: tributary.LedgerID{3}, Durable: 10}}, now.Add(time.Minute)); len(believed) != 1 {
		t.Error("nothing makes room")
	}
}

// R6, R34: a node without room is given copies again when there is nobody else, or
// after a while.
func TestKeepersWithRoom(t *testing.T) {
	v := New(self, Default)
	now := time.Unix(1_800_000_000, 0)
	can := []tributary.NodeID{{10}, {11}, {12}}
	for _, n := range can {
		_, _ = v.Heard(n, tributary.LedgerID{}, nil, now)
	}
	first := v.Keepers(ledgerOf, can, 1, now)
	v.Full(first[0], now)
	second := v.Keepers(ledgerOf, can, 1, now)
	if slices.Equal(first, second) {
		t.Error("a node without room is to keep a copy")
	}
	if all := v.Keepers(ledgerOf, can, 3, now); len(all) != 3 || all[2] != first[0] {
		t.Errorf("%v", all)
	}
	if got := v.Keepers(ledgerOf, can, 1, now.Add(time.Minute)); !slices.Equal(got, first) {
		t.Error("a node with room again is not asked")
	}
}

// R14: as many nodes begin a copy of what a node has left as are missing.
func TestAdopts(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	all := []tributary.NodeID{{10}, {11}, {12}, {13}, {14}}
	for holders := range 5 {
		for copies := range 4 {
			adopt := 0
			for i := holders; i < len(all); i++ { // those that hold nothing of it
				v := New(all[i], Default)
				for j, n := range all {
					var holds []Holding
					if j < holders {
						holds = []Holding{{Ledger: ledgerOf, Durable: 10}}
					}
					if j != i {
						_, _ = v.Heard(n, tributary.LedgerID{}, holds, now)
					}
				}
				can := slices.DeleteFunc(slices.Clone(all), func(n tributary.NodeID) bool { return n == all[i] })
				if v.Adopts(ledgerOf, can, copies, now) {
					adopt++
				}
			}
			if want := min(max(0, copies+1-holders), len(all)-holders); adopt != want {
				t.Errorf("%d of %d hold it, %d copies are wanted: %d begin one, should be %d", holders, len(all), copies, adopt, want)
			}
		}
	}
}
