package ingest

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// D1: local subscribers see a message when it is durable, not before; both
// versions, with all that MQTT 5 sends along. Nothing is read back when
// nobody wants it.
func TestFanout(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		p := pipe(t, d).enter(dialled{id: "pub", v5: true})
		p.publish(1, 1, "a/b", "unheard")
		synctest.Wait()
		l.commit(nil)
		p.want(0x40, 2, 0, 1)
		synctest.Wait()
		if l.reads != 0 {
			t.Errorf("read back %d times with no subscriber", l.reads)
		}
		old := pipe(t, d).enter(dialled{id: "old"})
		old.send(subscribePacket(false, 1, "a/#", 0)...)
		old.want(0x90, 3, 0, 1, 0)
		five := pipe(t, d).enter(dialled{id: "five", v5: true})
		five.send(subscribePacket(true, 1, "a/+", 0)...)
		five.want(0x90, 4, 0, 1, 0, 0)
		p.send(subscribePacket(true, 1, "#", 4)...) // No Local
		p.want(0x90, 4, 0, 1, 0, 0)
		props := bytes.Join([][]byte{
			{0x01, 1},
			{0x02, 0, 0, 0, 60},
			text([]byte{0x03}, "text/plain"), text([]byte{0x08}, "re/ply"),
			text([]byte{0x09}, "corr"), user("a", "1"), user("mqtt.qos", "7"), user("_pid", "xx"),
		}, nil)
		p.publish(1, 2, "a/b", "heard", props...)
		five.wantNothing()
		old.wantNothing()
		l.commit(nil)
		p.want(0x40, 2, 0, 2)
		old.want(publishPacket(false, 0, 0, "a/b", "heard")...)
		five.want(publishPacket(true, 0, 0, "a/b", "heard", props...)...)
		p.wantNothing()
		old.wantNothing()
		if n := d.Stats().FannedOut; n != 1 {
			t.Errorf("%d fanned out, want 1", n)
		}
	})
}

// A subscriber that keeps reading gets all of a burst, in order.
func TestFanoutBurst(t *testing.T) {
	const messages = 5000
	l := newFakeLog()
	d := newTestDoor(t, l, func(o *Options) { o.Listen = []string{"127.0.0.1:0"} })
	runDoor(t, d)
	var subs []*client
	for i := range 4 {
		c := dial(t, d).enter(dialled{id: fmt.Sprint("sub", i)})
		c.send(subscribePacket(false, 1, "#", 0)...)
		c.want(0x90, 3, 0, 1, 0)
		subs = append(subs, c)
	}
	p := dial(t, d).enter(dialled{id: "pub"})
	for i := range messages {
		p.publish(0, 0, "t", fmt.Sprint(i))
	}
	p.send(0xc0, 0)
	p.want(0xd0, 0)
	l.commit(nil) // all at once
	for _, c := range subs {
		for i := range messages {
			c.want(publishPacket(false, 0, 0, "t", fmt.Sprint(i))...)
		}
	}
}

// A retained message is kept for those who subscribe later, once durable, and
// an empty one takes it away.
func TestRetained(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		p := pipe(t, d).enter(dialled{id: "pub"})
		ask := func(id string) *client {
			c := pipe(t, d).enter(dialled{id: id})
			c.send(subscribePacket(false, 1, "r", 0)...)
			c.want(0x90, 3, 0, 1, 0)
			return c
		}
		p.send(publishPacket(false, 1, 0, "r", "keep")...)
		synctest.Wait()
		early := pipe(t, d).enter(dialled{id: "early"})
		early.send(subscribePacket(false, 1, "r", 0)...)
		early.wantNothing() // it came later, so it waits until that is durable
		l.commit(nil)
		early.want(0x90, 3, 0, 1, 0)
		early.want(publishPacket(false, 1, 0, "r", "keep")...)
		ask("later").want(publishPacket(false, 1, 0, "r", "keep")...)
		p.send(publishPacket(false, 1, 0, "r", "")...)
		synctest.Wait()
		l.commit(nil)
		synctest.Wait()
		ask("last").wantNothing()
		if e := l.all()[1]; e.Value == nil || len(e.Value) != 0 || string(e.Header(headerRetain)) != "1" {
			t.Errorf("empty payload became %+v", e) // nil would be a tombstone in Kafka
		}
	})
}

