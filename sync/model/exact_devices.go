package model

// devicesExact are the scenarios about devices that move whose outcome is
// known exactly.
var devicesExact = []Scenario{
	{Name: "T21", About: "devices walk to and fro without faults: order kept, nothing flagged", Set: exactly(2, func(w *world) {
		to := 0
		w.every(2*sec, 2*sec, 19*sec, func() {
			to = 1 - to
			w.moveTo(to)
		})
	}, func(_ *world, n *Counts) any {
		return all(noLoss(n), noFlags(n), wants(n.Marks > 0, "no hand-off had anything to wait for"))
	}, func(c *Config) { c.Window = 16 })},
	{Name: "T22", About: "a node dies, its devices move at once: the lease makes the hand-off complete", Set: exactly(3, func(w *world) {
		w.then(5*sec, func() {
			w.nodes[0].off(8 * sec)
			w.moveTo(1)
		})
	}, func(_ *world, n *Counts) any {
		return all(noLoss(n), noFlags(n), wants(n.Leases == 4, "%d hand-offs by lease", n.Leases))
	}, func(c *Config) { c.Degrade = 4 * sec })},
	{Name: "T23", About: "a node apart acknowledges alone, then its devices move: flagged, and what comes late too", Set: exactly(2, func(w *world) {
		w.then(5*sec, func() {
			w.apart(0, 10*sec)
			w.cutUplink(0, 10*sec)
		})
		w.then(10*sec, func() { w.moveTo(1) })
	}, func(_ *world, n *Counts) any {
		return all(noLoss(n), wants(n.Incomplete >= 4, "%d hand-offs are flagged", n.Incomplete), wants(n.Late > 0, "nothing came late"))
	})},
	{Name: "T24", About: "power cut of the old node between its answer and the new one's forwarding", Set: exactly(2, cutAfterAnswer, func(_ *world, n *Counts) any {
		return all(noLoss(n), wants(n.HoldTimeouts == 0, "%d hand-offs were given up", n.HoldTimeouts))
	})},
	{Name: "T24_strict", About: "the same, and a forwarder that never gives up", Set: exactly(2, cutAfterAnswer, func(_ *world, n *Counts) any { return noLoss(n) }, func(c *Config) { c.Strict = true })},
	{Name: "T25", About: "two nodes exchange all devices at once, again and again", Set: exactly(2, func(w *world) {
		w.every(500*ms, 2*sec, 19*sec, func() {
			for _, d := range w.devices {
				d.move(1 - d.at)
			}
		})
	}, func(_ *world, n *Counts) any {
		return all(noLoss(n), noFlags(n), wants(n.HealMillis <= 12000, "drained after %d ms", n.HealMillis))
	}, func(c *Config) { c.Devices = 40 })},
	{Name: "T26", About: "a ledger that never comes costs one T_hold, not one for each device", Set: exactly(2, lostDependency, func(_ *world, n *Counts) any {
		return all(wants(n.HoldTimeouts > 4, "%d hand-offs were given up", n.HoldTimeouts), wants(n.HealMillis < 3*int(holdFor.Milliseconds()), "drained after %d ms", n.HealMillis))
	}, func(c *Config) {
		c.Devices, c.RunFor = 10, 11*sec
		c.NotPromised = func(i Invariant) bool { return i == I1 }
	})},
	{Name: "T27", About: "QoS 2: published, not acknowledged, moved, sent again: one record", Set: exactly(2, func(w *world) {
		w.every(1500*ms, 2*sec, 18*sec, func() {
			for _, d := range w.devices {
				d.move(1 - d.at)
			}
		})
	}, func(_ *world, n *Counts) any {
		return all(noLoss(n), noFlags(n), wants(n.Twice == 0, "%d records twice", n.Twice), wants(n.Recognized > 0, "nothing was sent again"))
	}, qos2)},
	{Name: "T28", About: "the same, and the old node loses its power first: at most two records, and flagged", Set: exactly(2, func(w *world) {
		w.every(5*sec, 3*sec, 18*sec, func() {
			w.nodes[0].off(2 * sec)
			w.moveTo(1)
			w.after(3*sec, func() { w.moveTo(0) })
		})
	}, func(_ *world, n *Counts) any { return noLoss(n) }, qos2)},
	{Name: "T31", About: "commands while devices move and nodes crash: each at least once, in order", Set: exactly(2, func(w *world) {
		w.every(2*sec, 2*sec, 18*sec, func() {
			for _, d := range w.devices {
				d.move(1 - d.at)
			}
		})
		w.every(3*sec, 3*sec, 18*sec, func() {
			w.nodes[w.rng.IntN(2)].crash()
			for _, n := range w.nodes {
				if !n.up {
					n.restart(100*ms, 300*ms)
				}
			}
		})
	}, func(_ *world, n *Counts) any { return wants(n.Commands > 0, "no commands") }, func(c *Config) { c.Commands = true })},
	{Name: "T32", About: "a node without uplink gets the commands of its devices from its peer", Set: exactly(2, func(w *world) {
		w.then(0, func() { w.cutUplink(1, 60*sec) })
		w.then(19*sec, func() {
			got := len(w.devices[1].commands) + len(w.devices[3].commands)
			if got < 10 {
				w.wrong("the devices of the node without uplink have %d commands", got)
			}
		})
	}, nil, func(c *Config) { c.Commands = true })},
}

func qos2(c *Config) { c.QoS2 = true }

func cutAfterAnswer(w *world) {
	w.every(4*sec, 3*sec, 18*sec, func() {
		w.moveTo(1)
		w.after(w.between(10*ms, 120*ms), func() {
			if w.nodes[0].up {
				w.nodes[0].off(sec)
			}
		})
		w.after(2500*ms, func() { w.moveTo(0) })
	})
}

// lostDependency: the new node waits for a ledger whose only holders burn.
func lostDependency(w *world) {
	w.then(3*sec, func() { w.stopKafka(8 * sec) })
	w.then(5*sec, func() { w.moveTo(1) })
	w.then(6*sec, func() {
		l := w.nodes[0].liveOf()
		w.nodes[0].burn()
		w.nodes[1].disk.copies[l] = nil
	})
}
