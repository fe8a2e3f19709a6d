package model

import "time"

// A watch is how long the position of a ledger that this node could forward
// has not moved.
type watch struct {
	next   int64
	since  time.Duration
	looked bool // half of the patience is over, and Kafka has been asked
}

// The model's times are in proportion to those of the rules, and short, so
// that a run has many of each.
const (
	takeOverOwn    = 300 * ms // R26: 2 s
	takeOverGone   = 300 * ms // R26: 2 s
	takeOverLiving = 5 * sec  // R26: 60 s
	takeOverRank   = 250 * ms // R26: 5 s
)

// watch is R26, for a ledger that somebody else should be forwarding: take
// over only when its position in Kafka has not moved for long enough.
func (n *node) watch(l ledgerNo) {
	w := n.w
	pos := n.disk.position(l).next
	t := at(n.watches, l)
	if t == nil || t.next != pos {
		t = &watch{next: pos, since: w.now}
		put(&n.watches, l, t)
	}
	patience, writerLives := n.patience(l, t)
	if w.broken(TakeOverOnSilence) {
		if writerLives {
			return
		}
		patience = 0
	}
	passed := w.now - t.since
	switch {
	case passed < patience && (passed < patience/2 || t.looked):
		return
	case passed < patience: // what we know came by STATUS: if it is old, the time begins now, and not at the end
		t.looked = true
	default:
		t.since, t.looked = w.now, false
	}
	before := t.next
	ask(n, nil, func() (position, answer) { return w.kafka.readPosition(l) }, func(p position, a answer) {
		if a != fine || n.behind(l, p, before) {
			return
		}
		n.disk.learn(l, p)
		if passed < patience || p.next > before && !w.broken(TakeOverOnSilence) {
			return
		}
		if c := n.disk.copyOf(l); at(n.forwarders, l) == nil && c != nil && !c.bad && n.forwardable(l) > p.next {
			w.counts.TakeOvers++
			w.oracle.tookOver(l, n.index)
			w.logf(l, nobody, "node %d takes over %v at %d", n.index, l, p.next)
			n.fence(n.newForwarder(l))
		}
	})
}

// patience is how long the position has to stand still, which depends on who
// wrote the ledger. The time begins anew while somebody waits at a hand-off.
func (n *node) patience(l ledgerNo, t *watch) (d time.Duration, writerLives bool) {
	w := n.w
	d = takeOverGone
	for i, p := range n.peers {
		if p == nil || !n.alive(i) {
			continue
		}
		if p.live == l {
			d, writerLives = takeOverLiving, true
		}
		for _, held := range p.holding {
			if held == l {
				t.since = w.now
			}
		}
	}
	if w.ledgers[l].writer == n.name {
		d = takeOverOwn
	}
	return d + time.Duration(n.index)*takeOverRank, writerLives
}
