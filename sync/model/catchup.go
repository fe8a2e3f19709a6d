package model

const pullMost = 50

// catchUp is R14, for ledgers whose writer is gone: pull what a peer holds
// beyond our copy, or adopt a ledger that is not all in Kafka.
func (n *node) catchUp() {
	if n.told {
		return // R71: it gives, and takes nothing more
	}
	for i, p := range n.peers {
		if p == nil || !n.alive(i) {
			continue
		}
		for ln, h := range p.holds {
			l := ledgerNo(ln)
			if !h.held || n.isLive(l) || p.live == l { // (a live ledger is pushed by its writer)
				continue
			}
			pos := n.disk.position(l).next
			if h.end <= pos {
				continue
			}
			c := n.disk.copyOf(l)
			switch {
			case c == nil || !c.bad && h.base > c.end():
				if h.base <= pos { // R7
					n.pull(i, l, max(h.base, pos))
				}
			case !c.bad && h.end > c.end():
				n.pull(i, l, c.end())
			}
		}
	}
}

// pull is PULL, and PULLED is what comes back.
func (n *node) pull(i int, l ledgerNo, from int64) {
	w, m := n.w, n.w.nodes[i]
	w.send(n, m, func() {
		c := m.disk.copyOf(l)
		if c == nil || c.bad || from < c.base || from >= c.synced {
			return
		}
		to := min(c.synced, from+pullMost)
		records, prev, pos := c.slice(from, to), c.chainAt(from), m.disk.position(l)
		w.send(m, n, func() {
			n.disk.learn(l, pos)
			n.hearPulled(l, from, prev, records)
		})
	})
}

func (n *node) hearPulled(l ledgerNo, from int64, prev uint64, records []*record) {
	if n.isLive(l) || n.full {
		return
	}
	c := n.disk.copyOf(l)
	if c == nil || from > c.end() {
		if from > n.disk.position(l).next { // R7
			return
		}
		if c == nil {
			c = n.disk.add(&ledgerCopy{ledger: l})
		}
		c.restart(from, prev)
	}
	if from < c.base || c.bad {
		return
	}
	if n.extend(c, from, prev, records) && c.end() > c.synced {
		n.w.logf(l, nobody, "node %d pulls %v up to %d", n.index, l, c.end())
		n.flush()
	}
}

// trim is R30: what is in Kafka may go, by anybody and at any time; R32:
// what sessions have to know of it is kept first.
func (n *node) trim() {
	w := n.w
	if !w.chance(0.2) {
		return
	}
	for l, c := range n.disk.copies {
		if c == nil {
			continue
		}
		to := n.disk.position(ledgerNo(l)).next
		if w.broken(TrimByCopies) && c == n.own {
			to = n.lac
		}
		to = min(to, c.synced)
		if to <= c.base {
			continue
		}
		for o := c.base; o < to; o++ {
			switch r := c.at(o); r.kind {
			case commandAck:
				n.disk.cursor[r.device] = max(n.disk.cursor[r.device], r.seq+1)
			case data:
				n.disk.seen[r.device] = max(n.disk.seen[r.device], r.seq+1)
			case handoffMark:
			}
		}
		w.counts.Trims++
		c.trim(to)
		if in := at(w.kafka.positions, l).next; c.base > in && !w.Rates.LiveClone {
			w.violated(I1, c.ledger, nobody, "node %d trims %v up to %d, and Kafka has it up to %d", n.index, c.ledger, c.base, in)
		}
	}
}
