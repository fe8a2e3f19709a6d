package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
)

// D3: what the device does not give back while the log is recovered, and for as
// long as the process lives, is neither overwritten nor taken for void: when
// reads work again, everything acknowledged is there, that of those processes
// too.
func TestReadErrorsPass(t *testing.T) {
	eachSeed(t, 300, func(seed uint64) (figures, error) {
		w := newWorld(rand.New(rand.NewPCG(seed, 3)))
		w.opt.DropOldest, w.patchy = false, seed%2 == 0 // without forwarding, all is as it was
		w.resize = true                                 // files that cannot be read stay, and do not count
		for range 1 + w.rng.IntN(3) {
			if err := w.blind(true); err != nil {
				return w.did, err
			}
			for range 1 + w.rng.IntN(2) {
				if err := w.blind(false); err != nil {
					return w.did, err
				}
			}
		}
		return w.did, w.blind(true)
	})
}

// blind has a process live that cannot read some pages, or one that can read all
// of them and finds everything.
func (w *world) blind(sighted bool) error {
	var l *Log
	var err error
	if sighted {
		l, err = w.open()
	} else {
		if err := w.hideSome(); err != nil {
			return err
		}
		l, _, err = Open(w.disk, w.opt)
	}
	if err != nil {
		return err
	}
	p := w.start(l, byHand)
	for range 4 + w.rng.IntN(24) {
		switch w.rng.IntN(8) {
		case 0:
			if w.patchy {
				w.forward(p)
			}
		case 1:
			p.stock()
			p.pack()
		default:
			p.append(w.record())
			p.commit()
		}
	}
	if err := w.end(p, w.rng.IntN(2) == 0); err != nil {
		return err
	}
	w.disk.Fail(nil)
	w.did.cuts++
	if w.rng.IntN(2) == 0 {
		w.disk = w.disk.Kill()
	} else {
		w.disk = w.disk.Crash(w.rng)
	}
	return nil
}

// hideSome hides pages of the segments that are there now.
func (w *world) hideSome() error {
	names, err := w.disk.List()
	if err != nil {
		return err
	}
	hidden := map[string]bool{}
	often := 1 + w.rng.IntN(30)
	for _, name := range names {
		for at := int64(0); at < w.opt.SegmentBytes && name != gapsFile; at += group.PageBytes {
			if w.rng.IntN(often) == 0 {
				hidden[page(name, at)] = true
			}
		}
	}
	hide(w.disk, hidden)
	return nil
}

// D1: when somebody removes the data directory, or cuts the file that is written
// to, nothing is acknowledged that would be lost: the ledger ends, then the log.
func TestRemovedDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		l := start(t, d, Options{})
		add := func(n int) error {
			_, err := l.Append(rec("s", 0, n), tributary.Ticket{})
			synctest.Wait()
			return err
		}
		if err := add(0); err != nil || l.count() != 1 {
			t.Fatal(err, l.count())
		}
		d.VanishAll()
		for n := 1; n < 4; n++ {
			err := add(n)
			if l.count() != 1 {
				t.Fatalf("record %d is acknowledged", n)
			}
			if n == 3 && !errors.Is(err, ErrFailed) {
				t.Errorf("record %d: %v", n, err)
			}
		}
		if err := <-l.done; !errors.Is(err, ErrFailed) || !errors.Is(err, disk.ErrRemoved) {
			t.Errorf("run returned %v", err)
		}
	})
}

// D1: a segment that is cut short while it is written to ends the ledger.
func TestCutFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		l := start(t, d, Options{})
		for n := range 3 {
			if n == 1 {
				d.Truncate(l.held()[0].name, 8192)
			}
			if _, err := l.Append(rec("s", 0, n), tributary.Ticket{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if l.count() != 2 || len(l.lost) != 1 || l.Stats().LedgerEnded == "" {
			t.Errorf("%d acknowledged, %v", l.count(), l.lost)
		}
		l.close(t)
	})
}

// D3: one segment file that somebody has removed is a hole, which is named, and
// not the end of the log.
func TestRemovedSegment(t *testing.T) {
	for gone := range 3 {
		w := &world{oracle: &oracle{}, disk: disktest.New(1 << 30), rng: rand.New(rand.NewPCG(1, 1)), opt: Options{SegmentBytes: small, MaxBytes: 8 * small}, lean: true}
		if err := w.life(12); err != nil {
			t.Fatal(err)
		}
		w.disk.Vanish(fmt.Sprintf("%016x.seg", gone+1))
		l, found, err := Open(w.disk, w.opt)
		if err != nil {
			t.Fatal(err)
		}
		missing := map[tributary.LSN]bool{}
		for lsn := range tributary.LSN(3) {
			missing[tributary.LSN(3*gone)+lsn] = true
		}
		if gone == 0 { // nobody can tell it from one that was used again
			continue
		}
		if len(found.Rot) != 1 || found.Rot[0].Segment != fmt.Sprintf("%016x.seg", gone+1) {
			t.Errorf("segment %d is gone, recovery says %v", gone+1, found.Rot)
		}
		if err := w.all[0].checkHoles(l, missing, true); err != nil {
			t.Errorf("segment %d is gone: %v", gone+1, err)
		}
	}
}
