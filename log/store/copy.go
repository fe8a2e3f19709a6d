package store

import (
	"context"
	"errors"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
)

// A copy of a ledger that another node writes lies in the same ring, and its
// groups go to the device with the own one, in the same write and flush: a copy
// costs pages and no flush of its own. What the log says of ledgers, reads,
// packs, frees and drops is true of copies too.

const (
	maxCopyPending = 4 << 20   // of copies that wait for the committer
	maxCopyCommit  = 1 << 20   // of copies in one commit,
	maxCopyBeside  = 256 << 10 // or when an own group goes along: somebody waits for that
	maxCopyFrames  = 1 << 10   // in one commit
)

// ErrNotNext says that what was to be added to a copy does not begin where the
// copy ends: see CopyEnd.
var ErrNotNext = errors.New("it does not begin where the copy ends")

// ErrDiverged says that a copy and what was to be added to it are no parts of one
// ledger: two processes have written to it.
var ErrDiverged = errors.New("the chain of the copy is another one: two processes have written to this ledger")

// ErrLive says that a copy would be of the ledger that this process appends to.
var ErrLive = errors.New("this process writes that ledger")

// An end is where a ledger goes on.
type end struct {
	next  tributary.LSN
	chain uint64
}

// A copying is what waits to be made durable of a copy.
type copying struct {
	id     tributary.LedgerID
	h      group.Header
	frame  group.Frame
	padded []byte
	done   func(error)
	heals  bool // it fills a hole
}

// AppendCopy adds s to the copy of a ledger that another node writes, or begins
// one. A ledger of an earlier process of this node may be added to as well, and is
// a copy from then on. It returns before s is durable: done is called when it is, or with an
// error if it never will be; from the goroutine of Run, which must not wait for
// long. What is added to one ledger becomes durable in that order (R1). The log
// keeps nothing of s.
//
// s must begin where the copy ends, with its chain, or else with record 0; or
// behind that, if all that lies between is in Kafka: see Forwarded. It waits while
// much is pending. Errors, with which nothing was added and done is not called:
// ErrNotNext, ErrDiverged, ErrLive, *TooLargeError, *FullError when less than
// CopyReserve would be left, ErrClosed, and what wraps ErrFailed.
func (l *Log) AppendCopy(s *group.Sealed, done func(error)) error {
	padded, frame := s.Copy()
	size := int64(len(padded))
	if limit := l.capacity(); size > limit {
		return &TooLargeError{Bytes: len(padded), Limit: int(limit)}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.continues(&s.Header); err != nil {
		return err
	}
	if err := l.waitForCopyRoom(size); err != nil {
		return err
	}
	if err := l.continues(&s.Header); err != nil { // a write may have failed meanwhile
		return err
	}
	if _, wrote := l.wrote[s.Ledger]; wrote { // whoever has this data directory too goes on in it, or has more of it
		delete(l.wrote, s.Ledger)
		l.disowned[s.Ledger] = true
	}
	l.ends[s.Ledger] = end{s.Next(), s.Header.Chain()}
	l.addCopy(copying{s.Ledger, s.Header, frame, padded, done, false})
	return nil
}

func (l *Log) addCopy(c copying) {
	l.copies = append(l.copies, c)
	l.copyBytes += int64(len(c.padded))
	l.copiesIn++
	if signal(l.wake); l.copyBytes >= windowBytes {
		signal(l.company)
	}
}

// Heal adds s, which must be one group, to a ledger in which it is missing: all of it
// is in what Missing returns. It is stored behind what came later, and readers find it
// in its place. For the rest it is like AppendCopy; the error that it is not missing
// is ErrNotNext. A ledger that this node has written stays its own.
func (l *Log) Heal(s *group.Sealed, done func(error)) error {
	padded, frame := s.Copy()
	size := int64(len(padded))
	if limit := l.capacity(); size > limit {
		return &TooLargeError{Bytes: len(padded), Limit: int(limit)}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.lacks(s) {
		return ErrNotNext
	}
	if err := l.waitForCopyRoom(size); err != nil {
		return err
	}
	if !l.lacks(s) { // somebody else has brought it meanwhile
		return ErrNotNext
	}
	l.healing[healing{s.Ledger, s.Base}] = true
	l.addCopy(copying{s.Ledger, s.Header, frame, padded, done, true})
	return nil
}

// healing is a group that is on its way into a hole, until it is durable.
type healing struct {
	id   tributary.LedgerID
	base tributary.LSN
}

// lacks says whether a group is missing, and not on its way either.
func (l *Log) lacks(s *group.Sealed) bool {
	missing := slices.ContainsFunc(l.missingLocked(), func(h Hole) bool { return h.Ledger == s.Ledger && h.From <= s.Base && s.Next() <= h.To })
	return missing && !l.healing[healing{s.Ledger, s.Base}]
}

// continues returns nil if what h begins follows the copy.
func (l *Log) continues(h *group.Header) error {
	at, _ := l.endLocked(h.Ledger) // of nothing: record 0
	switch {
	case h.Ledger == l.ledger:
		return ErrLive
	case h.Base == at.next && h.PrevChain != at.chain:
		return ErrDiverged
	case h.Base == at.next, h.Base > at.next && l.forwarded[h.Ledger] >= h.Base:
		return nil
	default:
		return ErrNotNext
	}
}

// waitForCopyRoom returns nil when so many bytes more of copies can be had, and
// behind them what is kept for own records.
func (l *Log) waitForCopyRoom(size int64) error {
	for {
		all := l.copyBytes + size
		if l.gather.Count() > 0 {
			all += int64(group.PaddedBytes(l.gather.Bytes()))
		}
		rest, fits := l.behind(all)
		switch {
		case l.failed != nil:
			return l.failed
		case l.closed:
			return ErrClosed
		case len(l.copies) > 0 && all > min(maxCopyPending, l.capacity()):
			l.changed.Wait() // the committer is busy
		case fits && rest >= l.opt.CopyReserve:
			return nil
		case (l.full || fits && l.spare) && !l.packing:
			return &FullError{MaxBytes: l.opt.MaxBytes}
		default:
			l.changed.Wait() // a segment is being prepared
		}
	}
}

// CopyEnd returns where what is held of a ledger ends, durable or about to be,
// and its chain there. held is false if nothing is.
func (l *Log) CopyEnd(id tributary.LedgerID) (next tributary.LSN, chain uint64, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, held := l.endLocked(id)
	return at.next, at.chain, held
}

// Held returns what is durable of a ledger: from the oldest record on, perhaps with
// holes, up to record to, and the chain there. held is false if nothing is.
func (l *Log) Held(id tributary.LedgerID) (from, to tributary.LSN, chain uint64, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		for _, p := range s.sum.Spans {
			if p.Ledger != id {
				continue
			}
			if !held || p.From < from {
				from, held = p.From, true
			}
			if p.To > to {
				to, chain = p.To, p.ToChain
			}
		}
	}
	return from, to, chain, held
}

// Position returns below which record a ledger is known to be in Kafka.
func (l *Log) Position(id tributary.LedgerID) tributary.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forwarded[id]
}

