package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/disk"
)

// The bounds of what is written to find out how fast the disk is.
const (
	probeFlushes = 200
	probeLimit   = 3 * time.Second
)

// Examine looks at this machine with the eyes of a node that has configuration
// cfg. node is what such a node says of itself, or nil if none answers; logDir is
// where it has its log; filesErr is what is wrong with the files that cfg names. Beside reading, it makes one file in the data directory,
// writes a page of 4 KiB to it at most 200 times in at most 3 s, and removes it.
// nodeErr is why no node answers.
func Examine(ctx context.Context, cfg *config.Config, logDir string, filesErr error, node *status.Report, nodeErr error) *Report {
	r := &Report{}
	r.Add(filesFinding(filesErr))
	if r.directory(ctx, cfg) {
		r.space(cfg, logDir)
	}
	r.Add(clockFinding(clock.Synced()))
	r.node(cfg, node, nodeErr)
	return r
}

// filesFinding says whether passwords, rights, keys and certificates can be read.
func filesFinding(err error) Finding {
	const about = "files of the configuration"
	switch {
	case err == nil:
		return Finding{Good, about, "what it names can be read", "", ""}
	case errors.Is(err, fs.ErrPermission):
		return denied(about, err)
	}
	return Finding{Error, about, err.Error(), "A node that starts like this lets nobody in: it does not start", "correct the file, or take its key out of the configuration"}
}

// directory looks at the data directory and says whether more of it can be seen.
func (r *Report) directory(ctx context.Context, cfg *config.Config) bool {
	dir := cfg.Node.DataDir
	about := "data directory " + dir
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		r.Add(Finding{
			Warn, about, "it does not exist", "The first start makes it, if its user may; nothing can be measured before",
			"make it on the disk that is to keep the records, and give it to the user who runs the node",
		})
		return false
	case errors.Is(err, fs.ErrPermission):
		r.Add(denied(about, err))
		return false
	case err != nil:
		r.Add(Finding{Error, about, err.Error(), "A node cannot start", "look at the kernel's log"})
		return false
	case !info.IsDir():
		r.Add(Finding{Error, about, "it is no directory", "A node cannot start", "set [node] data_dir to a directory"})
		return false
	}
	device, err := disk.DeviceOf(dir)
	latency, probeErr := disk.ProbeFlush(ctx, dir, probeFlushes, probeLimit)
	if errors.Is(probeErr, fs.ErrPermission) {
		r.Add(denied(about, probeErr))
		return false
	}
	if probeErr != nil {
		r.Add(Finding{
			Error, about, "it cannot be written: " + probeErr.Error(), "A node cannot start, or takes no records",
			"make room; look at the kernel's log for a disk that has failed",
		})
		return true
	}
	r.Add(mediumFinding(about, device, err == nil))
	r.Add(flushFinding(latency, device.Flash(), &cfg.Ack))
	return true
}

// denied says that this user may not look.
func denied(about string, err error) Finding {
	return Finding{
		Error, about, "permission denied: " + err.Error(), "It cannot be examined by this user; the user of the node may have no trouble with it",
		"run as the user of the node, for example sudo -u USER tributary doctor; if the node itself is refused, give that user the data directory (chown)",
	}
}

func mediumFinding(about string, d disk.Device, known bool) Finding {
	switch {
	case !known:
		return Finding{
			Note, about, "it can be written, and the kernel shows no block device for it",
			"What is written to the device cannot be checked against the kernel's count; in memory or on a network nothing is safe from a power cut",
			"nothing, if the file system has its own devices, as btrfs has; else choose a local disk",
		}
	case d.Flash():
		return Finding{
			Good, about, "it can be written, on " + d.Name + ", an SD card or eMMC",
			"Each flush costs life: a window of 100 ms is the default here", "",
		}
	}
	return Finding{Good, about, "it can be written, on " + d.Name, "", ""}
}

const (
	tooFast = 20 * time.Microsecond // for a flush that reaches a device
	tooSlow = time.Second           // a device that waits so long may send again
)

// flushFinding says what the time of a flush means to those who wait for an
// acknowledgement.
func flushFinding(l disk.Latency, isFlash bool, ack *config.Ack) Finding {
	f := Finding{
		Level: Good, About: "fsync",
		What: fmt.Sprintf("mean %s, p50 %s, p99 %s, max %s over %d flushes of 4 KiB", short(l.Mean), short(l.P50), short(l.P99), short(l.Max), l.Flushes),
	}
	window := ack.WindowOn(isFlash)
	f.Means = fmt.Sprintf("With a window of %s a device that waits for each acknowledgement gets about %d a second; "+
		"all that wait share a flush: many devices, or many messages under way, get many times more", short(window), time.Second/max(l.Mean+window, 1))
	switch {
	case l.P50 < tooFast:
		f.Level = Warn
		f.Means = "No device is that fast: the directory is in memory, or the disk says that it has flushed and has not, and a power cut loses what was acknowledged"
		f.Do = "put the data directory on a real disk, or switch on write barriers and the disk's flushes"
	case l.P99 > tooSlow:
		f.Level = Warn
		f.Means += fmt.Sprintf(". One in a hundred takes over %s: devices that wait less send again", short(tooSlow))
		f.Do = "use a card or disk made for writing (A2, industrial), and look for another program that writes to it"
	case isFlash && window < config.FlashWindow/10:
		f.Level = Warn
		f.Means += ". At a low rate nearly every record costs a flush and a page, which wears the card"
		f.Do = `[ack] window = "auto", or "100ms"`
	}
	return f
}

// short writes a duration for people.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

func clockFinding(synced bool) Finding {
	if synced {
		return Finding{Good, "clock", "the kernel holds it for synchronised", "", ""}
	}
	return Finding{
		Warn, "clock", "it is not synchronised",
		"Records carry the times it shows, and max_age deletes nothing until it is; their order does not depend on it",
		"timedatectl set-ntp true, or run chrony",
	}
}
