package load

import (
	"bytes"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// broker is a server that accepts every CONNECT and SUBSCRIBE, answers each
// PUBLISH with what answer returns, and gives it to who has subscribed, until
// the test ends.
func broker(t *testing.T, answer func(qos byte, id [2]byte) []byte) (b Broker, published *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	published = new(atomic.Int64)
	subscriber := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c, published, subscriber, answer)
		}
	}()
	return Broker{Addr: l.Addr().String()}, published
}

func serve(c net.Conn, published *atomic.Int64, subscriber chan net.Conn, answer func(qos byte, id [2]byte) []byte) {
	defer c.Close()
	var got []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		got = append(got, buf[:n]...)
		for {
			header, body, rest, ok := next(got)
			if !ok {
				break
			}
			var reply []byte
			switch header & 0xf0 {
			case connect:
				reply = []byte{connack, 2, 0, 0}
			case subscribe & 0xf0:
				subscriber <- c
				reply = []byte{suback, 3, body[0], body[1], 0}
			case pubrel & 0xf0:
				reply = []byte{pubcomp, 2, body[0], body[1]}
			case pingreq:
				reply = []byte{pingresp, 0}
			case publish:
				published.Add(1)
				topic := int(body[0])<<8 | int(body[1])
				reply = answer(header>>1&3, [2]byte(body[2+topic:]))
				select {
				case s := <-subscriber:
					_, _ = s.Write(publishPacket("t", 0, 0, []byte("x")))
					subscriber <- s
				default:
				}
			}
			if _, err := c.Write(reply); err != nil {
				return
			}
			got = rest
		}
	}
}

func ack(qos byte, id [2]byte) []byte {
	return [][]byte{{}, {puback, 2, id[0], id[1]}, {pubrec, 2, id[0], id[1]}}[qos]
}

func TestFeedSendsExactly(t *testing.T) {
	for qos := 1; qos <= 2; qos++ {
		b, published := broker(t, ack)
		f, err := Open(t.Context(), b, "t", Shape{Conns: 7, Window: 5, Size: 200, QoS: qos})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Feed(t.Context(), 1003); err != nil {
			t.Fatal(err)
		}
		if got := published.Load(); got != 1003 {
			t.Errorf("QoS %d: %d messages arrived, want 1003", qos, got)
		}
	}
}

func TestMeasureCountsTheWindowOnly(t *testing.T) {
	for qos := range 3 {
		b, published := broker(t, ack)
		f, err := Open(t.Context(), b, "t", Shape{Conns: 2, Window: 10, Size: 256, QoS: qos})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Subscribe(t.Context(), b, "s", "#"); err != nil {
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
			t.Errorf("QoS %d: counted %d messages; the server saw %d in the window", qos, r.Messages, after-before)
		}
		if r.Delivered == 0 {
			t.Errorf("QoS %d: nothing was delivered", qos)
		}
		if p50, p99 := r.Latency.Quantile(.5), r.Latency.Quantile(.99); p50 <= 0 || p99 < p50 {
			t.Errorf("QoS %d: latency: median %v, p99 %v", qos, p50, p99)
		}
	}
}

func TestRate(t *testing.T) {
	b, _ := broker(t, ack)
	f, err := Open(t.Context(), b, "t", Shape{Conns: 3, Window: 10, Size: 64, QoS: 1})
	if err != nil {
		t.Fatal(err)
	}
	f.Rate = 1000
	r, err := f.Measure(t.Context(), 50*time.Millisecond, 500*time.Millisecond, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Messages < 100 || r.PerSecond() > 1500 {
		t.Errorf("%d messages in %v, want 1000/s", r.Messages, r.Elapsed)
	}
}

func TestWrongAckIsAnError(t *testing.T) {
	b, _ := broker(t, func(byte, [2]byte) []byte { return []byte{puback, 2, 0, 99} })
	f, err := Open(t.Context(), b, "t", Shape{Conns: 1, Window: 2, Size: 64, QoS: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Feed(t.Context(), 10); err == nil || !strings.Contains(err.Error(), "packet id 99") {
		t.Errorf("error %v, want one about packet id 99", err)
	}
}

// What a broker sends is cut into packets, wherever the reads end.
func FuzzNext(f *testing.F) {
	f.Add([]byte{puback, 2, 0, 1, pingresp, 0, connack, 2, 0, 0})
	f.Add(publishPacket("t", 1, 7, make([]byte, 300)))
	f.Add([]byte{publish, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		header, body, rest, ok := next(b)
		if !ok {
			return
		}
		if len(body)+len(rest) > len(b)-2 || header != b[0] || !bytes.HasSuffix(b, rest) {
			t.Errorf("% x was cut into %x, % x and % x", b, header, body, rest)
		}
		if _, _, _, short := next(b[:len(b)-len(rest)-1]); short {
			t.Errorf("% x is whole, and also without its last byte", b[:len(b)-len(rest)])
		}
	})
}
