package store

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
)

// A stuck disk is one whose flushes, or whose new files, do not return before it
// thaws: the process lives, and what has to do with them hangs.
type stuck struct {
	disk.FS

	flushes, creates atomic.Bool
	thaw             chan struct{}
}

func (s *stuck) Create(name string) (disk.File, error) {
	if s.creates.Load() {
		<-s.thaw
	}
	f, err := s.FS.Create(name)
	return &stuckFile{f, s}, err
}

func (s *stuck) Open(name string, write bool) (disk.File, error) {
	f, err := s.FS.Open(name, write)
	return &stuckFile{f, s}, err
}

type stuckFile struct {
	disk.File

	s *stuck
}

func (f *stuckFile) Sync() error {
	if f.s.flushes.Load() {
		<-f.s.thaw
	}
	return f.File.Sync()
}

// answers says whether the log answers a probe within a minute.
func (r *running) answers(t *testing.T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := r.Probe(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

// An idle log answers for ever, and its device has nothing to do for it. With a
// flush that does not return, the log no longer answers, though nobody waits for a
// record and every question about it is answered; when the flush returns, it does.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		s := &stuck{FS: d, thaw: make(chan struct{})}
		l := start(t, s, Options{})
		if _, err := l.Append(rec("telemetry", 0, 1), tributary.Ticket{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := d.Ops()
		for range 1000 {
			if !l.answers(t) {
				t.Fatal("an idle log does not answer")
			}
		}
		if n := d.Ops() - before; n != 0 {
			t.Errorf("1000 probes of an idle log cost %d operations of the disk, want none", n)
		}

		s.flushes.Store(true)
		if _, err := l.Append(rec("telemetry", 0, 2), tributary.Ticket{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // for the flush to hang: a probe may come before it
		if l.answers(t) {
			t.Error("the log answers while its flush hangs")
		}
		if l.Durable() != 1 || l.Next() != 2 {
			t.Errorf("durable %d, next %d; want 1, 2", l.Durable(), l.Next())
		}

		s.flushes.Store(false)
		close(s.thaw)
		if !l.answers(t) {
			t.Error("the log does not answer after its flush has returned")
		}
		l.close(t)
		if err := l.Probe(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed log answers %v, want ErrClosed", err)
		}
	})
}

// When the next segment cannot be had because the disk hangs, the committer is idle
// and devices wait all the same: the log does not answer. A log that is full does: it
// refuses at once.
func TestProbeWithoutASegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{FS: disktest.New(1 << 30), thaw: make(chan struct{})}
		l := start(t, s, Options{})
		synctest.Wait()
		s.creates.Store(true)
		filled := make(chan error)
		go func() {
			for n := 1; ; n++ {
				if _, err := l.Append(rec("telemetry", 0, n), tributary.Ticket{}); err != nil {
					filled <- err
					return
				}
			}
		}()
		synctest.Wait()
		if l.answers(t) {
			t.Error("the log answers while no segment can be had")
		}
		s.creates.Store(false)
		close(s.thaw)
		if err := <-filled; !errors.As(err, new(*FullError)) {
			t.Fatal(err)
		}
		if !l.answers(t) {
			t.Error("a full log does not answer")
		}
		l.close(t)
	})
}

// A log that has failed says so, and does not keep the probe waiting.
func TestProbeOfAFailedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		l := start(t, d, Options{})
		synctest.Wait()
		d.Fail(func(op disktest.Op) error {
			if op.Kind == "sync" {
				return syscall.EROFS
			}
			return nil
		})
		if _, err := l.Append(rec("telemetry", 0, 1), tributary.Ticket{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := l.Probe(t.Context()); !errors.Is(err, ErrFailed) {
			t.Errorf("answers %v, want ErrFailed", err)
		}
		if err := <-l.done; !errors.Is(err, ErrFailed) {
			t.Error("run:", err)
		}
	})
}
