package store

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/clock"
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
	// ReadOnly are files that could be read and not written: they stay as they are.
	ReadOnly []string
}

// A RotError names a stretch of a segment whose records were durable once and
// can no longer be read.
type RotError struct {
	Segment  string
	From, To int64 // file positions
}

// Error implements error.
func (e *RotError) Error() string {
	return fmt.Sprintf("%s is damaged from byte %d to %d: records there were stored and can no longer be read; "+
		"everything before and behind is whole", e.Segment, e.From, e.To)
}

// Open recovers the log in fs and prepares it for a new ledger. What it returns
// as there is durable when it returns: after a crash of the process alone, the
// last groups may have been in the kernel's memory only. It changes nothing that
// was acknowledged. Only one process may have a log open; see disk.Lock.
func Open(fsys disk.FS, opt Options) (*Log, Recovery, error) {
	if opt.SegmentBytes == 0 {
		opt.SegmentBytes = 12 << 20
	}
	opt.MaxBytes = max(opt.MaxBytes, minSegments*opt.SegmentBytes)
	if opt.Clock.Wall == nil {
		opt.Clock = timeOfDay()
	}
	capacity := opt.SegmentBytes - segment.HeaderBytes - segment.FooterBytes
	l := &Log{
		fs: fsys, opt: opt, ledger: tributary.NewLedgerID(),
		wake: make(chan struct{}, 1), company: make(chan struct{}, 1), consumed: make(chan struct{}, 1), short: make(chan struct{}, 1),
		prepared: make(chan *segment.Segment, 1),
		probes:   make(chan struct{}), ended: make(chan struct{}),
		maxGroup: int(min(maxGroupBytes, capacity)) - group.FrameBytes,
		gather:   &group.Builder{}, idle: &group.Builder{},
		offsets:   map[partition]*int64{},
		boots:     map[[16]byte]int64{},
		spoiled:   map[string]bool{},
		forwarded: map[tributary.LedgerID]tributary.LSN{},
		ends:      map[tributary.LedgerID]end{},
		healing:   map[healing]bool{},
		wrote:     map[tributary.LedgerID]bool{},
		disowned:  map[tributary.LedgerID]bool{},
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
	for _, i := range l.Ledgers() {
		if !i.Copy {
			l.wrote[i.ID] = false
		}
	}
	l.wrote[l.ledger] = true
	l.clock = clock.New(opt.Clock, l.w.millis)
	if opt.DropOldest && l.gaps.file == nil {
		_ = l.gaps.save(fsys, l.gaps.all) // when it is needed the disk may be full; then it is tried again
	}
	return l, rec, l.removeFree()
}

// timeOfDay is a clock that is always right.
func timeOfDay() clock.Source {
	start := time.Now()
	return clock.Source{
		Wall:   func() int64 { return time.Now().UnixMilli() },
		Uptime: func() int64 { return time.Since(start).Milliseconds() },
		Synced: func() bool { return true },
	}
}

// removeFree deletes free files that the quota has no room for.
func (l *Log) removeFree() error {
	for len(l.free) > 0 && l.fileBytes() > l.opt.MaxBytes {
		name, _ := l.popFree()
		if err := l.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove free segment: %w", err)
		}
	}
	return nil
}
