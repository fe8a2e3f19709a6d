package model

import "time"

// A node is one gateway. What is on its disk outlives its process; all else
// is made new by start.
type node struct {
	w       *world
	index   int // its place in world.nodes: an address, so to say
	name    int // its node_uuid, which a copied disk has too
	disk    *disk
	image   *disk // an old image of it, or nil
	up      bool
	gone    bool // it will never return
	removed bool // by the operator (R70)
	told    bool // it knows that it is removed, and takes no clients (R71)
	left    bool // it is told, has seen in Kafka all that it holds, and has given away what only it knew of sessions
	lost    bool // removed, and the operator says that it will never return

	full      bool          // it takes no copies now (R34)
	flushTime time.Duration // of a disk that a script makes slow

	clockAhead time.Duration // its monotonic clock has a beginning of its own
	clockRate  float64       // and a speed

	run    int    // counts starts and stops: what a dead process had planned does not happen
	nonce  uint64 // drawn by each start (R3)
	own    *ledgerCopy
	lac    int64 // of the live ledger: below it, the acknowledgement policy is met
	common int64 // the live ledger is known to be the same everywhere up to here (R16)
	short  bool  // it acknowledges on its own flash alone (R12)

	atTick    int64 // the end of the live ledger at the last tick: copies that have it have caught up
	exposedTo int64 // of the live ledger: below it, records were acknowledged with too few copies

	peers     []*peer         // by node: what it last said
	followers []*follower     // by node: how far it has the live ledger
	closed    []time.Duration // by node: when the stream from it was last closed (R17)

	pending    []pendingAck // of the live ledger, in order
	forwarders []*forwarder // by ledger
	watches    []*watch     // by ledger
	sessions   []*session   // by device
	epochs     []int64      // by device: the highest session epoch seen

	syncing, dirty bool          // a flush is under way; another must follow
	barriers       []func() bool // looked at after each flush until they are met
}

// A peer is what this node was last told by another one.
type peer struct {
	nonce   uint64
	name    int
	heard   time.Duration
	live    ledgerNo // the ledger it appends to, or none
	holds   []holding
	holding []ledgerNo    // forwarders there that wait for a hand-off
	stamp   time.Duration // of its clock: the newest that came
	lease   time.Duration // of our clock: until then it cannot have acknowledged with too few copies (R44)
}

// A holding is the durable range that a node has of a ledger.
type holding struct {
	held      bool
	base, end int64
	chain     uint64 // at end
	serial    int    // for the checks: of the disk
}

const (
	tickEvery  = 100 * ms
	aliveFor   = 800 * ms // after a STATUS
	spareNodes = 3        // clones and newcomers
)

// start is the start of a process, on the disk as it is.
func (n *node) start() {
	w := n.w
	n.up = true
	n.run++
	n.own = nil // R1: a new process opens a new ledger, at its first append
	n.reset()
	n.nonce = w.rng.Uint64()
	if w.broken(ReopenTrusted | ReopenTruncating) {
		n.reopen()
	}
	w.logf(none, nobody, "node %d starts", n.index)
	n.beginTicking()
}

// reset forgets what a process knows.
func (n *node) reset() {
	most := n.w.Nodes + spareNodes
	n.lac, n.common, n.short, n.atTick, n.exposedTo = 0, 0, false, 0, 0
	n.peers = make([]*peer, most)
	n.followers = make([]*follower, most)
	n.closed = make([]time.Duration, most)
	n.pending, n.forwarders, n.watches, n.barriers = nil, nil, nil, nil
	n.sessions = make([]*session, n.w.Devices)
	n.epochs = make([]int64, n.w.Devices)
	n.syncing, n.dirty = false, false
}

func (n *node) beginTicking() {
	run := n.run
	n.w.after(n.w.between(1*ms, 50*ms), func() { n.tick(run) })
}

// stop ends the process. The page cache stays.
func (n *node) stop() {
	n.up = false
	n.run++
	n.own = nil
}

// restart starts the node again after some time between a and b.
func (n *node) restart(a, b time.Duration) {
	run := n.run
	n.w.after(n.w.between(a, b), func() {
		if n.run == run && !n.gone {
			n.recover()
		}
	})
}

// recover is a start after a crash: R4, what the page cache held is flushed
// before anybody is told that it is durable.
func (n *node) recover() {
	n.start()
	n.flush()
}

func (n *node) tick(run int) {
	if n.run != run {
		return
	}
	w := n.w
	n.leave()
	n.sayStatus()
	n.replicate(true)
	n.acknowledge()
	if n.own != nil {
		n.atTick = n.own.end()
	}
	n.catchUp()
	n.forward()
	n.trim()
	n.deliverCommands()
	if len(n.pending) > 0 && !w.Refuse {
		p := n.pending[0]
		if waits := w.now - p.at; waits > max(w.Degrade, 3*sec)+sec {
			w.violated(I4, n.own.ledger, p.device, "node %d: a publish (%v@%d) waits %.1f s for its acknowledgement", n.index, n.own.ledger, p.lsn, waits.Seconds())
		}
	}
	for _, s := range n.sessions {
		if s != nil && s.ready {
			n.pump(s)
		}
	}
	w.after(tickEvery, func() { n.tick(run) })
}

