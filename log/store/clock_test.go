package store

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/disk/disktest"
)

// A1: a clock that says 1970, then jumps to now, then is set back, deletes
// nothing by age that is not old, and does delete what is. What was logged in
// 1970 is read with its real time as soon as that is known, in this process and
// the next; log time never goes back.
func TestWrongClockAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var skew atomic.Int64 // of the wall clock, in nanoseconds; the log reads it at any time
		var synced atomic.Bool
		is1970 := func() int64 { return int64(-time.Until(time.Unix(0, 0)).Abs()) }
		start0 := time.Now()
		source := clock.Source{
			Wall:   func() int64 { return time.Now().Add(time.Duration(skew.Load())).UnixMilli() },
			Uptime: func() int64 { return time.Since(start0).Milliseconds() },
			Synced: synced.Load, Boot: [16]byte{1},
		}
		opt := Options{MaxBytes: 4 << 20, MaxAge: time.Hour, Clock: source}
		skew.Store(is1970())
		d := disktest.New(1 << 30)
		l := start(t, d, opt)
		var logged []time.Time
		fill := func(segments int) {
			t.Helper()
			for to := len(l.held()) + segments; len(l.held()) < to; {
				r := rec("s", 0, len(logged))
				r.Millis = 0 // the log's clock says
				if _, err := l.Append(r, tributary.Ticket{}); err != nil {
					t.Fatal(err)
				}
				logged = append(logged, time.Now())
				synctest.Wait()
			}
		}
		settle := func() {
			time.Sleep(time.Minute) //nolint:forbidigo // bubble time
			synctest.Wait()
		}
		fill(3)
		l.Forwarded(l.Ledger(), l.Next())
		settle()
		held := len(l.held())
		skew.Store(0) // NTP: thirty years pass at once
		synced.Store(true)
		fill(2)
		l.Forwarded(l.Ledger(), l.Next())
		settle()
		if got := len(l.held()); got != held+2 {
			t.Fatalf("%d segments are held, should be %d: a jump is no age", got, held+2)
		}
		skew.Store(int64(-2 * time.Hour)) // somebody sets it back
		synced.Store(false)
		fill(1)
		l.Forwarded(l.Ledger(), l.Next())
		settle()
		if got := len(l.held()); got != held+3 {
			t.Fatalf("%d segments are held, should be %d", got, held+3)
		}

		id := l.Ledger()
		check := func(l *Log, live bool) {
			t.Helper()
			r, err := l.Reader(id)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			at := r.Base()
			for int(at) < len(logged) {
				c, err := r.Read(t.Context(), at, 1)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range c.Entries {
					if off := time.UnixMilli(e.Millis).Sub(logged[e.LSN]).Abs(); off > time.Second {
						t.Fatalf("record %d has the time %v, was logged at %v (live %v)", e.LSN, time.UnixMilli(e.Millis), logged[e.LSN], live)
					}
				}
				at = c.Next
			}
		}
		check(l.Log, true)
		l.close(t)
		opt.Clock.Boot, opt.Clock.Synced = [16]byte{2}, func() bool { return false } // another boot, in 1970
		skew.Store(is1970())
		again, _, err := Open(d, opt)
		if err != nil {
			t.Fatal(err)
		}
		check(again, false)
		if _, err := Verify(d); err != nil {
			t.Error(err)
		}

		skew.Store(0)
		synced.Store(true)
		opt.Clock = source
		last := start(t, d, opt)
		before := len(last.held())
		last.Forwarded(id, tributary.LSN(len(logged)))
		time.Sleep(3 * time.Hour) //nolint:forbidigo // bubble time
		synctest.Wait()
		if got := len(last.held()); got >= before {
			t.Errorf("%d segments are held three hours later, were %d", got, before)
		}
		last.close(t)
	})
}
