package store

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// U4, A1: a log that drops its oldest records takes all that comes, and says
// which are gone, to the record and by stream.
func TestDropOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		l := start(t, d, Options{DropOldest: true})
		const total = 300
		for n := range total {
			if _, err := l.Append(rec([]string{"a", "b"}[n%2], 0, n), tributary.Ticket{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		dropped := l.Stats().DroppedRecords
		if l.count() != total || dropped < total/2 {
			t.Fatalf("%d acknowledged, %d dropped", l.count(), dropped)
		}
		l.close(t)

		again := start(t, d, Options{DropOldest: true})
		r, err := again.Reader(l.Ledger())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c, err := r.Read(t.Context(), 0, 1)
		if err != nil || c.Gap == nil || c.Gap.Reason != record.Dropped || int64(c.Next) != dropped ||
			c.Gap.Streams["a"] != (dropped+1)/2 || c.Gap.Streams["b"] != dropped/2 {
			t.Fatalf("%d records were dropped; read %+v %+v, %v", dropped, c, c.Gap, err)
		}
		for at := c.Next; at < total; at = c.Next {
			if c, err = r.Read(t.Context(), at, 1<<20); err != nil || c.Gap != nil {
				t.Fatalf("read from %d: %+v, %v", at, c.Gap, err)
			}
		}
		again.close(t)
	})
}

// A1: a log that drops its oldest segment refuses nobody, also when it keeps a
// reserve for alarms.
func TestDropOldestWithAlarmReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, disktest.New(1<<30), Options{MaxBytes: 16 * (64 << 10), DropOldest: true, AlarmReserve: 4 * (64 << 10)})
		if taken := add(t, l, 500, page3k); taken != 500 {
			t.Errorf("refused after %d of 500", taken)
		}
		l.close(t)
	})
}

// A1: the oldest segment can be dropped whatever the disk has done to its file.
func TestDropOldestDamaged(t *testing.T) {
	unreadable := func(kind string, bytes int64) func(*testing.T, *disktest.Disk, string) {
		return func(_ *testing.T, d *disktest.Disk, file string) {
			d.Fail(func(op disktest.Op) error {
				if op.Name == file && (op.Kind == "read" && op.At < bytes || op.Kind == kind) {
					return syscall.EIO
				}
				return nil
			})
		}
	}
	cases := map[string]func(*testing.T, *disktest.Disk, string){
		"cut late":          func(_ *testing.T, d *disktest.Disk, file string) { d.Truncate(file, segment.HeaderBytes) },
		"unreadable":        unreadable("open", 64<<10),
		"header unreadable": unreadable("read of the header", segment.HeaderBytes),
		"pages unreadable":  unreadable("read", 64<<10),
	}
	maps.Copy(cases, ruins)
	for name, ruin := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := disktest.New(1 << 30)
				l := start(t, d, Options{MaxBytes: 8 * (64 << 10), DropOldest: true})
				add(t, l, 60, page3k)
				ruin(t, d, segment.Name(1, false))
				if taken := add(t, l, 300, page3k); taken != 300 {
					t.Errorf("refused after %d of 300: %s", taken, l.Stats().NoSegment)
				}
				l.close(t)
			})
		})
	}
}

// A1: with room on the disk for what it may use, a log whose policy is to drop
// drops, also if another program has filled the disk meanwhile.
func TestDropOldestOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		l := start(t, d, Options{MaxBytes: 64 * (64 << 10), DropOldest: true})
		add(t, l, 100, page3k)
		d.Fail(func(op disktest.Op) error { // what exists can be overwritten, nothing can be made
			if op.Kind == "create" {
				return syscall.ENOSPC
			}
			return nil
		})
		if taken := add(t, l, 500, page3k); taken != 500 {
			t.Errorf("refused after %d of 500: %s", taken, l.Stats().NoSegment)
		}
		l.close(t)
	})
}

// U4: what was damaged before the rest of its ledger was dropped is named too.
func TestDamagedThenDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		opt := Options{MaxBytes: 8 * (64 << 10), DropOldest: true}
		l := start(t, d, opt)
		id := l.Ledger()
		add(t, l, 5, page3k)
		l.close(t)
		overwrite(t, d, segment.Name(1, false), []byte{1, 2, 3}, segment.HeaderBytes+200)
		again := start(t, d, opt)
		again.Forwarded(id, 0)
		if taken := add(t, again, 500, page3k); taken != 500 {
			t.Fatalf("refused after %d of 500", taken)
		}
		r, err := again.Reader(id)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got := ""
		for at := r.Base(); ; {
			c, err := r.Read(t.Context(), at, 100_000)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || c.Gap == nil {
				t.Fatalf("%+v, %v", c, err)
			}
			got += fmt.Sprintf("[%d, %d) %s ", at, c.Next, c.Gap.Reason)
			at = c.Next
		}
		if got != "[0, 1) damaged [1, 5) dropped " {
			t.Error(got)
		}
		again.close(t)
	})
}
