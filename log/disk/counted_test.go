package disk_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
)

type tally struct{ bytes, flushes, journal, commits int64 }

func tallied(c *disk.Counts) (t tally) {
	t.journal, t.commits = c.Journal()
	t.bytes, t.flushes = c.Bytes(), c.Flushes()
	return t
}

// Every write counts in whole pages, every flush once, by whichever way it came.
func TestCounted(t *testing.T) {
	fs, counts := disk.Counted(disktest.New(1<<20), disk.Journal{})
	f, err := fs.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what string
		do   func() error
		want tally
	}{
		{"a page", func() error { return write(f, 4096, 0) }, tally{bytes: 4096}},
		{"nothing", func() error { return write(f, 0, 0) }, tally{}},
		{"a byte", func() error { return write(f, 1, 8192) }, tally{bytes: 4096}},
		{"two bytes on two pages", func() error { return write(f, 2, 4095) }, tally{bytes: 8192}},
		{"a flush", f.Sync, tally{flushes: 1}},
		{"a flush of names", fs.Sync, tally{flushes: 1}},
		{"to read", func() error { _, err := fs.Open("a", false); return err }, tally{}},
		{"to write, which flushes", func() error { return overwrite(fs) }, tally{bytes: 4096, flushes: 2}},
	} {
		before := tallied(counts)
		if err := step.do(); err != nil {
			t.Fatal(step.what, err)
		}
		after := tallied(counts)
		got := tally{after.bytes - before.bytes, after.flushes - before.flushes, after.journal, after.commits}
		if got != step.want {
			t.Errorf("%s: %+v, want %+v", step.what, got, step.want)
		}
	}
}

func write(f disk.File, n int, at int64) error {
	_, err := f.WriteAt(make([]byte, n), at)
	return err
}

func overwrite(fs disk.FS) error {
	f, err := fs.Open("a", true)
	if err != nil {
		return err
	}
	return errors.Join(write(f, 10, 10), f.Sync())
}

// The journal commits every 5 s while something is written, at once for names,
// and not at all while nothing is written.
func TestCountedJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, counts := disk.Counted(disktest.New(1<<20), disk.Journal{CommitBytes: 12 << 10, Every: 5 * time.Second})
		f, err := fs.Create("a")
		if err != nil {
			t.Fatal(err)
		}
		for range 600 { // a minute of 10 commits a second
			if err := errors.Join(write(f, 4096, 0), f.Sync()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // bubble time
		}
		if got, want := tallied(counts), (tally{600 * 4096, 600, 12 * 12 << 10, 12}); got != want {
			t.Errorf("after a minute %+v, want %+v", got, want)
		}
		time.Sleep(time.Hour) //nolint:forbidigo // bubble time
		for range 3 {
			if err := fs.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if got := tallied(counts).commits; got != 15 {
			t.Errorf("%d commits after an hour of rest and three changes of names, want 15", got)
		}
	})
}
