package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/segment"
)

// lookAgain is how often old segments are looked for, and room where there was
// none: another program may have given some of the disk back.
const lookAgain = 5 * time.Second

// keepRing keeps one segment prepared ahead of the committer: the next write
// never waits for a file to be made. It returns when ctx ends.
func (l *Log) keepRing(ctx context.Context) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		l.stock()
		select {
		case <-l.consumed:
		case <-tick.C:
			l.freeOld()
		case <-ctx.Done():
			l.dropSpare()
			return
		}
	}
}

// stock prepares a segment, if none is, or finds that the log is full. An error
// makes it full until the next try: no record is in a file that could not be
// prepared, and too many open files, say, pass.
func (l *Log) stock() {
	var s *segment.Segment
	var err error
	spare, packings := l.hasSpare()
	if !spare {
		if s, err = l.prepare(); s != nil {
			l.prepared <- s // has room: see hasSpare
			spare = true
		}
		l.mu.Lock()
		if l.stats.NoSegment = ""; err != nil {
			l.stats.NoSegment = err.Error()
		}
		l.mu.Unlock()
	}
	l.setRoom(s != nil, spare, packings, err)
	signal(l.short)
}

// hasSpare says whether a segment is prepared, and how often the packer has ended.
func (l *Log) hasSpare() (spare bool, packings int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spare || len(l.prepared) > 0, l.packings
}

// setRoom notes what the ring has found: whether it has just prepared a segment,
// and whether there is a prepared one at all; failed is why there is none, if that
// is not because the log is full. packings is from before it looked: if the packer
// has ended since, which keeps segments from being dropped or packed, it looks again.
func (l *Log) setRoom(fresh, there bool, packings int, failed error) {
	_, onDisk, err := l.fs.Space()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = l.spare || fresh
	l.full = !there
	l.more = 0
	switch {
	case there:
		l.more = int64(l.obtainable(onDisk, err == nil)) * l.capacity()
	case failed == nil && (len(l.free) > 0 || packings != l.packings):
		l.full = false
		signal(l.consumed)
	}
	l.stats.Refusing = l.stats.Refusing && !there
	l.changed.Broadcast()
	if there && len(l.copies) > 0 {
		signal(l.wake) // they may have waited for a segment
	}
}

// obtainable returns how many segments could be prepared now: from free files,
// from segments that are in Kafka, and from new files while quota and disk have
// room.
func (l *Log) obtainable(onDisk int64, known bool) int {
	room := (l.opt.MaxBytes - l.bytesLocked()) / l.opt.SegmentBytes
	if known {
		room = min(room, onDisk/l.opt.SegmentBytes)
	}
	n := len(l.free) + int(max(0, room))
	for _, s := range l.segs {
		if !l.recyclable(s) {
			break
		}
		n++
	}
	return n
}

// dropSpare closes the prepared segment that nobody needs any more.
func (l *Log) dropSpare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.spare {
		return // the committer has claimed it
	}
	select {
	case s := <-l.prepared:
		l.spare = false
		_ = s.File.Close() // empty: the next start finds it free
	default:
	}
}

// prepare returns an empty segment, or nil when the log is full: from a free
// file, else from a new one while the quota and the disk have room, else from
// the oldest segment, if all of it is in Kafka or the policy is to drop it.
func (l *Log) prepare() (*segment.Segment, error) {
	l.making.Lock()
	defer l.making.Unlock()
	if err := l.forgetGaps(); err != nil {
		return nil, err
	}
	for {
		name, ok := l.popFree()
		if !ok {
			if s, err := l.create(); s != nil || err != nil {
				return s, err
			}
			if name, ok = l.popForwarded(); !ok {
				var err error
				if name, ok, err = l.dropOldest(); !ok {
					return nil, err
				}
			}
		}
		if s, err := l.reuse(name); s != nil || err != nil {
			return s, err
		}
	}
}

