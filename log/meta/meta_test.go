package meta

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/tributary-edge/tributary"
)

// closeAfter closes d when the test ends.
func closeAfter(t *testing.T, d *DB) {
	t.Helper()
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestSurvivesReopen(t *testing.T) {
	dir := t.TempDir()
	d, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := d.Start()
	if err != nil || first.Boots != 1 || first.Node == (tributary.NodeID{}) {
		t.Fatal(first, err)
	}
	a, gone := tributary.Position{Ledger: tributary.NewLedgerID(), Next: 7, Chain: 9}, tributary.Position{Ledger: tributary.NewLedgerID(), Next: 1}
	all := func(tributary.LedgerID) bool { return true }
	if err := d.Save([]tributary.Position{a, gone}, &Checkpoint{Ledger: a.Ledger, Next: 5, State: []byte("state")}, all); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(nil, nil, func(id tributary.LedgerID) bool { return id != gone.Ledger }); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	d, aside, err := Open(dir)
	if err != nil || aside != "" {
		t.Fatal(aside, err)
	}
	closeAfter(t, d)
	if id, err := d.Start(); err != nil || id.Node != first.Node || id.Boots != 2 {
		t.Error(id, err)
	}
	if ps, err := d.Positions(); err != nil || len(ps) != 1 || ps[0] != a {
		t.Error(ps, err)
	}
	if c, ok, err := d.Checkpoint(); err != nil || !ok || c.Ledger != a.Ledger || c.Next != 5 || string(c.State) != "state" {
		t.Error(c, ok, err)
	}
}

// A1: a damaged meta file is set aside; the node starts.
func TestDamagedIsSetAside(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"rubbish": func(p string) error {
			return os.WriteFile(p, []byte("no bolt file, but long enough for a page"), 0o600)
		},
		"cut":       func(p string) error { return os.Truncate(p, 5000) },
		"zeros":     func(p string) error { return os.WriteFile(p, make([]byte, 32<<10), 0o600) },
		"both meta": func(p string) error { return overwrite(p, 0, 8192) },
		"pages":     func(p string) error { return overwrite(p, 8192, 8192) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d, _, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Start(); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(dir, FileName)); err != nil {
				t.Fatal(err)
			}
			d, aside, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			closeAfter(t, d)
			if _, err := os.Stat(aside); err != nil {
				t.Errorf("not set aside as %q: %v", aside, err)
			}
			if _, err := d.Start(); err != nil {
				t.Error(err)
			}
		})
	}
}

func overwrite(path string, at int64, n int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = 0x5a
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

func TestNewerIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	d, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = d.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketNode).Put(keyVersion, []byte{0, 0, 0, 0, 0, 0, 0, Version + 1})
	})
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	var version *VersionError
	if _, aside, err := Open(dir); !errors.As(err, &version) || aside != "" {
		t.Errorf("%v, set aside as %q", err, aside)
	}
}

// A commit is counted with the pages it changes and its two flushes; a question
// is not.
func TestWritten(t *testing.T) {
	d, _, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	page := int64(d.db.Info().PageSize)
	opened, flushed := d.Written()
	if opened < 2*page || flushed != 2 {
		t.Errorf("opened with %d bytes and %d flushes; want two pages at least and 2", opened, flushed)
	}
	const saves = 10
	for i := range saves {
		p := []tributary.Position{{Ledger: tributary.LedgerID{1}, Next: tributary.LSN(i)}}
		if err := d.Save(p, nil, func(tributary.LedgerID) bool { return true }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Positions(); err != nil {
		t.Fatal(err)
	}
	bytes, flushes := d.Written()
	if each := (bytes - opened) / saves; each < 3*page || each > 6*page || (bytes-opened)%page != 0 {
		t.Errorf("a save takes %d bytes; want some whole pages of %d", each, page)
	}
	if flushes-flushed != 2*saves {
		t.Errorf("%d flushes for %d saves", flushes-flushed, saves)
	}
}
