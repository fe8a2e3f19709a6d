package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/segment"
)

// Run makes appended records durable, group after group, prepares and packs
// segments, until ctx ends; then it commits what was appended and returns nil.
// It returns an error that wraps ErrFailed when writes or flushes have failed
// for good: records without an acknowledgement then never get one from this
// process. It is called once.
func (l *Log) Run(ctx context.Context) error {
	defer close(l.ended)
	ringCtx, stopRing := context.WithCancel(context.WithoutCancel(ctx)) // the last group may need its segment
	var ring sync.WaitGroup
	ring.Go(func() { l.keepRing(ringCtx) })
	ring.Go(func() { l.keepPacking(ringCtx) })
	defer ring.Wait()
	defer stopRing()
	for {
		select {
		case <-l.wake:
			l.waitForCompany(ctx)
			if err := l.commit(); err != nil {
				return err
			}
		case <-l.probes: // Probe wants to know no more than that this is reached
		case <-ctx.Done():
			l.mu.Lock()
			l.closed = true
			l.changed.Broadcast()
			l.wakeReaders()
			l.mu.Unlock()
			return l.finish()
		}
	}
}

// finish commits what is left when the log is told to stop. Copies can wait for
// the next process.
func (l *Log) finish() error {
	l.refuseCopies(ErrClosed)
	if err := l.commit(); err != nil {
		return err
	}
	if l.w.cur != nil {
		return l.w.cur.File.Close()
	}
	return nil
}

// A batch is what the committer takes at a time: a group, and who waits for it;
// and copies.
type batch struct {
	ledger  tributary.LedgerID
	base    tributary.LSN
	group   *group.Builder // nil if there are only copies
	tickets []tributary.Ticket
	reading clock.Reading // when it began to gather
	read    time.Time
	copies  []copying
}

