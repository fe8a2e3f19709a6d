package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
)

// D1, D2, D3, L1, L2: whatever is appended, forwarded and stopped, wherever the
// power is cut, the process killed or an operation of the disk fails, even
// during recovery: the log starts again by itself, everything that was
// acknowledged is there, once, in order, and nothing else is.
//
//	SEED=7 go test -run TestCrash ./log/store/              that seed again, the same run
//	go test -tags break_fsync -run 'TestCrash$' ./log/store/   acknowledges before the flush: must fail
//	make test-crash SEEDS=1000000
func TestCrash(t *testing.T) {
	eachSeed(t, 1500, func(seed uint64) (figures, error) { return crash(seed, byHand) })
}

// D1, D2, D3: the same with the log's own goroutines. The script of a seed is
// always the same; how the goroutines take turns is not.
func TestCrashWhileRunning(t *testing.T) {
	for seed := range seeds(t, 50) {
		synctest.Test(t, func(t *testing.T) {
			if _, err := crash(seed, byRun); err != nil {
				t.Errorf("%v\n%s", err, again(t, seed))
			}
		})
	}
}

// D1, D2, D3: the checkers have teeth. Built with a defect, the same tests fail,
// and say why.
func TestCrashHasTeeth(t *testing.T) {
	if ackBeforeSync || retryFlush || keepOldName || group.Align < group.PageBytes || testing.Short() {
		t.Skip("this is a broken build, or there is no time for others")
	}
	for tag, test := range map[string]string{
		"break_fsync": "TestCrash", "break_retry": "TestCrash", "break_header": "TestCrash", "break_padding": "TestCrash",
		"break_truncate": "TestRot",
	} {
		out, err := exec.CommandContext(t.Context(), "go", "test", "-tags", tag, "-run", "^"+test+"$", ".").CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("--- FAIL: "+test)) || !bytes.Contains(out, []byte("again: SEED=")) {
			t.Errorf("%s was not caught: %v\n%s", tag, err, out)
		}
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
				return held[len(held)-1].name
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

// again returns the command that repeats a seed.
func again(t *testing.T, seed uint64) string {
	t.Helper()
	return fmt.Sprintf("again: SEED=%d go test -run '^%s$' ./log/store/", seed, t.Name())
}

// eachSeed runs f for every seed, on all processors, until one fails.
func eachSeed(t *testing.T, n uint64, f func(uint64) (figures, error)) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // many small disks
	todo := make(chan uint64)
	var mu sync.Mutex
	var done figures
	var tried int64
	start := time.Now()
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for seed := range todo {
				did, err := f(seed)
				mu.Lock()
				done.add(did)
				tried++
				mu.Unlock()
				if err != nil {
					t.Errorf("%v\n%s", err, again(t, seed))
				}
			}
		})
	}
	for seed := range seeds(t, n) {
		todo <- seed
	}
	close(todo)
	workers.Wait()
	if !t.Failed() {
		t.Logf("%d seeds, %v; violations: 0; %.1f s", tried, &done, time.Since(start).Seconds())
	}
}

// crash runs several processes, one after another, on one disk.
func crash(seed uint64, by driving) (figures, error) {
	w := newWorld(rand.New(rand.NewPCG(seed, 0)))
	for life := range 2 + w.rng.IntN(2) {
		if err := w.live(by); err != nil {
			return w.did, fmt.Errorf("process %d: %w", life+1, err)
		}
	}
	_, err := w.open()
	return w.did, err
}
