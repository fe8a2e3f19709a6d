package model

import "time"

// A pendingAck is a record of the live ledger that has not met the
// acknowledgement policy yet.
type pendingAck struct {
	lsn    int64
	uid    int64
	device int // nobody: no device waits for it
	seq    int
	conn   *conn
	at     time.Duration // appended
}

// An ack is what a device got, and what the checks have to know about it.
type ack struct {
	device, seq int
	ledger      ledgerNo // none: known from a trimmed record, so it is in Kafka
	lsn         int64
	disks       []int // whose copies counted
	short       bool  // fewer than the policy asks for
	at          time.Duration
}

// acknowledge is R11 and R12: in the order of the log, what is durable here
// and on enough copies, or in Kafka; and with the policy to accept, after a
// while, what is durable here alone.
func (n *node) acknowledge() {
	if n.own == nil {
		return
	}
	w, c := n.w, n.own
	pos := n.disk.position(c.ledger).next
	if n.short && len(n.counted(n.atTick-1, pos)) >= w.MinCopies {
		n.short = false // R12: the copies are back
	}
	for len(n.pending) > 0 {
		p := n.pending[0]
		if p.lsn >= c.synced {
			return
		}
		disks := n.counted(p.lsn, pos)
		full := len(disks) >= w.MinCopies
		switch {
		case full:
			n.short = false
		case pos > p.lsn:
			full = true // R11: it is in Kafka
		case w.Refuse:
			return
		case !n.short:
			if n.since(p.at) < w.Degrade {
				return
			}
			n.short = true // R12
			w.counts.Shorts++
			w.logf(c.ledger, p.device, "node %d is short of copies", n.index)
		}
		n.pending = n.pending[1:]
		n.lac = p.lsn + 1
		if !full {
			n.exposedTo = n.lac
		}
		if p.device == nobody {
			continue
		}
		w.logRecords(c.ledger, p.device, p.lsn, p.lsn, "node %d acknowledges d%d seq %d (%v@%d) with disks %v", n.index, p.device, p.seq, c.ledger, p.lsn, disks)
		if s := n.sessions[p.device]; s != nil && s.conn == p.conn {
			n.puback(p.conn, ack{device: p.device, seq: p.seq, ledger: c.ledger, lsn: p.lsn, disks: disks, short: !full, at: w.now})
		}
	}
}

// counted returns the disks that have the record of the live ledger at lsn,
// this one first. R10: durable there, and usable for a take-over, which is to
// begin at or below the position.
func (n *node) counted(lsn, pos int64) []int {
	disks := []int{n.disk.serial}
	for i, f := range n.followers {
		if f != nil && f.acked > lsn && f.base <= pos && n.w.nodes[i].name != n.name {
			disks = append(disks, f.serial)
		}
	}
	return disks
}

// exposed says whether the live ledger has records that were acknowledged
// with too few copies, and are still in danger.
func (n *node) exposed() bool {
	if n.own == nil {
		return false
	}
	pos := n.disk.position(n.own.ledger).next
	return n.exposedTo > pos && len(n.counted(n.exposedTo-1, pos)) < n.w.MinCopies
}
