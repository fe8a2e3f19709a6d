package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// D3, L1: whatever bytes of durable groups, segment headers and footers rot,
// whatever pages the device does not give back, whatever files are cut short,
// packed or not: the log starts, every other record can still be read, the holes are named to the
// record, and all of it is still so after more was appended and after another
// start. Only the newest commit is left alone: damage to it cannot be told from
// a write that a power cut tore.
func TestRot(t *testing.T) {
	for seed := range seeds(t, 150) {
		if err := rot(seed); err != nil {
			t.Errorf("%v\nagain: SEED=%d go test -run %s ./log/store/", err, seed, t.Name())
		}
	}
}

func rot(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := world{oracle: &oracle{}, disk: disktest.New(1 << 30), rng: rng, opt: Options{
		SegmentBytes: (48 + rng.Int64N(3)*32) << 10, MaxBytes: 64 << 20, Compress: rng.IntN(2) == 0,
	}}
	if rng.IntN(2) == 0 {
		w.opt.MaxBytes = 8 * w.opt.SegmentBytes // some are packed
	}
	var segs []*seg
	grow := func() error {
		l, _, err := w.reopen(w.disk, w.opt)
		if err != nil {
			return err
		}
		p := w.start(l, byHand)
		for range 1 + rng.IntN(30) {
			for range 1 + rng.IntN(12) {
				p.append(w.record())
			}
			p.commit()
			p.stock()
			p.pack()
		}
		p.stop()
		segs = p.segs
		return errors.Join(p.wrong, p.failed)
	}
	for range 1 + rng.IntN(3) {
		if err := grow(); err != nil {
			return err
		}
	}
	places, err := w.places(segs)
	if err != nil {
		return err
	}
	damaged := w.damage(places)
	packed := slices.ContainsFunc(segs, func(s *seg) bool { return s.packed })
	reported := false
	for range 2 {
		l, found, err := Open(w.disk, w.opt)
		if err != nil {
			return fmt.Errorf("D3: does not start: %w", err)
		}
		reported = reported || len(found.Rot) > 0
		for _, h := range w.all {
			h.healed = packed // what a pack was made of may still be there
			if err := h.checkHoles(l, damaged[h.id], reported); err != nil {
				return fmt.Errorf("ledger %v: %w", h.id, err)
			}
		}
		p := w.start(l, byHand)
		for range 5 {
			p.append(w.record())
			p.commit()
		}
		p.stop()
		if err := errors.Join(p.wrong, p.failed); err != nil {
			return err
		}
	}
	return nil
}

// A place is where one group lies.
type place struct {
	name   string
	at     int64
	frame  group.Frame
	header group.Header
}

