package ingest

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// A nullLog keeps nothing and takes a while over each group.
type nullLog struct {
	Reader

	mu      sync.Mutex
	next    tributary.LSN
	pending []tributary.Ticket
}

func (l *nullLog) Append(_ *record.Record, t tributary.Ticket) (tributary.LSN, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	l.pending = append(l.pending, t)
	return l.next - 1, nil
}

func (l *nullLog) AppendAll(to tributary.LedgerID, rs []record.Record, ts []tributary.Ticket) (tributary.LedgerID, int, error) {
	return appendEach(l, to, rs, ts)
}

func (l *nullLog) run(ctx context.Context, d *Door, flush time.Duration) {
	var group []tributary.Ticket
	tick := time.NewTicker(flush)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		base := l.next - tributary.LSN(len(l.pending))
		group, l.pending = l.pending, group[:0]
		l.mu.Unlock()
		if len(group) > 0 {
			d.Committed(fakeLedger, base, group, nil)
		}
	}
}

// A benchLog is a log for a benchmark.
type benchLog interface {
	Appender
	Reader
}

// benchDoor runs a Door on l, whose groups timer commits, until stop is called.
func benchDoor(b *testing.B, l benchLog, timer *nullLog) (d *Door, stop func()) {
	b.Helper()
	d, err := New(Options{
		Listen: []string{"127.0.0.1:0"}, Log: l, Reader: l, Router: routeFunc(routeAll), Guard: openDoor{}, DeadLetter: "dead",
		IsFull: func(error) bool { return false },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	committing, endCommits := context.WithCancel(context.WithoutCancel(ctx))
	var commits sync.WaitGroup
	commits.Go(func() { timer.run(committing, d, 300*time.Microsecond) })
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	<-d.Ready()
	return d, func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		endCommits()
		commits.Wait()
	}
}

// BenchmarkPublish measures the door without a disk: clients with a window
// each, 256-byte payloads. The CPU is that of clients and door together.
func BenchmarkPublish(b *testing.B) {
	for _, qos := range []byte{1, 2} {
		for _, v5 := range []bool{false, true} {
			b.Run(fmt.Sprintf("qos=%d/v5=%t", qos, v5), func(b *testing.B) { benchPublish(b, qos, v5, 100, 20) })
		}
	}
}

func benchPublish(b *testing.B, qos byte, v5 bool, clients, window int) {
	b.Helper()
	l := &nullLog{}
	d, stop := benchDoor(b, l, l)
	rounds := max(1, b.N/clients/window)
	b.ReportAllocs()
	start := cpu()
	var fleet sync.WaitGroup
	for i := range clients {
		fleet.Go(func() {
			if err := benchClient(d.Addrs()[0].String(), dialled{id: fmt.Sprint(i), v5: v5}, qos, window, rounds); err != nil {
				b.Error(err)
			}
		})
	}
	fleet.Wait()
	b.ReportMetric((cpu()-start).Seconds()/float64(rounds*clients*window)*1e6, "cpu-s/M")
	b.ReportMetric(float64(rounds*clients*window)/b.Elapsed().Seconds(), "msg/s")
	stop()
}

func benchClient(addr string, s dialled, qos byte, window, rounds int) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Write(connectPacket(s)); err != nil {
		return err
	}
	ack := make([]byte, 64)
	if _, err := nc.Read(ack); err != nil {
		return err
	}
	var out, rel []byte
	for pid := range uint16(window) {
		out = append(out, publishPacket(s.v5, qos<<1, pid+1, "plant/line/device", strings.Repeat("x", 256))...)
		rel = append(rel, 0x62, 2, 0, byte(pid+1))
	}
	in := make([]byte, 4*window)
	for range rounds {
		if _, err := nc.Write(out); err != nil {
			return err
		}
		if _, err := io.ReadFull(nc, in); err != nil {
			return err
		}
		if qos == 2 {
			if _, err := nc.Write(rel); err != nil {
				return err
			}
			if _, err := io.ReadFull(nc, in); err != nil {
				return err
			}
		}
	}
	return nil
}

// cpu returns the CPU time this process has used.
func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
