package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two processes on one data directory: the second is told which file says so,
// and that nothing was changed.
func TestLock(t *testing.T) {
	root := filepath.Join(t.TempDir(), "data")
	first, err := Lock(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(root); err == nil || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("the second lock: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(root)
	if err != nil {
		t.Fatal("after the first has ended:", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSpace(t *testing.T) {
	d, err := Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if total, free, err := d.Space(); err != nil || total <= 0 || free <= 0 || free > total {
		t.Errorf("%d of %d bytes free, %v", free, total, err)
	}
}

// A file that somebody has removed can still be written to and flushed, in vain:
// its size says so.
func TestRemoved(t *testing.T) {
	root := t.TempDir()
	d, err := Dir(root)
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.Create("x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if size, err := f.Size(); size != 0 || err != nil {
		t.Errorf("size %d, %v", size, err)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Size(); !errors.Is(err, ErrRemoved) {
		t.Errorf("size of a removed file: %v", err)
	}
}
