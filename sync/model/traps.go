package model

// trap returns the setting of a script that shows what a rule is for: a
// schedule that is so rare at random that a search may miss it. With all
// rules kept it does no harm, and is run so too.
func trap(b Break, nodes int, script func(*world), more ...func(*Config)) func(*Config, uint64) {
	return func(c *Config, seed uint64) {
		exactly(nodes, script, nil, more...)(c, seed)
		c.Broken = b
	}
}

func expects(e func(*world, *Counts) any) func(*Config) { return func(c *Config) { c.Expect = e } }

// trapsExact are the traps with all rules kept.
var trapsExact = []Scenario{
	{Name: "tail", About: "crash, and the power is cut before the page cache is flushed", Set: trap(0, 2, tailIsNotDurable)},
	{Name: "late_stream", About: "what a process sent comes to a copy after the process has ended and the copy has answered", Set: trap(0, 3, lateStream, qos2, alone)},
	{Name: "stale_answer", About: "an answer to COLLECT comes when it is asked again", Set: trap(0, 3, staleAnswer, qos2, alone)},
	{Name: "slow_status", About: "a STATUS comes after its sender has become short", Set: trap(0, 2, slowStatus)},
	{Name: "nearly_short", About: "a node becomes short just after a STATUS, and dies", Set: trap(0, 2, nearlyShort)},
	{Name: "old_ledger", About: "a node was short in its last life, restarts, and dies", Set: trap(0, 2, oldLedger, early)},
	{Name: "outage_at_mark", About: "one node alone waits at a hand-off, and Kafka goes away: no time passes", Set: trap(0, 1, outageAtMark, alone, expects(neverFlags))},
	{Name: "unflushed", About: "a node answers COLLECT with what it has not flushed, and loses its power; forwarders never give up", Set: trap(0, 2, unflushed, strict)},
	{Name: "only_there", About: "QoS 2 sent again to a node that does not hold the record, whose holder burns", Set: trap(0, 3, onlyThere, qos2, refusing)},
}

func tailIsNotDurable(w *world) {
	n := w.nodes[0]
	w.every(2*sec, 3*sec, 18*sec, func() {
		n.flushTime = 900 * ms
		w.after(600*ms, func() {
			n.crash()
			n.restart(10*ms, 20*ms)
		})
		w.after(1100*ms, func() {
			n.flushTime = 0
			if n.up {
				n.off(100 * ms)
			}
		})
	})
}

// lateStream: node 0 sends something to node 2 that takes long, loses it in a
// power cut, restarts, and its devices move to node 1.
func lateStream(w *world) {
	w.every(4*sec, 4*sec, 18*sec, func() {
		n := w.nodes[0]
		n.flushTime = 900 * ms
		w.slow[0][2] = 500 * ms
		w.after(150*ms, func() {
			if n.up {
				n.off(20 * ms)
			}
			n.flushTime = 0
			w.after(25*ms, func() { w.moveTo(1) })
		})
		w.after(600*ms, func() { w.slow[0][2] = 0 })
		w.after(2500*ms, func() { w.moveTo(0) })
	})
}

// staleAnswer: node 2 answers before the late record of node 0 has come, its
// answer takes long, and node 0 restarts between the rounds.
func staleAnswer(w *world) {
	w.every(4*sec, 4*sec, 18*sec, func() {
		n := w.nodes[0]
		n.flushTime = 1400 * ms
		w.slow[0][2], w.slow[2][1] = 600*ms, 250*ms
		w.after(100*ms, func() { w.moveTo(1) })
		w.after(w.between(480*ms, 600*ms), func() {
			if n.up {
				n.off(20 * ms)
			}
			n.flushTime = 0
		})
		w.after(1100*ms, func() { w.slow[0][2], w.slow[2][1] = 0, 0 })
		w.after(2500*ms, func() { w.moveTo(0) })
	})
}

// slowStatus: node 0 does not hear node 1, becomes short and dies; what it
// said before comes late.
func slowStatus(w *world) {
	w.then(5*sec, func() {
		w.slow[0][1] = 2 * sec
		w.cutLink(1, 0)
	})
	w.then(7*sec, func() { w.nodes[0].off(5 * sec) })
	w.then(7100*ms, func() { w.moveTo(1) })
	w.then(11*sec, w.mend)
}

// nearlyShort: node 1 takes no copies, node 0 becomes short and dies before it
// can say so.
func nearlyShort(w *world) {
	w.then(5*sec, func() {
		w.nodes[1].full = true
		w.uplinks[0] = false
	})
	w.then(w.between(6400*ms, 6900*ms), func() {
		w.nodes[0].off(4 * sec)
		w.moveTo(1)
	})
	w.then(10*sec, func() {
		w.nodes[1].full = false
		w.uplinks[0] = true
	})
}

// oldLedger: node 0 was short when it was apart, restarts, is heard again, and
// dies before anybody has copied what it held alone.
func oldLedger(w *world) {
	w.then(5*sec, func() {
		w.nodes[1].full = true
		w.cutUplink(0, 11*sec)
		w.apart(0, 3*sec)
	})
	w.then(7500*ms, func() {
		w.nodes[0].crash()
		w.nodes[0].restart(100*ms, 100*ms)
	})
	w.then(w.between(8300*ms, 8900*ms), func() {
		w.nodes[0].off(5 * sec)
		w.moveTo(1)
	})
	w.then(13*sec, func() { w.nodes[1].full = false })
}

// onlyThere: what node 0 has logged is nowhere else, and not acknowledged.
func onlyThere(w *world) {
	w.then(5*sec, func() {
		w.nodes[1].full, w.nodes[2].full = true, true
		w.uplinks[0] = false
	})
	w.then(w.between(5020*ms, 5150*ms), func() { w.moveTo(1) })
	w.then(5700*ms, func() { w.nodes[0].burn() })
	w.then(10*sec, func() { w.nodes[1].full, w.nodes[2].full = false, false })
}

// early lets a node be short just before its devices lose their patience.
func early(c *Config) { c.Degrade = 1400 * ms }

// refusing is a site in which nothing is acknowledged with too few copies.
func refusing(c *Config) {
	c.Refuse = true
	c.Expect = func(_ *world, n *Counts) any {
		return wants(n.AckedShort == 0, "%d acknowledged with too few copies", n.AckedShort)
	}
}

// outageAtMark: Kafka goes away while the forwarder waits for the node's own
// earlier ledger.
func outageAtMark(w *world) {
	w.then(3*sec, func() {
		w.nodes[0].crash()
		w.nodes[0].restart(20*ms, 20*ms)
	})
	w.then(3050*ms, func() { w.moveTo(0) })
	w.then(w.between(3150*ms, 3450*ms), func() { w.stopKafka(9 * sec) })
}

// unflushed: nobody else has the last records of node 0.
func unflushed(w *world) {
	w.then(5*sec, func() {
		w.nodes[1].full = true
		w.nodes[0].flushTime = 900 * ms
	})
	w.then(5100*ms, func() { w.moveTo(1) })
	w.then(5300*ms, func() {
		w.nodes[0].off(sec)
		w.nodes[0].flushTime = 0
	})
	w.then(7*sec, func() { w.nodes[1].full = false })
}

func strict(c *Config) { c.Strict = true }
