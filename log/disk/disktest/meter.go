package disktest

import (
	"sync/atomic"

	"github.com/tributary-edge/tributary/log/disk"
)

// A Meter is another disk with what is read from its files counted. It may be
// used from many goroutines at once.
type Meter struct {
	disk.FS

	NoSync bool         // a file's Sync returns at once and nothing is durable
	Read   atomic.Int64 // bytes
}

// Create implements disk.FS.
func (m *Meter) Create(name string) (disk.File, error) { return m.wrap(m.FS.Create(name)) }

// Open implements disk.FS.
func (m *Meter) Open(name string, write bool) (disk.File, error) {
	return m.wrap(m.FS.Open(name, write))
}

func (m *Meter) wrap(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return meteredFile{f, m}, nil
}

type meteredFile struct {
	disk.File

	meter *Meter
}

func (f meteredFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(b, at)
	f.meter.Read.Add(int64(n))
	return n, err
}

func (f meteredFile) Sync() error {
	if f.meter.NoSync {
		return nil
	}
	return f.File.Sync()
}
