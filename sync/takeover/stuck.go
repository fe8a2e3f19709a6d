package takeover

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
)

// A Stuck is a ledger that nobody can forward from here: records [From, To) come
// next, and they are damaged in the copy of this node (R15). They are taken from
// another node as soon as one is there that has them.
type Stuck struct {
	Ledger   tributary.LedgerID
	From, To tributary.LSN
	Since    time.Time
}

// Stuck returns the ledgers that are stuck, in order.
func (f *Forwarder) Stuck() []Stuck {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.stuck {
		f.isStuck(id)
	}
	return slices.SortedFunc(maps.Values(f.stuck), func(a, b Stuck) int { return bytes.Compare(a.Ledger[:], b.Ledger[:]) })
}

// Skip gives up what a ledger is stuck with, by the order of an operator: Kafka gets a
// gap record in its place. An error says that nothing is stuck there.
func (f *Forwarder) Skip(id tributary.LedgerID) (Stuck, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isStuck(id) {
		return Stuck{}, fmt.Errorf("ledger %v is not stuck on this gateway: nothing was skipped", id)
	}
	s := f.stuck[id]
	f.skips[id] = s.To
	f.Logger.Warn("an operator gives up records that are damaged in all copies; Kafka gets a gap record in their place", "ledger", id.String(), "from", uint64(s.From), "to", uint64(s.To))
	return s, nil
}

// skipped returns below which record an operator has given up what is missing.
func (f *Forwarder) skipped(id tributary.LedgerID) tributary.LSN {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.skips[id]
}

// sticks notes that a ledger is stuck.
func (f *Forwarder) sticks(s Stuck) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Since = time.Now()
	if was, is := f.stuck[s.Ledger]; is && was.From == s.From {
		s.Since = was.Since
	} else {
		f.Logger.Warn("records of a copy are damaged here, and so it cannot be forwarded from here; they are taken from another gateway that has them, if one is there",
			"ledger", s.Ledger.String(), "from", uint64(s.From), "to", uint64(s.To))
	}
	f.stuck[s.Ledger] = s
}

// isStuck says whether a ledger is still stuck, and forgets it if it is not: somebody
// has forwarded that part, or it has come from another node, or it was skipped. The
// caller has mu.
func (f *Forwarder) isStuck(id tributary.LedgerID) bool {
	s, is := f.stuck[id]
	switch {
	case !is:
		return false
	case f.skips[id] >= s.To, f.View.Position(id) > s.From, !f.Log.Damaged(id, s.From):
		if f.View.Position(id) >= s.To || !f.Log.Damaged(id, s.From) {
			delete(f.stuck, id)
		}
		return false
	}
	return true
}
