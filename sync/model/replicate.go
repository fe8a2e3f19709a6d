package model

import (
	"slices"
	"time"
)

// A follower is what the writer of the live ledger knows of one copy of it.
type follower struct {
	nonce  uint64
	known  bool // it has said what it holds
	base   int64
	acked  int64 // durable there
	next   int64 // sent
	sent   time.Duration
	back   time.Duration // when next last went back for a gap
	serial int           // for the checks: the disk that acknowledged
}

// append appends to the live ledger and sends the record to the replica set
// at once, in parallel with the flush (R5).
func (n *node) append(r record) int64 {
	w := n.w
	if n.own == nil {
		n.own = n.disk.add(&ledgerCopy{ledger: w.newLedger(n.name)}) // R1
	}
	c := n.own
	r.uid = w.nextUID()
	r.chain = mix(mix(c.chainAt(c.end()), uint64(r.device)<<32|uint64(uint32(r.seq))), uint64(r.kind)+uint64(n.index)<<8)
	c.records = append(c.records, &r)
	lsn := c.end() - 1
	w.oracle.appended(w.ledgers[c.ledger], lsn, &r)
	n.flush()
	n.replicate(false)
	return lsn
}

func (w *world) newLedger(writer int) ledgerNo {
	w.ledgers = append(w.ledgers, &ledger{id: w.rng.Uint64(), writer: writer})
	return ledgerNo(len(w.ledgers) - 1)
}

// replicaSet is R6: peers with a live stream in the order of a rendezvous
// hash, those first that have a part of the ledger, and never one with the
// owner's name.
func (n *node) replicaSet() []int {
	w := n.w
	type candidate struct {
		index int
		rank  uint64
	}
	var all []candidate
	for i, p := range n.peers {
		if p == nil || !n.alive(i) || p.name == n.name || w.nodes[i].removed {
			continue
		}
		rank := mix(mix(w.ledgers[n.own.ledger].id, uint64(i)), 7) >> 1
		if f := n.followers[i]; f != nil && f.known && f.acked > 0 {
			rank |= 1 << 63
		}
		all = append(all, candidate{i, rank})
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if a.rank > b.rank {
			return -1
		}
		return 1
	})
	most := min(w.MinCopies, max(w.Nodes, 2)-1, len(all)) // one more than the policy asks for
	set := make([]int, most)
	for i := range set {
		set[i] = all[i].index
	}
	return set
}

const (
	appendMost  = 20
	resendAfter = 150 * ms
)

// replicate sends each follower what it lacks; again says that what was sent
// long ago and never acknowledged is sent again.
func (n *node) replicate(again bool) {
	if n.own == nil {
		return
	}
	w, c := n.w, n.own
	for _, i := range n.replicaSet() {
		f := n.followers[i]
		if f == nil || !f.known {
			continue
		}
		if again && w.now-f.sent > resendAfter {
			f.next = f.acked // R13
		}
		from, reset := f.next, false
		if w.broken(NoBackfill) && f.acked == 0 && f.base == 0 && f.next == 0 && c.end() > 0 {
			from, reset = c.end()-1, true
		}
		if from < c.base { // R13: what was trimmed here is in Kafka
			from, reset = max(c.base, n.disk.position(c.ledger).next), true
		}
		end := c.end()
		if w.broken(ReplicateAfterFsync) {
			end = c.synced
		}
		if from >= end {
			continue
		}
		to := min(end, from+appendMost)
		f.next, f.sent = to, w.now
		n.sendAppend(w.nodes[i], appendMsg{
			ledger: c.ledger, from: from, prev: c.chainAt(from), records: c.slice(from, to), pos: n.disk.position(c.ledger), reset: reset,
		})
	}
}

// An appendMsg is APPEND.
type appendMsg struct {
	ledger  ledgerNo
	from    int64
	prev    uint64 // the chain at from
	records []*record
	pos     position
	reset   bool // what is missing below from is in Kafka
}

// sendAppend sends on a stream: what was on its way when the receiver closed
// it, or ended, is lost (R17).
func (n *node) sendAppend(m *node, a appendMsg) {
	w, sent, run := n.w, n.w.now, m.run
	w.send(n, m, func() {
		if m.run == run && sent >= m.closed[n.index] {
			m.hearAppend(n, a)
		}
	})
}

