package model

import "time"

// copiesExact are the scenarios about ledgers, copies and disks whose outcome
// is known exactly. The T numbers are those of docs/REPLICATION.md.
var copiesExact = []Scenario{
	{Name: "T1", About: "one node, killed under load again and again", Set: exactly(1, func(w *world) {
		w.every(400*ms, sec, 18*sec, func() {
			w.nodes[0].crash()
			w.nodes[0].restart(20*ms, 60*ms)
		})
	}, noLossNoFlags, alone)},
	{Name: "T2", About: "one node, power cut again and again", Set: exactly(1, func(w *world) {
		w.every(400*ms, sec, 18*sec, func() { w.nodes[0].off(50 * ms) })
	}, noLossNoFlags, alone)},
	{Name: "T3", About: "two nodes on one socket: nothing acknowledged is lost", Set: exactly(2, func(w *world) {
		w.every(1500*ms, sec, 18*sec, func() { w.siteCut(50*ms, 200*ms) })
	}, func(_ *world, n *Counts) any { return noLoss(n) })},
	{Name: "T5", About: "the owner burns with data that is not in Kafka: its peer forwards it all", Set: exactly(2, ownerBurns, func(w *world, n *Counts) any {
		return all(noLoss(n), wants(n.TakeOvers > 0, "nobody took over"))
	})},
	{Name: "T6", About: "two nodes apart, both with uplink: nobody takes over, both are short and say so", Set: exactly(2, twoApart, func(w *world, n *Counts) any {
		return all(noLossNoFlags(w, n), noTakeOver(w, n), wants(n.Shorts == 2, "%d nodes were short", n.Shorts))
	}, soon)},
	{Name: "T7", About: "the same, and they refuse: no acknowledgement from what is on one disk alone", Set: exactly(2, func(w *world) {
		w.then(5*sec, func() { w.apart(0, 8*sec) })
	}, func(_ *world, n *Counts) any {
		return all(noLoss(n), noFlags(n), wants(n.AckedShort == 0, "%d acknowledged with one copy", n.AckedShort))
	}, func(c *Config) { c.Refuse = true })},
	{Name: "T12", About: "a node comes back with an old image of its disk", Set: exactly(2, func(w *world) {
		w.then(3*sec, func() { w.nodes[0].image = w.nodes[0].disk.image() })
		w.then(8*sec, func() {
			w.nodes[0].rollBack()
			w.nodes[0].restart(sec, sec)
		})
	}, func(_ *world, n *Counts) any { return noLoss(n) })},
	{Name: "T13", About: "a card is cloned and both run: two ledgers, nothing shared", Set: exactly(2, func(w *world) {
		w.then(5*sec, func() { w.clone(w.nodes[0]) })
	}, func(_ *world, n *Counts) any {
		return all(noLoss(n), wants(n.Contradictions == 0, "copies contradict"))
	})},
	{Name: "T14", About: "the owner's disk is replaced, and it joins again", Set: exactly(2, func(w *world) {
		w.then(4*sec, func() { w.stopKafka(6 * sec) })
		w.then(8*sec, func() {
			w.nodes[0].wipe()
			w.nodes[0].restart(sec, sec)
		})
	}, func(_ *world, n *Counts) any { return noLoss(n) })},
	{Name: "T15", About: "a copy rots above the position: it is pulled again", Set: exactly(3, rot, func(_ *world, n *Counts) any { return noLoss(n) })},
	{Name: "T16", About: "a running process is duplicated: whoever contradicts rolls, and nothing is deleted", Set: exactly(3, func(w *world) {
		w.then(4*sec, func() { w.clone(w.nodes[0]) })
		w.then(6*sec, func() { w.devices[0].move(3) })
	}, func(_ *world, n *Counts) any { return wants(n.Rolls > 0, "nobody rolled") }, func(c *Config) { c.Rates.LiveClone = true })},
	{Name: "T17", About: "three holders of a dead ledger with different ends, the longest one apart", Set: exactly(4, threeHolders, nil, func(c *Config) {
		c.RunFor = 30 * sec
		c.NotPromised = func(i Invariant) bool { return i == I1 } // two disks are made to forget
	})},
	{Name: "returns", About: "a node returns after its ledger was drained by its peer", Set: exactly(2, func(w *world) {
		w.then(5*sec, func() {
			l := w.nodes[0].liveOf()
			w.nodes[0].off(9 * sec)
			w.then(13*sec, func() {
				if w.position(l) < w.nodes[1].disk.copyOf(l).end() {
					w.wrong("the ledger of the dead node is not drained after 8 s")
				}
			})
		})
	}, func(_ *world, n *Counts) any { return noLoss(n) })},
	{Name: "drawer", About: "a node with data of its own spends a month in a drawer (all timers pass many times)", Set: exactly(2, func(w *world) {
		w.then(3*sec, func() { w.stopKafka(8 * sec) })
		w.then(4*sec, func() { w.apart(0, 4*sec) })
		w.then(7*sec, func() { w.nodes[0].off(100 * sec) })
	}, func(_ *world, n *Counts) any { return noLoss(n) }, func(c *Config) { c.RunFor = 115 * sec })},
	{Name: "upgrade", About: "rolling upgrade of three nodes under load", Set: exactly(3, func(w *world) {
		for i := range w.nodes {
			w.every(9*sec, sec*time.Duration(2+3*i), 19*sec, func() {
				w.nodes[i].crash()
				w.nodes[i].restart(300*ms, 300*ms)
			})
		}
	}, func(_ *world, n *Counts) any { return noLoss(n) })},
	{Name: "rolling_wipe", About: "three nodes, each in turn gets a blank disk once the others have its data", Set: exactly(3, func(w *world) {
		for i := range w.nodes {
			w.then(sec*time.Duration(3+5*i), func() {
				w.nodes[i].wipe()
				w.nodes[i].restart(500*ms, 500*ms)
			})
		}
	}, func(_ *world, n *Counts) any { return noLoss(n) })},
	{Name: "joins_leaves", About: "a third node joins and an old one leaves under load", Set: exactly(2, func(w *world) {
		w.then(4*sec, func() { w.join().start() })
		w.then(8*sec, func() {
			w.nodes[0].removed = true
			w.devices[0].move(2)
			w.devices[2].move(1)
		})
		w.then(16*sec, func() { w.nodes[0].burn() })
	}, noLossNoFlags)},
	{Name: "removed_apart", About: "a node that is cut off is removed, does not hear it, and takes more: its devices' next sessions are flagged", Set: exactly(2, removedApart, func(_ *world, n *Counts) any {
		return all(noLoss(n), wants(n.Late > 0, "nothing came late"))
	}, early)},
	{Name: "lost_returns", About: "the same, and the operator has said that it is lost: nothing else is flagged, what it brings is", Set: exactly(2, func(w *world) {
		removedApart(w)
		w.then(6*sec, func() { w.nodes[0].lost = true })
	}, func(_ *world, n *Counts) any {
		return all(noLoss(n), wants(n.Late > 0, "nothing came late"), wants(n.Incomplete == 0, "%d hand-offs are flagged", n.Incomplete))
	}, soon)},
	{Name: "T34", About: "a node is removed while it is off; what it holds is drained when it returns, and it takes no clients", Set: exactly(3, removedReturns, func(_ *world, n *Counts) any { return noLoss(n) })},
}

