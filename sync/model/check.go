package model

import "slices"

// check judges the end of a run.
func (w *world) check() {
	w.checkDrained()
	seen := w.checkLog()
	w.checkContent(seen)
	w.checkCopies()
	w.checkTwice()
	w.checkCommands()
	w.checkAcked(seen)
	if w.Expect != nil {
		if wrong := w.Expect(w, &w.counts); wrong != nil {
			w.violated(exact, none, nobody, "%v", wrong)
		}
	}
}

// settled says whether there is nothing left to do.
func (w *world) settled() bool {
	for _, n := range w.nodes {
		if n.gone {
			continue
		}
		for l, c := range n.disk.copies {
			if c != nil && !c.bad && c.end() > at(w.kafka.positions, l).next {
				return false
			}
		}
	}
	got := 0
	for _, d := range w.devices {
		if len(d.inflight) > 0 {
			return false
		}
		got += len(d.commands)
	}
	if got < len(w.downlink) || w.Commands && !w.allDelivered() {
		return false
	}
	for _, t := range w.kafka.txns {
		if t != nil && (t.state == txnOngoing || t.state == txnPrepareCommit || t.state == txnPrepareAbort) {
			return false
		}
	}
	return true
}

func (w *world) allDelivered() bool {
	got := make([]bool, len(w.downlink))
	for _, d := range w.devices {
		for _, o := range d.commands {
			got[o] = true
		}
	}
	return !slices.Contains(got, false)
}

// checkDrained is I5: once the faults have stopped, all ledgers drain and all
// publishes are acknowledged.
func (w *world) checkDrained() {
	if w.settled() {
		return
	}
	told := false
	for _, n := range w.nodes {
		for l, c := range n.disk.copies {
			if c != nil && !c.bad && !n.gone && c.end() > at(w.kafka.positions, l).next {
				told = true
				w.violated(I5, ledgerNo(l), nobody, "node %d still holds %v [%d,%d), and Kafka has it up to %d", n.index, ledgerNo(l), c.base, c.end(), at(w.kafka.positions, l).next)
			}
		}
	}
	for _, d := range w.devices {
		if len(d.inflight) > 0 {
			told = true
			w.violated(I5, none, d.id, "d%d still waits for the acknowledgements of %v", d.id, d.inflight)
		}
	}
	if !told {
		w.violated(I5, none, nobody, "a transaction or a command is still open")
	}
}

// A seenLog is what a read_committed reader finds.
type seenLog struct {
	lsns [][]*record // by ledger and LSN
	seqs [][]bool    // by device and number of the publish
}

// checkLog is I2, each (ledger, LSN) once, and I3, the order of each device.
func (w *world) checkLog() seenLog {
	seen := seenLog{lsns: make([][]*record, len(w.ledgers)), seqs: make([][]bool, len(w.devices))}
	for l := range seen.lsns {
		seen.lsns[l] = make([]*record, len(w.ledgers[l].truth))
	}
	highest := make([]*record, len(w.devices)) // of each device, in its partition
	for d := range seen.seqs {
		seen.seqs[d] = make([]bool, w.devices[d].next)
	}
	for i, p := range w.kafka.parts {
		for _, e := range p.log {
			if e.marker || e.state != committed {
				continue
			}
			w.counts.Committed++
			r := e.record
			if at(seen.lsns[e.ledger], e.lsn) != nil {
				w.violatedAt(I2, e.ledger, e.lsn, r.device, "%v@%d (d%d seq %d) is in partition %d twice", e.ledger, e.lsn, r.device, r.seq, i)
			}
			put(&seen.lsns[e.ledger], e.lsn, r)
			high := highest[r.device]
			if seen.seqs[r.device][r.seq] { // MQTT lets a device repeat itself
				w.counts.Twice++
				continue
			}
			seen.seqs[r.device][r.seq] = true
			switch {
			case high == nil || r.seq > high.seq:
				highest[r.device] = r
			case e.late, flagged(w.oracle.order[r.device], r.uid, high.uid):
				w.counts.Late++
			default:
				w.violatedAt(I3, e.ledger, e.lsn, r.device, "d%d seq %d (%v@%d) comes after seq %d, and nothing is flagged", r.device, r.seq, e.ledger, e.lsn, high.seq)
			}
		}
	}
	return seen
}