// A1: a subscriber that does not read stops nobody: publishers are
// acknowledged, another subscriber gets all. It loses QoS 0 messages.
func TestStalledSubscriber(t *testing.T) {
	const messages, size = 3000, 2000
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		stalled, far := bufferedPipe()
		far.out.limit = 4096
		go d.EstablishConnection(far)
		for _, p := range [][]byte{connectPacket(dialled{id: "stalled"}), subscribePacket(false, 1, "t", 0)} {
			if _, err := stalled.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		good := pipe(t, d).enter(dialled{id: "good"})
		good.send(subscribePacket(false, 1, "t", 0)...)
		good.want(0x90, 3, 0, 1, 0)
		p := pipe(t, d).enter(dialled{id: "pub"})
		start := time.Now()
		for i := range messages {
			p.publish(1, uint16(i+1), "t", strings.Repeat("x", size))
			synctest.Wait()
			l.commit(nil)
			p.want(0x40, 2, byte((i+1)>>8), byte(i+1))
			if m := good.next(); len(m) < size {
				t.Fatalf("message %d: the good subscriber got % x", i, m)
			}
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v: somebody waited", took)
		}
		if s := d.Stats().Refused; s.FanoutLost == 0 || s.SlowReader != 0 {
			t.Errorf("%+v; want messages lost, and no connection", s)
		}
		synctest.Wait()
		<-time.After(writeTimeout)
		synctest.Wait()
		_ = stalled.Close()
	})
}

// A client that sends and never reads its acknowledgements is cut off: the
// buffer for it does not grow without bound (S1).
func TestUnreadAcks(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		near, far := bufferedPipe()
		far.out.limit = 16
		go d.EstablishConnection(far)
		l.auto(t)
		_, err := near.Write(connectPacket(dialled{id: "deaf"}))
		pings := bytes.Repeat([]byte{0xc0, 0}, 1<<16)
		for i := 0; err == nil && d.Stats().Refused.SlowReader == 0; i++ {
			if i > 100 {
				t.Fatal("still connected")
			}
			_, err = near.Write(pings)
			synctest.Wait()
		}
		_ = near.Close()
		synctest.Wait()
		if n := d.Stats().Connections; n != 0 {
			t.Errorf("%d connections are open", n)
		}
	})
}

// What the fan-out reads is what was asked for, and a failure to read it back
// skips that and nothing else.
func TestFanoutSpans(t *testing.T) {
	f := &delivery{wake: make(chan struct{}, 1)}
	f.want(fakeLedger, 0, 5, nil)
	f.want(fakeLedger, 5, 7, nil)
	f.want(fakeLedger, 9, 10, nil)
	want := []job{{ledger: fakeLedger, from: 0, to: 7}, {ledger: fakeLedger, from: 9, to: 10}}
	if !slices.EqualFunc(f.jobs, want, func(a, b job) bool { return a.ledger == b.ledger && a.from == b.from && a.to == b.to }) {
		t.Errorf("jobs %v, want %v", f.jobs, want)
	}
	for i := range tributary.LSN(3 * maxJobs) {
		f.want(fakeLedger, 20+2*i, 21+2*i, nil)
	}
	if n := len(f.jobs); n != maxJobs || f.jobs[n-1].to != 19+6*maxJobs {
		t.Errorf("%d jobs up to %v", n, f.jobs[n-1])
	}
	bubble(t, func(o *Options) { o.Reader = failingReader{o.Log.(*fakeLog), 1} }, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev"})
		c.send(subscribePacket(false, 1, "t", 0)...)
		c.want(0x90, 3, 0, 1, 0)
		for i := range 3 {
			c.publish(0, 0, "t", fmt.Sprint(i))
			synctest.Wait()
			l.commit(nil)
			synctest.Wait()
		}
		c.want(publishPacket(false, 0, 0, "t", "0")...)
		c.want(publishPacket(false, 0, 0, "t", "2")...)
		if n := d.Stats().Refused.FanoutError; n != 1 {
			t.Errorf("%d errors counted, want 1", n)
		}
	})
}

// Messages that come one by one are delivered at once. Behind a crowd they are
// delivered together, and at the latest after linger.
func TestLinger(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev"})
		c.send(subscribePacket(false, 1, "t", 0)...)
		c.want(0x90, 3, 0, 1, 0)
		readings := func() int {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.reads
		}
		round := func(commitAll bool, n int) (took time.Duration, turns int) {
			began, before := time.Now(), readings()
			for i := range n {
				c.publish(0, 0, "t", fmt.Sprint(i))
				synctest.Wait()
				if !commitAll || i == n-1 {
					l.commit(nil)
					synctest.Wait()
				}
			}
			for i := range n {
				c.want(publishPacket(false, 0, 0, "t", fmt.Sprint(i))...)
			}
			return time.Since(began), readings() - before
		}
		check := func(what string, took, wantTook time.Duration, turns, wantTurns int) {
			if took != wantTook || turns != wantTurns {
				t.Errorf("%s: %v and %d turns, want %v and %d", what, took, turns, wantTook, wantTurns)
			}
		}
		for range 2 {
			took, turns := round(false, 10)
			check("one by one", took, 0, turns, 10)
			took, turns = round(true, many)
			check("a crowd", took, 0, turns, 1)
			took, turns = round(false, 10)
			check("behind a crowd", took, linger, turns, 1)
			took, turns = round(true, many)
			check("another crowd", took, 0, turns, 1)
			<-time.After(linger)
			took, turns = round(false, 10)
			check("long after a crowd", took, 0, turns, 10)
		}
	})
}

