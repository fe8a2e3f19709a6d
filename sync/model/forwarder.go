package model

import "time"

type forwarderState int

const (
	idle forwarderState = iota // the owner's, while it backs off
	fencing
	reading
	running
)

// A forwarder sends one ledger to Kafka: fence, read the position, then
// transactions (R21).
type forwarder struct {
	ledger  ledgerNo
	state   forwarderState
	task    int // of what it has asked Kafka; an answer to an older task is dropped
	epoch   int32
	seqs    []int64 // by partition, in this epoch
	pos     int64   // the next to send
	busy    bool    // in a transaction
	holding bool    // it waits at a hand-off
	waits   []*wait // by ledger: what it waits for
	idleTo  time.Duration
	fences  int // in a row
	retries int
	unclear bool // a request of this epoch had no answer, and may still arrive
}

// end is up to where the node forwards a ledger: R22.
func (n *node) forwardable(l ledgerNo) int64 {
	c := n.disk.copyOf(l)
	switch {
	case c == n.own && n.w.broken(ForwardUnacked), c != n.own && n.w.broken(ForwardUnflushed):
		return c.end()
	case c == n.own:
		return n.lac
	default:
		return c.synced
	}
}

// forward looks after every ledger that the node holds.
func (n *node) forward() {
	for ln, c := range n.disk.copies {
		if c == nil || c.bad {
			continue
		}
		l := ledgerNo(ln)
		f := at(n.forwarders, l)
		if f == nil {
			switch {
			case n.forwardable(l) <= n.disk.position(l).next:
				put(&n.watches, l, nil)
				continue
			case c != n.own:
				n.watch(l)
				continue
			}
			f = n.newForwarder(l)
		}
		switch f.state {
		case idle:
			if n.w.now >= f.idleTo && n.forwardable(l) > n.disk.position(l).next {
				n.fence(f)
			}
		case running:
			if !f.busy {
				n.step(f)
			}
		case fencing, reading:
		}
	}
}

func (n *node) newForwarder(l ledgerNo) *forwarder {
	f := &forwarder{ledger: l}
	put(&n.forwarders, l, f)
	return f
}

func (n *node) dropForwarder(l ledgerNo) {
	if f := at(n.forwarders, l); f != nil {
		f.task++
		n.forwarders[l] = nil
	}
}

// fence is the first step of R21: InitProducerId, until it is granted.
func (n *node) fence(f *forwarder) {
	f.task++
	f.state, f.busy, f.holding, f.retries = fencing, false, false, 0
	if n.w.broken(NoTransactions) {
		n.readPosition(f)
		return
	}
	ask(n, f, func() (int32, answer) { return n.w.kafka.initProducerID(f.ledger) }, func(epoch int32, a answer) {
		if a != fine {
			n.later(f, n.w.between(30*ms, 90*ms), func() { n.fence(f) })
			return
		}
		f.epoch, f.seqs, f.unclear = epoch, make([]int64, n.w.Partitions), false
		n.readPosition(f)
	})
}

// later calls do unless the forwarder has begun something else by then.
func (n *node) later(f *forwarder, d time.Duration, do func()) {
	task, run := f.task, n.run
	n.w.after(d, func() {
		if n.run == run && f.task == task && at(n.forwarders, f.ledger) == f {
			do()
		}
	})
}

// readPosition is the second step of R21: never a position from memory.
func (n *node) readPosition(f *forwarder) {
	f.state = reading
	if n.w.broken(CachedPosition) {
		n.begin(f, n.disk.position(f.ledger))
		return
	}
	known := n.disk.position(f.ledger).next
	ask(n, f, func() (position, answer) { return n.w.kafka.readPosition(f.ledger) }, func(p position, a answer) {
		if a != fine {
			n.later(f, 50*ms, func() { n.readPosition(f) })
			return
		}
		if !p.found && n.w.broken(PositionGuessed) {
			p = n.disk.position(f.ledger)
		}
		if n.behind(f.ledger, p, known) {
			return
		}
		n.disk.learn(f.ledger, p)
		n.begin(f, p)
	})
}

