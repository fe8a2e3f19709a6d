package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/segment"
)

const (
	segmentBytes = 12 << 20 // the default of a log
	ringSegments = 40       // more than is written in a window or two, and less than the 1 GiB that a log may have
)

// segments is the folder of a log, as a node has it in its data directory.
const segments = "log"

// emptyRing makes the log in dir one that has gone around and is in Kafka: its
// segments are on the disk, and hold nothing. What a node does when a ring goes
// around for the first time, or when Kafka is away for so long that it is full, is
// far more work than to take messages, and would be all that is seen. Nobody may
// have the log open.
func emptyRing(dir string) error {
	fs, err := disk.Dir(dir)
	if err != nil {
		return err
	}
	names, err := fs.List()
	if err != nil {
		return err
	}
	n, last := 0, uint64(0)
	for _, name := range names {
		seq, packed, ok := segment.ParseName(name)
		if !ok || packed || n == ringSegments {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
			continue
		}
		f, err := fs.Open(name, true)
		if err != nil {
			return err
		}
		if err := emptySegment(f, seq); err != nil {
			return err
		}
		n, last = n+1, max(last, seq)
	}
	for ; n < ringSegments; n++ {
		last++
		f, err := fs.Create(segment.Name(last, false))
		if err != nil {
			return err
		}
		if err := segment.Fill(f, segmentBytes); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := emptySegment(f, last); err != nil {
			return err
		}
	}
	return fs.Sync()
}

// emptySegment makes a segment one without groups, and closes it.
func emptySegment(f disk.File, seq uint64) error {
	if _, err := segment.Start(f, seq, segmentBytes); err != nil {
		return errors.Join(fmt.Errorf("empty segment %d: %w", seq, err), f.Close())
	}
	return f.Close()
}

// forgetBut removes what is in dir, but for one directory.
func forgetBut(dir, kept string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() == kept {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
