package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// S1: the SUBSCRIBE that is cut before its options byte makes mochi's decoder
// panic. Here it is malformed, and ends its connection.
func TestCutSubscribe(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, _ *fakeLog) {
		bystander := pipe(t, d).enter(dialled{id: "bystander"})
		evil := pipe(t, d).enter(dialled{id: "evil", v5: true})
		p := subscribePacket(true, 2, "b/#", 0)
		p[1]--
		evil.send(p[:len(p)-1]...)
		evil.want(0xe0, 2, 0x81, 0)
		evil.wantEnd()
		bystander.send(0xc0, 0)
		bystander.want(0xd0, 0)
	})
}

// S1: a packet that makes us panic ends its connection; the node and everybody
// else go on; nothing of the client is left behind; its will is sent.
func TestPanicIsContained(t *testing.T) {
	trap := routeFunc(func(topic, client, user string) (Destination, error) {
		if topic == "trap" {
			panic("a trap")
		}
		return routeAll(topic, client, user)
	})
	bubble(t, func(o *Options) { o.Router = trap }, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		bystander := pipe(t, d).enter(dialled{id: "bystander"})
		evil := pipe(t, d).enter(dialled{id: "evil", v5: true, will: "wills/evil"})
		evil.send(subscribePacket(true, 1, "a/#", 0)...)
		evil.want(0x90, 4, 0, 1, 0, 0)
		evil.publish(1, 1, "trap", "x")
		evil.want(0xe0, 2, 0x80, 0)
		evil.wantEnd()
		bystander.send(0xc0, 0)
		bystander.want(0xd0, 0)
		synctest.Wait()
		s := d.Stats()
		if s.Refused.Panics != 1 || s.Connections != 1 || s.Subscribers != 0 || d.sessions.Len() != 1 {
			t.Errorf("a ghost: %+v, %d sessions", s, d.sessions.Len())
		}
		if got := l.payloads(); got != "gone" {
			t.Errorf("log has %q, want the will", got)
		}
		again := pipe(t, d)
		if ack := again.connect(kept("evil", true)); ack[2] != 0 || ack[3] != 0 {
			t.Errorf("CONNACK % x, want a new session", ack)
		}
	})
}

// S1: every packet cut at every byte, and with every byte replaced by those
// that sit on boundaries, before and after CONNECT, in both versions. The
// node stays, and keeps nothing.
func TestPacketSweep(t *testing.T) {
	for _, v5 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := newFakeLog()
			d := newTestDoor(t, l, nil)
			stop := runDoor(t, d)
			l.auto(t)
			n := 0
			for _, seed := range sweepSeeds(v5) {
				for _, p := range mutations(seed) {
					for _, connected := range []bool{false, true} {
						sweepOne(d, p, v5, connected)
						n++
					}
				}
			}
			c := pipe(t, d).enter(dialled{id: "sane", v5: v5})
			c.send(0xc0, 0)
			c.want(0xd0, 0)
			if got := d.Stats().Connections; got != 1 {
				t.Errorf("%d connections are open, want 1", got)
			}
			t.Logf("v5=%t: %d inputs, %d panics contained", v5, n, d.Stats().Refused.Panics)
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func sweepOne(d *Door, p []byte, v5, connected bool) {
	near, far := bufferedPipe()
	if connected {
		_, _ = near.Write(connectPacket(dialled{id: "sweep", v5: v5}))
	}
	_, _ = near.Write(p)
	near.out.mu.Lock()
	near.out.ended = true
	near.out.mu.Unlock()
	d.EstablishConnection(far)
}

func sweepSeeds(v5 bool) [][]byte {
	props := func(p ...byte) []byte {
		if v5 {
			return append([]byte{byte(len(p))}, p...)
		}
		return nil
	}
	will := dialled{id: "sweep", v5: v5, will: "w", keepAlive: 10}
	return [][]byte{
		connectPacket(will),
		publishPacket(v5, 0, 0, "t", "x"),
		publishPacket(v5, 2, 1, "t/u", "x"),
		publishPacket(v5, 4, 2, "t", "x"),
		publishPacket(true, 2, 1, "t", "x", append(user("k", "v"), 0x23, 0, 1, 0x01, 1, 0x02, 0, 0, 0, 9)...),
		{0x40, 2, 0, 1},
		{0x50, 2, 0, 1},
		{0x62, 2, 0, 1},
		{0x70, 2, 0, 1},
		{0x40, 4, 0, 1, 0, 0},
		subscribePacket(v5, 1, "a/+/#", 1),
		subscribePacket(v5, 1, "$share/g/a", 1),
		frame(0xa2, append(append([]byte{0, 1}, props()...), text(nil, "a/b")...)),
		{0xc0, 0},
		{0xd0, 0},
		{0xe0, 0},
		{0xe0, 2, 4, 0},
		{0xf0, 2, 0x18, 0},
		{0x20, 2, 0, 0},
		{0x90, 3, 0, 1, 0},
	}
}

// mutations returns p cut everywhere, also with a length that says so, and p
// with each byte replaced.
func mutations(p []byte) [][]byte {
	all := [][]byte{p}
	for cut := 1; cut < len(p); cut++ {
		all = append(all, p[:cut])
		if cut >= 2 {
			short := bytes.Clone(p[:cut])
			short[1] = byte(cut - 2)
			all = append(all, short)
		}
	}
	for i := range p {
		for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff, p[i] + 1, p[i] - 1, p[i] ^ 0x10} {
			changed := bytes.Clone(p)
			changed[i] = b
			all = append(all, changed)
		}
	}
	return all
}

