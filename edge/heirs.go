package edge

import (
	"crypto/sha256"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest"
	"github.com/tributary-edge/tributary/sync/view"
)

// Heirs publish the wills of the clients of a gateway that has died (R54): of each will
// the gateway that comes first in rendezvous order among those that are there, when the
// other has not been heard of for willAfter and the delay of the will. Gateways that cannot
// hear of one another take each other for dead: then a will is published though its client
// lives, or twice. They are for one goroutine.
type heirs struct {
	self  tributary.NodeID
	there func(now time.Time) []tributary.NodeID // those that were heard of lately
	after time.Duration
	gone  map[tributary.NodeID]time.Time // since when one has not been
}

const willAfter = 15 * time.Second

// look publishes what is due.
func (h *heirs) look(door *ingest.Door, now time.Time) {
	there := map[tributary.NodeID]bool{}
	candidates := []tributary.NodeID{h.self}
	for _, n := range h.there(now) {
		there[n] = true
		candidates = append(candidates, n)
	}
	was := h.gone
	h.gone = map[tributary.NodeID]time.Time{}
	for _, dead := range door.Testators() {
		if there[dead] {
			continue
		}
		since, known := was[dead]
		if !known {
			since = now
		}
		h.gone[dead] = since
		if now.Sub(since) < h.after {
			continue
		}
		for _, will := range door.Heirlooms(dead) {
			late := now.Sub(since) >= h.after+time.Duration(will.DelaySeconds)*time.Second
			if late && view.Peers(placeOf(will.Client), candidates, 1)[0] == h.self {
				door.Inherit(dead, will.Client)
			}
		}
	}
}

// placeOf returns a place in the rendezvous order for a name.
func placeOf(name string) tributary.LedgerID {
	sum := sha256.Sum256([]byte(name))
	return tributary.LedgerID(sum[:16])
}
