//go:build device

package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/disk/loopdisk"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// TestDevice counts what the log costs a device, on a real ext4 with a journal:
// counts are the same on every machine, times are not. It needs root.
//
//	make test-device
func TestDevice(t *testing.T) {
	d, err := loopdisk.New(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	// The journal is not written by itself while the test runs, so that what is
	// counted is the log's.
	if err := d.Mount("commit=3600"); err != nil {
		t.Fatal(err)
	}
	t.Run("OneFlush", func(t *testing.T) { testOneFlush(t, d) })
	t.Run("Roll", func(t *testing.T) { testRoll(t, d) })
	t.Run("Bytes", func(t *testing.T) { testBytes(t, d) })
	t.Run("Allocations", func(t *testing.T) { testAllocations(t, d) })
	t.Run("Restart", func(t *testing.T) { testRestart(t, d) })
}

// testOneFlush: within a segment a commit is one flush and whole pages, exactly.
func testOneFlush(t *testing.T, d *loopdisk.Disk) {
	t.Helper()
	for _, appenders := range []int{1, 100} {
		l := openOn(t, d, Options{})
		l.send(appenders, 20*appenders) // the first segments are made
		c, s := l.counted(d, func() { l.send(appenders, 300*appenders) })
		t.Logf("%d in flight: %d commits, %d flushes, %d pages", appenders, s.Groups, c.Flushes, c.Bytes>>12)
		if c.Flushes != s.Groups || s.Flushes != s.Groups {
			t.Errorf("%d in flight: %d flushes (the log counts %d) for %d commits; want one for each",
				appenders, c.Flushes, s.Flushes, s.Groups)
		}
		if c.Bytes != s.WrittenBytes {
			t.Errorf("%d in flight: %d bytes reached the device, the log wrote %d", appenders, c.Bytes, s.WrittenBytes)
		}
		l.close()
	}
}

// testRoll: a segment that is sealed and another that is recycled cost a few
// flushes more, off the path of the commits, and two small writes.
func testRoll(t *testing.T, d *loopdisk.Disk) {
	t.Helper()
	const flushesPerRoll, bytesPerRoll = 8, 128 << 10
	l := openOn(t, d, Options{SegmentBytes: 4 << 20})
	l.send(1000, 100_000) // all segments are made
	used := l.lastSegment()
	c, s := l.counted(d, func() { l.send(1000, 200_000) })
	rolls := int64(l.lastSegment() - used)
	more := c.Flushes - s.Groups
	t.Logf("%d commits, %d flushes, %d rolls: %.2f flushes and %d bytes for each roll", s.Groups, c.Flushes, rolls,
		float64(more)/float64(rolls), (c.Bytes-s.WrittenBytes)/rolls)
	if rolls < 5 || more > flushesPerRoll*rolls {
		t.Errorf("%d rolls cost %d flushes; want at most %d for each", rolls, more, flushesPerRoll)
	}
	if c.Bytes-s.WrittenBytes > bytesPerRoll*rolls {
		t.Errorf("%d rolls cost %d bytes; want at most %d for each", rolls, c.Bytes-s.WrittenBytes, bytesPerRoll)
	}
	l.close()
}

// testBytes: what reaches the device for a byte of payload.
func testBytes(t *testing.T, d *loopdisk.Disk) {
	t.Helper()
	for _, c := range []struct {
		records  int // in a group
		compress bool
		value    func(i int) []byte
		most     float64
	}{
		{400, false, blank, 1.1},
		{20, true, telemetry, 1.5},
		{200, true, telemetry, .25},
	} {
		l := openOn(t, d, Options{Compress: c.compress})
		l.value = c.value
		const groups = 50
		l.together(c.records, 2)
		payload := l.payload
		got, s := l.counted(d, func() { l.together(c.records, groups) })
		each := float64(got.Bytes) / float64(l.payload-payload)
		t.Logf("%d groups of %d records, zstd %v: %.3f bytes on the device per payload byte", s.Groups, c.records, c.compress, each)
		if s.Groups != groups+1 || each > c.most {
			t.Errorf("%d records in %d groups, zstd %v: %.3f bytes on the device per payload byte; want %d groups and at most %v",
				c.records, s.Groups, c.compress, each, groups+1, c.most)
		}
		l.close()
	}
}

// testAllocations: an append that nobody waits for costs no memory of its own.
func testAllocations(t *testing.T, d *loopdisk.Disk) {
	t.Helper()
	l := openOn(t, d, Options{})
	l.send(2000, 50_000) // buffers grow to their size
	const total = 100_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	l.send(2000, total)
	runtime.ReadMemStats(&after)
	each := float64(after.Mallocs-before.Mallocs) / total
	t.Logf("%.4f allocations for each append", each)
	if each > 0.05 {
		t.Errorf("%.4f allocations for each append; want at most 0.05", each)
	}
	l.close()
}

// testRestart: a start reads the newest segment, and header and footer of the
// others.
func testRestart(t *testing.T, d *loopdisk.Disk) {
	t.Helper()
	const most = 16 << 20
	dir, err := disk.Dir(filepath.Join(d.Dir, t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	fs := &disktest.Meter{FS: dir, NoSync: true}
	opt := Options{MaxBytes: 640 << 20}
	l := openIn(t, fs, opt)
	l.keep = true
	l.send(10_000, 2_000_000)
	for begun := l.lastSegment(); l.lastSegment() == begun; { // on to the start of a segment
		l.send(100, 1000)
	}
	full := l.Stats().UsedBytes
	for l.Stats().UsedBytes-full < l.opt.SegmentBytes*95/100 { // almost all of it
		l.send(100, 1000)
	}
	newest, files := l.Stats().UsedBytes-full, int64(l.lastSegment())
	l.close()

	fs.Read.Store(0)
	l = openIn(t, fs, opt)
	got := fs.Read.Load()
	l.close()
	t.Logf("%d bytes read at the start of a log of %d, %d of them in its newest segment", got, full+newest, newest)
	if got > most || full < 500<<20 {
		t.Errorf("%d bytes read at the start of a log of %d; want at most %d", got, full+newest, most)
	}
	// Two files without a footer are looked through for frames, page by page.
	frames := 2 * (l.opt.SegmentBytes / group.PageBytes) * group.FrameBytes
	if limit := newest + files*(segment.HeaderBytes+segment.FooterBytes) + frames + 1<<20; got > limit {
		t.Errorf("%d bytes read at the start; want at most %d: the newest segment and the ends of %d files", got, limit, files)
	}
}

// A measured is a log that runs, and counts what it is given.
type measured struct {
	*Log

	t       *testing.T
	value   func(i int) []byte
	keep    bool // nothing is forwarded
	sent    int
	payload int64 // bytes of the values

	size, groups int // so many more groups of that many records follow each other
	pending      sync.WaitGroup
	room         chan struct{}
	stop         context.CancelFunc
	ended        chan error
}

func openOn(t *testing.T, d *loopdisk.Disk, opt Options) *measured {
	t.Helper()
	fs, err := disk.Dir(filepath.Join(d.Dir, t.Name(), fmt.Sprint(rand.Uint32())))
	if err != nil {
		t.Fatal(err)
	}
	return openIn(t, fs, opt)
}

func openIn(t *testing.T, fs disk.FS, opt Options) *measured {
	t.Helper()
	l, _, err := Open(fs, opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	m := &measured{Log: l, t: t, value: blank, room: make(chan struct{}, 1<<20), stop: stop, ended: make(chan error, 1)}
	l.OnCommit(func(_ tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
		if err != nil {
			t.Error(err)
		}
		if !m.keep {
			l.Forwarded(l.Ledger(), base)
		}
		if m.groups > 0 {
			m.groups--
			m.append(m.size)
		}
		for range tickets {
			<-m.room
			m.pending.Done()
		}
	})
	go func() { m.ended <- l.Run(ctx) }()
	return m
}

func (m *measured) close() {
	m.t.Helper()
	m.stop()
	if err := <-m.ended; err != nil {
		m.t.Fatal(err)
	}
}

func (m *measured) append(n int) {
	m.t.Helper()
	for range n {
		r := record.Record{Stream: "telemetry", Millis: 1_760_000_000_000 + int64(m.sent), Value: m.value(m.sent)}
		m.sent++
		m.payload += int64(len(r.Value))
		m.pending.Add(1)
		m.room <- struct{}{}
		if _, err := m.Append(&r, tributary.Ticket{}); err != nil {
			m.t.Error(err)
			return
		}
	}
}

// send appends n records with at most window under way, and returns when all
// are acknowledged and the next segment is prepared.
func (m *measured) send(window, n int) {
	m.t.Helper()
	m.room = make(chan struct{}, window)
	m.append(n)
	m.settle()
}

// together appends a record, and then groups of exactly size records: those of
// one are appended while the committer tells of the one before.
func (m *measured) together(size, groups int) {
	m.t.Helper()
	m.room = make(chan struct{}, 2*size)
	m.size, m.groups = size, groups
	m.append(1)
	m.settle()
}

func (m *measured) settle() {
	m.pending.Wait()
	for {
		if spare, _ := m.hasSpare(); spare {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// counted returns what the device and the log counted during f.
func (m *measured) counted(d *loopdisk.Disk, f func()) (loopdisk.Counts, Stats) {
	m.t.Helper()
	if err := d.Sync(); err != nil {
		m.t.Fatal(err)
	}
	before, err := d.Counts()
	if err != nil {
		m.t.Fatal(err)
	}
	s := m.Stats()
	f()
	after, err := d.Counts()
	if err != nil {
		m.t.Fatal(err)
	}
	now := m.Stats()
	now.Groups, now.Flushes, now.WrittenBytes = now.Groups-s.Groups, now.Flushes-s.Flushes, now.WrittenBytes-s.WrittenBytes
	return after.Sub(before), now
}

// lastSegment counts the segments that were begun.
func (m *measured) lastSegment() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int(m.lastSeq)
}

// blank is 256 bytes that say nothing.
func blank(int) []byte { return zeros[:] }

var zeros [256]byte

// telemetry is the i-th reading of 50 sensors in turn, some 210 bytes: names and
// most digits repeat, the rest is noise.
func telemetry(i int) []byte {
	rng := rand.New(rand.NewPCG(uint64(i), 0))
	return fmt.Appendf(nil, `{"device":"plant7-line3-sensor-%04d","ts":%d,"seq":%d,"temperature":%.2f,"humidity":%.1f,`+
		`"pressure":%.2f,"vibration":{"x":%.4f,"y":%.4f,"z":%.4f},"battery":%.2f,"rssi":-%d,"status":"OK"}`,
		i%50, 1_760_000_000_000+int64(i)*1000+rng.Int64N(20), i/50, 21.5+rng.Float64()/10, 45+rng.Float64()*3,
		1013.2+rng.Float64()/5, rng.Float64()/50, rng.Float64()/50, 0.98+rng.Float64()/50, 3.65-rng.Float64()/5, 60+rng.IntN(8))
}
