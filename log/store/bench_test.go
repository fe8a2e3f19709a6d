package store

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/record"
)

// flood appends n records of 256 bytes with at most window under way, over a
// ring that is used again and again, and returns when all are acknowledged.
func flood(tb testing.TB, fs disk.FS, n, window int, from func()) Stats {
	tb.Helper()
	l, _, err := Open(fs, Options{SegmentBytes: 4 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	room := make(chan struct{}, window)
	var all sync.WaitGroup
	l.OnCommit(func(_ tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
		if err != nil {
			tb.Error(err)
		}
		l.Forwarded(l.Ledger(), base)
		for range tickets {
			<-room
			all.Done()
		}
	})
	ctx, stop := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	r := record.Record{
		Stream: "telemetry", Key: []byte("device-17"), Value: make([]byte, 256),
		Headers: []record.Header{{Key: "mqtt.topic", Value: []byte("plant/4/press/tele")}},
	}
	send := func(n int) {
		for range n {
			room <- struct{}{}
			all.Add(1)
			if _, err := l.Append(&r, tributary.Ticket{}); err != nil {
				tb.Fatal(err)
			}
		}
		all.Wait()
	}
	send(10_000) // buffers grow to their size
	before := l.Stats()
	from()
	send(n)
	after := l.Stats()
	stop()
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
	after.Records, after.Groups = after.Records-before.Records, after.Groups-before.Groups
	return after
}

// An append costs no memory of its own: at most one allocation in twenty, the
// committer's and the disk's included.
func TestAppendAllocations(t *testing.T) {
	const total = 50_000
	var before, after runtime.MemStats
	s := flood(t, disktest.New(1<<30), total, 2000, func() { runtime.ReadMemStats(&before) })
	runtime.ReadMemStats(&after)
	if each := float64(after.Mallocs-before.Mallocs) / total; each > 0.05 {
		t.Errorf("%.3f allocations for each record (%d records in %d groups), want at most 0.05", each, s.Records, s.Groups)
	} else {
		t.Logf("%.3f allocations for each record, %d records in %d groups", each, s.Records, s.Groups)
	}
}

// BenchmarkAppend is on the disk of the temporary directory, flushes included.
func BenchmarkAppend(b *testing.B) {
	for _, window := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			fs, err := disk.Dir(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			s := flood(b, fs, b.N, window, b.ResetTimer)
			b.ReportMetric(float64(s.Records)/float64(max(1, s.Groups)), "records/group")
		})
	}
}