// A failingReader cannot read one record.
type failingReader struct {
	*fakeLog
	bad tributary.LSN
}

func (r failingReader) Read(ctx context.Context, ledger tributary.LedgerID, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	if from == r.bad {
		return record.Chunk{}, errRead
	}
	return r.fakeLog.Read(ctx, ledger, from, maxBytes)
}

// What MQTT 5 sends along with a message survives the log, and user properties
// that pretend to be ours neither pass for ours nor get lost (S1).
func TestHeadersThereAndBack(t *testing.T) {
	names := []string{"plain", "", "content-type", "mqtt.topic", "tributary.lsn", "_pid", "user.name", "user._x", "user.user.mqtt.qos", "Mqtt.topic"}
	p := packets.Properties{
		ContentType: "a", ResponseTopic: "b", CorrelationData: []byte{0, 1}, MessageExpiryInterval: 60,
		PayloadFormat: 1, PayloadFormatFlag: true,
	}
	for _, name := range names {
		p.User = append(p.User, packets.UserProperty{Key: name, Val: "v-" + name})
	}
	now := time.UnixMilli(1_000_000)
	e := record.Entry{Record: record.Record{Millis: now.UnixMilli(), Value: []byte("x")}}
	e.Headers = append([]record.Header{
		{Key: headerTopic, Value: []byte("t")},
		{Key: headerClientID, Value: []byte("c")},
		{Key: headerQoS, Value: []byte("2")},
		{Key: headerRetain, Value: []byte("1")},
		{Key: headerPacketID, Value: []byte{0, 9}},
	}, appendProperties(nil, &p)...)
	m := outgoing{entry: &e}
	if back, ok := propertiesOf(&e, now); !ok || !reflect.DeepEqual(back, p) {
		t.Errorf("got  %+v\nwant %+v", back, p)
	}
	if !m.open(now) || m.topic() != "t" || m.origin != "c" || m.qos != 2 {
		t.Errorf("message %+v", m)
	}
	ours := map[string]int{}
	for _, h := range e.Headers {
		if isReserved(h.Key) && !strings.HasPrefix(h.Key, userPrefix) {
			ours[h.Key]++
		}
	}
	for key, n := range ours {
		if n > 1 {
			t.Errorf("%d headers %s: a device passes for us", n, key)
		}
	}
	if back, ok := propertiesOf(&e, now.Add(50*time.Second)); !ok || back.MessageExpiryInterval != 10 {
		t.Errorf("10 s before its expiry: %t, %d", ok, back.MessageExpiryInterval)
	}
	if _, ok := propertiesOf(&e, now.Add(60*time.Second)); ok {
		t.Error("an expired message is delivered")
	}
}

// $SYS has Mosquitto's names, is retained, and says how the node is; a `#` does
// not mean it, and a client cannot publish to it.
func TestSys(t *testing.T) {
	bubble(t, func(o *Options) { o.Version = "1.2.3" }, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev"})
		all := pipe(t, d).enter(dialled{id: "all"})
		all.send(subscribePacket(false, 1, "#", 0)...)
		all.want(0x90, 3, 0, 1, 0)
		<-time.After(2 * sysEvery)
		c.send(subscribePacket(false, 1, "$SYS/broker/version", 0)...)
		c.want(0x90, 3, 0, 1, 0)
		c.want(publishPacket(false, 1, 0, "$SYS/broker/version", "tributary version 1.2.3")...)
		c.send(subscribePacket(false, 2, "$SYS/broker/clients/+", 0)...)
		c.want(0x90, 3, 0, 2, 0)
		for _, want := range []string{"connected 2", "disconnected 0", "expired 0", "maximum 2", "total 2"} {
			name, value, _ := strings.Cut(want, " ")
			c.want(publishPacket(false, 1, 0, "$SYS/broker/clients/"+name, value)...)
		}
		_ = all.nc.Close()
		<-time.After(sysEvery)
		for _, want := range []string{"total 1", "connected 1"} {
			name, value, _ := strings.Cut(want, " ")
			c.want(publishPacket(false, 0, 0, "$SYS/broker/clients/"+name, value)...)
		}
		if len(l.all()) != 0 || len(d.Snapshot().Retained) != 0 {
			t.Error("$SYS went to the log, or into the checkpoint")
		}
		c.publish(0, 0, "$SYS/broker/version", "x")
		synctest.Wait()
		if s := d.Stats(); s.Refused.Topic != 1 {
			t.Errorf("%d refused, want 1", s.Refused.Topic)
		}
	})
}
