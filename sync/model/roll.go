package model

// contradicts is DIVERGED: what came has another chain than the copy. With one
// writer for one process lifetime that cannot be, unless a process was
// duplicated together with its memory.
func (n *node) contradicts(c *ledgerCopy, o int64) {
	w := n.w
	if w.broken(NoChain | ReopenTrusted | ReopenTruncating) {
		return
	}
	w.counts.Contradictions++
	w.logf(c.ledger, nobody, "node %d: what came of %v contradicts its copy at %d", n.index, c.ledger, o)
	if !w.Rates.LiveClone {
		w.violated(I7, c.ledger, nobody, "node %d: what came of %v contradicts its copy at %d", n.index, c.ledger, o)
		return
	}
	if w.broken(NoRoll) {
		return
	}
	for i, p := range n.peers {
		if p != nil && p.live == c.ledger {
			m, l, end, chain := w.nodes[i], c.ledger, c.synced, c.chainAt(c.synced)
			w.send(n, m, func() {
				if m.isLive(l) {
					m.diverges(end, chain)
				}
			})
		}
	}
}

// diverges says whether somebody vouches for content of the live ledger that
// this process did not write, and then rolls.
func (n *node) diverges(end int64, chain uint64) bool {
	c := n.own
	if n.w.broken(NoRoll|NoChain|ReopenTrusted|ReopenTruncating) || end < c.base {
		return false
	}
	if end <= c.end() && c.chainAt(end) == chain {
		n.common = max(n.common, end)
		return false
	}
	n.roll()
	return true
}

// roll is R16: keep the prefix that is known to be common, open a new ledger,
// and append everything above it again. Acknowledgements stay owed.
func (n *node) roll() {
	w, old := n.w, n.own
	w.counts.Rolls++
	common := max(n.common, old.base)
	again := old.slice(common, old.end())
	w.logf(old.ledger, nobody, "node %d rolls %v: %d records from %d on", n.index, old.ledger, len(again), common)
	old.cut(common)
	owed := map[int64]pendingAck{} // only looked up
	for _, p := range n.pending {
		owed[p.uid] = p
	}
	n.dropForwarder(old.ledger)
	n.nonce = w.rng.Uint64()
	n.own, n.pending, n.lac, n.common, n.atTick, n.exposedTo = nil, nil, 0, 0, 0, 0
	clear(n.followers)
	n.appendMark(nobody, 0, []dep{{old.ledger, common}})
	for _, r := range again {
		p, isOwed := owed[r.uid]
		if !isOwed {
			p = pendingAck{device: nobody}
		}
		p.lsn = n.append(*r)
		p.uid, p.at = w.uid, w.now
		n.pending = append(n.pending, p)
	}
}

// reopen is what R1 forbids: to go on in the ledger of the last process.
func (n *node) reopen() {
	d := n.disk
	if d.reopened == none {
		d.reopened = n.w.newLedger(n.name)
		d.add(&ledgerCopy{ledger: d.reopened})
	}
	n.own = d.copyOf(d.reopened)
	n.lac = n.own.end()
}
