package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/record"
)

// A scenario is a story of which every operation of the disk is made to fail.
type scenario struct {
	name   string
	opt    Options
	before func(*world) error // lives that went well, or did not
	story  func(*world, *process)
	did    func(*process) bool // whether the story came to what it is about, when nothing fails
}

const small = 32 << 10 // three groups in a segment

// D1, D2, D3, L1, L2, U4: the log does one thing after another, and every single
// operation of the disk on the way fails once, fails though it was done, fails
// with all that follow, or is where the power is cut, before it or behind it.
// Whatever it was, the log starts again by itself, everything acknowledged is
// there or said to be dropped, it takes records, and Verify is content.
//
//	CASE=roll/17/2/1 go test -run TestEveryOperation ./log/store/    scenario, operation, fault, seed
func TestEveryOperation(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // many small disks
	var ran atomic.Int64
	one := os.Getenv("CASE")
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			ops, reads, err := s.rehearse()
			if err != nil {
				t.Fatalf("when nothing fails: %v", err)
			}
			for at := range ops {
				for f := failsOnce; f < faults; f++ {
					s.try(t, &ran, one, at, f, uint64(at%2))
					if f >= cutBefore { // there is more than one way to look after a power cut
						s.try(t, &ran, one, at, f, uint64(2+at%2))
					}
				}
			}
			for at := range reads {
				for f := faults; f < faults+2; f++ {
					s.try(t, &ran, one, at, f, 0)
				}
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d cases", ran.Load()) })
}

// These faults are of reads alone.
const (
	readFails      = faults     // for a reason that passes
	readUnreadable = faults + 1 // the device does not give it back, this time
)

func (s *scenario) try(t *testing.T, ran *atomic.Int64, one string, at int, f fault, seed uint64) {
	t.Helper()
	id := fmt.Sprintf("%s/%d/%d/%d", s.name, at, f, seed)
	if t.Failed() || one != "" && one != id {
		return
	}
	ran.Add(1)
	if err := s.run(at, f, seed); err != nil {
		t.Errorf("operation %d: %v, seed %d: %v\nagain: CASE=%s go test -run TestEveryOperation ./log/store/", at, f, seed, err, id)
	}
}

// world returns the disk as the story finds it.
func (s *scenario) world(seed uint64) (*world, error) {
	w := &world{oracle: &oracle{}, disk: disktest.New(1 << 30), rng: rand.New(rand.NewPCG(seed, 2)), opt: s.opt, lean: true}
	if w.opt.SegmentBytes == 0 {
		w.opt.SegmentBytes = small
	}
	if s.before == nil {
		return w, nil
	}
	return w, s.before(w)
}

// rehearse counts the operations and the reads of the story.
func (s *scenario) rehearse() (ops, reads int, err error) {
	w, err := s.world(0)
	if err != nil {
		return 0, 0, err
	}
	w.disk.Fail(func(op disktest.Op) error {
		if op.Kind == "read" {
			reads++
		} else {
			ops++
		}
		return nil
	})
	l, _, err := Open(w.disk, w.opt)
	if err != nil {
		return 0, 0, err
	}
	p := w.start(l, byHand)
	s.story(w, p)
	p.stop()
	w.disk.Fail(nil)
	if !s.did(p) {
		err = errors.New("the story does not come to what it is about")
	}
	return ops, reads, errors.Join(err, p.wrong, w.after(false))
}

func (s *scenario) run(at int, f fault, seed uint64) error {
	w, err := s.world(seed)
	if err != nil {
		return err
	}
	d := w.disk
	if f < faults {
		f.arm(d, at)
	} else {
		failRead(d, at, map[fault]error{readFails: syscall.EINTR, readUnreadable: syscall.EIO}[f])
	}
	w.patchy = f == readUnreadable
	for _, h := range w.all {
		h.patchy = w.patchy
	}
	l, _, err := Open(d, w.opt)
	if err == nil {
		p := w.start(l, byHand)
		s.story(w, p)
		for _, h := range w.all {
			h.uncounted = f == readUnreadable
		}
		if err := w.end(p, seed%2 == 0); err != nil {
			return err
		}
	}
	if f == failsOnce || f == isDone { // the one before starts again, too
		w.disk = d.Kill()
	} else {
		w.disk = d.Crash(w.rng)
	}
	return w.after(f == readUnreadable)
}

// failRead has a read fail, n reads from now.
func failRead(d *disktest.Disk, n int, err error) {
	d.Fail(func(op disktest.Op) error {
		if op.Kind != "read" {
			return nil
		}
		if n--; n == -1 {
			return err
		}
		return nil
	})
}

// after is what must be so of every disk, whatever happened to it: two more
// processes find everything, and the first takes records.
func (w *world) after(unread bool) error {
	for range 2 {
		l, found, err := Open(w.disk, w.opt)
		if err != nil {
			return fmt.Errorf("D3: does not start again by itself: %w", err)
		}
		if len(found.Rot) > 0 && !unread {
			return fmt.Errorf("calls it rot: %w", &found.Rot[0])
		}
		if err := w.check(l); err != nil {
			return err
		}
		if _, err := Verify(w.disk); err != nil && !w.patchy {
			return fmt.Errorf("verify: %w", err)
		}
		p := w.start(l, byHand)
		w.forwardAll(p) // so that there is room
		for range 3 {
			w.say(p, 1)
		}
		p.stop()
		if err := errors.Join(p.wrong, p.failed, w.quota()); err != nil {
			return fmt.Errorf("the next process: %w", err)
		}
		if p.acknowledged < 3 {
			return fmt.Errorf("A1: the next process takes %d of 3 records", p.acknowledged)
		}
		w.disk = w.disk.Crash(w.rng)
	}
	return nil
}

// say appends so many records, each in a commit of its own.
func (w *world) say(p *process, n int) {
	for range n {
		p.append(w.record())
		p.commit()
	}
}

// life has a process live to its end without a fault.
func (w *world) life(n int) error {
	l, _, err := w.reopen(w.disk, w.opt)
	if err != nil {
		return err
	}
	p := w.start(l, byHand)
	w.say(p, n)
	p.stop()
	return errors.Join(p.wrong, p.failed)
}

// forwardAll brings everything to Kafka that was promised.
func (w *world) forwardAll(p *process) {
	for _, h := range w.all {
		h.forwarded = h.promised()
		p.Forwarded(h.id, h.forwarded)
	}
}

// cut has a process lose its power in the middle of a commit of several pages,
// of which a part is there.
func (w *world) cut() error {
	l, _, err := w.reopen(w.disk, w.opt)
	if err != nil {
		return err
	}
	p := w.start(l, byHand)
	w.say(p, 1)
	r := w.record()
	r.Value = make([]byte, 5000)
	for i := range r.Value {
		r.Value[i] = byte(w.rng.Uint32())
	}
	p.append(r)
	cutBehind.arm(w.disk, 0)
	p.commit()
	d := w.disk
	for range 1000 { // until the frame is there and the rest is not
		w.disk = d.Crash(w.rng)
		_, found, err := Open(w.disk.Crash(w.rng), w.opt)
		if err != nil || found.Torn {
			return err
		}
	}
	return errors.New("no torn tail")
}

func scenarios() []scenario {
	drop := Options{DropOldest: true}
	opening := &record.Record{Key: []byte("open"), Value: []byte("a process begins"), Millis: 5}
	return []scenario{
		{
			name: "append", story: func(w *world, p *process) { w.say(p, 2) }, opt: Options{Opening: opening},
			did: func(p *process) bool { return p.acknowledged == 3 },
		},
		{
			name: "roll", story: func(w *world, p *process) { w.say(p, 7) },
			did: func(p *process) bool { return len(p.segs) >= 3 },
		},
		{
			name:   "recycle",
			before: func(w *world) error { return w.life(10) },
			story: func(w *world, p *process) {
				w.forwardAll(p)
				w.say(p, 7)
			},
			did: func(p *process) bool { return p.lastSeq > 5 && p.bytesLocked() <= minSegments*small },
		},
		{
			name: "age", opt: Options{MaxAge: time.Minute, MaxBytes: 8 * small},
			before: func(w *world) error { return w.life(10) },
			story: func(w *world, p *process) {
				w.forwardAll(p)
				later := timeOfDay()
				later.Wall = func() int64 { return time.Now().Add(time.Hour).UnixMilli() }
				p.clock = clock.New(later, 0)
				p.freeOld()
				w.say(p, 4)
			},
			did: func(p *process) bool { return p.segs[0].name != "0000000000000001.seg" && p.bytesLocked() <= 6*small },
		},
		{
			name: "pack", opt: Options{MaxBytes: 7 * small},
			before: func(w *world) error { return w.life(15) },
			story: func(w *world, p *process) {
				p.stock()
				p.pack()
				w.say(p, 4)
			},
			did: func(p *process) bool { return p.stats.PackedTo > 0 },
		},
		{
			name: "drop", opt: drop,
			before: func(w *world) error { return w.life(9) },
			story:  func(w *world, p *process) { w.say(p, 7) },
			did:    func(p *process) bool { return p.stats.DroppedRecords > 0 },
		},
		{
			name: "tell", opt: drop,
			before: func(w *world) error { return w.life(14) },
			story: func(w *world, p *process) {
				w.forwardAll(p) // and so it need not be remembered any more what was dropped
				w.say(p, 7)
			},
			did: func(p *process) bool { return len(p.gaps.all) == 0 && p.gaps.seq > 1 },
		},
		{
			name: "failover",
			story: func(w *world, p *process) {
				w.say(p, 2)
				p.giveUp()
				w.say(p, 4)
			},
			opt: Options{Opening: opening},
			did: func(p *process) bool { return p.stats.LedgerEnded != "" && p.acknowledged >= 5 },
		},
		{
			name: "recover torn",
			before: func(w *world) error {
				return w.cut()
			},
			story: func(w *world, p *process) { w.say(p, 2) },
			did:   func(p *process) bool { return p.acknowledged == 2 },
		},
		{
			name:   "recover unsealed",
			before: func(w *world) error { return errors.Join(w.life(4), w.unseal()) },
			story:  func(w *world, p *process) { w.say(p, 2) },
			did:    func(p *process) bool { return p.acknowledged == 2 && len(p.segs) >= 2 },
		},
		{
			name:   "recover failed",
			before: func(w *world) error { return w.failedOver() },
			story:  func(w *world, p *process) { w.say(p, 2) },
			did:    func(p *process) bool { return p.acknowledged == 2 },
		},
		{
			name: "recover packed", opt: Options{MaxBytes: 7 * small},
			before: func(w *world) error { return errors.Join(w.life(15), w.packed()) },
			story:  func(w *world, p *process) { w.say(p, 2) },
			did:    func(p *process) bool { return p.acknowledged == 2 && p.segs[0].packed },
		},
	}
}

// giveUp has the disk refuse the next flush, unless a fault has come before.
func (p *process) giveUp() {
	if p.ended() || p.Stats().LedgerEnded != "" {
		return
	}
	p.failed = p.fail(syscall.EIO, batch{ledger: p.ledger, base: p.next})
}

// unseal damages the footers, as a power cut does that comes while they are
// written.
func (w *world) unseal() error {
	names, err := w.disk.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != gapsFile {
			w.flip(name, w.opt.SegmentBytes-4*4096+20)
		}
	}
	return nil
}

// failedOver leaves a ledger that was ended by a flush that failed and came
// through all the same, and one that went on after it.
func (w *world) failedOver() error {
	l, _, err := w.reopen(w.disk, w.opt)
	if err != nil {
		return err
	}
	p := w.start(l, byHand)
	w.say(p, 1)
	p.append(w.record())
	isDone.arm(w.disk, 1) // the flush behind the write
	p.commit()
	if p.Stats().LedgerEnded == "" {
		return errors.New("the flush did not fail")
	}
	w.say(p, 1)
	p.abandon()
	w.disk = w.disk.Kill()
	return p.wrong
}

// packed packs what there is.
func (w *world) packed() error {
	l, _, err := w.reopen(w.disk, w.opt)
	if err != nil {
		return err
	}
	p := w.start(l, byHand)
	p.stock()
	p.pack()
	p.stop()
	if p.stats.PackedTo == 0 {
		return errors.New("nothing was packed")
	}
	return errors.Join(p.wrong, p.failed)
}
