package ingest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// A memoryLog is a nullLog that can be read: it holds the last groups, as the log
// gives them to readers.
type memoryLog struct {
	nullLog

	mu      sync.Mutex
	arena   []byte
	headers []record.Header
	entries []record.Entry // from base on
	base    tributary.LSN
}

const memoryLogHolds = 200_000

func (l *memoryLog) Append(r *record.Record, t tributary.Ticket) (tributary.LSN, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := record.Entry{LSN: l.base + tributary.LSN(len(l.entries)), Record: *r}
	if cap(l.arena)-len(l.arena) < len(r.Value) {
		l.arena = make([]byte, 0, 1<<20)
	}
	l.arena = append(l.arena, r.Value...)
	e.Value = l.arena[len(l.arena)-len(r.Value):]
	if cap(l.headers)-len(l.headers) < len(r.Headers) {
		l.headers = make([]record.Header, 0, 1<<12)
	}
	l.headers = append(l.headers, r.Headers...)
	e.Headers = l.headers[len(l.headers)-len(r.Headers):]
	if len(l.entries) == 2*memoryLogHolds {
		copy(l.entries, l.entries[memoryLogHolds:])
		l.entries, l.base = l.entries[:memoryLogHolds], l.base+memoryLogHolds
	}
	l.entries = append(l.entries, e)
	return l.nullLog.Append(r, t)
}

func (l *memoryLog) AppendAll(to tributary.LedgerID, rs []record.Record, ts []tributary.Ticket) (tributary.LedgerID, int, error) {
	return appendEach(l, to, rs, ts)
}

// Read is asked for what is durable alone.
func (l *memoryLog) Read(_ context.Context, _ tributary.LedgerID, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from < l.base {
		return record.Chunk{}, fmt.Errorf("record %d is not held any more: the delivery is too slow", from)
	}
	all := l.entries[from-l.base:]
	all = all[:min(len(all), maxBytes/320)]
	return record.Chunk{From: from, Next: from + tributary.LSN(len(all)), Entries: append([]record.Entry(nil), all...)}, nil
}

// BenchmarkFanout measures what one subscriber to everything adds to 100
// publishers with 20 QoS 1 messages in flight each. The CPU is that of all clients
// and the door together; the subscriber's own is in it.
func BenchmarkFanout(b *testing.B) {
	for _, name := range []string{"none", "qos=0", "qos=0/v5", "qos=1"} {
		b.Run("subscriber="+name, func(b *testing.B) { benchFanout(b, name) })
	}
}

func benchFanout(b *testing.B, name string) {
	b.Helper()
	const clients, window = 100, 20
	l := &memoryLog{}
	d, stop := benchDoor(b, l, &l.nullLog)
	rounds := max(1, b.N/clients/window)
	total := rounds * clients * window
	var subscriber sync.WaitGroup
	if name != "none" {
		nc := benchSubscriber(b, d.Addrs()[0].String(), name)
		defer nc.Close()
		subscriber.Go(func() { benchRead(nc, d, name == "qos=1", total) })
	}
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu()
	var fleet sync.WaitGroup
	for i := range clients {
		fleet.Go(func() {
			if err := benchClient(d.Addrs()[0].String(), dialled{id: fmt.Sprint(i)}, 1, window, rounds); err != nil {
				b.Error(err)
			}
		})
	}
	fleet.Wait()
	subscriber.Wait()
	b.ReportMetric((cpu()-start).Seconds()/float64(total)*1e6, "cpu-s/M")
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(d.Stats().Refused.FanoutLost+d.Stats().Refused.QueueLost), "lost")
	stop()
}

func benchSubscriber(b *testing.B, addr, name string) net.Conn {
	b.Helper()
	nc, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	v5, qos := name == "qos=0/v5", byte(0)
	if name == "qos=1" {
		qos = 1
	}
	if _, err := nc.Write(append(connectPacket(dialled{id: "sub", v5: v5}), subscribePacket(v5, 1, "#", qos)...)); err != nil {
		b.Fatal(err)
	}
	r := bufio.NewReaderSize(nc, 16)
	for range 2 {
		if _, err := readPacket(r); err != nil {
			b.Fatal(err)
		}
	}
	return nc
}

// benchRead reads until all messages have come, but for those that were dropped.
func benchRead(nc net.Conn, d *Door, acks bool, total int) {
	buf := make([]byte, 256<<10)
	have, got := 0, 0
	var out []byte
	for {
		s := d.Stats().Refused
		if got+int(s.FanoutLost+s.QueueLost) >= total {
			return
		}
		_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := nc.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		at := 0
		for {
			size := wholePacket(buf[at:have])
			if size == 0 || at+size > have {
				break
			}
			if got++; acks {
				topic := int(buf[at+3])<<8 | int(buf[at+4])
				pid := at + 5 + topic
				out = append(out, 0x40, 2, buf[pid], buf[pid+1])
			}
			at += size
		}
		have = copy(buf, buf[at:have])
		if len(out) > 0 {
			_, _ = nc.Write(out)
			out = out[:0]
		}
	}
}
