package store

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/segment"
)

// found is a segment that holds records.
type found struct {
	*segment.Segment

	seg      *seg
	scan     segment.Scan // empty if a footer spared the reading
	readOnly bool         // it cannot be written to
	unsure   bool         // nobody knows whether it has a footer, which would hide what is appended now
}

// recover reads what earlier processes left.
func (l *Log) recover() (rec Recovery, err error) {
	lost, err := l.gaps.load(l.fs)
	if err != nil {
		return rec, err
	}
	if lost {
		rec.Rot = append(rec.Rot, RotError{Segment: gapsFile, From: 0, To: 2 * slotBytes})
	}
	names, err := l.fs.List()
	if err != nil {
		return rec, fmt.Errorf("list data directory: %w", err)
	}
	var all []*found
	var aside uint64 // the last file that nothing is known of
	for _, name := range names {
		seq, packed, ok := segment.ParseName(name)
		if !ok {
			continue
		}
		l.lastSeq = max(l.lastSeq, seq)
		f, err := l.inspect(name, seq, packed, &rec)
		if errors.Is(err, errAside) {
			rec.Rot = append(rec.Rot, RotError{Segment: name, From: 0, To: l.opt.SegmentBytes})
			aside = seq
			continue
		}
		if err != nil {
			return rec, err
		}
		if f != nil {
			all = append(all, f)
		}
	}
	if all, err = l.sift(all, &rec); err != nil {
		return rec, err
	}
	newest := len(all) - 1
	hidden := aside > 0 && (newest < 0 || aside > all[newest].Seq)
	if hidden && newest >= 0 {
		all[newest].scan.Opaque = true // it is not the newest
	}
	if err := l.adopt(all, &rec); err != nil {
		return rec, err
	}
	if hidden {
		l.jump()
	}
	return rec, nil
}

// adopt makes the segments found the log.
func (l *Log) adopt(all []*found, rec *Recovery) error {
	rec.Segments = len(all)
	for i, f := range all {
		l.segs = append(l.segs, f.seg)
		l.w.commit, l.w.millis = max(l.w.commit, f.seg.sum.LastCommit), max(l.w.millis, f.seg.sum.MaxMillis)
		for _, c := range f.seg.sum.Clocks {
			l.boots[c.Boot] = c.BootMillis
		}
		for _, r := range f.scan.Rot {
			rec.Rot = append(rec.Rot, RotError{Segment: f.seg.name, From: r.From, To: r.To})
		}
		if f.readOnly {
			rec.ReadOnly = append(rec.ReadOnly, f.seg.name)
		}
		if i+1 < len(all) {
			l.retire(f, all[i+1], rec)
			continue
		}
		rec.Torn = f.scan.Torn
		if err := l.resume(f, rec); err != nil {
			return err
		}
	}
	return nil
}

// errAside says that the disk gives nothing back of a file. It stays as it is.
var errAside = errors.New("the disk cannot read the file")

// inspect opens the segment file name and finds out what it holds: from its
// footer, or else by reading all of it. It returns nil for a file that holds
// nothing, which is then free, and errAside if that cannot be told.
func (l *Log) inspect(name string, seq uint64, packed bool, rec *Recovery) (*found, error) {
	file, readOnly, err := l.open(name)
	if errors.Is(err, syscall.EIO) {
		return nil, errAside
	}
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	s, err := segment.Open(file, seq)
	if errors.Is(err, segment.ErrNoHeader) {
		if s, err = segment.Salvage(file, seq, packed, l.opt.SegmentBytes); s != nil {
			rec.Rot = append(rec.Rot, RotError{Segment: name, From: 0, To: segment.HeaderBytes})
		}
	}
	if errors.Is(err, segment.ErrUnreadable) {
		return nil, errors.Join(errAside, file.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("segment %s: %w", name, err), file.Close())
	}
	if s == nil {
		l.spoiled[name] = readOnly
		return nil, l.addFree(name, file)
	}
	f := &found{Segment: s, seg: &seg{name: name, bytes: s.Bytes, packed: packed, bad: readOnly}, readOnly: readOnly}
	sum, sealed, err := s.Footer()
	hidden := errors.Is(err, segment.ErrUnreadable)
	if err != nil && !hidden {
		return nil, errors.Join(err, file.Close())
	}
	if sealed {
		f.seg.sum, f.seg.sealed = sum, true
		return f, nil
	}
	rec.Scanned++
	f.unsure = hidden
	return f, f.read(0)
}

