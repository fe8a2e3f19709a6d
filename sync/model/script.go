package model

import (
	"fmt"
	"time"
)

// What follows are the words in which the exact scenarios are written.

// exactly returns the setting of a quiet site of some nodes with two copies,
// in which only the script makes faults. Its four devices stay where the
// script puts them: d0 and d2 at node 0, d1 and d3 at node 1.
func exactly(nodes int, script func(*world), expect func(*world, *Counts) any, more ...func(*Config)) func(*Config, uint64) {
	return func(c *Config, seed uint64) {
		c.quiet()
		c.Nodes, c.Devices, c.MinCopies, c.Window, c.RunFor = nodes, 4, 2, 4, 20*sec
		c.Degrade = 1500 * ms
		c.Script = func(w *world) {
			for _, d := range w.devices {
				d.at, d.pinned = d.id%min(2, nodes), true
			}
			script(w)
		}
		c.Expect = expect
		for _, m := range more {
			m(c)
		}
	}
}

// then does something at a time of the run.
func (w *world) then(t time.Duration, do func()) { w.after(t-w.now, do) }

// every does something again and again, from one time to another.
func (w *world) every(period, from, to time.Duration, do func()) {
	for t := from; t < to; t += period {
		w.then(t, do)
	}
}

// apart cuts one node from all others.
func (w *world) apart(i int, lasts time.Duration) {
	side := make([]bool, len(w.nodes))
	side[i] = true
	w.cut(side, false, lasts)
}

// burn takes a node and its disk for ever.
func (n *node) burn() {
	n.wipe()
	n.gone = true
}

// off is a node without power for a while.
func (n *node) off(lasts time.Duration) {
	n.powerCut()
	n.restart(lasts, lasts)
}

// move pins a device to another node.
func (d *device) move(to int) { d.connect(to) }

// moveTo pins all devices to a node.
func (w *world) moveTo(to int) {
	for _, d := range w.devices {
		d.move(to)
	}
}

// wants is an expectation: what is wrong is told with the figure.
func wants(ok bool, format string, args ...any) any {
	if ok {
		return nil
	}
	return fmt.Sprintf(format, args...)
}

// all returns the first of the expectations that is wrong.
func all(expectations ...any) any {
	for _, e := range expectations {
		if e != nil {
			return e
		}
	}
	return nil
}

func noLoss(n *Counts) any { return wants(n.Lost == 0, "%d acknowledged records are lost", n.Lost) }

func noFlags(n *Counts) any {
	return wants(n.Incomplete+n.HoldTimeouts+n.Late == 0, "flags: %d incomplete hand-offs, %d given up, %d records late", n.Incomplete, n.HoldTimeouts, n.Late)
}

func neverFlags(_ *world, n *Counts) any { return noFlags(n) }

func noLossNoFlags(_ *world, n *Counts) any { return all(noLoss(n), noFlags(n)) }

// liveOf returns the ledger that a node appends to, or none.
func (n *node) liveOf() ledgerNo {
	if n.own == nil {
		return none
	}
	return n.own.ledger
}

// position is that of a ledger in Kafka.
func (w *world) position(l ledgerNo) int64 { return at(w.kafka.positions, l).next }

// written is how much was ever appended to a ledger.
func (w *world) written(l ledgerNo) int64 { return int64(len(w.ledgers[l].truth)) }

// wrong notes an outcome that a script finds in the middle of a run.
func (w *world) wrong(format string, args ...any) { w.violated(exact, none, nobody, format, args...) }