// checkContent is I2, no gap below the position, and I7, what is in Kafka is
// what was written.
func (w *world) checkContent(seen seenLog) {
	if w.Rates.LiveClone { // a ledger has two histories then; I1 is the measure
		return
	}
	for ln, l := range w.ledgers {
		pos := at(w.kafka.positions, ln).next
		for o, r := range l.truth[:min(pos, int64(len(l.truth)))] {
			if r.kind != data {
				continue
			}
			in := seen.lsns[ln][o]
			if in == nil {
				w.violatedAt(I2, ledgerNo(ln), int64(o), r.device, "%v@%d (d%d seq %d) is below the position %d, and not in Kafka", ledgerNo(ln), o, r.device, r.seq, pos)
				break
			}
			if in.uid != r.uid {
				w.violatedAt(I7, ledgerNo(ln), int64(o), r.device, "%v@%d is in Kafka with foreign content", ledgerNo(ln), o)
				break
			}
		}
	}
}

// checkCopies is I7: all copies agree with what was written, so with each
// other.
func (w *world) checkCopies() {
	if w.Rates.LiveClone {
		return
	}
	for _, n := range w.nodes {
		for ln, c := range n.disk.copies {
			if c == nil || c.bad {
				continue
			}
			for i, r := range c.records {
				if o := c.base + int64(i); at(w.ledgers[ln].truth, o) != r {
					w.violated(I7, c.ledger, nobody, "node %d holds something else as %v@%d than was written", n.index, c.ledger, o)
					break
				}
			}
		}
	}
}

// checkTwice is I9: one record for each QoS 2 publish, unless its session is
// flagged.
func (w *world) checkTwice() {
	if !w.QoS2 {
		return
	}
	of := make([][][]*record, len(w.devices)) // by device and number
	for _, p := range w.kafka.parts {
		for _, e := range p.log {
			if !e.marker && e.state == committed {
				all := &of[e.record.device]
				put(all, e.record.seq, append(at(*all, e.record.seq), e.record))
			}
		}
	}
	for device, seqs := range of {
		for seq, rs := range seqs {
			if len(rs) < 2 {
				continue
			}
			if w.excused(device, rs) {
				w.counts.TwiceFlagged++
				continue
			}
			w.violated(I9, none, device, "QoS 2: d%d seq %d is in Kafka %d times, and nothing is flagged", device, seq, len(rs))
		}
	}
}

// excused says whether a session of these records of one publish is flagged.
func (w *world) excused(device int, rs []*record) bool {
	slices.SortFunc(rs, func(a, b *record) int { return int(a.uid - b.uid) })
	all := true
	for i, r := range rs {
		if r.unverified {
			return true
		}
		if i > 0 {
			a, b := rs[i-1].uid, r.uid
			all = all && (flagged(w.oracle.order[device], a, b) || flagged(w.oracle.twice[device], a, b))
		}
	}
	return all
}

// checkCommands is I6: no command is skipped, and first sights are in order.
func (w *world) checkCommands() {
	want := make([][]int, len(w.devices))
	for o, d := range w.downlink {
		want[d] = append(want[d], o)
	}
	for _, d := range w.devices {
		mine := want[d.id]
		w.counts.Commands += len(mine)
		next := 0
		for _, o := range d.commands {
			switch {
			case next < len(mine) && o == mine[next]:
				next++
			case next > 0 && o <= mine[next-1]:
				w.counts.CommandsTwice++
			default:
				w.violated(I6, none, d.id, "d%d got command %d, and %d of its %d before it", d.id, o, next, len(mine))
				return
			}
		}
		if next < len(mine) {
			w.violated(I6, none, d.id, "d%d never got the commands %v", d.id, mine[next:])
		}
	}
}

// checkAcked is I1: what was acknowledged is in Kafka, unless all copies that
// counted are gone.
func (w *world) checkAcked(seen seenLog) {
	for _, d := range w.devices {
		for _, a := range d.acked {
			w.counts.Acked++
			if a.short {
				w.counts.AckedShort++
			}
			if seen.seqs[d.id][a.seq] {
				continue
			}
			if w.oracle.lost(a) {
				w.counts.Lost++
				continue
			}
			w.violatedAt(I1, a.ledger, a.lsn, d.id, "d%d seq %d was acknowledged at %.3f (%v@%d on the disks %v), and is not in Kafka", d.id, a.seq, a.at.Seconds(), a.ledger, a.lsn, a.disks)
		}
	}
}
