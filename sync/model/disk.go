package model

// A disk is what a node finds again after a restart. The operating system's
// page cache is part of it: only a power cut tells the two apart.
type disk struct {
	copies    []*ledgerCopy // by ledger; nil: none
	positions []position    // by ledger: lower bounds, always true, learned only from commits and read_committed reads
	seen      []int         // by device: how many of its publishes are known from trimmed records
	cursor    []int         // by device: the next command to deliver, as trimmed records tell

	commands     int // the site's commands below this are copied here
	commandsKept int // and these survive a power cut

	lying  bool // its fsync is a lie now and then
	serial int  // of its content since it was last destroyed, for the checks

	reopened ledgerNo // variants that continue a ledger after a restart
}

func (w *world) blankDisk() *disk {
	w.serials++
	return &disk{seen: make([]int, w.Devices), cursor: make([]int, w.Devices), serial: w.serials, reopened: none}
}

// image returns a copy of what a power cut would leave for certain.
func (d *disk) image() *disk {
	m := *d
	m.copies = make([]*ledgerCopy, len(d.copies))
	for l, c := range d.copies {
		if c == nil {
			continue
		}
		k := *c
		k.records = append([]*record(nil), c.records[:max(0, min(int64(len(c.records)), c.kept-c.base))]...)
		k.synced, k.kept = k.end(), k.end()
		m.copies[l] = &k
	}
	m.positions = append([]position(nil), d.positions...)
	m.seen = append([]int(nil), d.seen...)
	m.cursor = append([]int(nil), d.cursor...)
	m.commands = d.commandsKept
	return &m
}

func (d *disk) copyOf(l ledgerNo) *ledgerCopy { return at(d.copies, l) }

func (d *disk) add(c *ledgerCopy) *ledgerCopy {
	put(&d.copies, c.ledger, c)
	return c
}

func (d *disk) position(l ledgerNo) position { return at(d.positions, l) }

// learn keeps a position that is known to be committed.
func (d *disk) learn(l ledgerNo, p position) {
	if p.found && p.next > d.position(l).next {
		put(&d.positions, l, p)
	}
}

// powerCut loses what was not flushed: of each copy, a random part of it. It
// says whether anything is gone that the disk had called durable.
func (d *disk) powerCut(w *world) (lied bool) {
	d.commands = d.commandsKept
	for _, c := range d.copies {
		if c == nil {
			continue
		}
		keep := c.kept
		if c.end() > keep {
			keep += w.rng.Int64N(c.end() - keep + 1)
		}
		keep = max(keep, c.base)
		lied = lied || keep < c.synced
		c.records = c.records[:keep-c.base]
		c.synced, c.kept = keep, keep
	}
	return lied
}

// flush makes durable what the node holds now, and then, after the time that
// a disk takes, lets the node go on.
func (n *node) flush() {
	n.dirty = true
	if n.syncing {
		return
	}
	n.syncing, n.dirty = true, false
	w, run, d := n.w, n.run, n.disk
	ends := make([]int64, len(d.copies))
	for l, c := range d.copies {
		if c != nil {
			ends[l] = c.end()
		}
	}
	commands := d.commands
	takes := w.between(2*ms, 20*ms) + n.flushTime
	if w.faulty && w.chance(w.Rates.SlowDisk) {
		takes = w.between(200*ms, 1500*ms)
	}
	w.after(takes, func() {
		if n.run == run && n.disk == d {
			n.flushed(ends, commands)
		}
	})
}

// flushed is the return of fdatasync: what was there when it began is durable.
func (n *node) flushed(ends []int64, commands int) {
	w, d := n.w, n.disk
	for l, end := range ends {
		c := d.copies[l]
		if c == nil {
			continue
		}
		if e := min(end, c.end()); e > c.synced {
			c.synced = e
			if !d.lying || w.chance(0.5) {
				c.kept = e
			}
			if c != n.own && !w.broken(CopyAcksBeforeFsync) {
				n.tellWriter(c) // R9: only now
			}
		}
	}
	d.commandsKept = max(d.commandsKept, commands)
	n.syncing = false
	if n.dirty {
		n.flush()
	}
	still := n.barriers[:0]
	for _, met := range n.barriers {
		if !met() {
			still = append(still, met)
		}
	}
	n.barriers = still
	if w.broken(ReplicateAfterFsync) {
		n.replicate(false)
	}
	n.acknowledge()
}

// barrier calls do once everything that this node holds now, its own and its
// copies, is flushed (R42): a hand-off must never depend on a record that a
// power cut could still erase.
func (n *node) barrier(do func()) {
	need := make([]int64, len(n.disk.copies))
	for l, c := range n.disk.copies {
		if c != nil && c.synced < c.end() {
			need[l] = c.end()
		}
	}
	met := func() bool {
		for l, end := range need {
			if c := n.disk.copies[l]; c != nil && c.synced < min(end, c.end()) {
				return false
			}
		}
		do()
		return true
	}
	if !met() {
		n.flush()
		n.barriers = append(n.barriers, met)
	}
}