// commit takes the gathering group and makes it durable. After a failure it
// returns nil if the log goes on with another ledger.
func (l *Log) commit() error {
	b, ok := l.take()
	if !ok {
		return nil
	}
	if ackBeforeSync {
		l.tell(b, nil)
	}
	l.place()
	if err := l.write(b); err != nil {
		return l.fail(err, b)
	}
	if !ackBeforeSync {
		l.tell(b, nil)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.group != nil {
		l.w.pace.acknowledged(b.group.Count(), l.gather.Count())
		l.idle, l.spareTix = b.group, b.tickets[:0]
	}
	if l.gather.Count() > 0 || len(l.copies) > 0 {
		signal(l.wake)
	}
	return nil
}

// take takes what is to be committed. It claims the room for it, for those who
// append meanwhile.
func (l *Log) take() (b batch, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gather.Count() > 0 {
		b = l.takeGroup()
	}
	l.left -= l.takeCopies(&b)
	l.changed.Broadcast()
	return b, b.group != nil || len(b.copies) > 0
}

// takeGroup swaps the gathering group for an empty one.
func (l *Log) takeGroup() batch {
	b := batch{
		ledger: l.ledger, base: l.next - tributary.LSN(l.gather.Count()), group: l.gather, tickets: l.tickets,
		reading: l.reading, read: l.read,
	}
	l.gather, l.tickets, l.idle, l.spareTix = l.idle, l.spareTix, nil, nil
	if l.gather == nil {
		l.gather = &group.Builder{}
	}
	l.gather.Reset(l.next)
	l.hurry = false
	claim := int64(group.PaddedBytes(b.group.Bytes()))
	if claim > l.left {
		l.turn()
	}
	l.left -= claim
	if b.reading.Trusted {
		l.boots[l.opt.Clock.Boot] = b.reading.BootMillis
	}
	return b
}

// turn has the commit that is being taken begin a new segment.
func (l *Log) turn() {
	l.left = l.capacity()
	l.spare = false
	l.w.retire = true
}

// place makes sure that the current segment has room for the group taken.
func (l *Log) place() {
	if !l.w.retire {
		return
	}
	l.w.retire = false
	old, full := l.w.cur, l.w.seg
	l.mu.Lock()
	l.w.cur = <-l.prepared // there is one: take claimed it
	l.w.seg = &seg{name: segment.Name(l.w.cur.Seq, false), sum: segment.NewSummary(), bytes: l.opt.SegmentBytes}
	l.segs = append(l.segs, l.w.seg)
	l.mu.Unlock()
	signal(l.consumed)
	if old != nil {
		l.close(old, full)
	}
}

// close is done with a segment. All of its groups are durable already: without
// its footer the next start scans it, and nobody writes to it again.
func (l *Log) close(s *segment.Segment, m *seg) {
	err := errors.Join(s.Seal(&m.sum), s.File.Close())
	l.mu.Lock()
	defer l.mu.Unlock()
	m.sealed, m.bad = true, err != nil
	if err != nil {
		l.stats.DiskError = err.Error()
	}
}

// write gives b to the device: one write, one flush.
func (l *Log) write(b batch) error {
	w := &l.w
	s := l.seal(b)
	out := s.out
	if _, err := w.cur.File.WriteAt(out, w.seg.sum.End); err != nil {
		return fmt.Errorf("write group to segment %s: %w", w.seg.name, err)
	}
	start := time.Now()
	err := w.cur.File.Sync()
	if err != nil && retryFlush {
		err = w.cur.File.Sync()
	}
	if err != nil {
		return fmt.Errorf("flush segment %s: %w", w.seg.name, err)
	}
	now := time.Now()
	took := now.Sub(start)
	size, err := w.cur.File.Size()
	if err == nil && size < w.cur.Bytes {
		err = fmt.Errorf("it has been cut to %d bytes", size)
	}
	if err != nil {
		return fmt.Errorf("segment %s is no longer what it was: %w", w.seg.name, err)
	}
	w.commit++
	w.pace.flushed(took)

	l.mu.Lock()
	defer l.mu.Unlock()
	if b.group != nil {
		w.number, w.chain = w.number+1, s.h.Chain()
		w.seg.sum.Add(&s.frame, &s.h)
		l.left += s.unused
		l.durable = s.h.Next()
		l.stats.Records += int64(s.h.Count)
		l.stats.Groups++
		l.stats.PayloadBytes += int64(b.group.Bytes())
		l.commits.add(now, now.Sub(b.read), int(s.h.Count))
	}
	for i := range b.copies {
		c := &b.copies[i]
		w.seg.sum.Add(&c.frame, &c.h)
		if c.heals {
			l.filled(c.id, c.h.Base, c.h.Next())
			delete(l.healing, healing{c.id, c.h.Base})
		}
		l.stats.CopiedRecords += int64(c.h.Count)
		l.stats.CopiedBytes += int64(len(c.padded))
	}
	l.copiesOut += uint64(len(b.copies))
	l.stats.flushed(int64(len(out)), took)
	l.flushes.add(now, took, 1)
	l.wakeReaders()
	return nil
}

// A sealed commit is one as bytes.
type sealedCommit struct {
	out    []byte // valid until the next one
	h      group.Header
	frame  group.Frame // of the own group
	unused int64       // what was claimed for it and is not needed
}

// seal makes the bytes of a commit: the own group first, because somebody waits
// for it, then the copies.
func (l *Log) seal(b batch) sealedCommit {
	var s sealedCommit
	w := &l.w
	place := group.Frame{Segment: w.cur.Seq, Salt: w.cur.Salt, Commit: w.commit + 1, Of: uint16(len(b.copies))}
	if b.group != nil {
		place.Of++
		w.millis = max(w.millis, b.reading.Millis+time.Since(b.read).Milliseconds())
		s.h = group.Header{
			Ledger: b.ledger, Number: w.number, PrevChain: w.chain, Millis: w.millis,
			Boot: l.opt.Clock.Boot, BootMillis: b.reading.BootMillis, Trusted: b.reading.Trusted,
		}
		s.out, s.frame = b.group.Seal(&s.h, w.enc)
		s.frame.Put(place, s.out)
		s.unused = int64(group.PaddedBytes(b.group.Bytes())) - int64(len(s.out)) // the claim was an upper bound
		place.Index++
	}
	if len(b.copies) == 0 {
		return s
	}
	w.out = append(w.out[:0], s.out...)
	for i := range b.copies {
		c := &b.copies[i]
		c.frame.Put(place, c.padded)
		w.out = append(w.out, c.padded...)
		place.Index++
	}
	s.out = w.out
	return s
}

func (l *Log) wakeReaders() {
	if l.tail != nil {
		close(l.tail)
		l.tail = nil
	}
}

// tell hands a group's tickets back to their owner, and says how it went with
// the copies.
func (l *Log) tell(b batch, err error) {
	if l.committed != nil && len(b.tickets) > 0 {
		l.committed(b.ledger, b.base, b.tickets, err)
	}
	for i := range b.copies {
		b.copies[i].done(err)
	}
}

// fail ends the ledger: after a failed write or flush the kernel may have
// dropped the pages and call the next flush a success, so trying again would
// acknowledge records that are nowhere (D2). The group that failed and the one
// that gathers are told. The first time, the log goes on with a new ledger in
// another segment. Its first commit has the number of the one that failed, so
// that a later recovery takes what the device may have kept of that one for
// what it is: nothing (see segment.Scan).
func (l *Log) fail(cause error, b batch) error {
	l.mu.Lock()
	waiting := batch{ledger: l.ledger, base: l.next - tributary.LSN(len(l.tickets)), tickets: l.tickets, copies: l.dropCopies()}
	l.tickets = nil
	l.copiesOut += uint64(len(b.copies))
	err := fmt.Errorf("%w: %w", ErrLedgerEnded, cause)
	final := l.stats.LedgerEnded != "" || errors.Is(cause, syscall.EROFS) || l.closed
	if final {
		l.failed = fmt.Errorf("%w: %w", ErrFailed, cause)
		err = l.failed
	} else {
		l.stats.LedgerEnded = cause.Error()
		l.begin(tributary.NewLedgerID())
	}
	l.leave()
	l.changed.Broadcast()
	l.wakeReaders()
	l.mu.Unlock()
	if !ackBeforeSync {
		l.tell(b, err)
	}
	l.tell(waiting, err)
	if final {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if rest, fits := l.behind(group.PageBytes); l.opt.Opening != nil && l.next == 0 && fits && rest >= 0 {
		l.add(l.opt.Opening, tributary.Ticket{}, l.begun()) // the sooner it is there, the sooner the failed group counts as nothing
	}
	return nil
}

// begin makes id the live ledger.
func (l *Log) begin(id tributary.LedgerID) {
	l.ledger, l.next, l.durable = id, 0, 0
	l.wrote[id] = true
	l.offsets, l.lastOff = map[partition]*int64{}, nil
	l.gather.Reset(0)
	l.hurry = false
	l.w.number, l.w.chain = 0, 0
}

// leave gives up the segment whose write or flush failed.
func (l *Log) leave() {
	if l.w.cur == nil {
		return
	}
	_ = l.w.cur.File.Close() // it is given up
	l.w.seg.bad, l.w.seg.sealed = true, true
	l.w.cur, l.w.seg, l.left = nil, nil, 0
}

func (s *Stats) flushed(written int64, took time.Duration) {
	s.Flushes++
	s.WrittenBytes += written
	s.FlushMean += (took - s.FlushMean) / 8
	s.FlushMax = max(s.FlushMax, took)
}