func (n *node) hearAppend(from *node, a appendMsg) {
	n.disk.learn(a.ledger, a.pos)
	if n.full {
		return // R34
	}
	c := n.disk.copyOf(a.ledger)
	if c == nil {
		if a.from != 0 && !a.reset { // R7: only what is in Kafka may be missing
			n.tell(from, a.ledger, holding{})
			return
		}
		c = n.disk.add(&ledgerCopy{ledger: a.ledger})
		c.restart(a.from, a.prev)
	}
	if c.bad {
		return
	}
	if a.reset && a.from > c.end() {
		c.restart(a.from, a.prev)
	}
	if a.from > c.end() { // R8
		n.tellGap(from, c)
		return
	}
	if skip := c.base - a.from; skip > 0 {
		if skip >= int64(len(a.records)) {
			n.tell(from, a.ledger, n.holdingOf(c))
			return
		}
		a.prev, a.records, a.from = a.records[skip-1].chain, a.records[skip:], c.base
	}
	if !n.extend(c, a.from, a.prev, a.records) {
		return
	}
	if n.w.broken(CopyAcksBeforeFsync) {
		h := n.holdingOf(c)
		h.end, h.chain = c.end(), c.chainAt(c.end())
		n.tell(from, a.ledger, h)
	}
	if c.end() > c.synced {
		n.flush()
	} else {
		n.tell(from, a.ledger, n.holdingOf(c))
	}
}

// extend adds to a copy what follows it, if all that overlaps has the same
// chain (R8). It returns false for what contradicts the copy.
func (n *node) extend(c *ledgerCopy, from int64, prev uint64, records []*record) bool {
	if c.chainAt(from) != prev {
		n.contradicts(c, from)
		return false
	}
	for i, r := range records {
		o := from + int64(i)
		if o >= c.end() {
			c.records = append(c.records, r)
			continue
		}
		if c.at(o).chain == r.chain {
			continue
		}
		switch {
		case n.w.broken(ReopenTruncating): // the owner's word is law
			c.cut(o)
			c.records = append(c.records, r)
		case n.w.broken(ReopenTrusted):
		default:
			n.contradicts(c, o)
			return false
		}
	}
	return true
}

func (n *node) holdingOf(c *ledgerCopy) holding {
	return holding{held: true, base: c.base, end: c.synced, chain: c.chainAt(c.synced), serial: n.disk.serial}
}

// tellWriter acknowledges a copy to whoever appends to its ledger.
func (n *node) tellWriter(c *ledgerCopy) {
	for i, p := range n.peers {
		if p != nil && p.live == c.ledger {
			n.tell(n.w.nodes[i], c.ledger, n.holdingOf(c))
		}
	}
}

// tellGap is APPEND_NACK{GAP}: the writer goes back to the end of the copy. It
// may have sent much since, all of which makes a gap too, so it goes back once
// in a while. (Without this a follower that missed one message is starved for
// as long as there is something new to send.)
func (n *node) tellGap(to *node, c *ledgerCopy) {
	l, end, nonce, w := c.ledger, c.end(), n.nonce, n.w
	w.send(n, to, func() {
		if f := to.followers[n.index]; to.isLive(l) && f != nil && f.nonce == nonce && w.now-f.back > resendAfter {
			f.next, f.back = end, w.now
			to.replicate(false)
		}
	})
}

// tell is APPEND_ACK, and with nothing held APPEND_NACK.
func (n *node) tell(to *node, l ledgerNo, h holding) {
	nonce := n.nonce
	n.w.send(n, to, func() {
		if !to.isLive(l) || h.held && to.diverges(h.end, h.chain) {
			return
		}
		to.noteAck(n.index, nonce, h)
		to.replicate(false)
	})
}

// noteAck keeps what a follower has (R10: of its present process).
func (n *node) noteAck(i int, nonce uint64, h holding) {
	f := n.followers[i]
	if f == nil || f.nonce != nonce {
		if p := n.peers[i]; p == nil || p.nonce != nonce {
			return
		}
		f = &follower{nonce: nonce}
		n.followers[i] = f
	}
	f.known = true
	if !h.held {
		f.base, f.acked, f.next = 0, 0, 0
		return
	}
	f.base, f.serial = h.base, h.serial
	f.acked = max(f.acked, h.end)
	f.next = max(f.next, f.acked)
	if w := n.w; h.end > n.own.end() && !w.broken(ReopenTrusted|ReopenTruncating) && !w.Rates.LiveClone {
		w.violated(I7, n.own.ledger, nobody, "node %d holds %v up to %d, and its writer only up to %d", i, n.own.ledger, h.end, n.own.end())
	}
	n.acknowledge()
}