// open opens a segment file. If what was written to it last cannot be flushed,
// it can still be read as the device has it. After any other error nobody knows
// what the device has.
func (l *Log) open(name string) (f disk.File, readOnly bool, err error) {
	if f, err = l.fs.Open(name, true); err == nil {
		return f, false, nil
	}
	for _, lasting := range []error{syscall.EIO, syscall.EROFS, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, lasting) {
			f, again := l.fs.Open(name, false)
			return f, true, again
		}
	}
	return nil, false, err
}

// read scans the segment for groups of commits below limit, 0 for all.
func (f *found) read(limit uint64) (err error) {
	f.scan, err = f.Scan(limit, nil)
	f.scan.Opaque = f.scan.Opaque || f.unsure
	f.seg.sum, f.seg.opaque = f.scan.Summary, f.hidden()
	return err
}

// hidden says whether a part of the segment could not be read: it may be another
// time, so nothing is written there.
func (f *found) hidden() bool { return f.scan.Opaque || f.scan.Unread }

// sift leaves out what other segments have made void, and what holds nothing.
// A packed segment takes the place of those that it was made of. A commit whose
// write or flush failed was followed by one with the same number in a later
// segment: what is left of it counts for nothing.
func (l *Log) sift(all []*found, rec *Recovery) (kept []*found, err error) {
	packs := standing(all)
	var limit uint64 // the first commit of the segments that were kept so far
	for _, f := range slices.Backward(all) {
		if limit != 0 && f.seg.sum.FirstCommit < limit && f.seg.sum.LastCommit >= limit && !f.seg.packed {
			f.seg.sealed = false
			if err := f.read(limit); err != nil {
				return nil, err
			}
		}
		void := len(f.seg.sum.Spans) == 0 && len(f.scan.Rot) == 0 || limit != 0 && f.seg.sum.FirstCommit >= limit || replaced(f.seg.sum.FirstCommit, f.seg.packed, packs)
		if !void {
			kept = append(kept, f)
			if f.seg.sum.FirstCommit != 0 {
				limit = f.seg.sum.FirstCommit
			}
			continue
		}
		if f.hidden() {
			rec.Rot = append(rec.Rot, RotError{Segment: f.seg.name, From: f.scan.End, To: f.Bytes})
			_ = f.File.Close() // neither read nor used again
			continue
		}
		if f.readOnly {
			l.spoiled[f.seg.name] = true
		}
		if err := l.addFree(f.seg.name, f.File); err != nil {
			return nil, err
		}
	}
	slices.Reverse(kept)
	return kept, nil
}

// standing returns what the packed segments that count were made of.
func standing(all []*found) []segment.Extent {
	var packs, plain []segment.Extent
	for _, f := range all {
		e := segment.Extent{FirstCommit: f.seg.sum.FirstCommit, LastCommit: f.seg.sum.LastCommit}
		if f.seg.packed {
			packs = append(packs, e)
		} else {
			plain = append(plain, e)
		}
	}
	return withoutFailed(packs, plain)
}

