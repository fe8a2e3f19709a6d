package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/tributary-edge/tributary/log/disk"
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
			l.freeOld(time.Now())
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
	if l.hasSpare() {
		return
	}
	s, err := l.prepare()
	if s != nil {
		l.prepared <- s // has room: see hasSpare
	}
	l.setRoom(s != nil, s == nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stats.NoSegment = ""; err != nil {
		l.stats.NoSegment = err.Error()
	}
}

func (l *Log) hasSpare() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spare || len(l.prepared) > 0
}

func (l *Log) setRoom(spare, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare, l.full = spare, full
	l.stats.Refusing = l.stats.Refusing && !spare
	l.changed.Broadcast()
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
// the oldest segment, if all of it is in Kafka.
func (l *Log) prepare() (*segment.Segment, error) {
	for {
		name, ok := l.popFree()
		if !ok {
			if s, err := l.create(); s != nil || err != nil {
				return s, err
			}
			if name, ok = l.popForwarded(); !ok {
				return nil, nil //nolint:nilnil // nil means full; see the comment
			}
		}
		if s, err := l.reuse(name); s != nil || err != nil {
			return s, err
		}
	}
}

// reuse makes an empty segment of the file name, which holds nothing that is
// still needed. A file of another size, from before the configuration was
// changed, makes room for a new one instead, if that is enough room.
func (l *Log) reuse(name string) (*segment.Segment, error) {
	f, err := l.fs.Open(name, false)
	if err != nil {
		l.pushFree(name)
		return nil, fmt.Errorf("open segment: %w", err)
	}
	size, err := f.Size()
	if err := errors.Join(err, f.Close()); err != nil {
		l.pushFree(name)
		return nil, fmt.Errorf("look at segment %s: %w", name, err)
	}
	if size == l.opt.SegmentBytes {
		return l.recycle(name)
	}
	if err := l.fs.Remove(name); err != nil {
		l.pushFree(name)
		return nil, fmt.Errorf("remove segment: %w", err)
	}
	return l.create()
}

func (l *Log) pushFree(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, name)
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
	if int64(l.files()+1)*l.opt.SegmentBytes > l.opt.MaxBytes {
		return nil, nil //nolint:nilnil // no room is not an error
	}
	seq := l.takeSeq()
	name := segment.Name(seq)
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
// an empty segment. The rename is made durable before anything is written to
// the segment, so that after a power cut a file that has its old name holds its
// old groups, or none.
func (l *Log) recycle(name string) (*segment.Segment, error) {
	seq := l.takeSeq()
	next := segment.Name(seq)
	if err := l.fs.Rename(name, next); err != nil {
		l.pushFree(name)
		return nil, fmt.Errorf("rename segment: %w", err)
	}
	if err := l.fs.Sync(); err != nil {
		l.pushFree(next)
		return nil, fmt.Errorf("sync data directory: %w", err)
	}
	f, err := l.fs.Open(next, true)
	if err != nil {
		l.pushFree(next)
		return nil, fmt.Errorf("open recycled segment: %w", err)
	}
	s, err := segment.Start(f, seq, l.opt.SegmentBytes)
	if err != nil {
		return nil, l.abandon(f, next, err)
	}
	return s, nil
}

func (l *Log) takeSeq() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastSeq++
	return l.lastSeq
}

// files returns how many segment files there are, used, free or prepared.
func (l *Log) files() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.segs) + len(l.free) + len(l.prepared)
}

// popForwarded takes the oldest segment out of the log if it may be reused.
func (l *Log) popForwarded() (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.oldestForwarded() {
		return "", false
	}
	s := l.segs[0]
	l.segs = l.segs[1:]
	return segment.Name(s.seq), true
}

// oldestForwarded says whether every record of the oldest segment is in Kafka
// and the committer is done with it.
func (l *Log) oldestForwarded() bool {
	if len(l.segs) == 0 || !l.segs[0].sealed {
		return false
	}
	for _, p := range l.segs[0].sum.Spans {
		if p.To > l.forwarded[p.Ledger] {
			return false
		}
	}
	return true
}

// freeOld frees sealed, forwarded segments whose newest record is older than
// MaxAge. A clock that is not synchronised says nothing about age.
func (l *Log) freeOld(now time.Time) {
	if l.opt.MaxAge <= 0 || !l.opt.Synced() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.oldestForwarded() && now.Sub(time.UnixMilli(l.segs[0].sum.MaxMillis)) > l.opt.MaxAge {
		l.free = append(l.free, segment.Name(l.segs[0].seq))
		l.segs = l.segs[1:]
	}
}

// Stats returns counts since Open, and sizes now.
func (l *Log) Stats() Stats {
	_, onDisk, err := l.fs.Space()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.MaxBytes = l.opt.MaxBytes
	reusable := 0
	for _, g := range l.segs {
		s.UsedBytes += g.sum.End
		whole := g.sealed
		for _, p := range g.sum.Spans {
			whole = whole && p.To <= l.forwarded[p.Ledger]
		}
		if whole {
			reusable++
		}
	}
	s.FreeBytes = max(0, l.opt.MaxBytes-int64(len(l.segs)-reusable)*l.opt.SegmentBytes)
	if err == nil { // the quota may promise more than the disk has
		s.FreeBytes = min(s.FreeBytes, onDisk+int64(len(l.free)+len(l.prepared)+reusable)*l.opt.SegmentBytes)
	}
	s.FreeBytes += max(0, l.left)
	return s
}

// removeFree deletes free files that the quota has no room for.
func (l *Log) removeFree() error {
	for len(l.free) > 0 && int64(l.files())*l.opt.SegmentBytes > l.opt.MaxBytes {
		name, _ := l.popFree()
		if err := l.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove free segment: %w", err)
		}
	}
	return nil
}
