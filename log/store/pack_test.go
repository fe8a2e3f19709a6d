package store

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
)

// L1, A1: where every record has a page of its own, one packed segment after
// another would be nearly empty: those that follow go into what the one before has
// left. The log takes many times the records that it has pages for, keeps all of
// them readable in order, also after a restart, and then refuses.
func TestPackedAreFilled(t *testing.T) {
	const segments, pages = 12, 11
	opt := Options{SegmentBytes: 64 << 10, MaxBytes: segments * 64 << 10}
	d := disktest.New(1 << 30)
	l, _, err := Open(d, opt)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		l.stock()
		l.estimate()
		for l.pack() {
		}
		l.stock()
		if _, err := l.Append(rec("s", 0, n), tributary.Ticket{}); errors.As(err, new(*FullError)) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if err := l.commit(); err != nil {
			t.Fatal(err)
		}
	}
	packed := 0
	for _, s := range l.segs {
		if s.packed {
			packed++
		}
	}
	t.Logf("%d records, %d packed segments, %d bytes of room at the end", n, packed, l.Stats().RoomBytes)
	if n < 10*segments*pages {
		t.Errorf("took %d records, of which %d need a page", n, segments*pages)
	}
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(d); err != nil {
		t.Error(err)
	}
	again, _, err := Open(d, opt)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(readAll(t, again, l.ledger)); got != n {
		t.Errorf("%d records are there after a restart, should be %d", got, n)
	}
}

// A1: when packing has made room, nobody who waited for it is refused.
func TestPackingEndsTheWait(t *testing.T) {
	for segments := int64(9); segments < 16; segments += 3 {
		synctest.Test(t, func(t *testing.T) {
			l := start(t, disktest.New(1<<30), Options{MaxBytes: segments * (64 << 10), Compress: true})
			for n := 0; ; n++ {
				_, err := l.Append(rec("telemetry", 0, n), tributary.Ticket{})
				if err == nil {
					l.wait(t, l.Ledger(), tributary.LSN(n)) // a group each
					continue
				}
				if !errors.As(err, new(*FullError)) {
					t.Fatal(err)
				}
				synctest.Wait()
				if _, err := l.Append(rec("telemetry", 0, n), tributary.Ticket{}); err == nil {
					t.Errorf("%d segments: record %d was refused, and is taken a moment later", segments, n)
				}
				break
			}
			l.close(t)
		})
	}
}

// U2: ledgers keep their order when they are packed, also where a short one lies
// before one that fills several packs: a start tells their order by where they
// begin. Packed the wrong way round, the later one was forwarded first.
func TestPackingKeepsTheOrderOfLedgers(t *testing.T) {
	opt := Options{SegmentBytes: 4 << 20, MaxBytes: 32 << 20}
	d := disktest.New(1 << 30)
	var order []tributary.LedgerID
	for _, records := range []int{20, 60, 30, 2400} { // of 16 KiB
		l, _, err := Open(d, opt)
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, l.Ledger())
		for n := range records {
			l.stock()
			l.estimate()
			for l.pack() {
			}
			l.stock()
			r := rec("s", 0, n)
			r.Value = bytes.Repeat([]byte{byte(n)}, 16<<10)
			if _, err := l.Append(r, tributary.Ticket{}); errors.As(err, new(*FullError)) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if err := l.commit(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.finish(); err != nil {
			t.Fatal(err)
		}
		var got []tributary.LedgerID
		for _, i := range l.Ledgers() {
			got = append(got, i.ID)
		}
		if !slices.Equal(got, order) {
			t.Fatalf("ledgers %v, should be %v; %d bytes were packed", got, order, l.Stats().PackedFrom)
		}
		if len(order) == 4 && l.Stats().PackedFrom == 0 {
			t.Error("nothing was packed")
		}
	}
}
