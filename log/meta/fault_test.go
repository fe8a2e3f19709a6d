package meta

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tributary-edge/tributary"
)

// A1: a file that was cut, so that its pages cannot be read through the memory map,
// does not end the process: it is set aside like any other that is damaged. One
// that is cut while it is open says so, and nothing waits for ever.
func TestCutFile(t *testing.T) {
	all := func(tributary.LedgerID) bool { return true }
	fill := func(d *DB) error {
		_, err := d.Start()
		if err != nil {
			return err
		}
		return d.Save([]tributary.Position{{Ledger: tributary.LedgerID{1}, Next: 5}}, &Checkpoint{Next: 7, State: make([]byte, 20_000)}, all)
	}
	for cut := int64(0); cut < 60_000; cut += 4096 {
		for _, open := range []bool{false, true} {
			dir := t.TempDir()
			path := filepath.Join(dir, FileName)
			d, _, err := Open(dir)
			if err != nil || fill(d) != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Size() <= cut {
				t.Fatal(err, "the file is small")
			}
			if open {
				if err := os.Truncate(path, cut); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					_ = fill(d)
					_, _ = d.Positions()
					_, _, _ = d.Checkpoint()
					_, _ = d.Written()
				}
				_ = d.Close()
				b, err := os.ReadFile(path) // as the next process finds it: nobody has it open
				if err != nil || os.Remove(path) != nil || os.WriteFile(path, b, 0o600) != nil {
					t.Fatal(err)
				}
			} else if d.Close() != nil || os.Truncate(path, cut) != nil {
				t.Fatal("cannot cut the file")
			}
			again, _, err := Open(dir)
			if err != nil {
				t.Fatalf("cut to %d, open %v: %v", cut, open, err)
			}
			if err := fill(again); err != nil {
				t.Errorf("cut to %d, open %v: %v", cut, open, err)
			}
			if _, _, err := again.Checkpoint(); err != nil {
				t.Error(err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
