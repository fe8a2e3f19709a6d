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
	Kind string // "create", "open", "rename", "remove", "list", "syncdir", "read", "write", "sync"
	Name string
	At   int64 // position of a read or write
	Len  int   // of it
	N    int   // how many operations came before
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
	off      bool // Kill has passed it on
	gone     bool // Vanish has removed the directory
}

type nameOp struct {
	from, to string // from "": create node as to; to "": remove from
	node     *node
}

// A node is a file. The bytes of an image and of a write are never changed, only
// replaced, so that disks can share them.
type node struct {
	data   image   // as the running program sees it
	synced image   // as it is after a power cut, but for limbo and writes
	limbo  []write // given up by a Sync that failed: the device may have got them
	writes []write // since the last Sync
	stale  bool    // a Sync has failed: data shows what synced may never have
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
// anything but ErrOff gives up what was written: the program goes on reading it,
// no later Sync makes it durable, and what of it the device has got is open. To
// open a file for writing is to Sync it first. A read that fails with
// syscall.EIO is one that the device cannot do.
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
// not, and what is garbled; a write may also garble what stands beside it in a
// page that it touches. Of unsynced names, rng decides how many of the latest
// changes are missing. The disk itself goes on as if nothing had happened.
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
// more of it is durable than before. For the killed one, the power is off.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	c := New(d.size)
	c.names, c.durable, c.pending, c.gone = d.names, d.durable, d.pending, d.gone
	return c
}

// Truncate cuts a file short behind the program's back, durably.
func (d *Disk) Truncate(name string, size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[name]
	n.sync()
	n.data.cut(size)
	n.synced = n.data.clone()
	n.limbo, n.stale = nil, false
}

// Vanish removes a file behind the program's back, durably. Who has it open can
// go on using it, but for its Size.
func (d *Disk) Vanish(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, name)
	delete(d.durable, name)
	d.pending = slices.DeleteFunc(d.pending, func(op nameOp) bool { return op.to == name || op.from == name })
}

// VanishAll removes the directory with everything in it, like Vanish.
func (d *Disk) VanishAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names, d.durable, d.pending, d.gone = map[string]*node{}, map[string]*node{}, nil, true
}

func (n *node) crash(rng *rand.Rand) *node {
	data := n.synced.clone()
	mode := rng.IntN(4) // all lost, all there, or sector by sector
	for _, w := range slices.Concat(n.limbo, n.writes) {
		switch mode {
		case 0:
		case 1:
			data.write(w.data, w.at)
		default:
			data.tear(&w, mode == 3, rng)
		}
	}
	return &node{data: data, synced: data.clone()}
}

func (w *write) end() int64 { return w.at + int64(len(w.data)) }

// sync makes durable what was written since the last Sync.
func (n *node) sync() {
	for _, w := range n.writes {
		if n.stale {
			n.synced.write(w.data, w.at)
		} else {
			n.synced.take(&n.data, w.at, w.end())
		}
	}
	n.writes = n.writes[:0:0]
}

// giveUp is a Sync that fails.
func (n *node) giveUp() {
	n.limbo, n.writes, n.stale = append(n.limbo, n.writes...), nil, true
}

// reload forgets what the device may not have.
func (n *node) reload() {
	if n.stale {
		n.data, n.limbo, n.stale = n.synced.clone(), nil, false
	}
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
func (d *Disk) do(op Op, f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.try(op, f); err != nil {
		return &fs.PathError{Op: op.Kind, Path: op.Name, Err: err}
	}
	return nil
}

func (d *Disk) try(op Op, f func() error) error {
	op.N = d.ops
	d.ops++
	if d.off {
		return ErrOff
	}
	if d.fail != nil {
		if err := d.fail(op); err != nil {
			return err
		}
	}
	if d.gone && !slices.Contains([]string{"read", "write", "sync"}, op.Kind) {
		return fs.ErrNotExist
	}
	if err := f(); err != nil {
		return err
	}
	if d.failLate != nil {
		return d.failLate(op)
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
	err := d.do(Op{Kind: "create", Name: name}, func() error {
		if d.names[name] != nil {
			return fs.ErrExist
		}
		d.change(nameOp{to: name, node: n})
		return nil
	})
	return &file{d: d, n: n, name: name}, err
}

// Open implements disk.FS.
// With write, it flushes the file and reads it from the device again, also when
// it then fails.
func (d *Disk) Open(name string, write bool) (disk.File, error) {
	var n *node
	err := d.do(Op{Kind: "open", Name: name}, func() error {
		if n = d.names[name]; n == nil {
			return fs.ErrNotExist
		}
		if write {
			n.sync()
			n.reload()
		}
		return nil
	})
	if write && n == nil && !errors.Is(err, ErrOff) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if lost := d.names[name]; lost != nil {
			lost.giveUp()
			lost.reload()
		}
	}
	return &file{d: d, n: n, name: name}, err
}

// Rename implements disk.FS.
func (d *Disk) Rename(from, to string) error {
	return d.do(Op{Kind: "rename", Name: from}, func() error {
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
	return d.do(Op{Kind: "remove", Name: name}, func() error {
		if d.names[name] == nil {
			return fs.ErrNotExist
		}
		d.change(nameOp{from: name})
		return nil
	})
}

// List implements disk.FS.
func (d *Disk) List() (names []string, err error) {
	err = d.do(Op{Kind: "list", Name: "."}, func() error {
		names = slices.Sorted(maps.Keys(d.names))
		return nil
	})
	return names, err
}

// Sync implements disk.FS.
func (d *Disk) Sync() error {
	return d.do(Op{Kind: "syncdir", Name: "."}, func() error {
		d.durable, d.pending = maps.Clone(d.names), nil
		return nil
	})
}

// Space implements disk.FS.
func (d *Disk) Space() (total, free int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.off: // another process has the files now
		return 0, 0, ErrOff
	case d.gone:
		return 0, 0, fs.ErrNotExist
	}
	free = d.size
	for _, n := range d.names {
		free -= n.data.size
	}
	return d.size, free, nil
}

type file struct {
	d    *Disk
	n    *node
	name string
}

func (f *file) ReadAt(b []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, fmt.Errorf("read %s at %d: %w", f.name, at, fs.ErrInvalid)
	}
	err = f.d.do(Op{Kind: "read", Name: f.name, At: at, Len: len(b)}, func() error {
		n = f.n.data.read(b, at)
		return nil
	})
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	err := f.d.do(Op{Kind: "write", Name: f.name, At: at, Len: len(b)}, func() error {
		w := write{at, keep(b)}
		f.n.data.write(w.data, at)
		f.n.writes = append(f.n.writes, w)
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
	err := f.d.do(Op{Kind: "sync", Name: f.name}, func() error {
		f.n.sync()
		synced = true
		return nil
	})
	if !synced && !errors.Is(err, ErrOff) {
		f.d.mu.Lock()
		defer f.d.mu.Unlock()
		f.n.giveUp()
	}
	return err
}

// Size fails for a file that has no name any more.
func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	for _, n := range f.d.names {
		if n == f.n {
			return n.data.size, nil
		}
	}
	return 0, fmt.Errorf("%s: %w", f.name, disk.ErrRemoved)
}

func (f *file) Close() error { return nil }
