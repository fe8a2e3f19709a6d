package ingest

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// A stuckLog does not return from Append until it is let go.
type stuckLog struct {
	*fakeLog
	mu    sync.Mutex
	block chan struct{}
}

func (l *stuckLog) Append(r *record.Record, t tributary.Ticket) (tributary.LSN, error) {
	l.mu.Lock()
	block := l.block
	l.mu.Unlock()
	if block != nil {
		<-block
	}
	return l.fakeLog.Append(r, t)
}

func (l *stuckLog) AppendAll(to tributary.LedgerID, rs []record.Record, ts []tributary.Ticket) (tributary.LedgerID, int, error) {
	return appendEach(l, to, rs, ts)
}

// U2: when a client connects again, nothing of its old connection is appended
// after the new one's CONNACK. The old reader is caught inside Append, with
// more messages in its buffers.
func TestTakeOverWaitsForTheOldReader(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		synctest.Test(t, func(t *testing.T) {
			l := &stuckLog{fakeLog: newFakeLog()}
			d := newTestDoor(t, l.fakeLog, func(o *Options) { o.Log = l })
			runDoor(t, d)
			old := pipe(t, d).enter(kept("dev", v5))
			l.mu.Lock()
			l.block = make(chan struct{})
			l.mu.Unlock()
			for i := range 100 {
				old.publish(0, 0, "t", fmt.Sprint("old", i))
			}
			synctest.Wait() // the reader is in Append
			c := pipe(t, d)
			c.send(connectPacket(kept("dev", v5))...)
			third := pipe(t, d) // and somebody is behind that one
			c.wantNothing()
			l.mu.Lock()
			close(l.block)
			l.block = nil
			l.mu.Unlock()
			if ack := c.next(); len(ack) < 4 || ack[0] != 0x20 || ack[3] != 0 {
				t.Fatalf("got % x, want CONNACK", ack)
			}
			n := len(l.records())
			c.v5 = v5
			c.publish(0, 0, "t", "new")
			synctest.Wait()
			got := l.payloads()
			if len(l.records()) != n+1 || !strings.HasSuffix(got, " new") {
				t.Errorf("after CONNACK: %q", got)
			}
			if v5 {
				old.want(0xe0, 2, 0x8e, 0)
			}
			old.wantEnd()
			third.enter(kept("dev", v5))
			if v5 {
				c.want(0xe0, 2, 0x8e, 0)
			}
			c.wantEnd()
		})
	})
}

// U2: the same as a race over TCP, with -race: a device that reconnects again
// and again while its old sockets are half-open and full of data.
func TestTakeOverRace(t *testing.T) {
	l := newFakeLog()
	d := newTestDoor(t, l, func(o *Options) { o.Listen = []string{"127.0.0.1:0"} })
	runDoor(t, d)
	l.auto(t)
	const rounds, messages = 50, 200
	for round := range rounds {
		c := dial(t, d).enter(kept("dev", round%2 == 0))
		for i := range messages {
			c.publish(byte(i%2), uint16(i+1), "t", fmt.Sprintf("%d/%d", round, i))
		}
	}
	last := 0
	for p := range strings.FieldsSeq(l.payloads()) {
		var round, i int
		if _, err := fmt.Sscanf(p, "%d/%d", &round, &i); err != nil {
			t.Fatal(err)
		}
		if at := round*messages + i; at < last {
			t.Fatalf("%s comes after %d/%d", p, last/messages, last%messages)
		} else {
			last = at
		}
	}
}

// Many connections with one client id at once: in the end exactly one is left,
// and it works.
func TestTakeOverStorm(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		var all []*client
		for i := range 20 {
			c := pipe(t, d)
			c.send(connectPacket(dialled{id: "dev", v5: true, resume: i%3 > 0, expiry: uint32(i % 2)})...)
			all = append(all, c)
		}
		synctest.Wait()
		if n := d.Stats().Connections; n != 1 {
			t.Errorf("%d connections are open, want 1", n)
		}
		works := 0
		for _, c := range all {
			c.v5 = true
			c.publish(1, 1, "t", "x")
		}
		synctest.Wait()
		l.commit(nil)
		for _, c := range all {
			for p := c.next(); p != nil; p = c.next() {
				if p[0] == 0x40 {
					works++
					break
				}
			}
		}
		if works != 1 {
			t.Errorf("%d of 20 connections work, want 1", works)
		}
	})
}

// A will goes through the log when its client goes without a word, and not
// when it says goodbye.
func TestWill(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			sub := pipe(t, d).enter(dialled{id: "sub"})
			sub.send(subscribePacket(false, 1, "wills/#", 0)...)
			sub.want(0x90, 3, 0, 1, 0)
			polite := pipe(t, d).enter(dialled{id: "polite", v5: v5, will: "wills/polite"})
			polite.send(0xe0, 0)
			polite.wantEnd()
			rude := pipe(t, d).enter(dialled{id: "rude", v5: v5, will: "wills/rude"})
			_ = rude.nc.Close()
			sub.wantNothing()
			e := l.records()
			if len(e) != 1 || string(e[0].Header(headerTopic)) != "wills/rude" || string(e[0].Value) != "gone" || string(e[0].Header(headerQoS)) != "1" {
				t.Fatalf("log has %+v", e)
			}
			l.commit(nil) // D1, for subscribers
			sub.want(publishPacket(false, 0, 0, "wills/rude", "gone")...)
			sub.wantNothing()
		})
	})
}

