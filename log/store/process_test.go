package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
)

// driving says who moves a process on.
type driving int

const (
	byHand driving = iota // the test, so that a seed is always the same run
	byRun                 // Run, in a bubble
)

// A process is one lifetime of the log, and checks what it is told.
type process struct {
	*Log

	by     driving
	world  *world
	failed error // what Run would have returned
	cancel context.CancelFunc
	done   chan error

	mu sync.Mutex // guards what follows: Run completes while the test appends

	acknowledged int64
	lives        []*life // one for each ledger: a second one after a failure
	wrong        error
}

// A life is what a process was told of one ledger.
type life struct {
	*history

	told    tributary.LSN // below: handed back
	refused bool          // an error was handed back
}

func (w *world) start(l *Log, by driving) *process {
	p := &process{Log: l, by: by, world: w, done: make(chan error, 1)}
	p.of(l.Ledger())
	for _, h := range w.all { // as the uplink does when it has read its positions
		l.Forwarded(h.id, h.forwarded)
	}
	l.OnCommit(p.completed)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	if by == byRun {
		go func() { p.done <- l.Run(ctx) }()
		synctest.Wait()
	}
	return p
}

// of returns the life of a ledger, and its number. A ledger that is not known yet
// is the next.
func (p *process) of(id tributary.LedgerID) (*life, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, a := range p.lives {
		if a.id == id {
			return a, n
		}
	}
	a := &life{history: p.world.begin(id)}
	if p.opt.Opening != nil {
		a.add(p.opt.Opening)
	}
	p.lives = append(p.lives, a)
	return a, len(p.lives) - 1
}

func (p *process) report(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = errors.Join(p.wrong, err)
}

// completed checks that tickets come back once, in order, and never with
// success after a failure (D2).
func (p *process) completed(id tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
	a, n := p.of(id)
	if base != a.told {
		p.report(fmt.Errorf("records from %d on are handed back, should be from %d", base, a.told))
	}
	for i, t := range tickets {
		lsn := base + tributary.LSN(i)
		opening := lsn == 0 && p.opt.Opening != nil
		if t.Tag>>32 == uint64(n) && !opening && t.Tag&(1<<32-1) != uint64(lsn) {
			p.report(fmt.Errorf("record %d is handed back with the ticket of %x", lsn, t.Tag))
		}
	}
	a.told = base + tributary.LSN(len(tickets))
	a.refused = a.refused || err != nil
	if err != nil {
		if n > 0 != errors.Is(err, ErrFailed) && !p.closed && !errors.Is(err, syscall.EROFS) {
			p.report(fmt.Errorf("D2: failure of ledger %d of a process: %w", n+1, err))
		}
		return
	}
	if a.refused {
		p.report(fmt.Errorf("D2: records from %d on are acknowledged after a failure", base))
	}
	a.promise(a.told)
	p.acknowledged += int64(len(tickets))
}

func (p *process) append(r *record.Record) {
	if p.ended() {
		return
	}
	if p.by == byHand {
		p.makeRoom(group.MaxBytes(r))
	}
	a, n := p.of(p.Ledger())
	lsn, err := p.Append(r, tributary.Ticket{Tag: uint64(n)<<32 | uint64(len(a.entries))})
	if errors.As(err, new(*FullError)) || errors.As(err, new(*TooLargeError)) {
		return
	}
	if err != nil {
		if p.by == byHand && p.failed == nil || !errors.Is(err, ErrFailed) {
			p.report(fmt.Errorf("append: %w", err))
		}
		return
	}
	if id := p.Ledger(); id != a.id && p.Next() == lsn+1 { // the ledger was ended while we waited
		a, _ = p.of(id)
	}
	if want := tributary.LSN(len(a.entries)); lsn != want {
		p.report(fmt.Errorf("L1: got LSN %d, should be %d", lsn, want))
	}
	a.add(r)
}

// appendAll is append for several records at once.
func (p *process) appendAll(rs []record.Record) {
	if p.ended() {
		return
	}
	a, n := p.of(p.Ledger())
	size, tickets := 0, make([]tributary.Ticket, len(rs))
	for i := range rs {
		size += group.MaxBytes(&rs[i])
	}
	if p.by == byHand {
		p.makeRoom(size)
		a, n = p.of(p.Ledger())
	}
	for i := range rs {
		tickets[i].Tag = uint64(n)<<32 | uint64(len(a.entries)+i)
	}
	to, done, err := p.AppendAll(tributary.LedgerID{}, rs, tickets)
	switch {
	case (err == nil) != (done == len(rs)):
		p.report(fmt.Errorf("%d of %d records are appended: %w", done, len(rs), err))
	case p.by == byRun && errors.Is(err, ErrLedgerEnded): // while we waited
	case err != nil && !errors.As(err, new(*FullError)) && !errors.As(err, new(*TooLargeError)) &&
		(p.by == byHand && p.failed == nil || !errors.Is(err, ErrFailed)):
		p.report(fmt.Errorf("append: %w", err))
	}
	a, _ = p.of(to) // the one before may have ended
	for i := range done {
		a.add(&rs[i])
	}
	next, want := p.Next(), tributary.LSN(len(a.entries))
	if err == nil && p.Ledger() == to && next != want {
		p.report(fmt.Errorf("L1: the next LSN is %d, should be %d", next, want))
	}
}

// makeRoom does what Append would otherwise wait for, for records of this size.
func (p *process) makeRoom(size int) {
	if p.gather.Count() > 0 && p.gather.Bytes()+size > p.maxGroup {
		p.commit()
	}
	if p.failed == nil {
		p.stock()
	}
}

func (p *process) commit() {
	switch {
	case p.by == byRun:
		synctest.Wait()
	case p.failed == nil:
		p.failed = p.Log.commit()
	}
}

// ended says whether the log has failed.
func (p *process) ended() bool { return p.Err() != nil }

// stop ends the process as SIGTERM does.
func (p *process) stop() {
	defer p.cancel()
	if p.by == byHand {
		if p.failed == nil {
			p.failed = p.finish()
		}
		return
	}
	p.cancel()
	p.failed = <-p.done
	if a, _ := p.of(p.Ledger()); p.failed == nil && a.told != p.Next() {
		p.report(fmt.Errorf("stopped with records from %d to %d neither acknowledged nor refused", a.told, p.Next()))
	}
	if p.failed != nil && !errors.Is(p.failed, ErrFailed) {
		p.report(p.failed)
	}
}

// abandon leaves the process where it is. Its disk is not looked at again.
func (p *process) abandon() {
	if p.by == byHand {
		p.cancel()
		return
	}
	p.disk().Fail(func(disktest.Op) error { return disktest.ErrOff })
	p.cancel()
	<-p.done //nolint:errcheck // its disk is off: it may say anything
}

func (p *process) disk() *disktest.Disk { return p.fs.(*disktest.Disk) }
