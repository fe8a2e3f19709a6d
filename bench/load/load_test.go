package load

import (
	"bufio"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// broker is a server that accepts every CONNECT and answers each PUBLISH with
// what answer returns, until the test ends.
func broker(t *testing.T, answer func(id [2]byte) []byte) (addr string, published *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	published = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, published, answer)
		}
	}()
	return l.Addr().String(), published
}

func serve(c net.Conn, published *atomic.Int64, answer func(id [2]byte) []byte) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		header, body, err := readPacket(r)
		if err != nil {
			return
		}
		reply := []byte{connack, 2, 0, 0}
		if header == publishQ1 {
			published.Add(1)
			topic := int(body[0])<<8 | int(body[1])
			reply = answer([2]byte(body[2+topic:]))
		}
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}

func ack(id [2]byte) []byte { return []byte{puback, 2, id[0], id[1]} }

func TestFeedSendsExactly(t *testing.T) {
	addr, published := broker(t, ack)
	f, err := Open(t.Context(), addr, "t", Shape{Conns: 7, Window: 5, Size: 200})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Feed(1003); err != nil {
		t.Fatal(err)
	}
	if got := published.Load(); got != 1003 {
		t.Errorf("%d messages arrived, want 1003", got)
	}
}

func TestMeasureCountsTheWindowOnly(t *testing.T) {
	addr, published := broker(t, ack)
	f, err := Open(t.Context(), addr, "t", Shape{Conns: 2, Window: 10, Size: 256})
	if err != nil {
		t.Fatal(err)
	}
	var before, after int64
	r, err := f.Measure(t.Context(), 50*time.Millisecond, 100*time.Millisecond,
		func() { before = published.Load() }, func() { after = published.Load() })
	if err != nil {
		t.Fatal(err)
	}
	const open = 2 * 10 // may be counted on one side and not on the other
	if d := r.Messages - (after - before); r.Messages == 0 || d < -open || d > open {
		t.Errorf("counted %d messages; the server saw %d in the window", r.Messages, after-before)
	}
	if p50, p99 := r.Latency.Quantile(.5), r.Latency.Quantile(.99); p50 <= 0 || p99 < p50 {
		t.Errorf("latency: median %v, p99 %v", p50, p99)
	}
}

func TestWrongAckIsAnError(t *testing.T) {
	addr, _ := broker(t, func([2]byte) []byte { return []byte{puback, 2, 0, 99} })
	f, err := Open(t.Context(), addr, "t", Shape{Conns: 1, Window: 2, Size: 64})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Feed(10); err == nil || !strings.Contains(err.Error(), "packet id 99") {
		t.Errorf("error %v, want one about packet id 99", err)
	}
}