// reuse makes an empty segment of the file name, which holds nothing that is
// still needed. A file of another size, from before the configuration was
// changed, and one that could not be written to, makes room for a new one
// instead, if that is enough room.
func (l *Log) reuse(name string) (*segment.Segment, error) {
	if name == "" {
		return l.create()
	}
	size, err := l.fileSize(name)
	switch {
	case errors.Is(err, fs.ErrNotExist): // somebody has removed it
		return l.create()
	case err != nil && !errors.Is(err, syscall.EIO):
		l.pushFree(name)
		return nil, fmt.Errorf("look at segment %s: %w", name, err)
	case err == nil && size == l.opt.SegmentBytes && !l.spoilt(name):
		return l.recycle(name)
	}
	if err := l.fs.Remove(name); err != nil {
		l.pushFree(name)
		return nil, fmt.Errorf("remove segment: %w", err)
	}
	return l.create()
}

func (l *Log) fileSize(name string) (int64, error) {
	f, err := l.fs.Open(name, false)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Close())
}

// pushFree gives a file back that could not be used. It is the first to be tried
// again: as long as a file holds old groups, those of later ones stay, or the
// next start would find a hole.
func (l *Log) pushFree(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = slices.Insert(l.free, 0, name)
}

// abandon gets rid of a file whose write or flush failed: it is never written
// again (D2).
func (l *Log) abandon(f disk.File, name string, err error) error {
	return errors.Join(err, f.Close(), l.fs.Remove(name))
}

func (l *Log) popFree() (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) == 0 {
		return "", false
	}
	name := l.free[0]
	l.free = l.free[1:]
	return name, true
}

// create makes and zero-fills a new file, or returns nil if the quota or the
// disk has no room for it.
func (l *Log) create() (*segment.Segment, error) {
	if l.fileBytes()+l.opt.SegmentBytes > l.opt.MaxBytes {
		return nil, nil //nolint:nilnil // no room is not an error
	}
	seq := l.takeSeq()
	name := segment.Name(seq, false)
	f, err := l.fs.Create(name)
	if errors.Is(err, syscall.ENOSPC) {
		return nil, nil //nolint:nilnil // no room is not an error
	}
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	err = segment.Fill(f, l.opt.SegmentBytes)
	if errors.Is(err, syscall.ENOSPC) { // another program filled the disk: nothing of ours is at risk
		_ = f.Close()
		return nil, l.fs.Remove(name)
	}
	if err != nil {
		return nil, l.abandon(f, name, err)
	}
	s, err := segment.Start(f, seq, l.opt.SegmentBytes)
	if err == nil {
		err = l.fs.Sync()
	}
	if err != nil {
		return nil, l.abandon(f, name, err)
	}
	return s, nil
}

// recycle turns the file name, which holds nothing that is still needed, into
// an empty segment.
func (l *Log) recycle(name string) (*segment.Segment, error) {
	f, next, seq, err := l.renew(name)
	if err != nil {
		return nil, err
	}
	s, err := segment.Start(f, seq, l.opt.SegmentBytes)
	if err != nil {
		return nil, l.abandon(f, next, err)
	}
	return s, nil
}

// renew gives the file name, which holds nothing that is still needed, the next
// number, and opens it. The rename is made durable before anything is written to
// the file, so that after a power cut a file that has its old name holds its
// old groups, or none.
func (l *Log) renew(name string) (f disk.File, next string, seq uint64, err error) {
	seq = l.takeSeq()
	next = segment.Name(seq, false)
	if err := l.fs.Rename(name, next); err != nil {
		l.pushFree(name)
		return nil, "", 0, fmt.Errorf("rename segment: %w", err)
	}
	if !keepOldName {
		err = l.fs.Sync()
	}
	if err != nil {
		l.pushFree(next)
		return nil, "", 0, fmt.Errorf("sync data directory: %w", err)
	}
	if f, err = l.fs.Open(next, true); err != nil {
		l.pushFree(next)
		return nil, "", 0, fmt.Errorf("open recycled segment: %w", err)
	}
	return f, next, seq, nil
}

func (l *Log) takeSeq() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastSeq++
	return l.lastSeq
}

// fileBytes returns how large all segment files are, used, free or prepared.
func (l *Log) fileBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytesLocked()
}

func (l *Log) bytesLocked() int64 {
	bytes := int64(len(l.free)+len(l.prepared)+l.borrowed) * l.opt.SegmentBytes
	for _, s := range l.segs {
		bytes += s.bytes
	}
	return bytes
}

