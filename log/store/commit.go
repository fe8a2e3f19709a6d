package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/segment"
)

// Run makes appended records durable, group after group, and prepares segments,
// until ctx ends; then it commits what was appended and returns nil. It returns
// an error that wraps ErrFailed as soon as a write or flush fails: records
// without an acknowledgement then never get one from this process.
func (l *Log) Run(ctx context.Context) error {
	ringCtx, stopRing := context.WithCancel(context.WithoutCancel(ctx)) // the last group may need its segment
	var ring sync.WaitGroup
	ring.Go(func() { l.keepRing(ringCtx) })
	defer ring.Wait()
	defer stopRing()
	for {
		select {
		case <-l.wake:
			l.waitForCompany(ctx)
			if err := l.commit(); err != nil {
				return err
			}
		case <-ctx.Done():
			l.mu.Lock()
			l.closed = true
			l.changed.Broadcast()
			l.mu.Unlock()
			return l.finish()
		}
	}
}

// finish commits what is left when the log is told to stop.
func (l *Log) finish() error {
	if err := l.commit(); err != nil {
		return err
	}
	if l.w.cur != nil {
		return l.w.cur.File.Close()
	}
	return nil
}

// commit takes the gathering group and makes it durable.
func (l *Log) commit() error {
	g, tickets, base := l.take()
	if g == nil {
		return nil
	}
	if ackBeforeSync {
		l.tell(base, tickets, nil)
	}
	if err := l.place(); err != nil {
		return l.fail(err, tickets)
	}
	if err := l.write(g); err != nil {
		return l.fail(err, tickets)
	}
	if !ackBeforeSync {
		l.tell(base, tickets, nil)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.w.pace.acknowledged(g.Count(), l.gather.Count())
	l.idle, l.spareTix = g, tickets[:0]
	if l.gather.Count() > 0 {
		signal(l.wake)
	}
	return nil
}

// take swaps the gathering group for an empty one. It claims the group's room,
// for those who append meanwhile.
func (l *Log) take() (g *group.Builder, tickets []tributary.Ticket, base tributary.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gather.Count() == 0 {
		return nil, nil, 0
	}
	g, tickets = l.gather, l.tickets
	base = l.next - tributary.LSN(g.Count())
	l.gather, l.tickets, l.idle, l.spareTix = l.idle, l.spareTix, nil, nil
	if l.gather == nil {
		l.gather = &group.Builder{}
	}
	l.gather.Reset(l.next)
	if claim := int64(group.PaddedBytes(g.Bytes())); claim <= l.left {
		l.left -= claim
	} else {
		l.left = l.opt.SegmentBytes - segment.HeaderBytes - segment.FooterBytes - claim
		l.spare = false
		l.w.retire = true
	}
	l.changed.Broadcast()
	return g, tickets, base
}

// place makes sure that the current segment has room for the group taken.
func (l *Log) place() error {
	if !l.w.retire {
		return nil
	}
	l.w.retire = false
	old, full := l.w.cur, l.w.seg
	l.mu.Lock()
	l.w.cur = <-l.prepared // there is one: take claimed it
	l.w.seg = &seg{seq: l.w.cur.Seq, sum: segment.NewSummary()}
	l.segs = append(l.segs, l.w.seg)
	l.mu.Unlock()
	if old != nil {
		if err := l.seal(old, full); err != nil {
			return err
		}
	}
	signal(l.consumed)
	return nil
}

func (l *Log) seal(s *segment.Segment, m *seg) error {
	if err := s.Seal(&m.sum); err != nil {
		return err
	}
	l.mu.Lock()
	m.sealed = true
	l.mu.Unlock()
	return s.File.Close()
}

// write seals g and gives it to the device: one write, one flush.
func (l *Log) write(g *group.Builder) error {
	w := &l.w
	w.millis = max(w.millis, time.Now().UnixMilli())
	h := group.Header{
		Ledger: l.ledger, Number: w.number, PrevChain: w.chain, Millis: w.millis,
		Uptime: l.opt.Uptime(), Boot: l.opt.Boot, Synced: l.opt.Synced(),
	}
	payload := g.Bytes()
	out, bytes := g.Seal(&h, w.enc)
	f := group.Frame{Segment: w.cur.Seq, Salt: w.cur.Salt, Commit: w.commit + 1, Of: 1, Bytes: bytes}
	f.Encode(out)
	if _, err := w.cur.File.WriteAt(out, w.seg.sum.End); err != nil {
		return fmt.Errorf("write group to segment %s: %w", segment.Name(w.cur.Seq), err)
	}
	start := time.Now()
	if err := w.cur.File.Sync(); err != nil {
		return fmt.Errorf("flush segment %s: %w", segment.Name(w.cur.Seq), err)
	}
	took := time.Since(start)
	w.commit, w.number, w.chain = f.Commit, w.number+1, h.Chain()
	w.pace.flushed(took)

	l.mu.Lock()
	defer l.mu.Unlock()
	w.seg.sum.Add(f, &h)
	// The claim was an upper bound: give back what the group did not need.
	l.left += int64(group.PaddedBytes(payload)) - int64(len(out))
	l.durable = h.Next()
	l.stats.count(int64(h.Count), int64(payload), int64(len(out)), took)
	if l.tail != nil {
		close(l.tail)
		l.tail = nil
	}
	return nil
}

// tell hands a group's tickets back to their owner.
func (l *Log) tell(base tributary.LSN, tickets []tributary.Ticket, err error) {
	if l.committed != nil {
		l.committed(base, tickets, err)
	}
}

// fail ends the log: after a failed write or flush the kernel may have dropped
// the pages and call the next flush a success, so trying again would
// acknowledge records that are nowhere (D2). The group that failed, whose
// tickets are given, and the one that gathers are told.
func (l *Log) fail(cause error, tickets []tributary.Ticket) error {
	l.mu.Lock()
	l.failed = fmt.Errorf("%w: %w", ErrFailed, cause)
	err, waiting := l.failed, l.tickets
	base := l.next - tributary.LSN(len(waiting))
	l.tickets = nil
	l.changed.Broadcast()
	l.mu.Unlock()
	if len(tickets) > 0 && !ackBeforeSync {
		l.tell(base-tributary.LSN(len(tickets)), tickets, err)
	}
	if len(waiting) > 0 {
		l.tell(base, waiting, err)
	}
	return err
}

func (s *Stats) count(records, payload, written int64, took time.Duration) {
	s.Records += records
	s.Groups++
	s.Flushes++
	s.PayloadBytes += payload
	s.WrittenBytes += written
	s.FlushMean += (took - s.FlushMean) / 8
	s.FlushMax = max(s.FlushMax, took)
}
