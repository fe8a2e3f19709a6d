package model

import "time"

// fault lets something happen to the world, at random, as often as the rates
// say, until the healing begins.
func (w *world) fault() {
	if !w.faulty {
		return
	}
	r := w.Rates
	w.after(w.between(150*ms, 600*ms), w.fault)
	if w.chance(r.Crash) {
		if n := w.running(); n != nil {
			n.crash()
			n.restart(50*ms, 4*sec)
		}
	}
	if w.chance(r.PowerCut) {
		if n := w.running(); n != nil {
			n.powerCut()
			n.restart(200*ms, 6*sec)
		}
	}
	if w.chance(r.SiteCut) {
		w.siteCut(200*ms, 3*sec)
	}
	if w.chance(r.Partition) {
		w.partition()
	}
	if w.chance(r.KafkaOutage) {
		w.loseKafka()
	}
	if w.chance(r.Destroy) && w.counts.Destroyed+w.counts.RolledBack < r.MaxDestroyed {
		if n := w.running(); n != nil {
			n.wipe()
			n.restart(200*ms, 3*sec)
		}
	}
	if w.chance(r.Rollback) {
		w.rollBackSome()
	}
	w.lesserFault()
	if w.chance(r.Clone) && len(w.nodes) == w.Nodes {
		if n := w.running(); n != nil {
			w.clone(n)
		}
	}
}

// lesserFault lets something be slow, full or damaged for a while.
func (w *world) lesserFault() {
	r := w.Rates
	if w.chance(r.Full) {
		if n := w.running(); n != nil {
			n.full = true
			w.logf(none, nobody, "FAULT: node %d takes no copies", n.index)
			w.after(w.between(300*ms, 4*sec), func() { n.full = false })
		}
	}
	if w.chance(r.SlowLink) {
		a, b := w.rng.IntN(len(w.nodes)), w.rng.IntN(len(w.nodes))
		w.slow[a][b] = w.between(50*ms, 1500*ms)
		w.logf(none, nobody, "FAULT: node %d reaches node %d only after %v", a, b, w.slow[a][b])
		w.after(w.between(300*ms, 4*sec), func() { w.slow[a][b] = 0 })
	}
	if w.chance(r.SlowNode) {
		if n := w.running(); n != nil {
			n.flushTime = w.between(50*ms, 1200*ms)
			w.logf(none, nobody, "FAULT: the disk of node %d needs %v", n.index, n.flushTime)
			w.after(w.between(300*ms, 3*sec), func() { n.flushTime = 0 })
		}
	}
	if w.chance(r.Members) {
		w.changeMembers()
	}
	if w.chance(r.Rot) {
		if n := w.running(); n != nil {
			n.rot()
		}
	}
}

// changeMembers removes a node, which may not hear it at once, or adds one.
func (w *world) changeMembers() {
	members := 0 // clones do not count: by R3 they would have a new name, and until then nobody copies to them
	for _, n := range w.nodes {
		if !n.removed && n.name == n.index {
			members++
		}
	}
	if n := w.nodes[w.rng.IntN(len(w.nodes))]; members > max(2, w.MinCopies) && w.chance(0.5) {
		w.logf(none, nobody, "FAULT: node %d is removed", n.index)
		n.removed = true
	} else if len(w.nodes) < w.Nodes+spareNodes {
		n := w.join()
		w.logf(none, nobody, "FAULT: node %d joins", n.index)
		n.start()
	}
}

// rot damages some copy above its base: what is left is the part below (R15).
func (n *node) rot() {
	w := n.w
	for range 10 {
		if len(n.disk.copies) == 0 {
			return
		}
		c := n.disk.copies[w.rng.IntN(len(n.disk.copies))]
		if c == nil || c == n.own || len(c.records) == 0 {
			continue
		}
		o := c.base + w.rng.Int64N(int64(len(c.records)))
		w.logf(c.ledger, nobody, "FAULT: node %d has damage in %v at %d of [%d,%d)", n.index, c.ledger, o, c.base, c.end())
		w.counts.Rotten++
		c.cut(o)
		w.oracle.diskLost(w, n.disk, n.disk)
		return
	}
}

// running returns a node that runs, or nil.
func (w *world) running() *node {
	for range 10 {
		if n := w.nodes[w.rng.IntN(len(w.nodes))]; n.up {
			return n
		}
	}
	return nil
}

// crash ends the process; the page cache survives.
func (n *node) crash() {
	n.stop()
	n.w.counts.Crashes++
	n.w.logf(none, nobody, "FAULT: node %d crashes", n.index)
}

