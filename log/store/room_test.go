package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/record"
)

// add appends records that f makes, each a group of its own, until the log is full
// or there are most of them, and returns how many it took. It is for bubbles.
func add(t *testing.T, l *running, most int, f func(n int) *record.Record) int {
	t.Helper()
	for n := range most {
		_, err := l.Append(f(n), tributary.Ticket{})
		if errors.As(err, new(*FullError)) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	}
	return most
}

// fill is add without an end: it returns when the log is full.
func fill(t *testing.T, l *running, f func(n int) *record.Record) int {
	t.Helper()
	n := add(t, l, 10_000, f)
	if n == 10_000 {
		t.Fatal("the log is never full")
	}
	return n
}

// page3k makes a record that fills most of a page, and does not compress.
func page3k(n int) *record.Record {
	r := rec("telemetry", 0, n)
	r.Value = make([]byte, 3000)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(r.Value)
	return r
}

// A1: a log that is full for ordinary records still takes alarms, and one that is
// full for those still takes control records.
func TestAlarmsFindRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, disktest.New(1<<30), Options{AlarmReserve: 64 << 10})
		ordinary := fill(t, l, func(n int) *record.Record { return rec("s", 0, n) })
		alarms := fill(t, l, func(n int) *record.Record {
			r := rec("s", 0, n)
			r.Alarm = true
			return r
		})
		control := fill(t, l, func(int) *record.Record { return &record.Record{Key: []byte("k")} })
		if ordinary < 10 || alarms < 10 || control < 1 || l.count() != ordinary+alarms+control {
			t.Errorf("took %d ordinary records, then %d alarms, then %d control records; %d acknowledged", ordinary, alarms, control, l.count())
		}
		l.close(t)
	})
}

// D1: an urgent record does not wait for company, and takes those along that do.
func TestUrgentEndsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, disktest.New(1<<30), Options{Window: time.Hour})
		from := time.Now()
		for n := range 3 {
			r := rec("s", 0, n)
			r.Urgent = n == 2
			if _, err := l.Append(r, tributary.Ticket{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if want := []int{0, 0, 3}[n]; l.count() != want {
				t.Errorf("%d acknowledged after record %d, want %d", l.count(), n, want)
			}
		}
		if l.Stats().Flushes != 1 || time.Since(from) != 0 {
			t.Errorf("%d flushes in %v", l.Stats().Flushes, time.Since(from))
		}
		l.close(t)
	})
}

// D3: a log that gets full packs its oldest segments and goes on; nothing of them
// is lost, before and after a restart.
func TestPackWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const segments = 12
		d := disktest.New(1 << 30)
		l := start(t, d, Options{MaxBytes: segments * 64 << 10})
		n := fill(t, l, func(n int) *record.Record { return rec("s", 0, n) })
		s := l.Stats()
		if s.PackedTo == 0 || s.PackedFrom < 2*s.PackedTo || n < 2*segments*11 || l.count() != n {
			t.Errorf("took %d records, %d acknowledged; %d bytes packed to %d", n, l.count(), s.PackedFrom, s.PackedTo)
		}
		l.close(t)
		again := start(t, d, Options{MaxBytes: segments * 64 << 10})
		if all := readAll(t, again.Log, l.Ledger()); len(all) != n {
			t.Errorf("%d records are there, %d were acknowledged", len(all), n)
		}
		again.close(t)
	})
}

// A1: the quota holds, in bytes, when the size of segments is changed, and the log
// goes on when Kafka has what was there.
func TestResizedSegmentsKeepTheQuota(t *testing.T) {
	for _, sizes := range [][2]int64{{256 << 10, 64 << 10}, {64 << 10, 256 << 10}} {
		t.Run(fmt.Sprintf("%d to %d", sizes[0], sizes[1]), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const quota = 2 << 20
				d := disktest.New(1 << 30)
				l := start(t, d, Options{SegmentBytes: sizes[0], MaxBytes: quota})
				fill(t, l, page3k)
				id, next := l.Ledger(), l.Durable()
				l.close(t)
				again := start(t, d, Options{SegmentBytes: sizes[1], MaxBytes: quota})
				fill(t, again, page3k)
				total, free, _ := d.Space()
				if used := total - free; used > quota+sizes[0] {
					t.Errorf("%d bytes on the disk, the quota is %d", used, quota)
				}
				again.Forwarded(id, next)
				for range 5 {
					again.Forwarded(again.Ledger(), again.Durable())
					synctest.Wait()
					if fill(t, again, page3k) == 0 {
						t.Fatalf("nothing is taken any more: %s", again.Stats().NoSegment)
					}
				}
				again.close(t)
			})
		})
	}
}