// clock is the node's monotonic clock.
func (n *node) clock() time.Duration {
	return n.clockAhead + time.Duration(n.clockRate*float64(n.w.now))
}

// since is how long ago t was, by the node's clock.
func (n *node) since(t time.Duration) time.Duration {
	return time.Duration(n.clockRate * float64(n.w.now-t))
}

func (n *node) alive(i int) bool {
	p := n.peers[i]
	return p != nil && n.w.now-p.heard < aliveFor
}

func (n *node) isLive(l ledgerNo) bool { return n.own != nil && n.own.ledger == l }

// status is a STATUS message, the same for all peers but for the echo.
type status struct {
	nonce     uint64
	live      ledgerNo
	holds     []holding
	positions []position
	holding   []ledgerNo
	commands  int
	stamp     time.Duration
	short     bool
	slack     time.Duration
	echo      time.Duration // the newest stamp of the receiver that the sender has
}

func (n *node) sayStatus() {
	w := n.w
	st := status{
		nonce: n.nonce, live: none, holds: make([]holding, len(n.disk.copies)), positions: append([]position(nil), n.disk.positions...),
		commands: n.disk.commandsKept, stamp: n.clock(), short: n.short || n.exposed() || n.unprotected(), slack: w.Degrade,
	}
	if n.own != nil {
		st.live = n.own.ledger
	}
	for l, c := range n.disk.copies {
		if c != nil && !c.bad {
			st.holds[l] = holding{held: true, base: c.base, end: c.synced, chain: c.chainAt(c.synced), serial: n.disk.serial}
		}
	}
	for _, f := range n.forwarders {
		if f != nil && f.holding {
			st.holding = append(st.holding, f.ledger)
		}
	}
	if len(n.pending) > 0 && !w.broken(LeaseWithoutSlack) {
		st.slack -= n.since(n.pending[0].at) // R44
	}
	for _, m := range w.nodes {
		if m == n || m.gone {
			continue
		}
		st := st
		if p := n.peers[m.index]; p != nil {
			st.echo = p.stamp
		}
		w.send(n, m, func() { m.hearStatus(n, st) })
	}
}

// unprotected says whether the node holds records of processes that are gone,
// perhaps acknowledged with too few copies, that are neither in Kafka nor on
// enough other nodes (R44). For a ledger that lives its writer answers.
func (n *node) unprotected() bool {
	if n.w.broken(LeaseForgetsOldLedgers) {
		return false
	}
	for l, c := range n.disk.copies {
		if c == nil || c == n.own || c.bad {
			continue
		}
		pos := n.disk.position(ledgerNo(l)).next
		if c.end() <= pos || n.livesElsewhere(ledgerNo(l)) {
			continue
		}
		holders := 1
		for _, p := range n.peers {
			if p == nil || p.name == n.name {
				continue
			}
			if h := at(p.holds, l); h.held && h.end >= c.end() && h.base <= max(pos, c.base) {
				holders++
			}
		}
		if holders < n.w.MinCopies {
			return true
		}
	}
	return false
}

func (n *node) livesElsewhere(l ledgerNo) bool {
	for i, p := range n.peers {
		if p != nil && p.live == l && n.alive(i) {
			return true
		}
	}
	return false
}

func (n *node) hearStatus(from *node, st status) {
	w := n.w
	p := n.peers[from.index]
	if p == nil || p.nonce != st.nonce {
		if p != nil {
			n.closeStream(from.index) // R17: a new process speaks
		}
		p = &peer{nonce: st.nonce}
		n.peers[from.index] = p
	}
	p.heard, p.name, p.live, p.holds, p.holding = w.now, from.name, st.live, st.holds, st.holding
	p.stamp = max(p.stamp, st.stamp)
	if n.removed && !n.told {
		n.told = true
		clear(n.sessions)
	}
	n.renewLease(p, st)
	if st.commands > n.disk.commands { // R60: what one has, the others pull
		n.disk.commands = st.commands
		n.flush()
	}
	for l, pos := range st.positions {
		n.disk.learn(ledgerNo(l), pos)
	}
	if n.own != nil {
		h := at(st.holds, n.own.ledger)
		if h.held && n.diverges(h.end, h.chain) {
			return
		}
		n.noteAck(from.index, st.nonce, h)
	}
}

// renewLease keeps until when, by our clock, the peer cannot have acknowledged
// with too few copies. The stamp that it echoes was sent before it looked at
// itself, and two clocks differ by up to a tenth.
func (n *node) renewLease(p *peer, st status) {
	if st.short {
		p.lease = 0
		return
	}
	began := st.echo
	if n.w.broken(LeaseFromReceipt) {
		began = n.clock()
	}
	if began > 0 {
		p.lease = max(p.lease, began+st.slack*9/10) // R44
	}
}

// closeStream discards what the other node has sent and is still on its way.
func (n *node) closeStream(from int) {
	if !n.w.broken(StreamsStayOpen) {
		n.closed[from] = n.w.now
	}
}