// powerCut ends the process, and what was not flushed may be gone.
func (n *node) powerCut() {
	n.stop()
	n.w.counts.PowerCuts++
	n.w.logf(none, nobody, "FAULT: node %d loses its power", n.index)
	if n.disk.powerCut(n.w) {
		n.w.counts.Lies++
		n.w.oracle.diskLost(n.w, n.disk, n.disk)
	}
}

// siteCut is the one socket that all nodes share.
func (w *world) siteCut(a, b time.Duration) {
	w.counts.SiteCuts++
	for _, n := range w.nodes {
		if n.up {
			n.powerCut()
			n.restart(a, b)
		}
	}
}

// partition cuts the site in two for a while, now and then in one direction.
func (w *world) partition() {
	side := make([]bool, len(w.nodes))
	for i := range side {
		side[i] = w.chance(0.5)
	}
	oneWay := w.chance(0.2)
	w.cut(side, oneWay, w.between(200*ms, 8*sec))
}

// cut separates the nodes of one side from the others, for some time.
func (w *world) cut(side []bool, oneWay bool, lasts time.Duration) {
	w.counts.Partitions++
	var heal []func()
	for a := range side {
		for b := range side {
			if side[a] != side[b] && w.links[a][b] && !(oneWay && a < b) {
				heal = append(heal, w.cutLink(a, b))
			}
		}
	}
	w.logf(none, nobody, "FAULT: partition %v for %v, one way %v", side, lasts, oneWay)
	w.after(lasts, func() {
		for _, h := range heal {
			h()
		}
	})
}

// loseKafka takes Kafka from everybody, or from one node, for a while.
func (w *world) loseKafka() {
	w.counts.KafkaOutages++
	if w.chance(0.5) {
		w.stopKafka(w.between(300*ms, 4*sec))
		return
	}
	w.cutUplink(w.rng.IntN(len(w.nodes)), w.between(300*ms, 6*sec))
}

func (w *world) stopKafka(lasts time.Duration) {
	w.kafka.up = false
	w.logf(none, nobody, "FAULT: no Kafka for %v", lasts)
	w.after(lasts, func() { w.kafka.up = true })
}

func (w *world) cutUplink(i int, lasts time.Duration) {
	w.uplinks[i] = false
	w.logf(none, nobody, "FAULT: node %d has no uplink for %v", i, lasts)
	w.after(lasts, func() { w.uplinks[i] = true })
}

// wipe replaces the disk with a blank one.
func (n *node) wipe() {
	w := n.w
	n.stop()
	w.counts.Destroyed++
	w.logf(none, nobody, "FAULT: node %d has a new disk", n.index)
	w.oracle.diskLost(w, n.disk, nil)
	n.disk = w.blankDisk()
}

// rollBackSome takes an image of some node, or brings back the one it has.
func (w *world) rollBackSome() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	switch {
	case n.image == nil:
		n.image = n.disk.image()
	case n.up && w.counts.Destroyed+w.counts.RolledBack < w.Rates.MaxDestroyed:
		n.rollBack()
		n.restart(200*ms, 3*sec)
	}
}

// rollBack restores the image that was taken of the node.
func (n *node) rollBack() {
	w := n.w
	n.stop()
	w.counts.RolledBack++
	w.logf(none, nobody, "FAULT: node %d has an old image of its disk", n.index)
	w.oracle.diskLost(w, n.disk, n.image)
	n.image.serial = n.disk.serial
	n.disk, n.image = n.image, nil
}

// clone starts a second node on a copy of the disk; with LiveClone, the
// running process goes on there too, with all that is in its memory.
func (w *world) clone(n *node) {
	w.counts.Clones++
	w.logf(none, nobody, "FAULT: node %d is cloned as node %d", n.index, len(w.nodes))
	m := w.join()
	m.name = n.name
	serial := m.disk.serial
	m.disk = n.disk.image()
	m.disk.serial = serial
	if w.Rates.LiveClone && n.own != nil {
		m.up = true
		m.run++
		m.reset()
		m.nonce = n.nonce
		m.own = m.disk.copyOf(n.own.ledger)
		m.lac = m.own.end()
		m.beginTicking()
		return
	}
	m.start()
}

// heal ends all faults. What follows has to come to its end by itself.
func (w *world) heal() {
	w.logf(none, nobody, "all is well again")
	w.faulty = false
	w.kafka.up = true
	clear(w.lags)
	w.mend()
	for _, n := range w.nodes {
		n.full, n.flushTime = false, 0
		if !n.up && !n.gone {
			n.recover()
		}
	}
}
