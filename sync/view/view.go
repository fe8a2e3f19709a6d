// Package view is what this node believes of its site: who is there, who holds
// what, how far Kafka is with each ledger; and therefore which ledgers of others
// this node should forward.
//
// It is a belief. Nothing that must not go wrong rests on it: whatever a node
// decides here, Kafka lets one forwarder of a ledger commit, and that one reads
// where to go on. A wrong belief costs time.
package view

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
)

// Patience is how long the position of a ledger in Kafka may stand still before
// somebody else forwards it (R26).
type Patience struct {
	WriterGone  time.Duration // the node that wrote it is not there, or is another process by now
	WriterLives time.Duration // it is there, and has lost its way to Kafka
	PerRank     time.Duration // more for each node that is to try before this one
}

// Default is what the protocol was tried with.
//
//nolint:gochecknoglobals // a constant
var Default = Patience{WriterGone: 2 * time.Second, WriterLives: 60 * time.Second, PerRank: 5 * time.Second}

// silent is how long a node counts as there after it was heard of last.
const silent = 5 * time.Second

// A Holding is what a node holds of a ledger.
type Holding struct {
	Ledger   tributary.LedgerID
	Base     tributary.LSN // of the oldest record
	Durable  tributary.LSN
	Position tributary.LSN // as far as it knows
	Forwards bool          // it is forwarding the ledger
	AtMark   bool          // and waits at the mark of a hand-off: nobody else would come further (R26, R45)
}

// A View is for many goroutines at once.
type View struct {
	// Own returns the ledger that this node writes and below which record it is
	// durable; nil: it writes none. It is set before the first Heard.
	Own func() (live tributary.LedgerID, durable tributary.LSN)

	mu       sync.Mutex // guards what follows
	self     tributary.NodeID
	patience Patience
	nodes    map[tributary.NodeID]*node
	ledgers  map[tributary.LedgerID]*ledger
	held     map[tributary.LedgerID]bool // by this node, when Due was called last
	pruned   time.Time                   // when ledgers were last forgotten
	asOf     time.Time                   // when Kafka was last known to have been read to the end
	since    time.Time                   // since when that goes without a break
}

// node is another node, as far as it was heard of.
type node struct {
	live    tributary.LedgerID
	heard   time.Time
	holds   []Holding
	doubted bool      // it has said what cannot be, and that was told
	full    time.Time // when it last said that it has no room for copies
}

// What others say must not fill the memory.
const (
	mostNodes   = 64
	mostLedgers = 16 << 10
)

// ledger is one of which Kafka may lack something.
type ledger struct {
	writer   tributary.NodeID // zero if that is not known
	position tributary.LSN    // below: in Kafka
	moved    time.Time        // when that last changed, or was first heard of
}

// New returns the view of a node that has heard of nobody.
func New(self tributary.NodeID, p Patience) *View {
	return &View{self: self, patience: p, nodes: map[tributary.NodeID]*node{}, ledgers: map[tributary.LedgerID]*ledger{}}
}

// Become says that this node is another one from now on (R3).
func (v *View) Become(self tributary.NodeID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.self = self
	delete(v.nodes, self)
}

// Wait changes how long positions may stand still.
func (v *View) Wait(p Patience) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.patience = p
}

