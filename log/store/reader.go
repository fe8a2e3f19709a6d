package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// A HoleError says that the records [From, To) of a ledger are damaged and
// cannot be read; what lies before and behind can.
type HoleError struct {
	Ledger   tributary.LedgerID
	From, To tributary.LSN
}

// Error implements error.
func (e *HoleError) Error() string {
	return fmt.Sprintf("records %d to %d of ledger %v were stored and can no longer be read: the disk damaged them",
		e.From, e.To-1, e.Ledger)
}

var errNotYet = errors.New("not there yet")

// A Reader reads one ledger. It is for one goroutine.
type Reader struct {
	log  *Log
	id   tributary.LedgerID
	dec  *zstd.Decoder
	file disk.File
	seg  *segment.Segment // nil: nothing is open
	at   int64            // in seg, where the group that starts with lsn is, or before it
	lsn  tributary.LSN
}

// Reader returns a reader of the ledger id, which need not have records yet.
// Close it.
func (l *Log) Reader(id tributary.LedgerID) (*Reader, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(group.MaxBody))
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	return &Reader{log: l, id: id, dec: dec}, nil
}

// Close frees what the reader holds.
func (r *Reader) Close() {
	r.leave()
	r.dec.Close()
}

// Ledger returns the id of the ledger that r reads.
func (r *Reader) Ledger() tributary.LedgerID { return r.id }

// Base returns the oldest LSN that is still held, or 0 when nothing is yet.
func (r *Reader) Base() tributary.LSN {
	base, _ := r.log.base(r.id)
	return base
}

// Read returns the whole groups from record from on, which must be where a
// group starts: at least one, and as many as fit maxBytes. It waits until there
// is one; a ledger of an earlier process ends with io.EOF. Other errors:
// ErrTrimmed, *HoleError, ctx's, the disk's. What it returns belongs to the caller.
func (r *Reader) Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	c := record.Chunk{From: from, Next: from}
	for size := 0; ; {
		w, err := r.log.find(r.id, c.Next)
		if errors.Is(err, errNotYet) && c.Next == from {
			if err := r.wait(ctx, from); err != nil {
				return record.Chunk{}, err
			}
			continue
		}
		if err != nil && c.Next > from {
			return c, nil // whole groups came before; the next call meets the error
		}
		if err != nil {
			return record.Chunk{}, err
		}
		n, err := r.group(w, &c, maxBytes-size)
		if c.Next > from && (err != nil || n == 0) {
			return c, nil //nolint:nilerr // as above
		}
		if err != nil {
			return record.Chunk{}, err
		}
		size += n
	}
}