// behind is R27: what Kafka says is less than what this node knew before it
// asked, so somebody has restored or swapped it. Forwarding stops for an
// operator. (What the node has learned since does not count: the answer may be
// late.)
func (n *node) behind(l ledgerNo, p position, known int64) bool {
	if n.w.broken(PositionExpires) || p.next >= known {
		return false
	}
	n.w.counts.Stuck++
	n.w.logf(l, nobody, "node %d: the position of %v in Kafka is %d, and was %d before", n.index, l, p.next, known)
	return true
}

// begin is the third step of R21: the copy has to reach down to the position,
// and its chain has to agree there.
func (n *node) begin(f *forwarder, p position) {
	w, c := n.w, n.disk.copyOf(f.ledger)
	f.pos = p.next
	if w.broken(NoBackfill) {
		f.pos = max(f.pos, c.base)
	}
	checked := !w.broken(NoChain | ReopenTrusted | ReopenTruncating)
	switch {
	case c.base > f.pos:
		w.logf(f.ledger, nobody, "node %d cannot serve %v: it begins at %d, the position is %d", n.index, f.ledger, c.base, f.pos)
		n.dropForwarder(f.ledger)
		put(&n.watches, f.ledger, &watch{next: n.disk.position(f.ledger).next, since: w.now + 2*sec})
	case c == n.own && f.pos > c.end() && checked && !w.broken(NoRoll|NoBackfill|CachedPosition):
		n.roll()
	case checked && p.found && f.pos <= c.end() && c.chainAt(f.pos) != p.chain:
		n.quarantine(c, f.pos)
	default:
		f.state = running
		n.step(f)
	}
}

// quarantine is R16 for a copy that contradicts Kafka.
func (n *node) quarantine(c *ledgerCopy, pos int64) {
	w := n.w
	w.counts.Contradictions++
	w.logf(c.ledger, nobody, "node %d: its copy of %v contradicts Kafka at %d", n.index, c.ledger, pos)
	switch {
	case c == n.own && !w.broken(NoRoll):
		n.roll()
	case w.Rates.LiveClone && !w.broken(NoRoll) && pos > c.base: // fetch it from a holder that agrees
		n.dropForwarder(c.ledger)
		n.disk.copies[c.ledger] = nil
	default:
		n.dropForwarder(c.ledger)
		c.bad = true
	}
}

// step begins the next transaction, if there is anything to send.
func (n *node) step(f *forwarder) {
	c := n.disk.copyOf(f.ledger)
	if c == nil || c.bad {
		n.dropForwarder(f.ledger)
		return
	}
	end := n.forwardable(f.ledger)
	if f.pos >= end {
		if c != n.own {
			n.dropForwarder(f.ledger) // R26: done when drained
		}
		return
	}
	if f.pos < c.base { // trimmed: somebody else has moved the position
		n.giveWay(f)
		return
	}
	ch := n.gather(f, c, end)
	if ch.to.next == f.pos {
		return
	}
	f.busy, f.retries = true, 0
	if n.w.broken(NoTransactions) {
		n.sendPlain(f, ch)
		return
	}
	n.w.counts.Transactions++
	n.addPartitions(f, ch)
}

// giveWay is R25: fenced, the owner backs off, and anybody else goes back to
// watching.
func (n *node) giveWay(f *forwarder) {
	w := n.w
	w.counts.Fenced++
	f.task++
	f.busy, f.holding, f.state = false, false, idle
	if n.isLive(f.ledger) {
		f.fences++
		if !w.broken(NoBackoff) {
			f.idleTo = w.now + w.between(200*ms, 800*ms)<<min(f.fences, 4)
		}
		return
	}
	n.dropForwarder(f.ledger)
	if !w.broken(NoBackoff) {
		put(&n.watches, f.ledger, &watch{next: n.disk.position(f.ledger).next, since: w.now})
	}
}
