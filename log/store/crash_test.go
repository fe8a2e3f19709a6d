package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// D1, D2, D3, L1, L2: whatever is appended, forwarded and stopped, wherever the
// power is cut, the process killed or an operation of the disk fails, even
// during recovery: the log starts again by itself, everything that was
// acknowledged is there, once, in order, and nothing else is.
//
//	SEED=7 go test -run TestCrash ./log/store/              that seed again, the same run
//	SEEDS=100000 go test -timeout 1h -run TestCrash ./log/store/
//	go test -tags break_fsync -run 'TestCrash$' ./log/store/   acknowledges before the flush: must fail
func TestCrash(t *testing.T) {
	for seed := range seeds(t, 150) {
		crash(t, seed, byHand)
	}
}

// D1, D2, D3: the same with the log's own goroutines. The script of a seed is
// always the same; how the goroutines take turns is not.
func TestCrashWhileRunning(t *testing.T) {
	for seed := range seeds(t, 50) {
		synctest.Test(t, func(t *testing.T) { crash(t, seed, byRun) })
	}
}

// D1: the checker has teeth. Built with an acknowledgement before the flush, the
// same test fails, and says why.
func TestCrashHasTeeth(t *testing.T) {
	if ackBeforeSync || testing.Short() {
		t.Skip("this is the broken build, or there is no time for another")
	}
	out, err := exec.CommandContext(t.Context(), "go", "test", "-tags", "break_fsync", "-run", "^TestCrash$", ".").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("D1, D3: ")) {
		t.Errorf("the broken build was not caught: %v\n%s", err, out)
	}
}

// A1: what keeps the next segment from being prepared for a while, whichever
// step it hits, makes the log full and not broken; it takes records again by
// itself, with no segment lost.
func TestPreparingFailsForAWhile(t *testing.T) {
	for _, kind := range []string{"open", "rename", "syncdir", "write", "sync"} {
		synctest.Test(t, func(t *testing.T) {
			d := disktest.New(1 << 30)
			l := start(t, d, Options{})
			var broken atomic.Bool
			current := func() string { // a failure there would rightly end the ledger
				held := l.held()
				return segment.Name(held[len(held)-1].seq)
			}
			n := 0
			fill := func() error {
				for ; ; n++ {
					if _, err := l.Append(rec("s", 0, n), tributary.Ticket{}); err != nil {
						return err
					}
					synctest.Wait()
				}
			}
			var full *FullError
			if err := fill(); !errors.As(err, &full) {
				t.Fatal(kind, err)
			}
			last := current()
			d.Fail(func(op disktest.Op) error {
				if broken.Load() && op.Kind == kind && op.Name != last {
					return syscall.EMFILE
				}
				return nil
			})
			broken.Store(true)
			l.Forwarded(l.Ledger(), tributary.LSN(n)) // now segments could be used again
			synctest.Wait()
			if _, err := l.Append(rec("s", 0, n), tributary.Ticket{}); !errors.As(err, &full) || l.Stats().NoSegment == "" {
				t.Errorf("%s fails: append says %v, the stats %q", kind, err, l.Stats().NoSegment)
			}
			broken.Store(false)
			time.Sleep(2 * lookAgain) //nolint:forbidigo // bubble time
			before := n
			if err := fill(); !errors.As(err, &full) || n-before < 30 {
				t.Errorf("%s failed for a while: took %d records afterwards, then %v", kind, n-before, err)
			}
			l.close(t)
		})
	}
}

// seeds yields SEED, or else as many seeds as SEEDS says.
func seeds(t *testing.T, n uint64) func(func(uint64) bool) {
	t.Helper()
	from := uint64(1)
	for name, to := range map[string]*uint64{"SEED": &from, "SEEDS": &n} {
		if text, ok := os.LookupEnv(name); ok {
			v, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			*to = v
		}
	}
	if _, one := os.LookupEnv("SEED"); one {
		n = 1
	}
	return func(yield func(uint64) bool) {
		for seed := from; seed < from+n && !t.Failed() && yield(seed); seed++ {
		}
	}
}

