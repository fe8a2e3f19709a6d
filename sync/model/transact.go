package model

const transactMost = 25

// A chunk is what one transaction holds.
type chunk struct {
	parts   []int // that get something
	batches [][]entry
	to      position
}

// gather takes records from the position on, up to a hand-off that has to
// wait (R45).
func (n *node) gather(f *forwarder, c *ledgerCopy, end int64) chunk {
	ch := chunk{batches: make([][]entry, n.w.Partitions)}
	late := n.w.nodes[n.w.ledgers[f.ledger].writer].lost // R71
	to := f.pos
	f.holding = false
	for to < end && to-f.pos < transactMost {
		r := c.at(to)
		if r.kind == handoffMark && !n.mayPass(f, r) {
			f.holding = to == f.pos
			break
		}
		if r.kind == data { // control records count in positions, and go nowhere
			p := r.device % n.w.Partitions
			if ch.batches[p] == nil {
				ch.parts = append(ch.parts, p)
			}
			ch.batches[p] = append(ch.batches[p], entry{ledger: f.ledger, lsn: to, record: r, late: late})
		}
		to++
	}
	ch.to = position{next: to, chain: c.chainAt(to), found: true}
	return ch
}

// addPartitions, produce, stage and commit are one transaction: the records
// and the position, or nothing (R21).
func (n *node) addPartitions(f *forwarder, ch chunk) {
	k, epoch := n.w.kafka, f.epoch
	ask(n, f, func() (struct{}, answer) { return k.addPartitions(f.ledger, epoch, ch.parts) }, func(_ struct{}, a answer) {
		if a != fine {
			n.again(f, a, func() { n.addPartitions(f, ch) })
			return
		}
		f.retries = 0
		n.produce(f, ch, 0)
	})
}

func (n *node) produce(f *forwarder, ch chunk, i int) {
	if i == len(ch.parts) {
		n.stage(f, ch)
		return
	}
	k, epoch, p := n.w.kafka, f.epoch, ch.parts[i]
	seq := f.seqs[p]
	ask(n, f, func() (struct{}, answer) { return k.produce(p, f.ledger, epoch, seq, ch.batches[p]) }, func(_ struct{}, a answer) {
		if a != fine {
			n.again(f, a, func() { n.produce(f, ch, i) })
			return
		}
		f.seqs[p] += int64(len(ch.batches[p]))
		f.retries = 0
		n.produce(f, ch, i+1)
	})
}

func (n *node) stage(f *forwarder, ch chunk) {
	k, epoch := n.w.kafka, f.epoch
	ask(n, f, func() (struct{}, answer) { return k.stagePosition(f.ledger, epoch, ch.to) }, func(_ struct{}, a answer) {
		if a != fine {
			n.again(f, a, func() { n.stage(f, ch) })
			return
		}
		f.retries = 0
		n.commit(f, ch)
	})
}

// commit asks for the end of the transaction. R23: only its answer moves the
// position; without one, everything begins anew with the fence.
func (n *node) commit(f *forwarder, ch chunk) {
	w, epoch := n.w, f.epoch
	ask(n, f, func() (int32, answer) { return w.kafka.commitTxn(f.ledger, epoch) }, func(next int32, a answer) {
		if a == noAnswer && w.broken(TimeoutIsCommit) {
			a, next = fine, epoch
		}
		if a != fine {
			n.again(f, a, func() { n.commit(f, ch) })
			return
		}
		if next != f.epoch {
			f.epoch, f.seqs = next, make([]int64, w.Partitions)
		}
		f.fences, f.busy, f.pos = 0, false, ch.to.next
		if n.isLive(f.ledger) {
			n.common = max(n.common, ch.to.next)
		}
		n.disk.learn(f.ledger, ch.to)
		if f.unclear && !w.TV2 && !w.broken(NoReinit) {
			n.fence(f) // R24: a late copy of the request would hit the next transaction, which has the same epoch
			return
		}
		n.step(f)
	})
}

// again decides what an answer other than success means.
func (n *node) again(f *forwarder, a answer, request func()) {
	switch a {
	case fenced:
		n.giveWay(f)
	case concurrent:
		n.later(f, 20*ms, request)
	case noAnswer:
		f.retries++
		f.unclear = true
		if f.retries > 3 {
			n.fence(f)
			return
		}
		request()
	case fine, unstable, outOfSequence, badState:
		n.fence(f) // R20: thrown away after any failure
	}
}

// sendPlain is a forwarder without transactions, whose position is written
// after its records.
func (n *node) sendPlain(f *forwarder, ch chunk) {
	k := n.w.kafka
	ask(n, f, func() (struct{}, answer) {
		for _, p := range ch.parts {
			for _, e := range ch.batches[p] {
				e.state = committed
				k.parts[p].log = append(k.parts[p].log, e)
			}
		}
		return struct{}{}, fine
	}, func(_ struct{}, a answer) {
		if a != fine {
			f.busy = false
			return
		}
		ask(n, f, func() (struct{}, answer) {
			if ch.to.next > at(k.positions, f.ledger).next {
				put(&k.positions, f.ledger, ch.to)
			}
			return struct{}{}, fine
		}, func(_ struct{}, a answer) {
			f.busy = false
			if a == fine {
				f.pos = ch.to.next
				n.disk.learn(f.ledger, ch.to)
			}
		})
	})
}
