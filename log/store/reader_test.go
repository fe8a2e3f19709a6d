package store

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/segment"
)

// ruins are ways in which a segment file is lost as a whole.
var ruins = map[string]func(t *testing.T, d *disktest.Disk, file string){
	"removed": func(_ *testing.T, d *disktest.Disk, file string) { d.Vanish(file) },
	"cut":     func(_ *testing.T, d *disktest.Disk, file string) { d.Truncate(file, 0) },
	"zeros": func(t *testing.T, d *disktest.Disk, file string) {
		t.Helper()
		overwrite(t, d, file, make([]byte, 64<<10), 0)
	},
}

// overwrite writes to a file as nobody but a fault does.
func overwrite(t *testing.T, d *disktest.Disk, file string, b []byte, at int64) {
	t.Helper()
	f, err := d.Open(file, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, at); err != nil || f.Sync() != nil || f.Close() != nil {
		t.Fatal("cannot overwrite", file, err)
	}
}

// D3: a segment that the disk has damaged as a whole while the log is open is a
// hole for who reads, like any other damage.
func TestReadOverDamagedSegment(t *testing.T) {
	for name, ruin := range ruins {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := disktest.New(1 << 30)
				l := start(t, d, Options{MaxBytes: 16 * (64 << 10)})
				add(t, l, 60, page3k)
				ruin(t, d, segment.Name(2, false))
				r, err := l.Reader(l.Ledger())
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				gaps, lost, read := 0, 0, 0
				for at := tributary.LSN(0); at < 60; {
					c, err := r.Read(t.Context(), at, 100_000)
					if err != nil {
						t.Fatalf("read at %d: %v", at, err)
					}
					if c.Gap != nil {
						gaps++
						lost += int(c.Next - at)
					}
					read += len(c.Entries)
					at = c.Next
				}
				if gaps != 1 || lost+read != 60 || lost > 20 {
					t.Errorf("%d gaps of %d records, %d were read", gaps, lost, read)
				}
				l.close(t)
			})
		})
	}
}

// U2: a ledger has not ended for a reader before it has read the last group, also
// if that was committed between its look and its wait.
func TestEndedLedgerIsReadToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		l := start(t, d, Options{MaxBytes: 16 * (64 << 10)})
		id := l.Ledger()
		r, err := l.Reader(id)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := l.find(id, 0); !errors.Is(err, errNotYet) { // as Read does first
			t.Fatal(err)
		}
		add(t, l, 1, page3k)
		failSync(d, "")
		add(t, l, 1, page3k)
		if l.Ledger() == id {
			t.Fatal("the ledger goes on after a failed write")
		}
		d.Fail(nil)
		if err := r.wait(t.Context(), 0); errors.Is(err, io.EOF) { // and then
			t.Error("the ledger has ended, though one of its records was not read")
		}
		l.close(t)
	})
}

// failSync has the flushes of one file fail, or of all.
func failSync(d *disktest.Disk, file string) {
	d.Fail(func(op disktest.Op) error {
		if op.Kind == "sync" && (file == "" || op.Name == file) {
			return syscall.EIO
		}
		return nil
	})
}

// D3, U4: what is lost of a ledger before the first record that is still there was
// not in Kafka, as far as is known: it is a hole, like any other.
func TestFirstSegmentLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		opt := Options{SegmentBytes: 64 << 10, MaxBytes: 16 * (64 << 10)}
		l := start(t, d, opt)
		id := l.Ledger()
		add(t, l, 60, page3k)
		l.close(t)
		d.Vanish(segment.Name(1, false))
		again, _, err := Open(d, opt)
		if err != nil {
			t.Fatal(err)
		}
		again.Forwarded(id, 5) // as log/meta had it: nothing beyond was given up
		r, err := again.Reader(id)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c, err := r.Read(t.Context(), 5, 100_000)
		if err != nil || c.Gap == nil {
			t.Fatalf("%+v, %v", c, err)
		}
		if base := r.Base(); base > 5 {
			t.Errorf("the ledger starts at %d, which the uplink takes for a contradiction with Kafka's 5; its hole ends at %d", base, c.Next)
		}
		if len(again.Holes()) == 0 {
			t.Error("no hole is named")
		}
		if chain, ok := r.ChainAt(c.Next); !ok || chain != c.Chain {
			t.Errorf("the chain behind the hole is %x, %v, should be %x", chain, ok, c.Chain)
		}
	})
}
