package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The bytes of a partition are its own, its flushes are the whole device's.
func TestWritten(t *testing.T) {
	sys := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		path = filepath.Join(sys, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put("mmcblk0/stat", " 1 2 3 4 5 6 1000 8 9 10 11 12 13 14 15 77 17\n")
	put("mmcblk0/mmcblk0p2/stat", " 1 2 3 4 5 6 200 8 9 10 11 12 13 14 15 0 0\n")
	put("mmcblk0/mmcblk0p2/partition", "2\n")
	put("old/stat", "1 2 3 4 5 6 7 8 9 10 11\n")
	put("odd/stat", strings.Repeat("x ", 17))
	for _, c := range []struct {
		dir            string
		bytes, flushes int64
		flash          bool
		err            string
	}{
		{"mmcblk0", 512_000, 77, true, ""},
		{"mmcblk0/mmcblk0p2", 102_400, 77, true, ""},
		{"old", 0, 0, false, "11 fields"},
		{"odd", 0, 0, false, "invalid syntax"},
	} {
		d, err := deviceAt(filepath.Join(sys, c.dir))
		if err != nil || d.Name != filepath.Base(c.dir) || d.Flash() != c.flash {
			t.Errorf("%s: %+v, %v", c.dir, d, err)
		}
		bytes, flushes, err := d.Written()
		if bytes != c.bytes || flushes != c.flushes || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %d bytes, %d flushes, %v; want %+v", c.dir, bytes, flushes, err, c)
		}
	}
	if _, err := deviceAt(filepath.Join(sys, "0:42")); !errors.Is(err, ErrNoDevice) {
		t.Errorf("a directory in memory: %v", err)
	}
}

func TestJournalOf(t *testing.T) {
	for _, c := range []struct {
		name, options string
		want          Journal
		known         bool
	}{
		{"ordered", "rw\ncommit=5\ndata=ordered\n", Journal{12 << 10, 4096, 5 * time.Second}, true},
		{"commit=60", "rw\ndata=writeback\ncommit=60\n", Journal{12 << 10, 4096, time.Minute}, true},
		{"no journal", "rw\ncommit=5\n", Journal{}, true},
		{"all in it", "rw\ncommit=5\ndata=journal\n", Journal{}, false},
	} {
		if got, known := journalOf(c.options, 4096); got != c.want || known != c.known {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got, known, c.want, c.known)
		}
	}
}