// S1: nobody makes us allocate before we know him: the first packet is a
// CONNECT, of modest size, and comes soon.
func TestBeforeConnect(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, _ *fakeLog) {
		for _, p := range [][]byte{
			{0x10, 0xff, 0xff, 0xff, 0x7f},
			{0x10, 0x81, 0x80, 0x04},
			{0x10, 0xff, 0xff, 0xff, 0xff, 1},
			{0x30, 0xff, 0xff, 0xff, 0x7f},
			{0},
			[]byte("GET / HTTP/1.1\r\n"),
			{0xc0, 0},
		} {
			c := pipe(t, d)
			for _, b := range p { // one by one, as a network may
				c.send(b)
			}
			start := time.Now()
			c.wantEnd()
			if d := time.Since(start); d > 0 {
				t.Errorf("% x: ended after %v, not at once", p, d)
			}
		}
		start := time.Now()
		idle := pipe(t, d)
		idle.send(connectPacket(dialled{id: "slow"})[:9]...)
		idle.wantEnd()
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("an incomplete CONNECT ended after %v, want 5s", took)
		}
	})
}

// S1: a packet over the limit ends the connection, with a reason in MQTT 5,
// and before its bytes are there.
func TestPacketTooLarge(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev", v5: true})
		c.publish(1, 1, "t", strings.Repeat("x", 128<<10-12))
		synctest.Wait()
		l.commit(nil)
		c.want(0x40, 2, 0, 1)
		c.send(0x32, 0x80, 0x80, 0x08)
		c.want(0xe0, 2, 0x95, 0)
		c.wantEnd()
	})
}

// S1: more clients than allowed are told so; far more are not even heard.
func TestTooManyClients(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxClients = 3 }, func(t *testing.T, d *Door, _ *fakeLog) {
		for i := range 3 {
			pipe(t, d).enter(dialled{id: fmt.Sprint(i)})
		}
		if ack := pipe(t, d).connect(dialled{id: "v5", v5: true}); ack[3] != 0x89 {
			t.Errorf("CONNACK % x, want server busy", ack)
		}
		if ack := pipe(t, d).connect(dialled{id: "v3"}); ack[3] != 3 {
			t.Errorf("CONNACK % x, want server unavailable", ack)
		}
		for range spareConnections {
			pipe(t, d)
		}
		synctest.Wait()
		pipe(t, d).wantEnd()
		if n := d.Stats().Refused.TooMany; n != 3 {
			t.Errorf("%d refused at the door, want 3", n)
		}
	})
}

