package model

import (
	"slices"
	"time"
)

// A handoff is what a node does at CONNECT, before CONNACK: it makes sure
// that nobody else takes anything more from the device (round 1, CLOSE), and
// learns how far the device is in every ledger (round 2, COLLECT).
type handoff struct {
	n       *node
	s       *session
	run     int
	began   time.Duration
	round   int
	try     int      // of round 2: an answer to an earlier try is no answer
	again   bool     // somebody restarted between the rounds: what the others said may be too old
	waiting []bool   // by node
	nonces  []uint64 // by node, as round 1 found them
	last    bool     // all have answered or are given up: the node looks at itself
}

const (
	askEvery    = 120 * ms
	askFor      = 500 * ms
	askLivesFor = 1200 * ms // those that are alive get more time
)

// hearConnect is R40, and begins the hand-off.
func (n *node) hearConnect(c *conn) {
	w := n.w
	if n.told {
		return // R71
	}
	n.epochs[c.device]++ // R40
	s := &session{
		device: c.device, conn: c, epoch: n.epochs[c.device], last: n.disk.seen[c.device] - 1,
		cursor: n.disk.cursor[c.device], outside: nobody, where: map[int]place{},
	}
	n.sessions[c.device] = s
	w.logf(none, c.device, "d%d connects to node %d, epoch %d", c.device, n.index, s.epoch)
	if w.broken(NoHandoff) {
		n.look(s)
		n.openSession(s)
		return
	}
	h := &handoff{n: n, s: s, run: n.run, began: w.now, round: 1, nonces: make([]uint64, len(n.peers))}
	h.askAll()
	if w.broken(OneRound) {
		h.round = 2
	}
	h.advance()
}

// askAll makes the hand-off wait for every member but this node. R70: one that
// is removed is a member until it has left, or is said to be lost: it may be cut
// off, and go on taking what devices send.
func (h *handoff) askAll() {
	h.waiting = make([]bool, len(h.n.peers))
	for _, m := range h.n.w.nodes {
		out := m.left || m.lost || h.n.w.broken(RemovedAtOnce)
		h.waiting[m.index] = m != h.n && !(m.removed && out)
	}
}

func (h *handoff) isOver() bool {
	return h.n.run != h.run || h.n.sessions[h.s.device] != h.s || h.s.ready || h.last
}

func (h *handoff) complete() bool {
	for _, is := range h.waiting {
		if is {
			return false
		}
	}
	return true
}

func (h *handoff) advance() {
	if h.isOver() {
		return
	}
	w, passed := h.n.w, h.n.w.now-h.began
	if h.again || h.round == 1 && (h.complete() || passed > askFor) {
		h.round, h.again = 2, false
		h.try++
		h.askAll()
	}
	switch {
	case h.complete():
		h.finish(nil)
		return
	case passed > askFor && (!h.anyLives() || passed > askLivesFor):
		h.finish(h.waiting)
		return
	}
	for i, is := range h.waiting {
		if is {
			h.ask(w.nodes[i])
		}
	}
	w.after(askEvery, h.advance)
}

func (h *handoff) anyLives() bool {
	for i, is := range h.waiting {
		if is && h.n.alive(i) {
			return true
		}
	}
	return false
}

// ask is CLOSE or COLLECT.
func (h *handoff) ask(m *node) {
	epoch, round, try := h.s.epoch, h.round, h.try
	nonces := slices.Clone(h.nonces)
	h.n.w.send(h.n, m, func() {
		m.closeOlder(nonces)
		m.hearHandoff(h, epoch, round, try)
	})
}

// closeOlder closes the streams of processes that have ended, as round 1 has
// found: what they sent may still be on its way, and would come after this
// node has said all that it holds (R42).
func (n *node) closeOlder(nonces []uint64) {
	for i, p := range n.peers {
		if p != nil && nonces[i] != 0 && nonces[i] != p.nonce && !n.w.broken(CollectWithoutNonces) {
			n.closeStream(i)
		}
	}
}

