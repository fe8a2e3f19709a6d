package peer

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tributary-edge/tributary/bench/load"
)

// A Disk is a file on the file system that the servers write to, for finding
// out how often it can make 4 KiB durable.
type Disk struct {
	file *os.File
	page []byte
}

const (
	pageBytes = 4 << 10
	diskBytes = 16 << 20
)

// NewDisk writes a file of zeros in dir, so that later writes change no
// metadata and each fdatasync is one flush: the best the file system can do.
func NewDisk(dir string) (*Disk, error) {
	f, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, diskBytes)); err != nil {
		return nil, err
	}
	return &Disk{f, make([]byte, pageBytes)}, f.Sync()
}

// Measure writes pages one after the other for window, each followed by
// fdatasync, and returns how many a second became durable, and how long the
// one in the middle took.
func (d *Disk) Measure(window time.Duration) (perSecond float64, median time.Duration, err error) {
	var took load.Histogram
	start := time.Now()
	for n, last := 1, start; ; n++ {
		d.page[n%pageBytes]++
		if _, err := d.file.WriteAt(d.page, int64(n*pageBytes%diskBytes)); err != nil {
			return 0, 0, err
		}
		if err := unix.Fdatasync(int(d.file.Fd())); err != nil {
			return 0, 0, err
		}
		now := time.Now()
		took.Add(now.Sub(last))
		last = now
		if e := now.Sub(start); e >= window {
			return float64(n) / e.Seconds(), took.Quantile(.5), nil
		}
	}
}

// IsDisk says whether dir is on something that fdatasync means anything to: a
// file system in memory is not.
func IsDisk(dir string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return false, err
	}
	return fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.RAMFS_MAGIC, nil
}
