package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
)

// newWorld makes up a disk and a configuration.
func newWorld(rng *rand.Rand) *world {
	w := &world{oracle: &oracle{}, disk: disktest.New(1 << 30), rng: rng}
	w.opt = Options{
		SegmentBytes: segmentSize(rng),
		Compress:     rng.IntN(2) == 0,
		MaxAge:       []time.Duration{0, time.Minute}[rng.IntN(2)],
	}
	w.opt.MaxBytes = []int64{0, 6, 7, 10}[rng.IntN(4)] * w.opt.SegmentBytes // the least is often full, more can be packed
	w.opt.DropOldest = rng.IntN(3) == 0
	w.opt.AlarmReserve = rng.Int64N(3) * w.opt.SegmentBytes / 2
	w.resize = rng.IntN(4) == 0
	return w
}

// segmentSize returns one far below what the daemon allows: many rolls.
func segmentSize(rng *rand.Rand) int64 { return (32 + rng.Int64N(3)*16) << 10 }

// world is what outlives a process.
type world struct {
	*oracle

	disk *disktest.Disk
	rng  *rand.Rand
	opt  Options
	did  figures

	resize bool // each process may have another size of segments
	lean   bool // records are small: a commit of one takes a page
	peers  []*peer
}

// figures count what a test has been through.
type figures struct{ cuts, records, failovers, packs, drops, torn int64 }

func (f *figures) add(g figures) {
	f.cuts += g.cuts
	f.records += g.records
	f.failovers += g.failovers
	f.packs += g.packs
	f.drops += g.drops
	f.torn += g.torn
}

func (f *figures) String() string {
	return fmt.Sprintf("%d power cuts and kills, %d records acknowledged, %d ledgers ended by a failure, %d segments packed, %d records dropped, %d torn tails",
		f.cuts, f.records, f.failovers, f.packs, f.drops, f.torn)
}

// live starts a process, lets it work until it stops, dies or loses its power,
// and leaves the disk to the next one.
func (w *world) live(by driving) error {
	if err := w.recover(); err != nil {
		return err
	}
	if w.resize && w.rng.IntN(2) == 0 { // the operator has changed the configuration
		w.opt.SegmentBytes = segmentSize(w.rng)
	}
	w.opt.Opening = nil
	if w.rng.IntN(2) == 0 {
		w.opt.Opening = &record.Record{Key: []byte("open"), Value: []byte("a process begins"), Millis: 5}
	}
	l, err := w.open()
	if err != nil {
		return err
	}
	p := w.start(l, by)
	after, _ := w.interrupt(w.rng.IntN(60))
	for range 4 + w.rng.IntN(24) {
		if p.ended() {
			break
		}
		w.step(p)
	}
	if err := w.end(p, w.rng.IntN(2) == 0); err != nil {
		return err
	}
	w.disk = after()
	return nil
}

// open is what a process does first.
func (w *world) open() (*Log, error) {
	l, found, err := w.reopen(w.disk, w.opt)
	if found.Torn {
		w.did.torn++
	}
	return l, err
}

// end stops a process, or leaves it where it is.
func (w *world) end(p *process, stop bool) error {
	if stop {
		p.stop()
	} else {
		p.abandon()
	}
	s := p.Stats()
	w.did.records += p.acknowledged
	w.did.packs += s.PackedTo / p.opt.SegmentBytes
	w.did.drops += s.DroppedRecords
	if s.LedgerEnded != "" {
		w.did.failovers++
	}
	return errors.Join(p.wrong, w.quota())
}

// recover opens the log up to twice with an interruption in the middle.
func (w *world) recover() error {
	for range w.rng.IntN(3) {
		after, how := w.interrupt(w.rng.IntN(20))
		_, found, err := Open(w.disk, w.opt)
		w.disk = after()
		if err == nil && len(found.Rot) > 0 && how != failsAlways { // then the disk gives nothing back
			return fmt.Errorf("calls a power cut rot: %w", &found.Rot[0])
		}
	}
	return nil
}

// A fault is what happens to one operation of the disk.
type fault int

const (
	nothing     fault = iota
	failsOnce         // and does nothing
	isDone            // but is said to have failed
	failsAlways       // and every one after it
	cutBefore         // the power
	cutBehind         // the operation still happens, and nobody hears of it
	faults
)

func (f fault) String() string {
	return []string{"nothing", "fails once", "is done but said to have failed", "fails for good", "power cut before", "power cut behind", "a read fails", "a read is not to be had"}[f]
}