// hearHandoff is R41: the other node closes the device's connection and takes
// nothing more from it, unless its own session has a higher epoch.
func (n *node) hearHandoff(h *handoff, epoch int64, round, try int) {
	w, from, dev := n.w, h.n, h.s.device
	if s := n.sessions[dev]; s != nil && !w.broken(OldConnectionStays) {
		if s.epoch > epoch || s.epoch == epoch && n.index > from.index {
			higher := s.epoch
			w.send(n, from, func() { h.retryAbove(higher) })
			return
		}
		n.sessions[dev] = nil
	}
	n.epochs[dev] = max(n.epochs[dev], epoch)
	for _, m := range w.nodes {
		if m != n && m != from && !n.alive(m.index) {
			n.closeStream(m.index) // R17: nothing more may come from the silent
		}
	}
	nonce := n.nonce
	if round == 1 {
		w.send(n, from, func() { h.hearClosed(n.index, nonce) })
		return
	}
	collect := func() {
		found := n.scan(dev)
		w.logf(none, dev, "node %d tells node %d of d%d: last seq %d, ends %v", n.index, from.index, dev, found.last, found.ends)
		w.send(n, from, func() { h.hearCollected(n.index, nonce, try, found) })
	}
	if w.broken(HandoffBeforeFsync) {
		collect()
		return
	}
	n.barrier(collect) // R42
}

func (h *handoff) retryAbove(epoch int64) {
	if !h.isOver() && h.s.epoch <= epoch {
		h.s.epoch = epoch + 1
		h.n.epochs[h.s.device] = epoch + 1
	}
}

func (h *handoff) hearClosed(i int, nonce uint64) {
	if !h.isOver() && h.round == 1 {
		h.nonces[i] = nonce
		h.waiting[i] = false
	}
}

func (h *handoff) hearCollected(i int, nonce uint64, try int, found findings) {
	if h.isOver() || h.try != try && !h.n.w.broken(AnswersOfAnyTry) {
		return
	}
	if h.nonces[i] != nonce && !h.n.w.broken(OneRound) {
		h.nonces[i] = nonce
		h.again = true // R42: it has restarted in between, so round 2 again, for all
	}
	h.s.merge(found)
	h.waiting[i] = false
}

// finish ends R42: the node closes the streams of the silent, flushes what it
// holds, and looks at itself last.
func (h *handoff) finish(silent []bool) {
	h.last = true
	n := h.n
	for i, is := range silent {
		if is {
			n.closeStream(i)
		}
	}
	open := func() {
		if n.run != h.run || n.sessions[h.s.device] != h.s {
			return
		}
		n.look(h.s)
		if silent != nil {
			n.judge(h.s, silent)
		}
		n.openSession(h.s)
	}
	if n.w.broken(HandoffBeforeFsync) {
		open()
		return
	}
	n.barrier(open)
}

// judge is R44. Some nodes were silent. All acknowledged records of the device
// are nevertheless known if fewer nodes are missing than an acknowledged
// record has copies, and none of the missing can have acknowledged with fewer.
func (n *node) judge(s *session, silent []bool) {
	w := n.w
	s.unverified = true
	flag := w.nextUID()
	w.oracle.flagTwice(s.device, flag)
	missing, leased := 0, true
	for i, is := range silent {
		if is {
			missing++
			p := n.peers[i]
			leased = leased && p != nil && n.clock() < p.lease
		}
	}
	covered := (missing <= w.MinCopies-1 || w.broken(LeaseForgetsMissing)) && (w.Refuse || leased)
	if covered && !w.broken(NoLease) {
		w.counts.Leases++
		return
	}
	w.counts.Incomplete++
	w.oracle.flagOrder(s.device, flag)
}

// findings are what a node knows of a device from all that it holds.
type findings struct {
	ends   []int64 // by ledger
	last   int
	places []sighting
	cursor int
}

type sighting struct {
	seq   int
	place place
}

func (n *node) scan(device int) findings {
	f := findings{ends: make([]int64, len(n.disk.copies)), last: n.disk.seen[device] - 1, cursor: n.disk.cursor[device]}
	for ln, c := range n.disk.copies {
		if c == nil || c.bad {
			continue
		}
		l := ledgerNo(ln)
		for i, r := range c.records {
			if r.device != device {
				continue
			}
			lsn := c.base + int64(i)
			switch r.kind {
			case commandAck:
				f.cursor = max(f.cursor, r.seq+1)
				continue
			case data:
				f.last = max(f.last, r.seq)
				if n.w.QoS2 {
					f.places = append(f.places, sighting{r.seq, place{l, lsn}})
				}
			case handoffMark:
			}
			f.ends[l] = lsn + 1
		}
	}
	return f
}

func (n *node) look(s *session) { s.merge(n.scan(s.device)) }

// merge takes the most of all that is known.
func (s *session) merge(f findings) {
	for l, end := range f.ends {
		if end > at(s.ends, l) {
			put(&s.ends, l, end)
		}
	}
	s.last = max(s.last, f.last)
	s.cursor = max(s.cursor, f.cursor) // R62
	for _, g := range f.places {
		p, known := s.where[g.seq]
		if !known || g.place.ledger < p.ledger || g.place.ledger == p.ledger && g.place.lsn < p.lsn {
			s.where[g.seq] = g.place
		}
	}
}