// Settle returns nil when all that was appended before it was called, to the live
// ledger and to copies, is durable; what a failed write has taken along is not
// waited for. Errors: ctx's, ErrClosed and what wraps ErrFailed.
func (l *Log) Settle(ctx context.Context) error {
	l.mu.Lock()
	ledger, next, copies := l.ledger, l.next, l.copiesIn
	for l.ledger == ledger && l.durable < next || l.copiesOut < copies {
		if l.failed != nil || l.closed {
			break
		}
		if l.tail == nil {
			l.tail = make(chan struct{})
		}
		more := l.tail
		l.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
	}
	defer l.mu.Unlock()
	switch {
	case l.failed != nil:
		return l.failed
	case l.closed:
		return ErrClosed
	default:
		return nil
	}
}

func (l *Log) endLocked(id tributary.LedgerID) (at end, held bool) {
	if at, held = l.ends[id]; held {
		return at, true
	}
	for _, s := range l.segs {
		for _, p := range s.sum.Spans {
			if p.Ledger == id && p.To > at.next {
				at, held = end{p.To, p.ToChain}, true
			}
		}
	}
	return at, held
}

// takeCopies moves copies from those that wait to the batch, as many as fit into
// the segment behind the own group, and returns how much room they need. Without
// an own group they may begin a segment; if none is left they are refused.
func (l *Log) takeCopies(b *batch) (claimed int64) {
	limit := int64(maxCopyCommit)
	switch {
	case len(l.copies) == 0:
		return 0
	case b.group != nil:
		limit = maxCopyBeside
	case int64(len(l.copies[0].padded)) <= l.left:
	case l.spare:
		l.turn()
	default: // the ring says when there is one
		return 0
	}
	n := 0
	for ; n < len(l.copies) && n < maxCopyFrames; n++ {
		size := int64(len(l.copies[n].padded))
		if claimed+size > l.left || n > 0 && claimed+size > limit {
			break
		}
		claimed += size
	}
	b.copies = append(b.copies, l.copies[:n]...)
	l.copies = append(l.copies[:0], l.copies[n:]...)
	clear(l.copies[len(l.copies):cap(l.copies)])
	l.copyBytes -= claimed
	return claimed
}

// dropCopies returns what waits to be added to copies, and forgets it.
func (l *Log) dropCopies() []copying {
	all := l.copies
	l.copies, l.copyBytes = nil, 0
	l.copiesOut += uint64(len(all))
	clear(l.ends) // what is durable says where they end
	clear(l.healing)
	return all
}

// refuseCopies tells those who wait for copies that they will not be added.
func (l *Log) refuseCopies(err error) {
	l.mu.Lock()
	all := l.dropCopies()
	l.wakeReaders()
	l.mu.Unlock()
	for i := range all {
		all[i].done(err)
	}
}
