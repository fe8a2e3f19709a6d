//go:build device

package edge_test

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/firmware-sim/device"
	"github.com/tributary-edge/tributary/log/disk/loopdisk"
)

const (
	flashDevices   = 20
	flashRate      = 10 // messages a second, of each
	mostBytesADay  = 6e9
	mostDifference = 0.05
)

// 200 messages a second of 200 bytes of JSON, acknowledged after 100 ms and
// compressed, as by default on a card, cost a
// card at most 6 GB a day, and the node knows it: its own figure is within 5 % of
// what the kernel counts. The data directory is on an ext4 with a journal, on a
// loop device of its own. The log has turned over once, as after the first days:
// the zero-fill of its files is paid once. It needs root, losetup and mkfs.ext4.
//
//	make test-flash MINUTES=10
func TestFlashLife(t *testing.T) {
	minutes := 10
	if text, ok := os.LookupEnv("MINUTES"); ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("MINUTES=%q is not a whole number from 1 on", text)
		}
		minutes = n
	}
	disk := newDisk(t)
	s := newSite(t, "[ack]\nwindow = \"100ms\"\n[log]\ncompression = \"zstd\"\nmax_size = \"120MiB\"\nendurance = \"120TB\"\n")
	s.dir = filepath.Join(disk.Dir, "data")
	s.start()
	turnOver(t, s)
	s.end()
	settle := func() { // files were made, and their inodes and bitmaps are still to go to their places
		t.Helper()
		if err := disk.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	settle()
	s.start()
	settle()

	first, before, start := s.Report(), counts(t, disk), time.Now()
	publishFleet(t, s, device.Options{
		Devices: flashDevices, Rate: flashRate, Count: uint64(flashRate * 60 * minutes), Prefix: "pump-", Topic: "plant/{device}/tele", Window: 100,
	})
	last, took := s.Report(), time.Since(start)
	used := counts(t, disk).Sub(before)

	perDay := func(bytes int64) float64 { return float64(bytes) * float64(24*time.Hour) / float64(took) }
	kernel, own := perDay(used.Bytes), perDay(last.Flash.Bytes-first.Flash.Bytes)
	records := last.MQTT.Durable[1] - first.MQTT.Durable[1]
	t.Logf("%d records in %v", records, took.Round(time.Second))
	t.Logf("kernel: %.3f GB/day, %.1f bytes and %.4f flushes a record", kernel/1e9,
		float64(used.Bytes)/float64(records), float64(used.Flushes)/float64(records))
	t.Logf("node:   %.3f GB/day (%+.2f %%), %.1f bytes and %.4f flushes a record: log %d, meta.db %d, journal %d bytes", own/1e9, 100*(own/kernel-1),
		float64(last.Flash.Bytes-first.Flash.Bytes)/float64(records), float64(last.Flash.Flushes-first.Flash.Flushes)/float64(records),
		last.Flash.LogBytes-first.Flash.LogBytes, last.Flash.MetaBytes-first.Flash.MetaBytes, last.Flash.JournalBytes-first.Flash.JournalBytes)
	var text strings.Builder
	if err := last.Text(&text, time.Now()); err != nil {
		t.Fatal(err)
	}
	t.Logf("status:\n%s", &text)

	if kernel > mostBytesADay {
		t.Errorf("%.2f GB a day; at most %.0f are allowed", kernel/1e9, mostBytesADay/1e9)
	}
	if math.Abs(own-kernel) > mostDifference*kernel {
		t.Errorf("the node counts %.3f GB a day, the kernel %.3f: more than %.0f %% apart", own/1e9, kernel/1e9, 100*mostDifference)
	}
	const loose = 2 * mostDifference // what status shows has the start of the node in it
	if f := last.Flash; f.Device != filepath.Base(disk.Device) || !f.KernelKnown || !f.JournalKnown || f.LifeYears == 0 ||
		math.Abs(f.BytesPerDay-kernel) > loose*kernel || math.Abs(f.KernelBytesPerDay-kernel) > loose*kernel {
		t.Errorf("status says %+v", f)
	}
	if want := uint64(flashDevices * flashRate * 60 * minutes); records != want {
		t.Errorf("%d records are durable, want %d", records, want)
	}
}

// newDisk returns a mounted ext4 on a loop device of its own.
func newDisk(t *testing.T) *loopdisk.Disk {
	t.Helper()
	d, err := loopdisk.New(t.TempDir(), 600<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.Mount(""); err != nil {
		t.Fatal(err)
	}
	return d
}

// counts reads the kernel's counts in a way of its own, not the node's.
func counts(t *testing.T, d *loopdisk.Disk) loopdisk.Counts {
	t.Helper()
	c, err := d.Counts()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// turnOver publishes until the log has made all its files and used one again.
func turnOver(t *testing.T, s *site) {
	t.Helper()
	for range 50 {
		publishFleet(t, s, device.Options{
			Count: 20, Prefix: "fill-", Topic: "fill", Window: 4, Payloads: device.Mix{{Name: device.ShapeRandom, Weight: 1}}, RandomBytes: 200 << 10,
		})
		names, err := filepath.Glob(filepath.Join(s.dir, "log", "*.seg"))
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 10 && filepath.Base(names[0]) != "0000000000000001.seg" {
			s.until("all of it in Kafka", func(r status.Report) bool { return r.Uplink.Waiting == 0 })
			return
		}
	}
	t.Fatal("200 MB have not filled a log of 120 MiB")
}

func publishFleet(t *testing.T, s *site, o device.Options) {
	t.Helper()
	o.Broker = s.Door().Addrs()[0].String()
	o.Drain, o.AckTimeout, o.KeepAlive, o.BackoffMax, o.Seed = time.Minute, 30*time.Second, time.Minute, time.Second, 1
	fleet, err := device.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := fleet.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