// wait returns nil when there may be more than before, io.EOF when there never
// will be.
func (r *Reader) wait(ctx context.Context, from tributary.LSN) error {
	l := r.log
	l.mu.Lock()
	if r.id != l.ledger {
		l.mu.Unlock()
		return io.EOF
	}
	if l.durable > from {
		l.mu.Unlock()
		return nil
	}
	if l.tail == nil {
		l.tail = make(chan struct{})
	}
	more := l.tail
	l.mu.Unlock()
	select {
	case <-more:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// group appends the group that starts with c.Next to c and returns its stored
// size, or 0 if c has groups already and this one is larger than room.
func (r *Reader) group(w where, c *record.Chunk, room int) (int, error) {
	if len(c.Entries) == 0 {
		room = group.HeaderBytes + group.MaxBody
	}
	h, b, err := r.seek(w, c.Next, room)
	if b == nil || err != nil {
		return 0, err
	}
	if h.Base != c.Next {
		return 0, fmt.Errorf("record %d of ledger %v is inside a group: reads start where a group starts", c.Next, r.id)
	}
	if c.Entries, err = group.Entries(c.Entries, &h, b, r.dec); err != nil {
		return 0, r.place(err)
	}
	c.Next, c.Chain = h.Next(), h.Chain()
	r.at += int64(group.PaddedBytes(len(b)))
	r.lsn = h.Next()
	return len(b), nil
}

// seek reads the group that holds lsn, from w on, into memory of its own and
// leaves r.at there. It returns no bytes if they are more than room. It passes
// over damaged groups; if lsn was in one of them, the error is a *HoleError.
func (r *Reader) seek(w where, lsn tributary.LSN, room int) (h group.Header, b []byte, err error) {
	if err := r.approach(w, lsn); err != nil {
		return h, nil, err
	}
	buf := make([]byte, group.FrameBytes+group.HeaderBytes)
	for r.at < w.end {
		var f group.Frame
		f, buf, err = r.seg.ReadFrame(r.at, buf)
		if errors.Is(err, segment.ErrNoGroup) {
			r.at += group.PageBytes // damaged: how long the group was is not known
			continue
		}
		if err != nil {
			return h, nil, r.place(err)
		}
		after := r.at + int64(group.PaddedBytes(f.Bytes))
		if h, err = r.seg.ReadHeader(r.at, buf); err == nil && (h.Ledger != r.id || h.Next() <= lsn) {
			r.at = after
			continue
		}
		if err == nil && h.Base == lsn && f.Bytes > room {
			r.lsn = lsn
			return h, nil, nil
		}
		_, h, b, err = r.seg.ReadGroup(r.at, nil) // the header was not checked so far
		if errors.As(err, new(*group.CorruptError)) {
			r.at = after
			continue
		}
		if err != nil {
			return h, nil, r.place(err)
		}
		r.lsn = h.Base
		if h.Base > lsn {
			return h, nil, r.hole(lsn, h.Base)
		}
		return h, b, nil
	}
	return h, nil, r.hole(lsn, w.to)
}

// approach opens the segment of w, and moves to w unless r.at is nearer to lsn.
func (r *Reader) approach(w where, lsn tributary.LSN) error {
	if r.seg == nil || r.seg.Seq != w.seq {
		if err := r.enter(w.seq); err != nil {
			return err
		}
		r.at = w.at
	}
	if r.lsn != lsn || r.at < w.at {
		r.at = w.at
	}
	return nil
}

// hole says that a damaged group was passed over, unless the segment was used
// again meanwhile.
func (r *Reader) hole(from, to tributary.LSN) error {
	if !r.log.has(r.seg.Seq) {
		r.leave()
		return ErrTrimmed
	}
	return &HoleError{Ledger: r.id, From: from, To: to}
}

// enter opens the segment seq.
func (r *Reader) enter(seq uint64) error {
	r.leave()
	file, err := r.log.fs.Open(segment.Name(seq), false)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrTrimmed // between find and here it was used again
	}
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	s, err := segment.Open(file, seq)
	if errors.Is(err, segment.ErrNoHeader) {
		if s, err = segment.Salvage(file, seq); s == nil && err == nil {
			err = ErrTrimmed
		}
	}
	if err != nil {
		_ = file.Close() // nothing was written
		return fmt.Errorf("segment %s: %w", segment.Name(seq), err)
	}
	r.file, r.seg, r.lsn = file, s, 0
	return nil
}

func (r *Reader) leave() {
	if r.file != nil {
		_ = r.file.Close() // nothing was written
		r.file, r.seg = nil, nil
	}
}

// place says where in the log a damaged group is, or that the segment was used
// again meanwhile.
func (r *Reader) place(err error) error {
	name, at := segment.Name(r.seg.Seq), r.at
	seq := r.seg.Seq
	r.leave()
	if !r.log.has(seq) {
		return ErrTrimmed
	}
	return fmt.Errorf("segment %s at byte %d: %w", name, at, err)
}

func (l *Log) has(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		if s.seq == seq {
			return true
		}
	}
	return false
}

// ChainAt returns the chain at lsn; ok is false if no group that is held starts
// or ends there.
func (r *Reader) ChainAt(lsn tributary.LSN) (chain uint64, ok bool) {
	w, err := r.log.find(r.id, lsn)
	if err == nil {
		h, b, err := r.seek(w, lsn, group.HeaderBytes+group.MaxBody)
		return h.PrevChain, b != nil && err == nil && h.Base == lsn
	}
	for _, i := range r.log.Ledgers() {
		if i.ID == r.id && i.To == lsn {
			return i.ToChain, true
		}
	}
	return 0, lsn == 0 && errors.Is(err, errNotYet)
}

// GroupStart returns where the group that holds lsn starts, or lsn itself if
// there is no such group.
func (r *Reader) GroupStart(lsn tributary.LSN) tributary.LSN {
	w, err := r.log.find(r.id, lsn)
	if err != nil {
		return lsn
	}
	if h, _, err := r.seek(w, lsn, group.HeaderBytes+group.MaxBody); err == nil {
		return h.Base
	}
	return lsn
}
