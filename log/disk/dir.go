package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir returns the host directory root as an FS, making it if it is not there.
func Dir(root string) (FS, error) {
	if err := os.MkdirAll(root, 0o750); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	return dir(root), nil
}

type dir string

func (d dir) Create(name string) (File, error) {
	return open(filepath.Join(string(d), name), os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (d dir) Open(name string, write bool) (File, error) {
	if !write {
		return open(filepath.Join(string(d), name), os.O_RDONLY)
	}
	f, err := open(filepath.Join(string(d), name), os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := f.flushAndForget(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d dir) Rename(from, to string) error {
	return os.Rename(filepath.Join(string(d), from), filepath.Join(string(d), to))
}

func (d dir) Remove(name string) error { return os.Remove(filepath.Join(string(d), name)) }

func (d dir) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

func (d dir) Sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d dir) Space() (total, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(string(d), &s); err != nil {
		return 0, 0, fmt.Errorf("ask for free space: %w", err)
	}
	block := int64(s.Bsize) //nolint:unconvert // its type differs between architectures
	return int64(s.Blocks) * block, int64(s.Bavail) * block, nil
}

type file struct{ *os.File }

func open(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o640)
	return file{f}, err
}

// flushAndForget has the kernel write what it still holds of f and then read f
// from the device again: it marks as clean what it failed to write, and would go
// on showing it.
func (f file) flushAndForget() error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", f.Name(), err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("read %s from the device: %w", f.Name(), err)
	}
	return nil
}

// Sync uses fdatasync: it also makes a changed size durable, but not the
// modification time, which would cost a second flush.
func (f file) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Lock keeps every other process out of the data directory root until the
// returned file is closed, or this process ends in whatever way.
func Lock(root string) (*os.File, error) {
	if err := os.MkdirAll(root, 0o750); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	path := filepath.Join(root, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s is in use by another tributary (lock file %s): "+
			"nothing was changed; stop the other one, or give this one a data_dir of its own", root, path)
	}
	return f, nil
}

// Flash says whether root lies on an SD card or eMMC, where each flush costs
// life. It answers false when it cannot tell.
func Flash(root string) bool {
	var s unix.Stat_t
	if err := unix.Stat(root, &s); err != nil {
		return false
	}
	dev := uint64(s.Dev) //nolint:unconvert // its type differs between architectures
	path, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)))
	return err == nil && strings.Contains(path, "/mmcblk")
}
