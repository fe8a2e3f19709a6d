package takeover

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/origin"
	"github.com/tributary-edge/tributary/sync/view"
)

// origin returns which node wrote a ledger, as far as this one can tell. What it
// cannot tell it looks for once in each inTurn. It is for one goroutine.
func (f *Forwarder) origin(ctx context.Context, id tributary.LedgerID) origin.Origin {
	if o, looked := f.origins[id]; looked {
		return o
	}
	if _, _, held := f.Log.CopyEnd(id); !held {
		return origin.Origin{} // what others name is not remembered
	}
	o := f.readOrigin(ctx, id)
	f.origins[id] = o
	return o
}

// readOrigin reads an origin from the opening record of what is held of a ledger.
func (f *Forwarder) readOrigin(ctx context.Context, id tributary.LedgerID) (o origin.Origin) {
	r, err := f.Log.Follow(id)
	if err != nil {
		return o
	}
	defer r.Close()
	if r.Base() > 0 {
		return o
	}
	c, err := r.Read(ctx, 0, 1)
	if err != nil || len(c.Entries) == 0 {
		return o
	}
	return origin.Parse(c.Entries[0].Value)
}

// inTurn returns which of the ledgers that are due may be forwarded: those before which
// there is none of the same node, here or at a node that is there, of which Kafka lacks
// something (U2). One of which it is not known who wrote it counts as of the same node, unless
// it could not be forwarded.
func (f *Forwarder) inTurn(ctx context.Context, due []tributary.LedgerID, held []view.Holding) []tributary.LedgerID {
	maps.DeleteFunc(f.origins, func(id tributary.LedgerID, o origin.Origin) bool {
		return !o.Known() || !slices.ContainsFunc(held, func(h view.Holding) bool { return h.Ledger == id })
	})
	f.mu.Lock()
	f.needed = nil
	f.mu.Unlock()
	return slices.DeleteFunc(due, func(id tributary.LedgerID) bool {
		o := f.origin(ctx, id)
		if !o.Known() {
			return false // its opening record is gone: the first part of it is in Kafka
		}
		return f.waitsHere(ctx, id, o, held) || f.waitsThere(ctx, id, o, held)
	})
}

// waitsHere says whether a ledger is to wait for one of those that are held here, in
// the order in which they came.
func (f *Forwarder) waitsHere(ctx context.Context, id tributary.LedgerID, o origin.Origin, held []view.Holding) bool {
	at := slices.IndexFunc(held, func(h view.Holding) bool { return h.Ledger == id })
	for i, h := range held {
		if f.before(ctx, h, o, i < at) {
			return true
		}
	}
	return false
}

// waitsThere says whether a ledger is to wait for one that a node has which is there:
// this node asks for it, and learns who wrote it.
func (f *Forwarder) waitsThere(ctx context.Context, id tributary.LedgerID, o origin.Origin, held []view.Holding) bool {
	for _, n := range f.View.There(time.Now()) {
		for _, h := range f.View.Holds(n) {
			if h.Ledger == id && n == o.Node {
				break // they are in the order in which it wrote them
			}
			if h.Ledger == id || f.Own(h.Ledger) || f.View.Written(h.Ledger, time.Now()) {
				continue
			}
			known := slices.ContainsFunc(held, func(k view.Holding) bool { return k.Ledger == h.Ledger })
			if f.before(ctx, h, o, n == o.Node || !known) {
				return true
			}
		}
	}
	return false
}

// before says whether a ledger is to be forwarded before another one, of the given
// origin. came says whether it came before that.
func (f *Forwarder) before(ctx context.Context, h view.Holding, o origin.Origin, came bool) bool {
	if h.Durable <= max(h.Position, f.View.Position(h.Ledger)) {
		return false
	}
	switch e := f.origin(ctx, h.Ledger); {
	case !e.Known():
		return came && f.waitsForUnknown(h.Ledger)
	case e.Node == o.Node:
		return e.Boots < o.Boots || e.Boots == o.Boots && came
	}
	return false
}

// waitsForUnknown says whether a ledger of which it is not known who wrote it is to be
// waited for: unless it could not be forwarded.
func (f *Forwarder) waitsForUnknown(id tributary.LedgerID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().Before(f.silent[id]) {
		return false
	}
	if f.needed == nil {
		f.needed = map[tributary.LedgerID]bool{}
	}
	f.needed[id] = true
	return true
}