// S1: a client that makes up ids and leaves sessions behind does not fill the
// memory; those who have a session get in.
func TestTooManySessions(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxClients = 3 }, func(t *testing.T, d *Door, _ *fakeLog) {
		for i := range 3 * sessionsPerClient {
			c := pipe(t, d).enter(kept(fmt.Sprint(i), true))
			_ = c.nc.Close()
			synctest.Wait()
		}
		if ack := pipe(t, d).connect(kept("more", true)); ack[3] != 0x89 {
			t.Errorf("CONNACK % x, want server busy", ack)
		}
		pipe(t, d).enter(kept("5", true))
		<-time.After(2 * time.Hour) // the sessions expire
		pipe(t, d).enter(kept("more", true))
	})
}

// A CONNECT that cannot be served gets an answer its version knows.
func TestConnackCodes(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, _ *fakeLog) {
		future := connectPacket(dialled{id: "dev"})
		future[8] = 6
		for _, test := range []struct {
			packet []byte
			code   byte
		}{
			{future, 1},
			{connectPacket(dialled{resume: true}), 2},
			{connectPacket(dialled{id: "d", v5: true, will: "w/#"}), 0x90},
			{connectPacket(dialled{id: "d", v5: true, will: "$SYS/x"}), 0x90},
			{connectPacket(dialled{id: "d", will: "$SYS/x"}), 3},
			{frame(0x10, append(append(text(nil, "MQTT"), 5, 2, 0, 0, 4, 0x15, 0, 1, 'x'), 0, 1, 'd')), 0x8c},
		} {
			c := pipe(t, d)
			c.send(test.packet...)
			ack := c.next()
			if len(ack) < 4 || ack[0] != 0x20 || ack[2] != 0 || ack[3] != test.code {
				t.Errorf("% x: got % x, want CONNACK 0x%02x", test.packet, ack, test.code)
			}
			c.wantEnd()
		}
	})
}

// S1: filters with very many levels are refused before they reach the topic
// tree, where they would cost minutes.
func TestDeepFilter(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, _ *fakeLog) {
		five := pipe(t, d).enter(dialled{id: "five", v5: true})
		old := pipe(t, d).enter(dialled{id: "old"})
		deep := strings.Repeat("/", 65535)
		five.send(subscribePacket(true, 1, deep, 1)...)
		five.want(0x90, 4, 0, 1, 0, 0x8f)
		old.send(subscribePacket(false, 1, deep, 1)...)
		old.want(0x90, 3, 0, 1, 0x80)
		old.send(frame(0xa2, text([]byte{0, 2}, deep))...)
		old.want(0xb0, 2, 0, 2)
	})
}

// A flakyListener fails as accept does when file descriptors have run out.
type flakyListener struct {
	net.Listener
	failures int
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// A1: errors of accept do not end the door, which serves as soon as it can.
func TestAcceptErrors(t *testing.T) {
	d := newTestDoor(t, newFakeLog(), func(o *Options) {
		o.Listen = []string{"127.0.0.1:0"}
		o.ListenOn = func(ctx context.Context, network, address string) (net.Listener, error) {
			l, err := (&net.ListenConfig{}).Listen(ctx, network, address)
			return &flakyListener{l, 6}, err
		}
	})
	runDoor(t, d)
	dial(t, d).enter(dialled{id: "dev"})
	if n := d.Stats().Refused.Accepts; n != 6 {
		t.Errorf("%d errors counted, want 6", n)
	}
}

// An address that cannot be had is an error of Run, and leaves nothing open.
func TestListenError(t *testing.T) {
	d := newTestDoor(t, newFakeLog(), func(o *Options) { o.Listen = []string{"127.0.0.1:0", "127.0.0.1:-1"} })
	if err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:-1") {
		t.Errorf("Run: %v, want an error that names the address", err)
	}
	if _, err := New(Options{ReceiveMaximum: 70000}); err == nil || !strings.Contains(err.Error(), "70000") || !strings.Contains(err.Error(), "dead-letter") {
		t.Errorf("New: %v, want all that is wrong", err)
	}
}

var errRead = errors.New("read failed")