// withoutFailed leaves out the packed segments that others overlap which begin
// later, if all that is in them is elsewhere: one got its name though the disk
// said that it did not, its sources went on to count, and those behind the first
// were packed again.
func withoutFailed(packs, plain []segment.Extent) []segment.Extent {
	return slices.DeleteFunc(slices.Clone(packs), func(p segment.Extent) bool {
		overlaps := func(q segment.Extent) bool { return p.FirstCommit < q.FirstCommit && q.FirstCommit <= p.LastCommit }
		next := p.FirstCommit
		covers := func(q segment.Extent) bool { return q != p && q.FirstCommit <= next && next <= q.LastCommit }
		elsewhere := slices.Concat(plain, packs)
		for next <= p.LastCommit {
			i := slices.IndexFunc(elsewhere, covers)
			if i < 0 {
				return false
			}
			next = elsewhere[i].LastCommit + 1
		}
		return slices.ContainsFunc(packs, overlaps)
	})
}

// replaced says whether the segment that begins with a commit counts no more: it
// was packed, or it is a packed one that failed.
func replaced(commit uint64, packed bool, packs []segment.Extent) bool {
	return packed != slices.ContainsFunc(packs, func(p segment.Extent) bool {
		return p.FirstCommit <= commit && commit <= p.LastCommit && (!packed || p.FirstCommit == commit)
	})
}

// addFree notes a file that can become a segment, or removes one that has not
// the size of a segment: a power cut came while it was being filled, or the
// configuration was changed.
func (l *Log) addFree(name string, file disk.File) error {
	size, err := file.Size()
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("look at segment %s: %w", name, err)
	}
	if size != l.opt.SegmentBytes {
		return l.fs.Remove(name)
	}
	l.free = append(l.free, name)
	return nil
}

// retire is done with a segment that another one follows: whatever it lacks at
// its end was durable before the next began, so that is rot and not torn. If its
// footer cannot be written, it is scanned again at the next start.
func (l *Log) retire(f, next *found, rec *Recovery) {
	first := next.seg.sum.FirstCommit
	switch missing := first > f.seg.sum.LastCommit+1 && !jumped(first); {
	case missing && f.seg.sealed: // a file that is not there any more
		rec.Rot = append(rec.Rot, RotError{Segment: segment.Name(f.Seq+1, false), From: 0, To: l.opt.SegmentBytes})
	case missing && !f.hidden():
		rec.Rot = append(rec.Rot, RotError{Segment: f.seg.name, From: f.seg.sum.End, To: f.End()})
	}
	if !f.seg.sealed && !f.hidden() && !f.readOnly && f.Pack == nil {
		f.seg.bad = f.Cut(f.scan.Stray) != nil || f.Seal(&f.seg.sum) != nil
	}
	f.seg.sealed = true
	_ = f.File.Close() // nothing is left to be written
}

// jump is more than the commits that a segment can hold.
const jump = 1 << 20

// jump skips the numbers that commits may have which cannot be read now: no
// segment has ever had a commit beyond jump times the number after its own.
func (l *Log) jump() { l.w.commit = max(l.w.commit, (l.lastSeq+1)*jump) }

// jumped says whether a commit is the first one after a jump: none is missing
// before it.
func jumped(commit uint64) bool { return commit%jump == 1 }

// resume makes the newest segment durable, cuts its torn tail, and goes on
// behind it, with a new ledger. Where it cannot, a new segment is begun.
func (l *Log) resume(f *found, rec *Recovery) error {
	switch {
	case f.seg.sealed || f.seg.packed:
	case f.hidden():
		l.jump()
	case f.readOnly:
	case f.Cut(f.scan.Stray) != nil:
		f.seg.bad = true
		rec.ReadOnly = append(rec.ReadOnly, f.seg.name)
	case len(f.seg.sum.Spans) >= maxSpans, f.Bytes != l.opt.SegmentBytes:
		f.seg.bad = f.Seal(&f.seg.sum) != nil
	default:
		l.w.cur, l.w.seg = f.Segment, f.seg
		l.left = f.End() - f.seg.sum.End
		return nil
	}
	f.seg.sealed = true
	return f.File.Close()
}
