package edge

import (
	"sync"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/flash"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/log/store"
)

// A meter knows what this node gives to its device, what the kernel says of it,
// and whether the log fills up. Its methods may be called at once.
type meter struct {
	endurance int64
	uptime    func() int64 // milliseconds
	meta      *meta.DB
	counts    *disk.Counts
	device    disk.Device
	hasDevice bool // the kernel shows the device
	journal   disk.Journal
	journaled bool // what the file system adds is known

	mu     sync.Mutex // guards what follows
	writes *flash.Meter
	fill   *flash.Fill
	first  status.Flash // counts at the start
}

const (
	flashMeterWindow = time.Hour
	fillWindow       = 10 * time.Minute
)

// newMeter returns a meter, and fs with its writes counted. linger is how long
// records wait before they go to Kafka when all is well.
func newMeter(fs disk.FS, db *meta.DB, dataDir string, endurance int64, linger time.Duration) (*meter, disk.FS) {
	m := &meter{
		endurance: endurance, uptime: clock.UptimeMillis, meta: db,
		writes: flash.New(flashMeterWindow), fill: flash.NewFill(max(fillWindow, 4*linger)),
	}
	if d, err := disk.DeviceOf(dataDir); err == nil {
		m.device, m.hasDevice = d, true
		m.journal, m.journaled = d.Journal()
	}
	fs, m.counts = disk.Counted(fs, m.journal)
	m.first = m.count()
	m.writes.Add(m.sample(&m.first, 0))
	return m, fs
}

// count reads all counters: of the node since its start, of the kernel since the
// device is there.
func (m *meter) count() (f status.Flash) {
	journal, commits := m.counts.Journal()
	metaBytes, metaFlushes := m.meta.Written()
	journal += min(commits, metaFlushes/2) * m.journal.InodeBytes // meta.db has two flushes a commit
	f.LogBytes, f.MetaBytes, f.JournalBytes = m.counts.Bytes(), metaBytes, journal
	f.Bytes = f.LogBytes + f.MetaBytes + f.JournalBytes
	f.Flushes = m.counts.Flushes() + metaFlushes + commits
	f.JournalKnown, f.EnduranceBytes = m.journaled, m.endurance
	if !m.hasDevice {
		return f
	}
	f.Device = m.device.Name
	if bytes, flushes, err := m.device.Written(); err == nil {
		f.KernelBytes, f.KernelFlushes, f.KernelKnown = bytes, flushes, true
	}
	return f
}

func (m *meter) sample(f *status.Flash, records int64) flash.Sample {
	return flash.Sample{
		At: time.Duration(m.uptime()) * time.Millisecond, Records: records,
		Own:    flash.Writes{Bytes: f.Bytes, Flushes: f.Flushes},
		Kernel: flash.Writes{Bytes: f.KernelBytes, Flushes: f.KernelFlushes}, Known: f.KernelKnown,
	}
}

// report takes a sample and fills in what r says of the flash and of the room in
// the log. r has its other figures already.
func (m *meter) report(r *status.Report, l store.Stats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.count()
	s := m.sample(&f, l.Records)
	m.writes.Add(s)
	rates := m.writes.Recent()
	f.WindowSeconds = rates.Over.Seconds()
	f.BytesPerDay, f.FlushesPerDay = rates.PerDay(rates.Own.Bytes), rates.PerDay(rates.Own.Flushes)
	f.BytesPerRecord, f.FlushesPerRecord = rates.PerRecord(rates.Own.Bytes), rates.PerRecord(rates.Own.Flushes)
	if f.KernelKnown {
		f.KernelBytes -= m.first.KernelBytes
		f.KernelFlushes -= m.first.KernelFlushes
		f.KernelBytesPerDay, f.KernelFlushesPerDay = rates.PerDay(rates.Kernel.Bytes), rates.PerDay(rates.Kernel.Flushes)
	}
	f.LifeYears, _ = flash.LifeYears(f.EnduranceBytes, rates.BytesPerDay())
	r.Flash = f

	m.fill.Add(flash.Backlog{At: s.At, Waiting: int64(r.Uplink.Waiting), Records: l.Records, Bytes: l.WrittenBytes})
	r.Log.GrowthBytesPerDay = m.fill.BytesPerDay()
	r.Log.RoomDays, r.Log.Filling = flash.RoomDays(l.RoomBytes, r.Log.GrowthBytesPerDay)
	r.Log.FullSoon = m.fill.Soon(l.RoomBytes)
}
