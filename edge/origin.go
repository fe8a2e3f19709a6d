package edge

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/view"
)

// An origin is which node wrote a ledger, and in which of its lives: what devices
// sent is in the order of the lives (U2). The opening record of a ledger says it.
type origin struct {
	node  tributary.NodeID // zero if it is not known
	boots uint64
}

// readOrigin reads an origin from the opening record of what is held of a ledger.
func (n *Node) readOrigin(ctx context.Context, id tributary.LedgerID) (o origin, ok bool) {
	r, err := n.log.Reader(id)
	if err != nil {
		return o, false
	}
	defer r.Close()
	if r.Base() > 0 {
		return o, false
	}
	c, err := r.Read(ctx, 0, 1)
	if err != nil || len(c.Entries) == 0 {
		return o, false
	}
	return parseOpening(c.Entries[0].Value)
}

// parseOpening is the inverse of opening.
func parseOpening(value []byte) (o origin, ok bool) {
	var said struct {
		Node  string `json:"node_id"`
		Boots uint64 `json:"boots"`
	}
	if json.Unmarshal(value, &said) != nil || len(said.Node) != 2*len(o.node) {
		return o, false
	}
	if _, err := hex.Decode(o.node[:], []byte(said.Node)); err != nil {
		return origin{}, false
	}
	o.boots = said.Boots
	return o, true
}

// origin returns which node wrote a ledger, as far as this one can tell. What it
// cannot tell it looks for once in each inTurn. It is for one goroutine.
func (s *site) origin(ctx context.Context, id tributary.LedgerID) origin {
	if o, looked := s.origins[id]; looked {
		return o
	}
	o, _ := s.node.readOrigin(ctx, id)
	s.origins[id] = o
	return o
}

// inTurn returns which of the ledgers that are due may be forwarded: those before which
// there is none of the same node, here or at a node that is there, of which Kafka lacks
// something (U2). One of which it is not known who wrote it counts as of the same node, unless
// it could not be forwarded.
func (s *site) inTurn(ctx context.Context, due []tributary.LedgerID, held []view.Holding) []tributary.LedgerID {
	maps.DeleteFunc(s.origins, func(id tributary.LedgerID, o origin) bool {
		return o == (origin{}) || !slices.ContainsFunc(held, func(h view.Holding) bool { return h.Ledger == id })
	})
	return slices.DeleteFunc(due, func(id tributary.LedgerID) bool {
		o := s.origin(ctx, id)
		if o == (origin{}) {
			return false // its opening record is gone: the first part of it is in Kafka
		}
		return s.waitsHere(ctx, id, o, held) || s.waitsThere(ctx, id, o, held)
	})
}

// waitsHere says whether a ledger is to wait for one of those that are held here, in
// the order in which they came.
func (s *site) waitsHere(ctx context.Context, id tributary.LedgerID, o origin, held []view.Holding) bool {
	at := slices.IndexFunc(held, func(h view.Holding) bool { return h.Ledger == id })
	for i, h := range held {
		if s.before(ctx, h, o, i < at) {
			return true
		}
	}
	return false
}

// waitsThere says whether a ledger is to wait for one that a node has which is there:
// this node asks for it, and learns who wrote it.
func (s *site) waitsThere(ctx context.Context, id tributary.LedgerID, o origin, held []view.Holding) bool {
	for _, n := range s.view.There(time.Now()) {
		for _, h := range s.view.Holds(n) {
			if h.Ledger == id && n == o.node {
				break // they are in the order in which it wrote them
			}
			if h.Ledger == id || s.own(h.Ledger) || s.view.Written(h.Ledger, time.Now()) {
				continue
			}
			known := slices.ContainsFunc(held, func(k view.Holding) bool { return k.Ledger == h.Ledger })
			if s.before(ctx, h, o, n == o.node || !known) {
				return true
			}
		}
	}
	return false
}

// before says whether a ledger is to be forwarded before another one, of the given
// origin. came says whether it came before that.
func (s *site) before(ctx context.Context, h view.Holding, o origin, came bool) bool {
	if h.Durable <= max(h.Position, s.view.Position(h.Ledger)) {
		return false
	}
	switch e := s.origin(ctx, h.Ledger); {
	case e == (origin{}):
		return came && !s.isSilent(h.Ledger)
	case e.node == o.node:
		return e.boots < o.boots || e.boots == o.boots && came
	}
	return false
}

func (s *site) isSilent(id tributary.LedgerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.silent[id])
}
