package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// quiet is how long a position may wait when there is nothing to send with it.
const quiet = 10 * time.Second

// load is what one transaction carries: the records [from, next) of the ledger.
type load struct {
	from, next tributary.LSN
	chain      uint64
	chunks     []record.Chunk // without those that hold nothing to send
	records    int            // to send; a gap is one
	bytes      int            // of those, in memory
	overhead   int            // of those bytes, what is not keys, values and headers
	ended      bool           // the ledger ends at next
}

// appetite is how much a load should be.
type appetite struct {
	room   int                  // bytes
	linger func() time.Duration // after the first record to send, asked then
	gaps   bool                 // whether a gap may come with what is before it
	// pass returns the chunk, or the first part of it, when it may go to Kafka: it waits
	// at the mark of a hand-off, unless something is gathered already; then it returns
	// no records. nil: there are no marks.
	pass func(ctx context.Context, c record.Chunk, some bool) (record.Chunk, error)
}

// passed is pass, where there are marks.
func (a *appetite) passed(ctx context.Context, c record.Chunk, some bool) (record.Chunk, error) {
	if a.pass == nil || c.Gap != nil {
		return c, nil
	}
	return a.pass(ctx, c, some)
}

// gathering is one load in the making, in a goroutine of its own.
type gathering struct {
	wanted chan struct{} // closed when the load is needed
	done   chan struct{} // closed when the goroutine has ended
	load   load          // valid after done
	err    error         // valid after done
	cancel context.CancelFunc
}

// gather starts to gather the load that begins at from. The caller must call
// take or stop.
func (s *session) gather(ctx context.Context, from tributary.LSN) *gathering {
	ctx, cancel := context.WithCancel(ctx)
	g := &gathering{wanted: make(chan struct{}), done: make(chan struct{}), cancel: cancel}
	// Without a dead-letter topic a gap is waited for; what is before it is not.
	most := appetite{room: s.room, linger: s.cfg.linger, gaps: s.cfg.DeadLetter != ""}
	if s.hold != nil {
		most.pass = s.pass
	}
	go func() {
		defer close(g.done)
		g.load, g.err = gather(ctx, s.src, from, most, g.wanted)
	}()
	return g
}

// take returns the load as soon as it is full or has lingered enough.
func (g *gathering) take(ctx context.Context) (load, error) {
	close(g.wanted)
	select {
	case <-g.done:
	case <-ctx.Done():
	}
	g.stop()
	return g.load, g.err
}

// stop ends the goroutine and waits for that.
func (g *gathering) stop() {
	g.cancel()
	<-g.done
}

// gather reads chunks until they fill their room, or have lingered and are
// wanted, or the ledger ends. When they hold nothing to send, there is no hurry to
// tell Kafka that the position has moved: they wait for records, or for quiet.
func gather(ctx context.Context, src Source, from tributary.LSN, most appetite, wanted <-chan struct{}) (load, error) {
	l := load{from: from, next: from}
	enough := ctx // ends when the load need not grow any more
	for l.bytes < most.room {
		chunk, err := src.Read(enough, l.next, most.room-l.bytes)
		switch {
		case err == nil:
		case ended(err):
			l.ended = true
			return l, nil
		case ctx.Err() != nil:
			return l, ctx.Err()
		case enough.Err() != nil && isContext(err):
			return l, nil
		default:
			return l, fmt.Errorf("read the log at record %d: %w", l.next, err)
		}
		isGap := chunk.Gap != nil
		if chunk.From != l.next || chunk.Next <= chunk.From || isGap && len(chunk.Entries) > 0 {
			panic(fmt.Sprintf("the log gave records [%d, %d), asked for %d; a gap: %t, entries: %d", chunk.From, chunk.Next, l.next, isGap, len(chunk.Entries)))
		}
		if isGap && !most.gaps && l.next > from {
			return l, nil
		}
		if chunk, err = most.passed(ctx, chunk, l.next > from); err != nil || chunk.Next == l.next {
			return l, err
		}
		first, sendable := l.next == from, l.records > 0
		l.add(chunk)
		switch {
		case l.records > 0 && !sendable:
			grown, cancel := context.WithCancel(ctx)
			defer cancel()
			timer := time.AfterFunc(most.linger(), func() {
				select {
				case <-wanted:
					cancel()
				case <-grown.Done():
				}
			})
			defer timer.Stop()
			enough = grown //nolint:fatcontext // a child of ctx, never of the one before
		case first:
			still, cancel := context.WithTimeout(ctx, quiet)
			defer cancel()
			enough = still
		}
	}
	return l, nil
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (l *load) add(c record.Chunk) {
	l.next, l.chain = c.Next, c.Chain
	if c.Gap != nil {
		l.chunks = append(l.chunks, c)
		l.records++
		l.overhead += entryOverhead * (1 + len(c.Gap.Streams))
		l.bytes += entryOverhead * (1 + len(c.Gap.Streams))
		return
	}
	records := 0
	for i := range c.Entries {
		e := &c.Entries[i]
		if e.Stream == "" {
			continue // a control record: it stays here
		}
		records++
		l.bytes += entryOverhead + len(e.Key) + len(e.Value)
		for j := range e.Headers {
			l.bytes += len(e.Headers[j].Key) + len(e.Headers[j].Value)
		}
	}
	if records > 0 {
		l.chunks = append(l.chunks, c)
		l.records += records
		l.overhead += records * entryOverhead
	}
}

// entryOverhead is about what a record costs in memory beside its fields, so
// that many tiny records do not make a huge chunk.
const entryOverhead = 64
