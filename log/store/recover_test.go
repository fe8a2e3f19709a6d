package store

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/segment"
)

// roomy is a log that nothing is dropped from.
var roomy = Options{SegmentBytes: 64 << 10, MaxBytes: 16 * (64 << 10)}

// live has a log take so many records, and returns the ledger that has them.
func live(t *testing.T, d *disktest.Disk, records int) tributary.LedgerID {
	t.Helper()
	l := start(t, d, roomy)
	if taken := add(t, l, records, page3k); taken != records || l.count() != records {
		t.Fatalf("%d of %d records taken, %d acknowledged", taken, records, l.count())
	}
	l.close(t)
	return l.Ledger()
}

// wantAll opens the log and reads the ledgers, which have 3 records each.
func wantAll(t *testing.T, d *disktest.Disk, ids ...tributary.LedgerID) {
	t.Helper()
	l, found, err := Open(d, roomy)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if got := len(readAll(t, l, id)); got != 3 {
			t.Errorf("ledger %d has %d records, want 3 (%+v)", i+1, got, found)
		}
	}
}

// D3: a jump leads past the numbers of commits in a file that nobody can read,
// also if the file was begun after a jump itself.
func TestJumpTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		bad := map[string]bool{}
		d.Fail(func(op disktest.Op) error {
			if op.Kind == "read" && bad[op.Name] {
				return syscall.EIO
			}
			return nil
		})
		var ids []tributary.LedgerID
		for range 3 { // each is blind for the file of the one before
			ids = append(ids, live(t, d, 3))
			clear(bad)
			l, _, err := Open(d, roomy)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range l.segs {
				for _, p := range s.sum.Spans {
					if p.Ledger == ids[len(ids)-1] {
						bad[s.name] = true
					}
				}
			}
			if len(bad) != 1 {
				t.Fatalf("the ledger is in %d files", len(bad))
			}
		}
		clear(bad)
		wantAll(t, d, ids...)
	})
}

// D3: what is written while a later file cannot be read comes after that one, and
// not into the segment before it, which a failed write has left without a footer.
func TestHiddenSegmentStaysBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		l := start(t, d, roomy)
		add(t, l, 3, page3k)
		first := l.Ledger()
		failSync(d, segment.Name(1, false))
		add(t, l, 1, page3k)
		second := l.Ledger()
		if second == first {
			t.Fatal("the ledger goes on after a failed write")
		}
		add(t, l, 3, page3k)
		l.close(t)
		d.Fail(func(op disktest.Op) error {
			if op.Kind == "read" && op.Name == segment.Name(2, false) {
				return syscall.EIO
			}
			return nil
		})
		third := live(t, d, 3)
		d.Fail(nil)
		wantAll(t, d, first, second, third)
	})
}

// D3: a file with an impossible number is none of the log's: numbers that begin
// again would turn the order of segments round.
func TestStrayNumber(t *testing.T) {
	for _, stray := range []string{"ffffffffffffffff.seg", "fffffffffffffffe.zseg", "7fffffffffffffff.seg"} {
		synctest.Test(t, func(t *testing.T) {
			d := disktest.New(1 << 30)
			if _, err := d.Create(stray); err != nil {
				t.Fatal(err)
			}
			overwrite(t, d, stray, make([]byte, 64<<10), 0)
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
			id := live(t, d, 60)
			again, _, err := Open(d, roomy)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(readAll(t, again, id)); got != 60 {
				names, _ := d.List()
				t.Errorf("%s: %d records, want 60: %s", stray, got, strings.Join(names, " "))
			}
		})
	}
}
