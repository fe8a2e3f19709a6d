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

// What replaces a file is whole, for its owner alone, and leaves nothing beside it; a
// replacement that fails leaves what was there.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, text := range []string{"one", "two, and longer", "3"} {
		if err := ReplaceFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(got) != text || info.Mode().Perm() != 0o600 {
			t.Errorf("%q %v, %v %v; should be %q for its owner", got, info.Mode(), err, statErr, text)
		}
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceFile(path, []byte("4")); err == nil {
		t.Error("it is replaced although nothing could be written")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "3" {
		t.Errorf("after a failure %q, %v", got, err)
	}
}
