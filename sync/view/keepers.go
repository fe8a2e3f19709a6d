package view

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
)

// fullFor is how long a node is not given copies to keep after it has said that it
// has no room for them, as long as there are others.
const fullFor = time.Minute

// Full notes that a node has no room for copies (R34).
func (v *View) Full(id tributary.NodeID, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := v.nodes[id]; n != nil {
		n.full = now
	}
}

// Keepers returns the nodes that are to keep copies of a ledger, of those that can be
// there: those that have no room come last (R6).
func (v *View) Keepers(id tributary.LedgerID, can []tributary.NodeID, count int, now time.Time) []tributary.NodeID {
	v.mu.Lock()
	defer v.mu.Unlock()
	isFull := func(n tributary.NodeID) bool { return v.nodes[n] != nil && now.Sub(v.nodes[n].full) < fullFor }
	room := slices.DeleteFunc(slices.Clone(can), isFull)
	full := slices.DeleteFunc(slices.Clone(can), func(n tributary.NodeID) bool { return !isFull(n) })
	all := Peers(id, room, count)
	return append(all, Peers(id, full, count-len(all))...)
}

// Adopts says whether this node should begin a copy of a ledger that nobody writes any
// more: fewer than copies + 1 of the nodes that are there hold what Kafka lacks of it,
// and this one is among the first of the others (R14). can are the others that may
// keep copies.
func (v *View) Adopts(id tributary.LedgerID, can []tributary.NodeID, copies int, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	holders := 0
	others := []tributary.NodeID{v.self}
	for n, is := range v.nodes {
		if now.Sub(is.heard) >= silent {
			continue
		}
		switch holds := slices.ContainsFunc(is.holds, func(h Holding) bool { return h.Ledger == id && h.Durable > h.Position }); {
		case holds:
			holders++
		case slices.Contains(can, n) && now.Sub(is.full) >= fullFor:
			others = append(others, n)
		}
	}
	return slices.Contains(Peers(id, others, copies+1-holders), v.self)
}

// Peers returns the nodes that are to keep copies of a ledger, of those that can:
// the count with the highest weight, so that each ledger has its own, and those
// few change when a node comes or goes (rendezvous hashing; R6).
func Peers(id tributary.LedgerID, can []tributary.NodeID, count int) []tributary.NodeID {
	all := slices.Clone(can)
	slices.SortFunc(all, func(a, b tributary.NodeID) int {
		return cmp.Or(cmp.Compare(weight(id, b), weight(id, a)), compare(a, b))
	})
	return all[:max(0, min(count, len(all)))]
}

// weight is high for some nodes and low for others, differently for each ledger.
func weight(id tributary.LedgerID, n tributary.NodeID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(id[:]) // never fails: hash.Hash
	_, _ = h.Write(n[:])
	x := h.Sum64() // FNV mixes its last bytes little: SplitMix64 finishes it
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