// popForwarded takes the oldest segment out of the log if it may be reused.
func (l *Log) popForwarded() (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segs) == 0 || !l.recyclable(l.segs[0]) {
		return "", false
	}
	return l.popOldest(), true
}

// popOldest takes the oldest segment out of the log and returns its file, or ""
// if that is to stay as it is.
func (l *Log) popOldest() string {
	s := l.segs[0]
	l.segs = l.segs[1:]
	if s.opaque {
		return ""
	}
	if s.bad {
		l.spoiled[s.name] = true
	}
	return s.name
}

// spoil notes that a write to the file has failed.
func (l *Log) spoil(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spoiled[name] = true
}

// spoilt says whether a write to the file has failed, and forgets it.
func (l *Log) spoilt(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	bad := l.spoiled[name]
	delete(l.spoiled, name)
	return bad
}

// recyclable says whether every record of a segment is in Kafka, or known to be
// dropped, and nobody is at work on it.
func (l *Log) recyclable(s *seg) bool {
	if !s.sealed || s.pinned {
		return false
	}
	for _, p := range s.sum.Spans {
		if p.To > l.forwarded[p.Ledger] && !l.gaps.cover(p.Ledger, p.From, p.To, l.forwarded[p.Ledger]) {
			return false
		}
	}
	return true
}

// freeOld frees sealed, forwarded segments whose records are all older than
// MaxAge: a later group, timed by a clock to be trusted, is. A clock that is not
// to be trusted now says nothing about age.
func (l *Log) freeOld() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Look()
	if l.opt.MaxAge <= 0 || !now.Trusted {
		return
	}
	old := 0 // so many of the oldest segments are old
	for i, s := range l.segs {
		if s.sum.Trusted && now.Millis-s.sum.MaxMillis > l.opt.MaxAge.Milliseconds() {
			old = i + 1
		}
	}
	for ; old > 0 && l.recyclable(l.segs[0]); old-- {
		if name := l.popOldest(); name != "" {
			l.free = append(l.free, name)
		}
	}
}

// Stats returns counts since Open, and sizes now.
func (l *Log) Stats() Stats {
	_, onDisk, err := l.fs.Space()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.MaxBytes = l.opt.MaxBytes
	now := time.Now()
	s.FlushP50, s.FlushP99 = l.flushes.below(now, 0.5), l.flushes.below(now, 0.99)
	s.CommitP50, s.CommitP99 = l.commits.below(now, 0.5), l.commits.below(now, 0.99)
	var reusable, held int64 // bytes
	for _, g := range l.segs {
		s.UsedBytes += g.sum.End
		if held += g.bytes; l.recyclable(g) {
			reusable += g.bytes
		} else if g.sealed && !g.packed && !g.dense {
			s.UnpackedBytes += g.bytes
		}
	}
	s.FreeBytes = max(0, l.opt.MaxBytes-held+reusable)
	if err == nil { // the quota may promise more than the disk has
		s.FreeBytes = min(s.FreeBytes, onDisk+int64(len(l.free)+len(l.prepared))*l.opt.SegmentBytes+reusable)
	}
	s.FreeBytes += max(0, l.left)
	s.RoomBytes = s.FreeBytes
	rest, fits := l.behind(group.PageBytes)
	looked := (l.full || l.spare) && !l.packing
	s.Refusing = s.Refusing || looked && (!fits || rest < l.controlReserve()+l.opt.AlarmReserve)
	s.RefusingAlarms = looked && (!fits || rest < l.controlReserve())
	for i := range l.gaps.all {
		g := &l.gaps.all[i]
		s.UntoldRecords += int64(g.To - min(g.To, max(g.From, l.forwarded[g.Ledger])))
	}
	if r := l.packRatio; r > 0 && r < 1 {
		spare := (packReserve + 2) * l.opt.SegmentBytes // that packing needs, and cannot fill
		s.RoomBytes = max(0, int64(0.9*float64(s.UnpackedBytes+s.FreeBytes-spare)/r)-s.UnpackedBytes)
	}
	return s
}