// places returns every group or pack, in the order of the commits.
func (w *world) places(segs []*seg) (all []place, err error) {
	for _, m := range segs {
		name := m.name
		seq, _, _ := segment.ParseName(name)
		f, err := w.disk.Open(name, false)
		if err != nil {
			return nil, err
		}
		s, err := segment.Open(f, seq)
		if err != nil {
			return nil, err
		}
		_, err = s.Scan(0, func(at int64, f group.Frame, h *group.Header, _ []byte) error {
			all = append(all, place{name, at, f, *h})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// damage changes bytes of some groups, and perhaps of a segment's header or
// footer, or makes them unreadable, or cuts a file short. It returns the records
// of the groups, by ledger.
func (w *world) damage(places []place) map[tributary.LedgerID]map[tributary.LSN]bool {
	damaged := map[tributary.LedgerID]map[tributary.LSN]bool{}
	lose := func(p *place) {
		if damaged[p.header.Ledger] == nil {
			damaged[p.header.Ledger] = map[tributary.LSN]bool{}
		}
		for lsn := p.header.Base; lsn < p.header.Next(); lsn++ {
			damaged[p.header.Ledger][lsn] = true
		}
	}
	if n := len(places); w.rng.IntN(8) == 0 {
		cut := places[w.rng.IntN(n)]
		size := cut.at + w.rng.Int64N(int64(group.FrameBytes+cut.frame.Bytes))
		for i := range places {
			if p := &places[i]; p.name == cut.name && p.at+int64(group.FrameBytes+p.frame.Bytes) > size {
				lose(p)
			}
		}
		w.disk.Truncate(cut.name, size)
		return damaged
	}
	hidden := map[string]bool{}
	defer hide(w.disk, hidden)
	places = places[:len(places)-1] // see TestRot
	if len(places) == 0 {
		return damaged
	}
	for range 1 + w.rng.IntN(8) {
		p := places[w.rng.IntN(len(places))]
		switch w.rng.IntN(16) {
		case 0: // any byte of the segment's header that means something
			w.flip(p.name, w.rng.Int64N(40))
			continue
		case 1:
			w.flip(p.name, w.opt.SegmentBytes-segment.FooterBytes+w.rng.Int64N(120))
			continue
		case 12:
			hidden[page(p.name, 0)] = true
			continue
		case 13:
			hidden[page(p.name, w.opt.SegmentBytes-segment.FooterBytes)] = true
			continue
		case 14, 15:
			hidden[page(p.name, p.at+w.rng.Int64N(int64(group.FrameBytes+p.frame.Bytes)))] = true
		case 2, 3, 4:
			w.flip(p.name, p.at+w.rng.Int64N(group.FrameBytes))
		case 5, 6, 7:
			w.flip(p.name, p.at+group.FrameBytes+w.rng.Int64N(group.HeaderBytes))
		default:
			w.flip(p.name, p.at+group.FrameBytes+w.rng.Int64N(int64(p.frame.Bytes)))
		}
		lose(&p)
	}
	return damaged
}

// page names a page of a file.
func page(name string, at int64) string { return fmt.Sprint(name, " ", at/group.PageBytes) }

// hide has the device not give back some pages any more.
func hide(d *disktest.Disk, pages map[string]bool) {
	d.Fail(func(op disktest.Op) error {
		if op.Kind != "read" {
			return nil
		}
		for at := op.At; at < op.At+int64(op.Len); at = (at/group.PageBytes + 1) * group.PageBytes {
			if pages[page(op.Name, at)] {
				return syscall.EIO
			}
		}
		return nil
	})
}

// flip adds to the byte of a file at a position: a second flip does not undo it.
func (w *world) flip(name string, at int64) {
	f, err := w.disk.Open(name, true)
	if err != nil {
		panic(err)
	}
	var b [1]byte
	_, err1 := f.ReadAt(b[:], at)
	b[0]++
	_, err2 := f.WriteAt(b[:], at)
	if err := errors.Join(err1, err2, f.Sync()); err != nil {
		panic(err)
	}
}

// checkHoles reads a ledger from its first record to its last: every record but
// those that are damaged must be there. A hole at the end of a ledger is named
// only by the recovery that found it.
func (h *history) checkHoles(l *Log, damaged map[tributary.LSN]bool, reported bool) error {
	r, err := l.Reader(h.id)
	if err != nil {
		return err
	}
	defer r.Close()
	for at := tributary.LSN(0); ; {
		c, err := r.Read(context.Background(), at, 20_000)
		hole := Hole{From: at, To: c.Next}
		switch {
		case err == nil && c.Gap == nil:
			if err := h.compare(at, &c); err != nil {
				return err
			}
			for lsn := c.From; lsn < c.Next; lsn++ {
				if damaged[lsn] && !h.healed {
					return fmt.Errorf("record %d was damaged and is there all the same", lsn)
				}
			}
			at = c.Next
			continue
		case err == nil && c.Gap.Reason == record.Damaged && c.From == at && c.Next > at:
		case errors.Is(err, io.EOF) && (reported || int(at) == len(h.entries)):
			hole.To = tributary.LSN(len(h.entries))
		default:
			return fmt.Errorf("read from record %d: %w", at, err)
		}
		for lsn := hole.From; lsn < hole.To; lsn++ {
			if !damaged[lsn] {
				return fmt.Errorf("D3: record %d is called damaged (in [%d, %d)) and is not: %w", lsn, hole.From, hole.To, err)
			}
		}
		if at = hole.To; errors.Is(err, io.EOF) {
			return nil
		}
	}
}
