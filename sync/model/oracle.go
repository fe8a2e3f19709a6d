package model

import (
	"fmt"
	"reflect"
	"time"
)

// An Invariant is one of I1 to I9 of docs/REPLICATION.md.
type Invariant int

// The invariants.
const (
	I1 Invariant = iota + 1
	I2
	I3
	I4
	I5
	I6
	I7
	I8
	I9
	exact // a scenario's own outcome
)

func (i Invariant) String() string {
	if i == exact {
		return "outcome"
	}
	return fmt.Sprintf("I%d", int(i))
}

// A Violation is an invariant that did not hold, in words.
type Violation struct {
	Invariant Invariant
	Text      string
	ledger    ledgerNo
	lsn       int64 // or -1
	device    int
}

const mostViolations = 20

// violated notes a violation that concerns a ledger (or none) and a device
// (or nobody).
func (w *world) violated(i Invariant, l ledgerNo, device int, format string, args ...any) {
	w.violatedAt(i, l, -1, device, format, args...)
}

// violatedAt is violated for one record of a ledger.
func (w *world) violatedAt(i Invariant, l ledgerNo, lsn int64, device int, format string, args ...any) {
	if w.NotPromised != nil && w.NotPromised(i) {
		return
	}
	v := Violation{Invariant: i, Text: fmt.Sprintf(format, args...), ledger: l, lsn: lsn, device: device}
	if len(w.oracle.violations) == 0 {
		w.logf(l, device, "VIOLATED %v: %s", i, v.Text)
	}
	if len(w.oracle.violations) < mostViolations {
		w.oracle.violations = append(w.oracle.violations, v)
	}
}

// An oracle knows what no node can know, and judges by it.
type oracle struct {
	violations []Violation
	order      [][]int64    // by device: the order between records before and after these is flagged (late-possible)
	twice      [][]int64    // by device: the same, for records that may be there twice
	losses     [][]diskLoss // by the serial of the disk
	takers     [][]int      // by ledger: the nodes that took it over
	rewritten  bool         // an offset was written twice: only a broken variant does it
}

// A diskLoss is a disk that has lost what it held.
type diskLoss struct {
	at   time.Duration
	left []int64 // by ledger: the end of what survived
}

func newOracle(devices int) oracle {
	return oracle{order: make([][]int64, devices), twice: make([][]int64, devices)}
}

func (o *oracle) appended(l *ledger, lsn int64, r *record) {
	if lsn < int64(len(l.truth)) {
		l.truth[lsn] = r
		o.rewritten = true
		return
	}
	l.truth = append(l.truth, r)
}

func (o *oracle) flagOrder(device int, uid int64) {
	if device == nobody { // a hand-off of a whole ledger (R16)
		for d := range o.order {
			o.order[d] = append(o.order[d], uid)
		}
		return
	}
	o.order[device] = append(o.order[device], uid)
}

func (o *oracle) flagTwice(device int, uid int64) { o.twice[device] = append(o.twice[device], uid) }

func (o *oracle) tookOver(l ledgerNo, by int) { put(&o.takers, l, append(at(o.takers, l), by)) }

// diskLost notes what is left of a disk. Whoever spoke for it is gone, so
// hand-offs that would need its word are flagged.
func (o *oracle) diskLost(w *world, d, left *disk) {
	loss := diskLoss{at: w.now}
	if left != nil {
		for l, c := range left.copies {
			if c != nil {
				put(&loss.left, l, c.kept)
			}
		}
	}
	put(&o.losses, d.serial, append(at(o.losses, d.serial), loss))
	for i := range o.order {
		o.flagOrder(i, w.nextUID())
	}
}

// lost says whether all disks that counted for an acknowledgement have lost
// the record since, or shortly before the device knew.
func (o *oracle) lost(a ack) bool {
	for _, serial := range a.disks {
		gone := false
		for _, loss := range at(o.losses, serial) {
			gone = gone || loss.at >= a.at-3*sec && at(loss.left, a.ledger) <= a.lsn
		}
		if !gone {
			return false
		}
	}
	return len(a.disks) > 0
}

// flagged says whether one of the flags lies between two records.
func flagged(flags []int64, a, b int64) bool {
	for _, f := range flags {
		if a < f && f < b {
			return true
		}
	}
	return false
}

// Counts say how much happened in a run, so that it can be seen whether a
// search still searches.
type Counts struct {
	Acked, AckedShort, Committed            int // publishes acknowledged, of those with too few copies, and records in Kafka
	Connects, Moves, Timeouts, Resends      int // of devices
	Twice, TwiceFlagged, Late               int // records of one publish; QoS 2 twice in a flagged session; out of order and flagged
	Recognized, AppendedAgain               int // QoS 2 publishes sent again
	Marks, Incomplete, Leases, HoldTimeouts int // hand-offs
	TakeOvers, Fenced, Transactions, Stuck  int // forwarders
	Shorts, Trims                           int
	Crashes, PowerCuts, SiteCuts            int
	Partitions, KafkaOutages                int
	Destroyed, RolledBack, Clones, Lies     int // disks
	Rotten                                  int
	Contradictions, Rolls                   int // R16
	Lost                                    int // acknowledged, and all copies that counted are gone
	Commands, CommandsTwice                 int
	HealMillis                              int // until all was drained
}

// Add adds the counts of another run.
func (c *Counts) Add(o *Counts) {
	sum, add := reflect.ValueOf(c).Elem(), reflect.ValueOf(o).Elem()
	for i := range sum.NumField() {
		sum.Field(i).SetInt(sum.Field(i).Int() + add.Field(i).Int())
	}
}

// String lists what is not zero.
func (c *Counts) String() string {
	v, out := reflect.ValueOf(c).Elem(), ""
	for i := range v.NumField() {
		if n := v.Field(i).Int(); n != 0 {
			out += fmt.Sprintf(" %s=%d", v.Type().Field(i).Name, n)
		}
	}
	return out
}
