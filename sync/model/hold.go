package model

import "time"

// A wait is for the position of a ledger on which a hand-off depends.
type wait struct {
	next   int64         // the position, when the count began
	waited time.Duration // without a move, while Kafka could be read
	read   time.Duration // when it last could
}

const holdFor = 6 * sec // R45: 60 s

// mayPass is R45: a forwarder stops at a hand-off until all that it depends
// on is in Kafka. It gives up on a ledger that does not move, and never on
// one that it will forward itself; then the order of the device is flagged.
func (n *node) mayPass(f *forwarder, mark *record) bool {
	w := n.w
	pass := true
	for _, d := range mark.deps {
		next := n.disk.position(d.ledger).next
		if next >= d.end {
			continue
		}
		t := at(f.waits, d.ledger)
		if t == nil || t.next != next {
			t = &wait{next: next}
			put(&f.waits, d.ledger, t)
		}
		c := n.disk.copyOf(d.ledger)
		mine := c != nil && !c.bad && c.base <= next && c.synced >= d.end
		if w.broken(HoldBlind) {
			mine = false
		}
		if !w.Strict && !mine && t.waited > holdFor {
			w.counts.HoldTimeouts++
			w.oracle.flagOrder(mark.device, mark.uid)
			w.logf(f.ledger, mark.device, "node %d gives up on %v up to %d, for d%d", n.index, d.ledger, d.end, mark.device)
			continue
		}
		pass = false
		n.countWait(d.ledger, t)
	}
	return pass
}

// countWait reads the position, and counts the time during which it could be
// read: while Kafka is away nobody is to blame.
func (n *node) countWait(l ledgerNo, t *wait) {
	w := n.w
	if w.broken(HoldBlind) {
		if t.read > 0 {
			t.waited += w.now - t.read
		}
		t.read = w.now
	}
	ask(n, nil, func() (position, answer) { return w.kafka.readPosition(l) }, func(p position, a answer) {
		if a != fine {
			return
		}
		n.disk.learn(l, p)
		if w.broken(HoldBlind) {
			return
		}
		if t.read > 0 && w.now-t.read < sec {
			t.waited += w.now - t.read
		}
		t.read = w.now
	})
}
