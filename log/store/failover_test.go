package store

import (
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
)

// D2, D3: a write fails, the log goes on, packs and rolls; then the power is cut, and
// again: what was acknowledged is there, and what was refused is not.
func TestPackingAfterAFailedWrite(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 11))
		d := disktest.New(1 << 30)
		opt := Options{MaxBytes: int64(8+rng.IntN(12)) * (64 << 10), Compress: true}
		type life struct {
			id     tributary.LedgerID
			values map[tributary.LSN]string
		}
		var lives []*life
		number := 0
		full := false // no room: the ledger after a failed write may have no commit that makes void what is left
		for range 1 + rng.IntN(3) {
			l := start(t, d, opt)
			ledger := func(id tributary.LedgerID) *life {
				for _, x := range lives {
					if x.id == id {
						return x
					}
				}
				x := &life{id, map[tributary.LSN]string{}}
				lives = append(lives, x)
				return x
			}
			fail, total := rng.IntN(150), 20+rng.IntN(250)
			if fail == total-1 {
				fail-- // the commit after it makes void what is left of it
			}
			for n := range total {
				if n == fail {
					failed := false
					late := rng.IntN(2) == 0
					f := func(op disktest.Op) error {
						if !failed && op.Kind == "sync" {
							failed = true
							return syscall.EIO
						}
						return nil
					}
					if late {
						d.FailLate(f)
					} else {
						d.Fail(f)
					}
				}
				number++
				r := rec("telemetry", 0, number)
				id := l.Ledger()
				lsn, err := l.Append(r, tributary.Ticket{})
				if err != nil {
					full = true
					break
				}
				l.wait(t, id, lsn)
				if l.Ledger() == id {
					ledger(id).values[lsn] = string(r.Value)
				}
			}
			d.Fail(nil)
			d.FailLate(nil)
			crashed := d
			if rng.IntN(2) == 0 {
				crashed = d.Crash(rng)
			}
			l.stop()
			if err := <-l.done; err != nil {
				t.Log("run:", err) // a log that has failed twice ends with that
			}
			d = crashed
		}
		again, found, err := Open(d, opt)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range lives {
			for _, e := range readAll(t, again, x.id) {
				if want, ok := x.values[e.LSN]; !ok || want != string(e.Value) {
					if !ok && len(x.values) == 0 && (full || x == lives[len(lives)-1]) {
						continue // behind the last one that was acknowledged
					}
					t.Errorf("seed %d: record %d of %v is %q, should be %q, %v", seed, e.LSN, x.id, e.Value, want, ok)
				}
				delete(x.values, e.LSN)
			}
			if len(x.values) > 0 {
				t.Errorf("seed %d: %d records of %v are lost (%+v)", seed, len(x.values), x.id, found)
			}
		}
		if _, err := Verify(d); err != nil {
			t.Errorf("seed %d: verify: %v", seed, err)
		}
	}
}
