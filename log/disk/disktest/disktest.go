// Package disktest is a disk in memory whose power can be cut and whose
// operations can be made to fail, one at a time.
package disktest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/tributary-edge/tributary/log/disk"
)

// Op describes one operation about to happen.
type Op struct {
	Kind string // "create", "open", "rename", "remove", "list", "syncdir", "write", "sync"
	Name string
	N    int // how many operations came before
}

// Disk is a disk.FS in memory that knows what has been made durable. It may be
// used from many goroutines at once.
type Disk struct {
	mu       sync.Mutex
	names    map[string]*node // as the running program sees them
	durable  map[string]*node // as they are after a power cut, but for pending
	pending  []nameOp         // since the last Sync of the directory, in order
	ops      int
	fail     func(Op) error
	failLate func(Op) error
	size     int64
}

type nameOp struct {
	from, to string // from "": create node as to; to "": remove from
	node     *node
}

type node struct {
	data   []byte
	synced []byte
	writes []write // since the last Sync
	stale  bool    // a Sync has failed: data shows what synced will never have
}

type write struct {
	at   int64
	data []byte
}

// New returns an empty disk of the given size.
func New(size int64) *Disk {
	return &Disk{names: map[string]*node{}, durable: map[string]*node{}, size: size}
}

// ErrOff is for Fail: the power is off. The operation finds no disk and changes
// nothing, so that Crash may be called as late as everybody has noticed.
var ErrOff = errors.New("the power is off")

// Fail has f asked before each operation: a non-nil error is returned to the
// caller and the operation does not happen. As on Linux, a Sync that fails with
// anything but ErrOff forgets what was written: the program goes on reading it,
// no later Sync makes it durable.
func (d *Disk) Fail(f func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

// FailLate is like Fail, but the operation happens all the same.
func (d *Disk) FailLate(f func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failLate = f
}

// Ops returns how many operations have been asked for.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Crash returns the disk as it may look after a power cut now. What was synced
// is there. Of the rest, rng decides by 512-byte sectors what is there, what is
// not, and what is garbled; of unsynced names, how many of the latest changes
// are missing. The disk itself goes on as if nothing had happened.
func (d *Disk) Crash(rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := New(d.size)
	names := maps.Clone(d.durable)
	for _, op := range d.pending[:rng.IntN(len(d.pending)+1)] {
		op.apply(names)
	}
	twins := map[*node]*node{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := names[name]
		if twins[n] == nil {
			twins[n] = n.crash(rng)
		}
		c.names[name], c.durable[name] = twins[n], twins[n]
	}
	return c
}

// Kill returns the disk as the next process finds it when this one has been
// killed: the kernel goes on, so that everything written is there, though no
// more of it is durable than before. The disk itself goes on as well.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := New(d.size)
	twins := map[*node]*node{}
	twin := func(n *node) *node {
		if n != nil && twins[n] == nil {
			twins[n] = &node{data: slices.Clone(n.data), synced: slices.Clone(n.synced), writes: slices.Clone(n.writes), stale: n.stale}
		}
		return twins[n]
	}
	for name, n := range d.names {
		c.names[name] = twin(n)
	}
	for name, n := range d.durable {
		c.durable[name] = twin(n)
	}
	for _, op := range d.pending {
		c.pending = append(c.pending, nameOp{from: op.from, to: op.to, node: twin(op.node)})
	}
	return c
}

const sector = 512

func (n *node) crash(rng *rand.Rand) *node {
	data := slices.Clone(n.synced)
	mode := rng.IntN(4) // all lost, all there, or sector by sector
	for _, w := range n.writes {
		for at := 0; at < len(w.data); {
			end := min(len(w.data), at+sector-int((w.at+int64(at))%sector))
			part, pos := w.data[at:end], int(w.at)+at
			if mode == 1 || mode >= 2 && rng.IntN(2) == 0 {
				data = grow(data, pos+len(part))
				copy(data[pos:], part)
				if mode == 3 && rng.IntN(8) == 0 {
					data[pos+rng.IntN(len(part))] ^= byte(1 + rng.IntN(255))
				}
			}
			at = end
		}
	}
	return &node{data: data, synced: slices.Clone(data)}
}

