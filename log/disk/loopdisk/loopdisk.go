// Package loopdisk makes a real ext4, with its journal, on a loop device of its
// own, for tests and measurements that need one: the kernel counts what reaches the
// device, for this file system alone. It needs Linux, root, losetup and mkfs.ext4.
package loopdisk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Disk is a loop device with an ext4 on it. It is for one goroutine.
type Disk struct {
	Device string // /dev/loopN
	Dir    string // where its file system is mounted, when it is
	// Direct says that the device writes past the page cache of the host, so
	// that its flushes cost what those of the host's disk do.
	Direct bool

	image string
}

// New makes a disk of the given size whose image and mount point are in the
// directory parent. Every byte of the image is written once, so that the host
// allocates nothing later. The disk is not mounted. Close gets rid of it.
func New(parent string, bytes int64) (*Disk, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("only root can mount a file system: run as root")
	}
	d := &Disk{Dir: filepath.Join(parent, "mounted"), image: filepath.Join(parent, "image")}
	if err := d.make(bytes); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Disk) make(bytes int64) error {
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		return err
	}
	if err := fill(d.image, bytes); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	// Without these options the kernel writes inode tables for minutes.
	if _, err := run("mkfs.ext4", "-q", "-F", "-O", "has_journal", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", d.image); err != nil {
		return err
	}
	device, err := run("losetup", "--direct-io=on", "--find", "--show", d.image)
	d.Direct = err == nil
	if err != nil {
		device, err = run("losetup", "--find", "--show", d.image)
	}
	d.Device = device
	return err
}

// fill makes a file of zeros that are on the disk.
func fill(name string, bytes int64) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyBuffer(f, struct{ io.Reader }{io.LimitReader(zeros{}, bytes)}, make([]byte, 1<<20)); err != nil {
		return err
	}
	return f.Sync()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// Mount mounts the file system at Dir. options are ext4's own, as in mount(8);
// "" has its defaults.
func (d *Disk) Mount(options string) error {
	if err := unix.Mount(d.Device, d.Dir, "ext4", 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", d.Device, err)
	}
	return nil
}

// Unmount writes what is left and unmounts.
func (d *Disk) Unmount() error {
	if err := unix.Unmount(d.Dir, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", d.Device, err)
	}
	return nil
}

// Close unmounts the disk if it is mounted, frees the loop device, and removes
// image and mount point.
func (d *Disk) Close() error {
	_ = unix.Unmount(d.Dir, unix.MNT_DETACH) // it need not be mounted
	var err error
	if d.Device != "" {
		_, err = run("losetup", "--detach", d.Device)
	}
	return errors.Join(err, os.RemoveAll(d.image), os.RemoveAll(d.Dir))
}

// Counts are what the device has done since it was made.
type Counts struct {
	Bytes   int64 // written
	Flushes int64
}

// Sub returns what was done since earlier.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{c.Bytes - earlier.Bytes, c.Flushes - earlier.Flushes}
}

// Counts asks the kernel.
func (d *Disk) Counts() (Counts, error) {
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.Device), "stat"))
	if err != nil {
		return Counts{}, err
	}
	// Documentation/block/stat.rst: the 7th is sectors written, always of 512
	// bytes, the 16th flushes.
	fields := strings.Fields(string(text))
	if len(fields) < 16 {
		return Counts{}, errors.New("this kernel does not count flushes: it is older than 5.5")
	}
	sectors, err := strconv.ParseInt(fields[6], 10, 64)
	flushes, err2 := strconv.ParseInt(fields[15], 10, 64)
	return Counts{Bytes: sectors * 512, Flushes: flushes}, errors.Join(err, err2)
}

// Sync writes all that the kernel holds for the mounted file system, so that
// what is counted next is not left over from before.
func (d *Disk) Sync() error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

func run(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput() //nolint:noctx // our own arguments; they end by themselves
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
