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

var (
	errNotYet = errors.New("not there yet")
	// errMoved says that the segment of a record was packed, or used again, between
	// looking for the record and reading it.
	errMoved = errors.New("the segment has moved")
)

// A Reader reads one ledger. It is for one goroutine.
type Reader struct {
	log  *Log
	id   tributary.LedgerID
	dec  *zstd.Decoder
	file disk.File
	seg  *segment.Segment // nil: nothing is open
	name string           // of seg
	at   int64            // in seg, where the frame with lsn is, or before it
	lsn  tributary.LSN
	span tributary.LSN // where the span begins that at is in

	groups []group.Group // of the frame at position opened in seg
	stored group.Sealed  // the same, as it is stored there
	opened int64
}

// newDecoder returns a decoder for what group.Open is given.
func newDecoder() (*zstd.Decoder, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(group.MaxBody))
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	return dec, nil
}

// Reader returns a reader of the ledger id, which need not have records yet.
// Close it.
func (l *Log) Reader(id tributary.LedgerID) (*Reader, error) {
	dec, err := newDecoder()
	if err != nil {
		return nil, err
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

// Base returns the oldest LSN that is still held, or known to be gone without
// Kafka having been told; 0 when there is nothing yet.
func (r *Reader) Base() tributary.LSN {
	base, _ := r.log.base(r.id)
	return base
}

// Read returns the whole groups from record from on, which must be where a
// group starts, or in a gap: at least one group, and as many as fit maxBytes of
// raw bodies; or the gap, which is where records are damaged or were dropped. It
// waits until there is something; a ledger that nobody appends to any more ends
// with io.EOF. Other errors: ErrTrimmed, ctx's, the disk's. What it returns
// belongs to the caller.
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
		var n int
		if err == nil {
			n, err = r.next(w, &c, maxBytes-size)
		}
		switch {
		case errors.Is(err, errMoved):
			continue // look again
		case c.Next > from && (err != nil || n == 0 || c.Gap != nil):
			return c, nil //nolint:nilerr // whole groups came before; the next call meets the error
		case err != nil:
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
	if _, err := l.findLocked(r.id, from); !errors.Is(err, errNotYet) { // it has come since the reader looked
		l.mu.Unlock()
		return nil
	}
	if r.id != l.ledger {
		l.mu.Unlock()
		return io.EOF
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

// next appends the group that starts with c.Next to c and returns the size of
// its body, or 0 if c has groups already and this one is larger than room. In a
// hole it makes c the gap, unless c has groups.
func (r *Reader) next(w where, c *record.Chunk, room int) (int, error) {
	g, w, err := r.seek(w, c.Next)
	if err != nil {
		return 0, err
	}
	if w.hole {
		if c.Next == c.From {
			c.Gap, c.Next, c.Chain = r.gap(w, c.From), w.to, w.chain
		}
		return 0, nil
	}
	if g.Base != c.Next {
		return 0, fmt.Errorf("record %d of ledger %v is inside a group: reads start where a group starts", c.Next, r.id)
	}
	if len(c.Entries) > 0 && len(g.Body) > room {
		return 0, nil
	}
	before := len(c.Entries)
	if c.Entries, err = g.Entries(c.Entries); err != nil {
		return 0, r.place(err)
	}
	r.correct(c.Entries[before:], &g.Header)
	c.Next, c.Chain = g.Next(), g.Chain()
	r.lsn = g.Next()
	return max(1, len(g.Body)), nil
}

// gap says what is known of a hole, from the given record on.
func (r *Reader) gap(w where, from tributary.LSN) *record.Gap {
	g := &record.Gap{Reason: record.Damaged, FirstMillis: w.first, LastMillis: w.last}
	if w.dropped == nil {
		r.log.noteHole(Hole{r.id, from, w.to})
		return g
	}
	g.Reason = record.Dropped
	if from == w.dropped.From {
		g.Streams = w.dropped.Streams
	}
	return g
}

// correct puts right the times of records that were logged by a clock not to be
// trusted, if it is known by now when that boot was.
func (r *Reader) correct(entries []record.Entry, h *group.Header) {
	if h.Trusted || h.Boot == ([16]byte{}) {
		return
	}
	r.log.mu.Lock()
	boot, known := r.log.boots[h.Boot]
	r.log.mu.Unlock()
	if !known || boot == h.BootMillis {
		return
	}
	for i := range entries {
		e := &entries[i]
		e.Logged = e.Millis
		e.Millis += boot - h.BootMillis
	}
}

// seek returns the group that holds lsn, from w on, and leaves r.at at its
// frame. It passes over damaged groups; if lsn was in one of them, what it
// returns is the hole.
func (r *Reader) seek(w where, lsn tributary.LSN) (*group.Group, where, error) {
	if w.hole {
		return nil, w, nil
	}
	if err := r.approach(w, lsn); err != nil {
		w.hole = r.log.empty(err)
		if w.hole {
			err = nil
		}
		return nil, w, err
	}
	buf := make([]byte, group.FrameBytes+group.HeaderBytes)
	for r.at < w.end {
		after, err := r.load(lsn, buf)
		if err != nil {
			return nil, w, r.place(err)
		}
		if g := r.held(lsn, w.to); g != nil {
			r.lsn = lsn
			if g.Base <= lsn {
				return g, w, nil
			}
			w.to, w.chain = g.Base, g.PrevChain
			break
		}
		r.at = after
	}
	err := r.hole(&w)
	return nil, w, err
}

// held returns the first group of the frame at r.at that holds lsn or a later
// record below to, or nil.
func (r *Reader) held(lsn, to tributary.LSN) *group.Group {
	if r.opened != r.at {
		return nil
	}
	for i := range r.groups {
		if g := &r.groups[i]; g.Ledger == r.id && g.Next() > lsn && g.Base < to {
			return g
		}
	}
	return nil
}

// load opens the frame at r.at if it may hold lsn, and returns where the next
// one is. A damaged frame, or group, holds nothing.
func (r *Reader) load(lsn tributary.LSN, buf []byte) (after int64, err error) {
	f, buf, err := r.seg.ReadFrame(r.at, buf)
	switch {
	case errors.Is(err, segment.ErrNoGroup), errors.Is(err, segment.ErrUnreadable):
		return r.at + group.Align, nil // how long it was is not known
	case err != nil:
		return 0, err
	}
	after = r.at + int64(group.PaddedBytes(f.Bytes))
	if r.opened == r.at {
		return after, nil
	}
	h, err := r.seg.ReadHeader(r.at, buf)
	if err == nil && (h.Ledger != r.id || h.Next() <= lsn) {
		return after, nil
	}
	r.groups, r.opened = nil, r.at
	f, h, b, err := r.seg.ReadGroup(r.at, nil) // the header was not checked so far
	if err == nil {
		r.groups, err = group.Open(&f, &h, b, r.dec)
		r.stored = group.Sealed{Header: h, Codec: f.Codec, Bytes: b}
	}
	if errors.As(err, new(*group.CorruptError)) || errors.Is(err, segment.ErrUnreadable) || errors.Is(err, segment.ErrNoGroup) {
		return after, nil
	}
	return after, err
}

// approach opens the segment of w, and moves to w unless r.at is nearer to lsn.
func (r *Reader) approach(w where, lsn tributary.LSN) error {
	if r.seg == nil || r.name != w.name {
		if err := r.enter(w.name); err != nil {
			return err
		}
		r.at = w.at
	}
	if r.lsn != lsn || r.at < w.at || r.span != w.from {
		r.at, r.span = w.at, w.from
	}
	return nil
}

// hole makes w a hole, unless the segment moved meanwhile.
func (r *Reader) hole(w *where) error {
	if !r.log.has(r.name) {
		r.leave()
		return errMoved
	}
	w.hole = true
	return nil
}

// enter opens the segment file name.
func (r *Reader) enter(name string) error {
	r.leave()
	file, err := r.log.fs.Open(name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return r.gone(name, err)
	}
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	s, err := openSegment(file, name)
	if err != nil {
		_ = file.Close() // nothing was written
		return r.gone(name, err)
	}
	r.file, r.seg, r.name, r.lsn, r.groups, r.opened = file, s, name, 0, nil, -1
	return nil
}

// openSegment opens the segment in file by its header, or else by its groups.
func openSegment(file disk.File, name string) (*segment.Segment, error) {
	seq, packed, _ := segment.ParseName(name)
	s, err := segment.Open(file, seq)
	if errors.Is(err, segment.ErrNoHeader) {
		var size int64
		if size, err = file.Size(); err == nil {
			s, err = segment.Salvage(file, seq, packed, size)
		}
		if s == nil && err == nil {
			err = segment.ErrNoHeader
		}
	}
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", name, err)
	}
	return s, nil
}

// gone returns errMoved if the segment file is no longer part of the log, and
// else err.
func (r *Reader) gone(name string, err error) error {
	if !r.log.has(name) {
		return errMoved
	}
	return err
}

func (r *Reader) leave() {
	if r.file != nil {
		_ = r.file.Close() // nothing was written
		r.file, r.seg, r.name, r.groups = nil, nil, "", nil
	}
}

// place says where in the log something is wrong, or that the segment moved
// meanwhile.
func (r *Reader) place(err error) error {
	name, at := r.name, r.at
	r.leave()
	return r.gone(name, fmt.Errorf("segment %s at byte %d: %w", name, at, err))
}

func (l *Log) has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		if s.name == name {
			return true
		}
	}
	return false
}

// ChainAt returns the chain at lsn; ok is false if no group that is held, and
// no hole, starts or ends there.
func (r *Reader) ChainAt(lsn tributary.LSN) (chain uint64, ok bool) {
	g, w, err := r.group(lsn)
	switch {
	case err == nil && g != nil && g.Base == lsn:
		return g.PrevChain, true
	case err == nil && w.dropped != nil && w.dropped.From == lsn:
		return w.dropped.FromChain, w.dropped.FromChain != 0 || lsn == 0
	case lsn == 0:
		return 0, errors.Is(err, errNotYet) || err == nil && w.hole
	}
	g, w, err = r.group(lsn - 1)
	switch {
	case err == nil && g != nil && g.Next() == lsn:
		return g.Chain(), true
	case err == nil && w.hole && w.to == lsn:
		return w.chain, true
	}
	return 0, false
}

// group returns the group that holds lsn, or the hole.
func (r *Reader) group(lsn tributary.LSN) (*group.Group, where, error) {
	for {
		w, err := r.log.find(r.id, lsn)
		if err != nil {
			return nil, w, err
		}
		g, w, err := r.seek(w, lsn)
		if !errors.Is(err, errMoved) {
			return g, w, err
		}
	}
}

// GroupStart returns where the group that holds lsn starts, or lsn itself if
// there is no such group.
func (r *Reader) GroupStart(lsn tributary.LSN) tributary.LSN {
	if g, _, err := r.group(lsn); err == nil && g != nil {
		return g.Base
	}
	return lsn
}