func alone(c *Config) { c.MinCopies = 1 }

// soon lets a node be short before its devices lose their patience.
func soon(c *Config) { c.Degrade = 500 * ms }

func twoApart(w *world) {
	w.then(5*sec, func() { w.apart(0, 8*sec) })
	w.then(18*sec, func() {
		if w.nodes[0].short || w.nodes[1].short {
			w.wrong("a node is still short of copies 5 s after the cut")
		}
	})
}

func noTakeOver(_ *world, n *Counts) any {
	return wants(n.TakeOvers == 0, "%d take-overs", n.TakeOvers)
}

func ownerBurns(w *world) {
	w.then(4*sec, func() { w.stopKafka(4 * sec) })
	w.then(6*sec, func() {
		n := w.nodes[0]
		if n.short {
			w.wrong("the owner is short of copies")
		}
		l := n.liveOf()
		n.burn()
		for _, d := range w.devices {
			if d.at == 0 {
				d.move(1)
			}
		}
		w.then(8*sec+takeOverGone+5*takeOverRank+2*sec, func() {
			if w.position(l) < w.nodes[1].disk.copyOf(l).end() {
				w.wrong("the dead node's ledger is not drained in time")
			}
		})
	})
}

func rot(w *world) {
	w.then(3*sec, func() { w.stopKafka(10 * sec) })
	w.then(6*sec, func() {
		l := w.nodes[0].liveOf()
		w.nodes[0].off(sec)
		w.then(8*sec, func() {
			for _, n := range w.nodes[1:] {
				c := n.disk.copyOf(l)
				if c == nil {
					continue
				}
				end, half := c.end(), c.base+(c.end()-c.base)/2
				c.cut(half)
				w.then(10*sec, func() {
					if c.end() < end {
						w.wrong("a copy that had rotted at %d ends at %d, and not at %d", half, c.end(), end)
					}
				})
				return
			}
			w.wrong("nobody has a copy")
		})
	})
}

