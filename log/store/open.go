package store

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/segment"
)

// A Recovery says what Open found.
type Recovery struct {
	Segments int
	Scanned  int  // segments without a footer: one, or two after a crash at a roll
	Torn     bool // the last group was cut short; it was never acknowledged
	Rot      []RotError
}

// A RotError names a stretch of a segment whose records were durable once and
// can no longer be read.
type RotError struct {
	Segment  string
	From, To int64 // file positions
}

// Error implements error.
func (e *RotError) Error() string {
	return fmt.Sprintf("segment %s is damaged from byte %d to %d: records there were stored and can no longer be read; "+
		"everything before and behind is whole", e.Segment, e.From, e.To)
}

// Open recovers the log in fs and prepares it for a new ledger. What it returns
// as there is durable when it returns: after a crash of the process alone, the
// last groups may have been in the kernel's memory only. It changes nothing that
// was acknowledged. Only one process may have a log open; see disk.Lock.
func Open(fs disk.FS, opt Options) (*Log, Recovery, error) {
	if opt.SegmentBytes == 0 {
		opt.SegmentBytes = 16 << 20
	}
	opt.MaxBytes = max(opt.MaxBytes, minSegments*opt.SegmentBytes)
	if opt.Uptime == nil {
		opt.Uptime = func() int64 { return 0 }
	}
	if opt.Synced == nil {
		opt.Synced = func() bool { return true }
	}
	capacity := opt.SegmentBytes - segment.HeaderBytes - segment.FooterBytes
	l := &Log{
		fs: fs, opt: opt, ledger: tributary.NewLedgerID(),
		wake: make(chan struct{}, 1), company: make(chan struct{}, 1), consumed: make(chan struct{}, 1),
		prepared: make(chan *segment.Segment, 1),
		maxGroup: int(min(maxGroupBytes, capacity)) - group.FrameBytes,
		gather:   &group.Builder{}, idle: &group.Builder{},
		offsets:   map[partition]*int64{},
		forwarded: map[tributary.LedgerID]tributary.LSN{},
	}
	l.maxRecord = int(min(maxRecordSize, capacity)) - group.FrameBytes - group.HeaderBytes
	if opt.Opening != nil {
		l.maxRecord -= group.MaxBytes(opt.Opening)
	}
	l.changed = sync.NewCond(&l.mu)
	l.gather.Reset(0)
	if opt.Compress {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, Recovery{}, fmt.Errorf("start zstd: %w", err)
		}
		l.w.enc = enc
	}
	rec, err := l.recover()
	if err != nil {
		return nil, rec, fmt.Errorf("recover the log: %w", err)
	}
	return l, rec, l.removeFree()
}

// recover reads what earlier processes left.
func (l *Log) recover() (rec Recovery, err error) {
	names, err := l.fs.List()
	if err != nil {
		return rec, fmt.Errorf("list data directory: %w", err)
	}
	var last *found
	for _, name := range names {
		seq, ok := segment.ParseName(name)
		if !ok {
			continue
		}
		l.lastSeq = max(l.lastSeq, seq)
		f, err := l.inspect(name, seq, last, &rec)
		if err != nil {
			return rec, err
		}
		if f == nil {
			continue
		}
		rec.Segments++
		if last != nil {
			if err := l.retire(last, f, &rec); err != nil {
				return rec, err
			}
		}
		last = f
		l.segs = append(l.segs, f.seg)
	}
	if last == nil {
		return rec, nil
	}
	rec.Torn = last.scan.Torn
	return rec, l.resume(last)
}

// found is a segment that holds records.
type found struct {
	*segment.Segment

	seg  *seg
	scan segment.Scan
}

// inspect opens the segment file name and finds out what it holds: from its
// footer, or else by reading all of it. It returns nil for a file that holds
// nothing, which is then free.
func (l *Log) inspect(name string, seq uint64, before *found, rec *Recovery) (*found, error) {
	file, err := l.fs.Open(name, true)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	s, err := segment.Open(file, seq)
	if errors.Is(err, segment.ErrNoHeader) {
		s, err = segment.Salvage(file, seq)
		if s != nil {
			rec.Rot = append(rec.Rot, RotError{Segment: name, From: 0, To: segment.HeaderBytes})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", name, err)
	}
	if s == nil {
		return nil, l.addFree(name, file)
	}
	f := &found{Segment: s, seg: &seg{seq: seq}}
	sum, sealed, err := s.Footer()
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", name, err)
	}
	if sealed {
		f.seg.sum, f.seg.sealed = sum, true
		return f, nil
	}
	var expect uint64
	if before != nil {
		expect = before.seg.sum.LastCommit + 1
	}
	if f.scan, err = s.Scan(expect, nil); err != nil {
		return nil, err
	}
	if f.seg.sum = f.scan.Summary; len(f.seg.sum.Spans) == 0 {
		return nil, l.addFree(name, file)
	}
	rec.Scanned++
	for _, r := range f.scan.Rot {
		rec.Rot = append(rec.Rot, RotError{Segment: name, From: r.From, To: r.To})
	}
	return f, nil
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
// its end was durable before the next began, so that is rot and not torn.
func (l *Log) retire(f, next *found, rec *Recovery) error {
	if missing := next.seg.sum.FirstCommit - f.seg.sum.LastCommit - 1; missing != 0 && !f.seg.sealed {
		rec.Rot = append(rec.Rot, RotError{Segment: segment.Name(f.Seq), From: f.seg.sum.End, To: f.End()})
	}
	if !f.seg.sealed {
		if err := f.Cut(f.scan.Stray); err != nil {
			return err
		}
		if err := f.Seal(&f.seg.sum); err != nil {
			return err
		}
		f.seg.sealed = true
	}
	return f.File.Close()
}

// resume makes the newest segment durable, cuts its torn tail, and goes on
// behind it, with a new ledger.
func (l *Log) resume(f *found) error {
	l.w.commit, l.w.millis = f.seg.sum.LastCommit, f.seg.sum.MaxMillis
	if f.seg.sealed {
		return f.File.Close()
	}
	if err := f.Cut(f.scan.Stray); err != nil {
		return err
	}
	if len(f.seg.sum.Spans) >= maxSpans || f.Bytes != l.opt.SegmentBytes {
		if err := f.Seal(&f.seg.sum); err != nil {
			return err
		}
		f.seg.sealed = true
		return f.File.Close()
	}
	l.w.cur, l.w.seg = f.Segment, f.seg
	l.left = f.End() - f.seg.sum.End
	return nil
}