// crash runs several processes, one after another, on one disk.
func crash(t *testing.T, seed uint64, by driving) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	w := world{oracle: &oracle{}, disk: disktest.New(1 << 30), rng: rng}
	w.opt = Options{
		SegmentBytes: (32 + rng.Int64N(3)*32) << 10, // far below what the daemon allows: many rolls
		MaxBytes:     512 << 10,
		Compress:     rng.IntN(2) == 0,
		MaxAge:       []time.Duration{0, time.Minute}[rng.IntN(2)],
	}
	if rng.IntN(2) == 0 {
		w.opt.MaxBytes = 0 // the least: often full
	}
	w.resize = rng.IntN(4) == 0
	for life := range 2 + rng.IntN(5) {
		if err := w.live(by); err != nil {
			t.Errorf("process %d: %v\nagain: SEED=%d go test -run %s ./log/store/", life+1, err, seed, t.Name())
			return
		}
	}
}

// world is what outlives a process.
type world struct {
	*oracle

	disk *disktest.Disk
	rng  *rand.Rand
	opt  Options

	resize bool // each process may have another size of segments
}

// live starts a process, lets it work until it stops, dies or loses its power,
// and leaves the disk to the next one.
func (w *world) live(by driving) error {
	if err := w.recover(); err != nil {
		return err
	}
	if w.resize && w.rng.IntN(2) == 0 { // the operator has changed the configuration
		w.opt.SegmentBytes = (32 + w.rng.Int64N(3)*32) << 10
	}
	w.opt.Opening = nil
	if w.rng.IntN(2) == 0 {
		w.opt.Opening = &record.Record{Key: []byte("open"), Value: []byte("a process begins"), Millis: 5}
	}
	l, err := w.reopen(w.disk, w.opt)
	if err != nil {
		return err
	}
	p := w.start(l, by)
	after := w.interrupt(1 + w.rng.IntN(80))
	for range 10 + w.rng.IntN(60) {
		if p.ended() {
			break
		}
		w.step(p)
	}
	if w.rng.IntN(2) == 0 {
		p.stop()
	} else {
		p.abandon()
	}
	if err := errors.Join(p.wrong, w.quota()); err != nil {
		return err
	}
	w.disk = after()
	return nil
}

// recover opens the log up to three times with an interruption in the middle.
func (w *world) recover() error {
	for range w.rng.IntN(4) {
		after := w.interrupt(w.rng.IntN(30))
		_, found, err := Open(w.disk, w.opt)
		w.disk = after()
		if err == nil && len(found.Rot) > 0 {
			return fmt.Errorf("calls a power cut rot: %w", &found.Rot[0])
		}
	}
	return nil
}

var errIO = errors.New("input/output error")

// interrupt arranges for something to happen to the disk in n operations from
// now. What it returns gives the disk that the next process finds.
func (w *world) interrupt(n int) (after func() *disktest.Disk) {
	d, at := w.disk, w.disk.Ops()+n
	off := func(op disktest.Op) error {
		if op.N >= at {
			return disktest.ErrOff
		}
		return nil
	}
	offBehind := func(op disktest.Op) error {
		if op.N > at {
			return disktest.ErrOff
		}
		return nil
	}
	once := func(op disktest.Op) error {
		if op.N == at {
			return errIO
		}
		return nil
	}
	forGood := func(op disktest.Op) error {
		if op.N >= at {
			return errIO
		}
		return nil
	}
	switch w.rng.IntN(6) {
	case 0:
		d.Fail(off)
	case 1: // the last operation still happens, and nobody hears of it
		d.Fail(offBehind)
		d.FailLate(off)
	case 2:
		d.Fail(once)
	case 3:
		d.FailLate(once)
	case 4:
		d.Fail(forGood)
	case 5:
	}
	killed := w.rng.IntN(3) == 0
	return func() *disktest.Disk {
		if killed {
			return d.Kill()
		}
		return d.Crash(w.rng)
	}
}

// quota checks that no more room is taken than the log was given.
func (w *world) quota() error {
	if w.resize {
		return nil // segments are counted by the size they should have
	}
	total, free, err := w.disk.Space()
	if limit := max(w.opt.MaxBytes, minSegments*w.opt.SegmentBytes); err == nil && total-free > limit {
		err = fmt.Errorf("%d bytes are used, the limit is %d", total-free, limit)
	}
	return err
}

// step does one thing of what a process does.
func (w *world) step(p *process) {
	switch w.rng.IntN(20) {
	case 0, 1:
		h := w.all[w.rng.IntN(len(w.all))]
		if h.promised > h.forwarded {
			next := h.forwarded + 1 + tributary.LSN(w.rng.Uint64N(uint64(h.promised-h.forwarded)))
			h.forwarded = next
			p.Forwarded(h.id, next)
		}
	case 2:
		p.freeOld(time.Now().Add(time.Hour))
	case 3:
		p.commit() // and let the ring come to rest
		if err := w.check(p.Log); !errors.Is(err, errIO) && !errors.Is(err, disktest.ErrOff) {
			p.wrong = errors.Join(p.wrong, err)
		}
	default:
		for range 1 + w.rng.IntN(12) {
			p.append(w.record())
		}
		p.commit()
	}
}