// threeHolders: the owner's copies differ because it lost them one after the
// other, before Kafka had anything of it.
func threeHolders(w *world) {
	var l ledgerNo
	var second, third int64
	w.then(0, func() {
		w.stopKafka(10 * sec)
		w.moveTo(0)
	})
	w.then(4*sec, func() {
		l = w.nodes[0].liveOf()
		full := w.nodes[0].disk.copyOf(l)
		for i, n := range w.nodes[1:] { // each holds a prefix: 1/4, 2/4, 3/4
			c := n.disk.add(&ledgerCopy{ledger: l})
			c.records = full.slice(0, full.synced*int64(i+1)/4)
			c.synced, c.kept = c.end(), c.end()
		}
		second, third = w.nodes[2].disk.copyOf(l).end(), w.nodes[3].disk.copyOf(l).end()
		w.nodes[0].stop()
		w.nodes[0].gone = true
		w.moveTo(1)
		w.apart(3, 16*sec)
		w.cutUplink(3, 16*sec)
	})
	w.then(18*sec, func() {
		if w.position(l) != second {
			w.wrong("with the longest holder apart %v is in Kafka up to %d, and not to %d", l, w.position(l), second)
		}
	})
	w.then(29*sec, func() {
		if w.position(l) != third {
			w.wrong("with all holders %v is in Kafka up to %d, and not to %d", l, w.position(l), third)
		}
	})
}

func removedReturns(w *world) {
	w.then(3*sec, func() { w.stopKafka(5 * sec) })
	w.then(6*sec, func() {
		w.nodes[0].off(9 * sec)
		w.nodes[0].removed = true
		w.devices[0].move(1)
		w.devices[2].move(2)
	})
	w.then(16*sec, func() {
		w.devices[0].move(0)
		w.then(19*sec, func() {
			if w.nodes[0].sessionOf(0) != nil {
				w.wrong("a removed node takes clients")
			}
			w.devices[0].move(1)
		})
	})
}

// removedApart: node 0 is cut off and does not hear that it is removed. It goes
// on taking what its devices send, which then move.
func removedApart(w *world) {
	w.then(5*sec, func() {
		w.apart(0, 9*sec)
		w.cutUplink(0, 9*sec)
	})
	w.then(6*sec, func() { w.nodes[0].removed = true })
	w.then(10*sec, func() { w.moveTo(1) })
}
