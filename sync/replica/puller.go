package replica

import (
	"maps"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/view"
)

// A Puller says what this node wants to have of its peers (R14): one after the
// other, and less and less often while nothing comes of it. Its methods may be
// called from many goroutines at once.
type Puller struct {
	Log  Log
	View *view.View
	// More returns what this node wants of a peer beside that, whether Kafka has it or
	// not; nil: nothing.
	More func(of tributary.NodeID) []peer.Pull

	mu    sync.Mutex // guards what follows
	asked map[tributary.LedgerID]asking
}

// asking is what this node has last asked for of a ledger.
type asking struct {
	of   tributary.NodeID
	from tributary.LSN
	at   time.Time
	wait time.Duration
}

const (
	askEvery = time.Second
	askOther = 5 * time.Second // after another peer was asked
	askRest  = time.Minute     // at most, after what came could not be taken: the log has no room for copies
)

// Pulls returns what a peer has of ledgers that nobody writes any more, and this
// node has not. It is an Exchange's Pulls.
func (p *Puller) Pulls(of tributary.NodeID) (all []peer.Pull) {
	holds := p.View.Holds(of)
	p.forget(of, holds)
	for _, h := range holds {
		if p.View.Written(h.Ledger, time.Now()) || h.Ledger == p.Log.Ledger() {
			continue // its writer streams it to those who are to keep it
		}
		position := p.View.Position(h.Ledger)
		from, _, held := p.Log.CopyEnd(h.Ledger)
		if !held {
			from = position
		}
		if h.Durable > max(from, position) && p.asks(of, h.Ledger, from, time.Now()) {
			all = append(all, peer.Pull{Ledger: h.Ledger, From: from})
		}
	}
	if p.More == nil {
		return all
	}
	for _, m := range p.More(of) {
		if p.asks(of, m.Ledger, m.From, time.Now()) {
			all = append(all, m)
		}
	}
	return all
}

// forget drops what a peer was asked for and does not hold any more.
func (p *Puller) forget(of tributary.NodeID, holds []view.Holding) {
	held := make(map[tributary.LedgerID]bool, len(holds))
	for _, h := range holds {
		held[h.Ledger] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.asked, func(id tributary.LedgerID, a asking) bool { return a.of == of && !held[id] })
}

// asks says whether a peer is to be asked for a ledger from a record on.
func (p *Puller) asks(of tributary.NodeID, id tributary.LedgerID, from tributary.LSN, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, asked := p.asked[id]
	wait := askEvery
	switch since := now.Sub(was.at); {
	case !asked:
	case was.of != of && since < askOther, was.from == from && since < was.wait:
		return false
	case was.from == from:
		wait = min(2*was.wait, askRest)
	}
	if p.asked == nil {
		p.asked = map[tributary.LedgerID]asking{}
	}
	p.asked[id] = asking{of, from, now, wait}
	return true
}
