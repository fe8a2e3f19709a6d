package disk

import (
	"sync"
	"time"
)

// pageBytes is the least that a device is given: file systems write whole
// blocks, of this size nearly everywhere.
const pageBytes = 4096

// Counts is what an FS gave to its device since Counted made it. Its methods may
// be called while the FS is used.
type Counts struct {
	journal Journal

	mu      sync.Mutex // guards what follows
	bytes   int64
	flushes int64
	commits int64     // of the journal
	until   time.Time // the journal's running transaction ends by itself
}

// Bytes returns what was written, in whole pages of 4 KiB: a page that is
// written twice counts twice, as it does on a device when a flush lies between.
func (c *Counts) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Flushes returns how often something was made durable: a file, or the names in
// the directory.
func (c *Counts) Flushes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushes
}

// Journal returns what the file system has added by itself: bytes, and commits
// of its journal, each of which is a flush as well.
func (c *Counts) Journal() (bytes, commits int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commits * c.journal.CommitBytes, c.commits
}

func (c *Counts) wrote(p []byte, at int64) {
	if len(p) == 0 {
		return
	}
	first, last := at/pageBytes, (at+int64(len(p))-1)/pageBytes
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += (last - first + 1) * pageBytes
	c.touched()
}

func (c *Counts) flushed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushes++
}

// flushedNames counts a flush that also ends the journal's transaction: names
// are in the journal before they are anywhere else.
func (c *Counts) flushedNames() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushes++
	c.touched()
	c.until = time.Time{}
}

// touched begins a transaction of the journal if none runs: a write changes the
// time in the file's inode, and a transaction collects all such changes until it
// is Every old.
func (c *Counts) touched() {
	if c.journal.CommitBytes == 0 {
		return
	}
	if now := time.Now(); !now.Before(c.until) {
		c.commits++
		c.until = now.Add(c.journal.Every)
	}
}

// Counted returns fs with what it writes and flushes counted, at this one place,
// so that nothing that goes through it can be forgotten; j is the journal of the
// file system below, or its zero value for none. What fails counts as well: how
// much of it reached the device is not known.
func Counted(fs FS, j Journal) (FS, *Counts) {
	c := &Counts{journal: j}
	return countedFS{fs, c}, c
}

type countedFS struct {
	FS

	counts *Counts
}

func (c countedFS) Create(name string) (File, error) {
	f, err := c.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return countedFile{f, c.counts}, nil
}

func (c countedFS) Open(name string, write bool) (File, error) {
	f, err := c.FS.Open(name, write)
	if err != nil {
		return nil, err
	}
	if write {
		c.counts.flushed() // that is how Open keeps its promise about earlier writes
	}
	return countedFile{f, c.counts}, nil
}

func (c countedFS) Sync() error {
	c.counts.flushedNames()
	return c.FS.Sync()
}

type countedFile struct {
	File

	counts *Counts
}

func (c countedFile) WriteAt(p []byte, at int64) (int, error) {
	c.counts.wrote(p, at)
	return c.File.WriteAt(p, at)
}

func (c countedFile) Sync() error {
	c.counts.flushed()
	return c.File.Sync()
}
