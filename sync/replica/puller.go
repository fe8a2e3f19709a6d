package replica

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/view"
)

// A Puller says what this node wants to have of its peers (R14): the rest of what it
// holds a part of, and what too few hold. It asks one after the
// other, and less and less often while nothing comes of it. Its methods may be
// called from many goroutines at once.
type Puller struct {
	Log  Log
	View *view.View
	// Copies is how many copies there should be beside the first, and Keepers are the
	// other nodes that may keep them.
	Copies  func() int
	Keepers func() []tributary.NodeID
	Heals   Healer // nil: what is missing stays so
	// Needs says whether this node must have a ledger in any case; nil: none.
	Needs func(id tributary.LedgerID) bool

	mu    sync.Mutex // guards what follows
	asked map[want]asking
}

// A want is the rest of a ledger, or what is missing of it up to a record.
type want struct {
	ledger tributary.LedgerID
	to     tributary.LSN // 0: the rest
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

	askForget = 10 * time.Minute // after that it is asked as if for the first time
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
			if !p.adopts(h.Ledger) {
				continue
			}
		}
		if h.Durable > max(from, position) && p.asks(of, want{ledger: h.Ledger}, from, time.Now()) {
			all = append(all, peer.Pull{Ledger: h.Ledger, From: from})
		}
	}
	return append(all, p.missing(of, holds)...)
}

// missing returns what is damaged here and a peer may have (R15).
func (p *Puller) missing(of tributary.NodeID, holds []view.Holding) (all []peer.Pull) {
	if p.Heals == nil {
		return nil
	}
	for _, m := range p.Heals.Missing() {
		has := slices.ContainsFunc(holds, func(h view.Holding) bool { return h.Ledger == m.Ledger && h.Base <= m.From && m.From < h.Durable })
		if has && m.From >= p.View.Position(m.Ledger) && p.asks(of, want{m.Ledger, m.To}, m.From, time.Now()) {
			all = append(all, peer.Pull{Ledger: m.Ledger, From: m.From, To: m.To})
		}
	}
	return all
}

// adopts says whether a copy of a ledger is to be begun.
func (p *Puller) adopts(id tributary.LedgerID) bool {
	return p.View.Adopts(id, p.Keepers(), p.Copies(), time.Now()) || p.Needs != nil && p.Needs(id)
}

// forget drops what a peer was asked for and does not hold any more, and what was
// asked for long ago.
func (p *Puller) forget(of tributary.NodeID, holds []view.Holding) {
	held := make(map[tributary.LedgerID]bool, len(holds))
	for _, h := range holds {
		held[h.Ledger] = true
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.asked, func(w want, a asking) bool { return a.of == of && !held[w.ledger] || now.Sub(a.at) > askForget })
}

// asks says whether a peer is to be asked for a part of a ledger, from a record on.
func (p *Puller) asks(of tributary.NodeID, w want, from tributary.LSN, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, asked := p.asked[w]
	wait := askEvery
	switch since := now.Sub(was.at); {
	case !asked:
	case was.of != of && since < askOther, was.from == from && since < was.wait:
		return false
	case was.from == from:
		wait = min(2*was.wait, askRest)
	}
	if p.asked == nil {
		p.asked = map[want]asking{}
	}
	p.asked[w] = asking{of, from, now, wait}
	return true
}
