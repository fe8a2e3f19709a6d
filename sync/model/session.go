package model

import "time"

// A session is what a node keeps for a device that is connected to it.
type session struct {
	device     int
	conn       *conn
	epoch      int64 // R40
	ready      bool  // the hand-off is over
	unverified bool  // a node was silent in the hand-off (R44)

	ends   []int64       // by ledger: the end of the device's last record in it, as the hand-off found
	last   int           // the youngest publish that is known to be in a log
	where  map[int]place // of publishes that are not in Kafka, for QoS 2; only looked up
	queue  []int         // publishes that came, and are not decided
	headAt time.Duration // since when the first of them waits

	cursor  int // the next command to deliver
	outside int // the command that the device has not acknowledged, or nobody
}

// A place is where a record is.
type place struct {
	ledger ledgerNo
	lsn    int64
}

func (n *node) sessionOf(device int) *session { return at(n.sessions, device) }

// openSession ends the hand-off: R43, the mark comes before anything of the
// device.
func (n *node) openSession(s *session) {
	var deps []dep
	for ln, end := range s.ends {
		l := ledgerNo(ln)
		if end > 0 && !n.isLive(l) && n.disk.position(l).next < end {
			deps = append(deps, dep{l, end})
		}
	}
	s.ready = true
	n.w.logf(none, s.device, "node %d is ready for d%d in epoch %d, deps %v, unverified %v", n.index, s.device, s.epoch, deps, s.unverified)
	if len(deps) > 0 && !n.w.broken(NoHandoff) {
		n.appendMark(s.device, s.epoch, deps)
	}
	n.toDevice(s.conn, func(d *device) { d.hearConnack() })
}

func (n *node) appendMark(device int, epoch int64, deps []dep) {
	n.w.counts.Marks++
	lsn := n.append(record{kind: handoffMark, device: device, seq: -1, epoch: epoch, deps: deps})
	n.pending = append(n.pending, pendingAck{lsn: lsn, device: nobody, at: n.w.now})
	n.w.logf(n.own.ledger, device, "node %d marks a hand-off of d%d: %v@%d waits for %v", n.index, device, n.own.ledger, lsn, deps)
}

func (n *node) hearPublish(c *conn, seq int) {
	s := n.sessions[c.device]
	if s == nil || s.conn != c || !s.ready {
		return
	}
	s.queue = append(s.queue, seq)
	n.pump(s)
}

// pump decides about the publishes of a session in their order. R47: while it
// is open whether one is in a log already, nothing newer is handled, because
// one that is appended late after all would be overtaken.
func (n *node) pump(s *session) {
	w := n.w
	for skipped := 0; len(s.queue) > skipped && n.sessions[s.device] == s; {
		seq := s.queue[skipped]
		if s.headAt == 0 {
			s.headAt = w.now
		}
		if w.QoS2 && seq <= s.last {
			if !n.resent(s, seq) {
				if !w.broken(ResendsAreOvertaken) {
					return
				}
				skipped++
				continue
			}
			w.counts.Recognized++
		} else {
			n.appendData(s, seq)
		}
		s.queue = append(s.queue[:skipped:skipped], s.queue[skipped+1:]...)
		if skipped == 0 {
			s.headAt = 0
		}
	}
}

func (n *node) appendData(s *session, seq int) {
	lsn := n.append(record{kind: data, device: s.device, seq: seq, epoch: s.epoch, unverified: s.unverified})
	l := n.own.ledger
	n.w.logRecords(l, s.device, lsn, lsn, "node %d appends d%d seq %d as %v@%d in epoch %d", n.index, s.device, seq, l, lsn, s.epoch)
	s.last = max(s.last, seq)
	if n.w.QoS2 {
		s.where[seq] = place{l, lsn}
	}
	n.pending = append(n.pending, pendingAck{lsn: lsn, uid: n.w.uid, device: s.device, seq: seq, conn: s.conn, at: n.w.now})
}

const decideWithin = 900 * ms // R47: T_degrade

// resent is R47 for a QoS 2 publish that is in some log already. It returns
// false while it is undecided.
func (n *node) resent(s *session, seq int) bool {
	w := n.w
	p, known := s.where[seq]
	a := ack{device: s.device, seq: seq, ledger: none, at: w.now}
	if !known { // it was in trimmed records, so it is in Kafka
		n.puback(s.conn, a)
		return true
	}
	a.ledger, a.lsn = p.ledger, p.lsn
	if n.disk.position(p.ledger).next > p.lsn {
		n.puback(s.conn, a)
		return true
	}
	if n.isLive(p.ledger) {
		if n.lac <= p.lsn {
			return false
		}
		a.disks = n.counted(p.lsn, n.disk.position(p.ledger).next)
		a.short = len(a.disks) < w.MinCopies
		n.puback(s.conn, a)
		return true
	}
	disks, here := n.knownCopies(p)
	a.disks, a.short = disks, len(disks) < w.MinCopies
	late := n.since(s.headAt) > decideWithin
	switch {
	case !a.short, w.broken(ResendsAreBelieved), late && here && !w.Refuse:
		n.puback(s.conn, a)
		return true
	case late && !here:
		w.counts.AppendedAgain++
		w.oracle.flagTwice(s.device, w.nextUID())
		n.appendData(s, seq)
		return true
	default:
		return false
	}
}

// knownCopies returns the disks that have a record of a ledger that is not
// live here, as this node and the last STATUS of the others say.
func (n *node) knownCopies(p place) (disks []int, here bool) {
	if c := n.disk.copyOf(p.ledger); c != nil && !c.bad && c.base <= p.lsn && p.lsn < c.synced {
		disks, here = append(disks, n.disk.serial), true
	}
	for i, v := range n.peers {
		if v == nil || !n.alive(i) {
			continue
		}
		if h := at(v.holds, p.ledger); h.held && h.base <= p.lsn && p.lsn < h.end {
			disks = append(disks, h.serial)
		}
	}
	return disks, here
}

func (n *node) puback(c *conn, a ack) {
	n.toDevice(c, func(d *device) { d.hearAck(a) })
}
