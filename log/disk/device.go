package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Device is the block device below a directory, as the kernel shows it.
type Device struct {
	Name  string // sda1, mmcblk0p2, loop0
	sys   string // its folder in /sys
	block int64  // bytes of a block of the file system on it
}

// ErrNoDevice says that a directory lies on no block device that the kernel
// shows: in memory, on a network, or on a file system with devices of its own.
var ErrNoDevice = errors.New("no block device is known")

// DeviceOf returns the block device on which root lies, or ErrNoDevice.
func DeviceOf(root string) (Device, error) {
	var s unix.Stat_t
	if err := unix.Stat(root, &s); err != nil {
		return Device{}, fmt.Errorf("look at %s: %w", root, err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return Device{}, fmt.Errorf("ask for the file system of %s: %w", root, err)
	}
	dev := uint64(s.Dev) //nolint:unconvert // its type differs between architectures
	d, err := deviceAt(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)))
	d.block = int64(fs.Bsize) //nolint:unconvert // its type differs between architectures
	return d, err
}

func deviceAt(link string) (Device, error) {
	sys, err := filepath.EvalSymlinks(link)
	if err != nil {
		return Device{}, ErrNoDevice
	}
	return Device{Name: filepath.Base(sys), sys: sys}, nil
}

// Flash says whether the device is an SD card or eMMC, where each flush costs
// life.
func (d Device) Flash() bool { return strings.Contains(d.sys, "/mmcblk") }

// Flash says whether root lies on an SD card or eMMC. It answers false when it
// cannot tell.
func Flash(root string) bool {
	d, err := DeviceOf(root)
	return err == nil && d.Flash()
}

// The fields of a stat file that count here; Documentation/block/stat.rst.
const (
	statWriteSectors = 6
	statFlushes      = 15
	statFields       = 17
	sectorBytes      = 512 // whatever the device's own are
)

// Written returns what the kernel has given to the device since it is there, by
// whatever program: bytes, and flushes. Of a partition the bytes are its own; the
// kernel counts flushes for the whole device alone.
func (d Device) Written() (bytes, flushes int64, err error) {
	own, err := readStat(filepath.Join(d.sys, "stat"))
	if err != nil {
		return 0, 0, err
	}
	whole := own
	if _, err := os.Stat(filepath.Join(d.sys, "partition")); err == nil {
		if whole, err = readStat(filepath.Join(filepath.Dir(d.sys), "stat")); err != nil {
			return 0, 0, err
		}
	}
	return own[statWriteSectors] * sectorBytes, whole[statFlushes], nil
}

func readStat(path string) (fields [statFields]int64, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return fields, fmt.Errorf("read the kernel's counts: %w", err)
	}
	words := strings.Fields(string(text))
	if len(words) < statFields {
		return fields, fmt.Errorf("%s has %d fields; flushes are counted from Linux 5.5 on, which has %d", path, len(words), statFields)
	}
	for i := range fields {
		if fields[i], err = strconv.ParseInt(words[i], 10, 64); err != nil {
			return fields, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return fields, nil
}

// A Journal is what a file system writes by itself for a program that overwrites
// files.
type Journal struct {
	CommitBytes int64         // of one commit, for one file
	InodeBytes  int64         // more, for another file in the same commit
	Every       time.Duration // a commit, while the program writes
}

// journalBlocks is what a commit of ext4's journal takes for one changed inode:
// a descriptor, the block with the inode, the commit block. Measured: 12 KiB
// every 5 s beside 10 overwrites a second, with lazytime and without.
const journalBlocks = 3

// Journal returns the journal of the file system on d; known is false where it
// cannot be told. An ext4 without a journal is known, and has the zero value.
func (d Device) Journal() (j Journal, known bool) {
	text, err := os.ReadFile(filepath.Join("/proc/fs/ext4", d.Name, "options"))
	if err != nil {
		return j, false
	}
	return journalOf(string(text), d.block)
}

// journalOf reads the options of a mounted ext4, one a line.
func journalOf(options string, blockBytes int64) (j Journal, known bool) {
	j.Every = 5 * time.Second
	for option := range strings.Lines(options) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(option), "="); key {
		case "data":
			if value == "journal" {
				return Journal{}, false // what the node writes is then in it too
			}
			j.CommitBytes, j.InodeBytes = journalBlocks*blockBytes, blockBytes
		case "commit":
			if s, err := strconv.Atoi(value); err == nil && s > 0 {
				j.Every = time.Duration(s) * time.Second
			}
		}
	}
	if j.CommitBytes == 0 {
		return Journal{}, true
	}
	return j, true
}
