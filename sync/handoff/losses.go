package handoff

import (
	"maps"
	"slices"

	"github.com/tributary-edge/tributary"
)

// Ends are how far somebody's ledgers go that are not in Kafka as a whole.
type Ends map[tributary.LedgerID]tributary.LSN

// A loss is a node that was said to be lost. What was acknowledged because it had a
// copy has one copy less since, until it is in Kafka: so the node counts as silent
// (R44, R70).
type loss struct {
	at      map[tributary.NodeID]Ends // what others had when each of them first knew of it
	settled bool
}

// Said notes what a node, this one or another, has said of itself: who it knows to be
// lost, and what it holds. Ends is kept.
func (h *Handoffs) Said(from tributary.NodeID, lost []tributary.NodeID, ends Ends) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range lost {
		l := h.losses[n]
		if l == nil {
			l = &loss{at: map[tributary.NodeID]Ends{}}
			h.losses[n] = l
		}
		if l.at[from] == nil && !l.settled {
			l.at[from] = ends
		}
	}
	if from == h.Self().Node { // of one that was added again nothing is remembered
		maps.DeleteFunc(h.losses, func(n tributary.NodeID, _ *loss) bool { return !slices.Contains(lost, n) })
	}
}

// unsettled returns how many nodes were lost that records not in Kafka may still rest
// on. Called with mu held.
func (h *Handoffs) unsettled() (n int) {
	if len(h.losses) == 0 {
		return 0
	}
	all := append(h.Site.Members(), h.Self().Node)
	for _, l := range h.losses {
		if !l.settled && h.inKafka(l, all) {
			l.settled, l.at = true, nil
		}
		if !l.settled {
			n++
		}
	}
	return n
}

// inKafka says whether all that these nodes had, when they learned of a loss, is in Kafka.
func (h *Handoffs) inKafka(l *loss, nodes []tributary.NodeID) bool {
	for _, n := range nodes {
		ends := l.at[n]
		if ends == nil {
			return false
		}
		for id, end := range ends {
			if h.Site.Position(id) < end {
				return false
			}
		}
	}
	return true
}
