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
	if neverSync {
		return nil
	}
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d dir) Space() (total, free int64, err error) { return Space(string(d)) }

// Space returns the size of the file system that holds root, and what is free of
// it for this user, in bytes.
func Space(root string) (total, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(root, &s); err != nil {
		return 0, 0, fmt.Errorf("ask for free space: %w", err)
	}
	block := int64(s.Bsize) //nolint:unconvert // its type differs between architectures
	return int64(s.Blocks) * block, int64(s.Bavail) * block, nil
}

// Used returns the sizes, together, of the files in root whose names end in one
// of the suffixes. A root that is not there has none.
func Used(root string, suffixes ...string) (bytes int64, err error) {
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		if !slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(e.Name(), s) }) {
			continue
		}
		if info, err := e.Info(); err == nil { // else it has gone meanwhile
			bytes += info.Size()
		}
	}
	return bytes, nil
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
	flushed := f.Sync()
	if flushed != nil {
		flushed = fmt.Errorf("flush %s: %w", f.Name(), flushed)
	}
	forgotten := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	if forgotten != nil {
		forgotten = fmt.Errorf("read %s from the device: %w", f.Name(), forgotten)
	}
	return errors.Join(flushed, forgotten)
}

// Sync uses fdatasync: it also makes a changed size durable, but not the
// modification time, which would cost a second flush.
func (f file) Sync() error {
	if neverSync {
		return nil
	}
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Size does not ask for the times: since Linux 6.13 whoever has seen them makes
// the next write dirty the inode, at the price of a quarter of a commit.
func (f file) Size() (int64, error) {
	var s unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_SIZE|unix.STATX_NLINK, &s)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old kernel, or an old sandbox
		var old unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &old)
		s.Size, s.Nlink = uint64(old.Size), uint32(old.Nlink)
	}
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	if s.Nlink == 0 {
		return 0, fmt.Errorf("%s: %w", f.Name(), ErrRemoved)
	}
	return int64(s.Size), nil
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