// record makes up a record that no other is like.
func (w *world) record() *record.Record {
	r := &record.Record{
		Stream: []string{"a", "telemetry", ""}[w.rng.IntN(3)], Partition: w.rng.Int32N(3) - 1,
		Millis: w.rng.Int64N(1 << 42), Key: fmt.Appendf(nil, "%x", w.rng.Uint64()),
	}
	size := w.rng.IntN(200)
	if w.rng.IntN(8) == 0 {
		size = w.rng.IntN(3 * group.PageBytes)
	}
	r.Value = bytes.Repeat([]byte{byte(size)}, size)
	if w.rng.IntN(2) == 0 {
		for i := range r.Value {
			r.Value[i] = byte(w.rng.Uint32())
		}
	}
	for range w.rng.IntN(3) {
		r.Headers = append(r.Headers, record.Header{Key: "mqtt.topic", Value: r.Key})
	}
	if w.rng.IntN(8) == 0 {
		r.Key = nil
	}
	return r
}

// driving says who moves a process on.
type driving int

const (
	byHand driving = iota // the test, so that a seed is always the same run
	byRun                 // Run, in a bubble
)

// A process is one lifetime of the log, and checks what it is told.
type process struct {
	*Log

	by      driving
	history *history
	told    tributary.LSN // below: handed back
	refused bool          // an error was handed back
	wrong   error
	failed  error // what Run would have returned
	cancel  context.CancelFunc
	done    chan error
}

func (w *world) start(l *Log, by driving) *process {
	p := &process{Log: l, by: by, history: w.begin(l.Ledger()), done: make(chan error, 1)}
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

// completed checks that tickets come back once, in order, and never with
// success after a failure (D2).
func (p *process) completed(base tributary.LSN, tickets []tributary.Ticket, err error) {
	if base != p.told {
		p.wrong = errors.Join(p.wrong, fmt.Errorf("records from %d on are handed back, should be from %d", base, p.told))
	}
	for i, t := range tickets {
		lsn := base + tributary.LSN(i)
		if opening := lsn == 0 && p.opt.Opening != nil; !opening && t.Tag != uint64(lsn) {
			p.wrong = errors.Join(p.wrong, fmt.Errorf("record %d is handed back with the ticket of %d", lsn, t.Tag))
		}
	}
	p.told = base + tributary.LSN(len(tickets))
	p.refused = p.refused || err != nil
	if err != nil {
		return
	}
	if p.refused {
		p.wrong = errors.Join(p.wrong, fmt.Errorf("D2: records from %d on are acknowledged after a failure", base))
	}
	p.history.promised = p.told
}

func (p *process) append(r *record.Record) {
	if p.ended() {
		return
	}
	if p.by == byHand {
		p.makeRoom(r)
	}
	h := p.history
	want := tributary.LSN(len(h.entries))
	if want == 0 && p.opt.Opening != nil {
		want = 1
	}
	lsn, err := p.Append(r, tributary.Ticket{Tag: uint64(want)})
	if errors.As(err, new(*FullError)) || errors.As(err, new(*TooLargeError)) {
		return
	}
	if err != nil {
		if p.by == byHand && p.failed == nil || !errors.Is(err, ErrFailed) {
			p.wrong = errors.Join(p.wrong, fmt.Errorf("append: %w", err))
		}
		return
	}
	if lsn != want {
		p.wrong = errors.Join(p.wrong, fmt.Errorf("L1: got LSN %d, should be %d", lsn, want))
	}
	if want > tributary.LSN(len(h.entries)) {
		h.add(p.opt.Opening)
	}
	h.add(r)
}

// makeRoom does what Append would otherwise wait for.
func (p *process) makeRoom(r *record.Record) {
	if p.gather.Count() > 0 && p.gather.Bytes()+group.MaxBytes(r) > p.maxGroup {
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
	if p.failed == nil && p.told != p.Next() {
		p.wrong = errors.Join(p.wrong, fmt.Errorf("stopped with records from %d to %d neither acknowledged nor refused", p.told, p.Next()))
	}
	if p.failed != nil && !errors.Is(p.failed, ErrFailed) {
		p.wrong = errors.Join(p.wrong, p.failed)
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
