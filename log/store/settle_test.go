package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/record"
)

// R42: Settle returns when what was appended before is durable, own records and copies,
// and at once when there is nothing; a log that has failed says so.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := disktest.New(1<<30), disktest.New(1<<30)
		open := func(d *disktest.Disk, window time.Duration) (l *Log, stop func()) {
			l, _, err := Open(d, Options{SegmentBytes: 64 << 10, MaxBytes: 1 << 20, Window: window})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- l.Run(ctx) }()
			return l, func() { cancel(); <-done } //nolint:errcheck // it may have failed
		}
		a, stopA := open(from, 0)
		b, stopB := open(to, time.Second)
		add := func(l *Log) {
			if _, err := l.Append(&record.Record{Stream: "s", Value: []byte("v")}, tributary.Ticket{}); err != nil {
				t.Fatal(err)
			}
		}
		add(a)
		if err := a.Settle(t.Context()); err != nil || a.Durable() != 1 {
			t.Fatal(a.Durable(), err)
		}
		began := time.Now()
		if err := b.Settle(t.Context()); err != nil || time.Since(began) > 0 {
			t.Errorf("with nothing to wait for: %v, after %v", err, time.Since(began))
		}
		r, err := a.Reader(a.Ledger())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		all, err := r.Sealed(t.Context(), 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.AppendCopy(&all[0], func(error) {}); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := b.Settle(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before the copy is durable: %v", err)
		}
		if err := b.Settle(t.Context()); err != nil {
			t.Error(err)
		}
		if _, to, _, held := b.Held(a.Ledger()); !held || to != 1 {
			t.Errorf("it holds %d", to)
		}
		add(b)
		if err := b.Settle(t.Context()); err != nil || b.Durable() != 1 {
			t.Errorf("%d, %v", b.Durable(), err)
		}
		stopA()
		stopB()
		if err := b.Settle(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("of a log that is closed: %v", err)
		}
	})
}