// Heard notes what a node has said of itself: the ledger that its process writes,
// and what it holds. It returns what of that can be so: the position of a ledger is
// not beyond what the node that tells of it has, or else that is left out. doubt says,
// once for each node, what was left out. The View keeps holds, and believed is a
// part of it.
func (v *View) Heard(id tributary.NodeID, live tributary.LedgerID, holds []Holding, now time.Time) (believed []Holding, doubt error) {
	var own tributary.LedgerID
	var durable tributary.LSN
	if v.Own != nil {
		own, durable = v.Own()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.nodes[id]
	if n == nil {
		if n = v.newNode(id, now); n == nil {
			return nil, nil // the others are heard
		}
	}
	n.live, n.heard, n.holds = live, now, nil // what it held is no reason to remember a ledger
	if live != (tributary.LedgerID{}) && v.room(live, now) {
		v.of(live, now).writer = id
	}
	believed = holds[:0]
	for _, h := range holds {
		end := h.Durable
		if h.Ledger == own {
			end = min(end, durable)
		}
		if h.Position > end {
			if !n.doubted {
				n.doubted = true
				doubt = fmt.Errorf("it says that Kafka has ledger %v up to record %d, which ends at %d", h.Ledger, h.Position, end)
			}
			continue
		}
		if v.room(h.Ledger, now) {
			v.move(h.Ledger, h.Position, now)
			if h.AtMark {
				v.of(h.Ledger, now).moved = now
			}
			believed = append(believed, h)
		}
	}
	n.holds = believed
	return believed, doubt
}

// Left notes that a node has ended its connection: it is not there until it is heard of
// again.
func (v *View) Left(id tributary.NodeID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := v.nodes[id]; n != nil {
		n.heard = time.Time{}
	}
}

// newNode makes room for a node that was not heard of, and returns nil if there
// is none: in the place of one that is gone.
func (v *View) newNode(id tributary.NodeID, now time.Time) *node {
	if len(v.nodes) >= mostNodes {
		maps.DeleteFunc(v.nodes, func(_ tributary.NodeID, n *node) bool { return now.Sub(n.heard) >= silent })
	}
	if len(v.nodes) >= mostNodes {
		return nil
	}
	n := &node{}
	v.nodes[id] = n
	return n
}

// room says whether a ledger is known, or may become so: in the place of those that
// nobody holds any more.
func (v *View) room(id tributary.LedgerID, now time.Time) bool {
	if v.ledgers[id] != nil || len(v.ledgers) < mostLedgers {
		return true
	}
	if now.Sub(v.pruned) < time.Second {
		return false
	}
	v.pruned = now
	wanted := maps.Clone(v.held)
	if wanted == nil {
		wanted = map[tributary.LedgerID]bool{}
	}
	for _, n := range v.nodes {
		if now.Sub(n.heard) >= silent {
			continue
		}
		wanted[n.live] = true
		for _, h := range n.holds {
			wanted[h.Ledger] = true
		}
	}
	maps.DeleteFunc(v.ledgers, func(id tributary.LedgerID, _ *ledger) bool { return !wanted[id] })
	return len(v.ledgers) < mostLedgers
}

// Moved notes that Kafka has all of a ledger below next.
func (v *View) Moved(id tributary.LedgerID, next tributary.LSN, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.move(id, next, now)
}

func (v *View) move(id tributary.LedgerID, next tributary.LSN, now time.Time) {
	if !v.room(id, now) {
		return
	}
	if l := v.of(id, now); next > l.position {
		l.position, l.moved = next, now
	}
}

func (v *View) of(id tributary.LedgerID, now time.Time) *ledger {
	l := v.ledgers[id]
	if l == nil {
		l = &ledger{moved: now}
		v.ledgers[id] = l
	}
	return l
}

// ReadKafka notes that at some time every position that is in Kafka was known. A
// node that cannot read Kafka cannot tell that a position stands still.
func (v *View) ReadKafka(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.since.IsZero() || at.Sub(v.asOf) > silent {
		v.since = at
	}
	v.asOf = at
}

// KafkaRead returns when every position that was in Kafka was last known.
func (v *View) KafkaRead() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.asOf
}

// Alive says whether a node was heard of lately.
func (v *View) Alive(id tributary.NodeID, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.nodes[id]
	return n != nil && now.Sub(n.heard) < silent
}

// Position returns below which record a ledger is known to be in Kafka.
func (v *View) Position(id tributary.LedgerID) tributary.LSN {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.ledgers[id]; l != nil {
		return l.position
	}
	return 0
}

// tellFor is for how long others are told of a ledger that Kafka has all of.
const tellFor = 30 * time.Second

// News says whether the position of a ledger is news: whoever wrote it may have lost its
// way to Kafka, and a device may wait for it to know.
func (v *View) News(id tributary.LedgerID, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.ledgers[id]
	return l != nil && now.Sub(l.moved) < tellFor
}

// Holds returns what a node has last said that it holds.
func (v *View) Holds(id tributary.NodeID) []Holding {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := v.nodes[id]; n != nil {
		return n.holds
	}
	return nil
}

// Written says whether the process that writes a ledger is there.
func (v *View) Written(id tributary.LedgerID, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range v.nodes {
		if n.live == id && now.Sub(n.heard) < silent {
			return true
		}
	}
	return false
}

// There returns the nodes that were heard of lately, in order.
func (v *View) There(now time.Time) (all []tributary.NodeID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, n := range v.nodes {
		if now.Sub(n.heard) < silent {
			all = append(all, id)
		}
	}
	slices.SortFunc(all, compare)
	return all
}

func compare(a, b tributary.NodeID) int { return slices.Compare(a[:], b[:]) }

// Due returns which of the ledgers that this node holds copies of it should
// forward now: Kafka lacks something that this node has, and the position has
// stood still for as long as whoever is to forward it before may take (R26).
func (v *View) Due(held []Holding, now time.Time) (due []tributary.LedgerID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.held = map[tributary.LedgerID]bool{}
	for _, h := range held {
		v.held[h.Ledger] = true
	}
	if now.Sub(v.asOf) > silent {
		return nil
	}
	for _, h := range held {
		l := v.of(h.Ledger, now)
		if h.Durable <= max(l.position, h.Position) {
			continue
		}
		wait := v.patience.WriterGone
		if w := v.nodes[l.writer]; w != nil && w.live == h.Ledger && now.Sub(w.heard) < silent {
			wait = v.patience.WriterLives
		}
		wait += time.Duration(v.rank(h.Ledger, now)) * v.patience.PerRank
		if stood := v.asOf.Sub(later(l.moved, v.since)); stood >= wait {
			due = append(due, h.Ledger)
		}
	}
	return due
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// rank returns how many nodes that are there, and hold more of the ledger than
// Kafka has, come before this one.
func (v *View) rank(id tributary.LedgerID, now time.Time) (rank int) {
	own := weight(id, v.self)
	for other, n := range v.nodes {
		holds := slices.ContainsFunc(n.holds, func(h Holding) bool { return h.Ledger == id && h.Durable > v.ledgers[id].position })
		if holds && now.Sub(n.heard) < silent && other != v.ledgers[id].writer && weight(id, other) > own {
			rank++
		}
	}
	return rank
}