// sync makes durable what was written since the last Sync, failed or not.
func (n *node) sync() {
	for _, w := range n.writes {
		n.synced = grow(n.synced, int(w.at)+len(w.data))
		copy(n.synced[w.at:], w.data)
	}
	n.writes = nil
}

// reload makes durable what can be and forgets the rest.
func (n *node) reload() {
	n.sync()
	if n.stale {
		n.data, n.stale = slices.Clone(n.synced), false
	}
}

func grow(b []byte, n int) []byte {
	if n <= len(b) {
		return b
	}
	return append(b, make([]byte, n-len(b))...)
}

func (op nameOp) apply(names map[string]*node) {
	if op.from != "" {
		delete(names, op.from)
	}
	if op.to != "" {
		names[op.to] = op.node
	}
}

// do runs one operation with the failures that were asked for.
func (d *Disk) do(kind, name string, f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	op := Op{Kind: kind, Name: name, N: d.ops}
	d.ops++
	if d.fail != nil {
		if err := d.fail(op); err != nil {
			return &fs.PathError{Op: kind, Path: name, Err: err}
		}
	}
	if err := f(); err != nil {
		return &fs.PathError{Op: kind, Path: name, Err: err}
	}
	if d.failLate != nil {
		if err := d.failLate(op); err != nil {
			return &fs.PathError{Op: kind, Path: name, Err: err}
		}
	}
	return nil
}

func (d *Disk) change(op nameOp) {
	op.apply(d.names)
	d.pending = append(d.pending, op)
}

// Create implements disk.FS.
func (d *Disk) Create(name string) (disk.File, error) {
	n := &node{}
	err := d.do("create", name, func() error {
		if d.names[name] != nil {
			return fs.ErrExist
		}
		d.change(nameOp{to: name, node: n})
		return nil
	})
	return &file{d: d, n: n, name: name}, err
}

// Open implements disk.FS.
// With write, it flushes the file and reads it from the device again.
func (d *Disk) Open(name string, write bool) (disk.File, error) {
	var n *node
	err := d.do("open", name, func() error {
		if n = d.names[name]; n == nil {
			return fs.ErrNotExist
		}
		if write {
			n.reload()
		}
		return nil
	})
	return &file{d: d, n: n, name: name}, err
}

// Rename implements disk.FS.
func (d *Disk) Rename(from, to string) error {
	return d.do("rename", from, func() error {
		n := d.names[from]
		if n == nil {
			return fs.ErrNotExist
		}
		d.change(nameOp{from: from, to: to, node: n})
		return nil
	})
}

// Remove implements disk.FS.
func (d *Disk) Remove(name string) error {
	return d.do("remove", name, func() error {
		if d.names[name] == nil {
			return fs.ErrNotExist
		}
		d.change(nameOp{from: name})
		return nil
	})
}

// List implements disk.FS.
func (d *Disk) List() (names []string, err error) {
	err = d.do("list", ".", func() error {
		names = slices.Sorted(maps.Keys(d.names))
		return nil
	})
	return names, err
}

// Sync implements disk.FS.
func (d *Disk) Sync() error {
	return d.do("syncdir", ".", func() error {
		d.durable, d.pending = maps.Clone(d.names), nil
		return nil
	})
}

// Space implements disk.FS.
func (d *Disk) Space() (total, free int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	free = d.size
	for _, n := range d.names {
		free -= int64(len(n.data))
	}
	return d.size, free, nil
}

type file struct {
	d    *Disk
	n    *node
	name string
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if at < 0 {
		return 0, fmt.Errorf("read %s at %d: %w", f.name, at, fs.ErrInvalid)
	}
	if at >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	err := f.d.do("write", f.name, func() error {
		f.n.data = grow(f.n.data, int(at)+len(b))
		copy(f.n.data[at:], b)
		f.n.writes = append(f.n.writes, write{at, slices.Clone(b)})
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// Sync makes what was written durable; names are only by Disk.Sync.
func (f *file) Sync() error {
	synced := false
	err := f.d.do("sync", f.name, func() error {
		f.n.sync()
		synced = true
		return nil
	})
	if !synced && !errors.Is(err, ErrOff) {
		f.d.mu.Lock()
		defer f.d.mu.Unlock()
		f.n.writes, f.n.stale = nil, true
	}
	return err
}

func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *file) Close() error { return nil }
