// Package disk is the only door to the file system for the packages that keep
// records. It names the few operations whose order matters after a power cut,
// so that package disktest can cut the power between any two of them.
package disk

import (
	"errors"
	"io"
)

// FS is one flat directory. Names have no slashes.
type FS interface {
	// Create makes a new, empty file; it fails with fs.ErrExist if there is one.
	Create(name string) (File, error)
	// Open opens an existing file; it fails with fs.ErrNotExist if there is none.
	// With write, what was written to it before is durable or no longer there:
	// after a failed flush the kernel may show bytes that the device never got. That
	// is so even when Open fails because of the flush.
	Open(name string, write bool) (File, error)
	// Rename gives a file another name, in place of any file that has it.
	Rename(from, to string) error
	Remove(name string) error
	// List returns all names, sorted.
	List() ([]string, error)
	// Sync makes earlier Create, Rename and Remove calls durable.
	Sync() error
	// Space returns the size of the file system and what is free of it, in bytes.
	Space() (total, free int64, err error)
}

// File is one open file. Once Sync has failed, what the file holds on the
// device is unknown: callers must not write or Sync it again (D2).
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync returns nil once all that was written is durable, and the size with it.
	Sync() error
	// Size fails with ErrRemoved if the file has no name any more: what is written
	// to it is lost when it is closed.
	Size() (int64, error)
}

// ErrRemoved says that somebody has removed a file that is open.
var ErrRemoved = errors.New("the file was removed while it was open")