// arm has f happen to the n-th operation from now on that is not a read.
func (f fault) arm(d *disktest.Disk, n int) {
	at, off := -1, false
	d.Fail(func(op disktest.Op) error {
		if off {
			return disktest.ErrOff
		}
		if op.Kind == "read" {
			return nil
		}
		at++
		switch {
		case f == failsOnce && at == n, f == failsAlways && at >= n:
			return syscall.EIO
		case f == cutBefore && at >= n:
			off = true
			return disktest.ErrOff
		}
		return nil
	})
	d.FailLate(func(op disktest.Op) error {
		switch {
		case op.Kind == "read" || at != n:
		case f == isDone:
			return syscall.EIO
		case f == cutBehind:
			off = true
			return disktest.ErrOff
		}
		return nil
	})
}

// interrupt arranges for something to happen to the disk in n operations from
// now. after returns the disk that the next process finds.
func (w *world) interrupt(n int) (after func() *disktest.Disk, how fault) {
	d := w.disk
	how = fault(w.rng.IntN(int(faults)))
	how.arm(d, n)
	killed := w.rng.IntN(3) == 0
	return func() *disktest.Disk {
		w.did.cuts++
		if killed {
			return d.Kill()
		}
		return d.Crash(w.rng)
	}, how
}

// quota checks that no more room is taken than the log was given.
func (w *world) quota() error {
	const lie = 1 // a file that was made or renamed when the disk said that it was not
	if w.resize {
		return nil // segments are counted by the size they should have
	}
	total, free, err := w.disk.Space()
	if limit := max(w.opt.MaxBytes, minSegments*w.opt.SegmentBytes) + lie*w.opt.SegmentBytes + 2*slotBytes; err == nil && total-free > limit {
		err = fmt.Errorf("%d bytes are used, the limit is %d", total-free, limit)
	}
	return err
}

// step does one thing of what a process does.
func (w *world) step(p *process) {
	if len(w.peers) > 0 && w.rng.IntN(2) == 0 {
		w.replicate(p)
	}
	switch w.rng.IntN(20) {
	case 0:
		w.forward(p)
	case 2:
		p.freeOld()
	case 4, 5:
		if p.by == byHand && !p.ended() {
			p.stock()
			p.pack()
		}
	case 3:
		p.commit() // and let the ring come to rest
		if err := w.check(p.Log); !errors.Is(err, syscall.EIO) && !errors.Is(err, disktest.ErrOff) {
			p.report(err)
		}
	default:
		n := 1 + w.rng.IntN(8)
		if w.rng.IntN(2) == 0 {
			p.appendAll(w.records(n, p.maxRecord))
		} else {
			for range n {
				p.append(w.record())
			}
		}
		p.commit()
	}
}

// records makes up n records, fewer if they are more than most bytes: a process that
// is moved on by hand must not have to wait.
func (w *world) records(n, most int) (all []record.Record) {
	for size := group.HeaderBytes; n > 0; n-- {
		r := w.record()
		if size += group.MaxBytes(r); len(all) > 0 && size > most {
			break
		}
		all = append(all, *r)
	}
	return all
}

// forward brings more of a ledger to Kafka.
func (w *world) forward(p *process) {
	h := w.all[w.rng.IntN(len(w.all))]
	if promised := h.promised(); promised > h.forwarded {
		h.forwarded += 1 + tributary.LSN(w.rng.Uint64N(uint64(promised-h.forwarded)))
		p.Forwarded(h.id, h.forwarded)
	}
}

// record makes up a record that no other is like.
func (w *world) record() *record.Record {
	r := &record.Record{
		Stream: []string{"a", "telemetry", ""}[w.rng.IntN(3)], Partition: w.rng.Int32N(3) - 1,
		Millis: w.rng.Int64N(1 << 42), Key: fmt.Appendf(nil, "%x", w.rng.Uint64()),
	}
	size := w.rng.IntN(200)
	if w.rng.IntN(8) == 0 && !w.lean {
		size = w.rng.IntN(2 * group.PageBytes)
	}
	r.Value = bytes.Repeat([]byte{byte(size)}, size)
	if w.rng.IntN(2) == 0 {
		for i := 0; i < size; i += 8 {
			var b [8]byte
			binary.NativeEndian.PutUint64(b[:], w.rng.Uint64())
			copy(r.Value[i:], b[:])
		}
	}
	r.Alarm, r.Urgent = w.rng.IntN(8) == 0, w.rng.IntN(8) == 0
	for range w.rng.IntN(3) {
		r.Headers = append(r.Headers, record.Header{Key: "mqtt.topic", Value: r.Key})
	}
	if w.rng.IntN(8) == 0 {
		r.Key = nil
	}
	return r
}