// MQTT 5, 3.1.3.2.2: a delayed will is sent when the client stays away, when
// its session ends, and when the node ends; not when the client is back.
func TestDelayedWill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		d := newTestDoor(t, l, nil)
		stop := runDoor(t, d)
		s := dialled{id: "dev", v5: true, resume: true, expiry: 100, will: "w", willDelay: 30}
		vanish := func() {
			c := pipe(t, d).enter(s)
			_ = c.nc.Close()
			synctest.Wait()
		}
		count := func(want int, when string) {
			t.Helper()
			synctest.Wait()
			if n := strings.Count(l.payloads(), "gone"); n != want {
				t.Fatalf("%s: %d wills, want %d", when, n, want)
			}
		}
		vanish()
		<-time.After(29 * time.Second)
		count(0, "before the delay is over")
		vanish()
		<-time.After(29 * time.Second)
		count(0, "back in time, and away again")
		<-time.After(2 * time.Second)
		count(1, "away for too long")
		vanish()
		s.resume = false
		vanish()
		count(2, "clean start ends the former session")
		<-time.After(31 * time.Second)
		count(3, "the session after that")
		s.expiry = 5
		vanish()
		<-time.After(6 * time.Second)
		count(4, "the session is shorter than the delay")
		vanish()
		go func() { _ = stop() }()
		synctest.Wait()
		count(5, "the node ends")
		l.commit(nil)
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// Run ends well: what was appended becomes durable and is acknowledged, then
// the clients are told.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		d := newTestDoor(t, l, nil)
		stop := runDoor(t, d)
		five := pipe(t, d).enter(dialled{id: "five", v5: true})
		old := pipe(t, d).enter(dialled{id: "old"})
		idle := pipe(t, d) // has not sent CONNECT
		five.publish(1, 1, "t", "x")
		old.publish(1, 1, "t", "x")
		synctest.Wait()
		done := make(chan error)
		go func() { done <- stop() }()
		five.wantNothing()
		idle.wantEnd()
		l.commit(nil)
		five.want(0x40, 2, 0, 1)
		five.want(0xe0, 2, 0x8b, 0)
		old.want(0x40, 2, 0, 1)
		old.wantEnd()
		if err := <-done; err != nil {
			t.Error(err)
		}
		late := pipe(t, d)
		late.wantEnd()
	})
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		d := newTestDoor(t, l, nil)
		stop := runDoor(t, d)
		c := pipe(t, d).enter(dialled{id: "dev", v5: true})
		c.publish(1, 1, "t", "x")
		synctest.Wait()
		start := time.Now()
		if err := stop(); err == nil || time.Since(start) > 20*time.Second {
			t.Errorf("after %v: %v; want an error, and soon, when the log does not commit", time.Since(start), err)
		}
		c.want(0xe0, 2, 0x8b, 0) // and no PUBACK: D1
		l.commit(nil)
	})
}

// Keep-alive: MQTT 5, 3.1.2.10. One and a half of it without a packet ends the
// connection; packets, and even long keep-alives, do not.
func TestKeepAlive(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, _ *fakeLog) {
		quiet := pipe(t, d).enter(dialled{id: "quiet", v5: true, keepAlive: 10})
		long := pipe(t, d).enter(dialled{id: "long", v5: true, keepAlive: 44000})
		none := pipe(t, d).enter(dialled{id: "none"})
		busy := pipe(t, d).enter(dialled{id: "busy", keepAlive: 10})
		for range 3 {
			<-time.After(14 * time.Second)
			busy.send(0xc0, 0)
			busy.want(0xd0, 0)
		}
		quiet.want(0xe0, 2, 0x8d, 0)
		quiet.wantEnd()
		<-time.After(16 * time.Second)
		busy.wantEnd()
		<-time.After(20 * time.Minute) // in 16 bits, one and a half of 44,000 s are 464 s
		for _, c := range []*client{long, none} {
			c.send(0xc0, 0)
			c.want(0xd0, 0)
		}
	})
}

// What a client said before it was sent away reaches it even when it has sent
// more than we took: a reset would eat the reason code.
func TestLastWordsOverTCP(t *testing.T) {
	l := newFakeLog()
	d := newTestDoor(t, l, func(o *Options) { o.Listen = []string{"127.0.0.1:0"} })
	runDoor(t, d)
	l.auto(t)
	for range 20 {
		nc, err := net.Dial("tcp", d.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		b := connectPacket(dialled{id: "dev", v5: true})
		for pid := range uint16(200) {
			b = append(b, publishPacket(true, 2, pid+1, "t", strings.Repeat("x", 500))...)
		}
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		all, err := io.ReadAll(nc)
		if err != nil || !strings.HasSuffix(string(all), "\xe0\x02\x93\x00") {
			t.Fatalf("got % x, %v; want DISCONNECT 0x93 at the end", all, err)
		}
		_ = nc.Close()
	}
}
