package store

import (
	"context"
	"time"

	"github.com/tributary-edge/tributary"
)

// pace decides how long a group waits for company before it is flushed.
//
// A loop that commits whatever is pending settles into two half-size groups:
// those just acknowledged send again while the other half is being flushed, and
// everybody waits for two flushes. Waiting for as many as were just
// acknowledged, at most an eighth of a flush, makes the groups whole again.
type pace struct {
	siblings int           // records acknowledged last, plus those that gathered meanwhile
	lastSize int           // of the last group
	flush    time.Duration // moving average
	misses   int           // waits in a row that brought nobody
	rest     int           // groups left for which no wait is tried
	timer    *time.Timer
}

const (
	siblingShare   = 8 // of a flush
	maxSiblingWait = 5 * time.Millisecond
	missesToRest   = 4
	restGroups     = 64
)

func (p *pace) flushed(took time.Duration) { p.flush += (took - p.flush) / 8 }

func (p *pace) acknowledged(size, gathering int) {
	p.lastSize, p.siblings = size, size+gathering
}

// plan returns how long a group of n records should wait, and the number of
// records that makes waiting pointless.
func (p *pace) plan(n int) (wait time.Duration, enough int) {
	if p.rest > 0 {
		p.rest--
		return 0, 0
	}
	if p.siblings <= 1 || n >= p.siblings {
		return 0, 0
	}
	return min(p.flush/siblingShare, maxSiblingWait), p.siblings
}

// waited learns from a wait for siblings in which a group grew by more records.
func (p *pace) waited(more int) {
	if more*4 >= p.lastSize {
		p.misses = 0
		return
	}
	if p.misses++; p.misses >= missesToRest {
		p.rest, p.misses = restGroups, 0
	}
}

// waitForCompany returns when the gathering group should be committed.
func (l *Log) waitForCompany(ctx context.Context) {
	l.mu.Lock()
	n, p := l.gather.Count(), &l.w.pace
	var wait time.Duration
	var enough int
	switch {
	case n == 0 && len(l.copies) == 0:
	case l.opt.Window > 0:
		wait = l.opt.Window
	case n > 0:
		wait, enough = p.plan(n)
	}
	if wait <= 0 || l.hurry || l.gather.Bytes() >= windowBytes || l.copyBytes >= windowBytes {
		l.mu.Unlock()
		return
	}
	select {
	case <-l.company:
	default:
	}
	l.expected = enough
	l.mu.Unlock()

	if p.timer == nil {
		p.timer = time.NewTimer(wait)
	} else {
		p.timer.Reset(wait)
	}
	select {
	case <-l.company:
	case <-p.timer.C:
	case <-ctx.Done():
	}
	p.timer.Stop()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.expected = 0
	if l.opt.Window <= 0 {
		p.waited(l.gather.Count() - n)
	}
}

// Forwarded tells the log that every record of a ledger below next is in Kafka:
// segments that hold nothing else may be used again.
func (l *Log) Forwarded(id tributary.LedgerID, next tributary.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, known := l.forwarded[id]; next > was || !known {
		l.forwarded[id] = next
		if !l.spare || l.full || l.more <= l.opt.AlarmReserve+l.capacity() { // or else it wakes for nothing, commit after commit
			signal(l.consumed)
		}
	}
}
