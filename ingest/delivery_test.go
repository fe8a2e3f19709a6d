package ingest

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary/ingest/packet"
)

// The tests of this file have the defects of a well-known engine for a list: each
// says what it does there.

// autoBubble is bubble with a log that commits by itself.
func autoBubble(t *testing.T, change func(*Options), f func(t *testing.T, d *Door)) {
	t.Helper()
	bubble(t, change, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		f(t, d)
	})
}

// A client has never more in flight than its Receive Maximum, and gets all of a
// burst, in order. mochi: 22 of 100 in another order, and then nothing for ever.
func TestReceiveMaximumOfASubscriber(t *testing.T) {
	const window, burst = 10, 100
	for _, qos := range []byte{1, 2} {
		autoBubble(t, nil, func(t *testing.T, d *Door) {
			t.Helper()
			sub := pipe(t, d).enter(dialled{id: "sub", v5: true, receive: window}).subscribe("t", qos)
			pub := pipe(t, d).enter(dialled{id: "pub"})
			for i := range burst {
				pub.publish(1, uint16(i+1), "t", fmt.Sprint(i))
			}
			var flight []uint16
			for i := range burst {
				synctest.Wait()
				if i == 0 && len(sub.in) != window {
					t.Fatalf("%d in flight, want %d", len(sub.in), window)
				}
				m := sub.message()
				if m.payload != fmt.Sprint(i) || m.dup || m.qos != min(qos, 1) {
					t.Fatalf("message %d is %+v", i, m)
				}
				if flight = append(flight, m.pid); len(flight)+len(sub.in) > window {
					t.Fatalf("%d in flight", len(flight)+len(sub.in))
				}
				if len(flight) == window || i%3 == 0 {
					sub.ack(packet.TypePuback, flight[0])
					flight = flight[1:]
				}
			}
		})
	}
}

// The ids of what the client sends and of what it is sent have nothing to do with
// each other. mochi: the command is lost.
func TestPacketIDsOfBothDirections(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		dev := pipe(t, d).enter(kept("dev", true)).subscribe("cmd", 2)
		pub := pipe(t, d).enter(dialled{id: "pub"})
		for qos := byte(1); qos <= 2; qos++ {
			pub.publish(qos, 1, "cmd", "do")
			pid := dev.wantMessage(delivered{topic: "cmd", payload: "do", qos: qos})
			dev.publish(qos, pid, "up", "x") // not acknowledged yet
			dev.want(0x30+0x10*qos, 2, byte(pid>>8), byte(pid))
			dev.vanish()
			dev = pipe(t, d).enter(kept("dev", true))
			if again := dev.wantMessage(delivered{topic: "cmd", payload: "do", qos: qos, dup: true}); again != pid {
				t.Errorf("sent again with id %d, was %d", again, pid)
			}
			if qos == 1 {
				dev.ack(packet.TypePuback, pid)
				continue
			}
			dev.ack(packet.TypePubrec, pid) // both exchanges are under way with one id
			dev.want(0x62, 2, byte(pid>>8), byte(pid))
			dev.ack(packet.TypePubrel, pid)
			dev.want(0x70, 2, byte(pid>>8), byte(pid))
			dev.ack(packet.TypePubcomp, pid)
		}
		dev.wantNothing()
	})
}

// After a reconnect the messages come again in their old order, with DUP where
// they were sent before and only there; where PUBREC was given, with PUBREL.
// mochi: at random, and with DUP on what was never sent (MQTT-4.6.0-1).
func TestRedelivery(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		autoBubble(t, nil, func(t *testing.T, d *Door) {
			t.Helper()
			sub := pipe(t, d).enter(kept("sub", v5)).subscribe("t", 2)
			pub := pipe(t, d).enter(dialled{id: "pub"})
			for i := range 6 {
				pub.publish(2-byte(i%2), uint16(i+1), "t", fmt.Sprint(i)) // QoS 2: 0, 2, 4; QoS 1: 1, 3, 5
			}
			pids := map[string]uint16{}
			for range 6 {
				m := sub.message()
				pids[m.payload] = m.pid
			}
			sub.ack(packet.TypePuback, pids["3"]) // in the middle
			sub.ack(packet.TypePubrec, pids["0"])
			sub.want(0x62, 2, 0, byte(pids["0"]))
			sub.ack(packet.TypePubrec, pids["2"])
			sub.want(0x62, 2, 0, byte(pids["2"]))
			sub.ack(packet.TypePubcomp, pids["2"])
			sub.vanish()
			for i := 6; i < 50; i++ {
				pub.publish(1, uint16(i+1), "t", fmt.Sprint(i))
			}
			synctest.Wait()
			sub = pipe(t, d).enter(kept("sub", v5))
			var got []string
			synctest.Wait()
			for len(sub.in) > 0 {
				p := <-sub.in
				if p[0] == 0x62 {
					got = append(got, fmt.Sprint("release ", p[3]))
					continue
				}
				m := parseDelivered(t, p, v5)
				if m.dup {
					m.payload += " again"
				}
				got = append(got, m.payload)
			}
			want := []string{fmt.Sprint("release ", pids["0"]), "1 again", "4 again", "5 again"}
			for i := 6; i < 50; i++ {
				want = append(want, fmt.Sprint(i))
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	})
}

// A `#` means its parent level, also behind a `+`. mochi: it does not.
func TestParentLevel(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		pub := pipe(t, d).enter(dialled{id: "pub"})
		pub.send(publishPacket(false, 1, 0, "a/b", "kept")...)
		pub.send(publishPacket(false, 1, 0, "a", "kept")...)
		synctest.Wait()
		for filter, topic := range map[string]string{"a/+/#": "a/b", "+/b/#": "a/b", "a/b/#": "a/b", "a": "a"} {
			sub := pipe(t, d).enter(dialled{id: "sub"}).subscribe(filter, 0)
			sub.wantMessage(delivered{topic: topic, payload: "kept", retain: true})
			pub.publish(0, 0, topic, "live")
			sub.wantMessage(delivered{topic: topic, payload: "live"})
			sub.wantNothing()
		}
	})
}

// A message expires when its publisher says so, after the time that it waited, and
// not otherwise. mochi: every message gets an expiry of a day.
func TestMessageExpiry(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		long := dialled{id: "sub", v5: true, resume: true, expiry: 36_000}
		sub := pipe(t, d).enter(long).subscribe("t", 1)
		pub := pipe(t, d).enter(dialled{id: "pub", v5: true})
		pub.publish(1, 1, "t", "forever")
		sub.ack(packet.TypePuback, sub.wantMessage(delivered{topic: "t", payload: "forever", qos: 1}))
		sub.vanish()
		expires := func(seconds uint32) []byte { return binary.BigEndian.AppendUint32([]byte{2}, seconds) }
		pub.publish(1, 2, "t", "old", expires(50)...)
		pub.send(publishPacket(true, 2|1, 3, "t", "long", expires(500)...)...)
		pub.publish(1, 4, "t", "forever")
		<-time.After(time.Hour + 100*time.Second) // the fake log's clock is an hour ahead of ours
		sub = pipe(t, d).enter(long)
		sub.wantMessage(delivered{topic: "t", payload: "long", qos: 1, expiry: 400})
		sub.wantMessage(delivered{topic: "t", payload: "forever", qos: 1})
		sub.wantNothing()
		late := pipe(t, d).enter(dialled{id: "late", v5: true}).subscribe("t", 0)
		late.wantMessage(delivered{topic: "t", payload: "long", retain: true, expiry: 400})
		<-time.After(400 * time.Second)
		late.subscribe("t", 0).wantNothing()
	})
}

// Retain handling, retain as published, and what becomes of a retained message:
// MQTT 5, 3.8.3.1 and 3.3.1.3.
func TestRetainHandling(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		pub := pipe(t, d).enter(dialled{id: "pub"})
		set := func(payload string) {
			pub.send(publishPacket(false, 1, 0, "r", payload)...)
			synctest.Wait()
		}
		set("one")
		set("two")
		sub := pipe(t, d).enter(dialled{id: "sub", v5: true})
		kept := delivered{topic: "r", payload: "two", retain: true}
		for _, step := range []struct {
			options byte
			sent    bool
		}{{0x20, false}, {0x10, false}, {0x00, true}, {0x10, false}, {0x00, true}} {
			sub.subscribe("r", step.options)
			if step.sent {
				sub.wantMessage(kept)
			}
			sub.wantNothing()
		}
		other := pipe(t, d).enter(dialled{id: "other", v5: true}).subscribe("r", 0x10|0x08) // new, retain as published
		other.wantMessage(kept)
		set("three")
		other.wantMessage(delivered{topic: "r", payload: "three", retain: true})
		sub.wantMessage(delivered{topic: "r", payload: "three"})
		set("")
		other.wantMessage(delivered{topic: "r", retain: true})
		sub.wantMessage(delivered{topic: "r"})
		sub.subscribe("r", 0).wantNothing()
		sub.subscribe("$share/g/r", 0).wantNothing()
	})
}

// A client that subscribes gets all retained messages, as fast as it takes them:
// more than fit its queue or the socket's buffer, and none that was replaced
// before it came to it.
func TestManyRetained(t *testing.T) {
	const topics = 3000
	for qos := range byte(3) {
		small := func(o *Options) { o.Sessions.MaxQueued = 50 }
		autoBubble(t, small, func(t *testing.T, d *Door) {
			t.Helper()
			pub := pipe(t, d).enter(dialled{id: "pub"})
			for i := range topics {
				pub.send(publishPacket(false, 1|qos<<1, uint16(i+1), fmt.Sprintf("r/%04d", i), strings.Repeat("x", 1000))...)
				if qos == 2 {
					pub.next()
					pub.ack(packet.TypePubrel, uint16(i+1))
					pub.next()
				}
			}
			synctest.Wait()
			stalled, far := bufferedPipe()
			far.out.limit = 4096
			go d.EstablishConnection(far)
			_, _ = stalled.Write(append(connectPacket(dialled{id: "sub"}), subscribePacket(false, 1, "#", qos)...))
			synctest.Wait()
			pub.send(publishPacket(false, 1, 0, fmt.Sprintf("r/%04d", topics-1), "")...) // is not come to before
			synctest.Wait()
			sub := speak(t, stalled)
			if ack := sub.next(); ack[0] != 0x20 {
				t.Fatalf("got % x", ack)
			}
			sub.want(0x90, 3, 0, 1, qos)
			for i := 0; i < topics-1; i++ {
				p := sub.next()
				for p[0]>>4 == packet.TypePubrel {
					sub.ack(packet.TypePubcomp, binary.BigEndian.Uint16(p[2:]))
					p = sub.next()
				}
				m := parseDelivered(t, p, false)
				if m.payload == "" {
					i-- // live: the one that takes the last away
				} else if m.topic != fmt.Sprintf("r/%04d", i) {
					t.Fatalf("QoS %d: message %d is of %s", qos, i, m.topic)
				}
				switch m.qos {
				case 1:
					sub.ack(packet.TypePuback, m.pid)
				case 2:
					sub.ack(packet.TypePubrec, m.pid)
				}
			}
			if s := d.Stats().Refused; s.QueueLost != 0 {
				t.Errorf("%d lost", s.QueueLost)
			}
		})
	}
}

// No Local keeps a client's own messages from it, by the filters that have it and
// no others; a client gets a message once, with the identifiers of all filters
// that mean it (MQTT 5, 3.3.4 and 3.8.3.1).
func TestNoLocalAndOverlap(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		c := pipe(t, d).enter(dialled{id: "c", v5: true})
		c.subscribe("a/#", 4|2, 7) // No Local
		c.subscribe("a/+", 0, 9)
		c.subscribe("b", 4)
		other := pipe(t, d).enter(dialled{id: "other", v5: true})
		other.publish(1, 1, "a/b", "x")
		c.ack(packet.TypePuback, c.wantMessage(delivered{topic: "a/b", payload: "x", qos: 1, ids: []int{7, 9}}))
		c.publish(0, 0, "a/b", "own")
		c.wantMessage(delivered{topic: "a/b", payload: "own", ids: []int{9}})
		c.publish(0, 0, "b", "own")
		c.publish(0, 0, "a/b/c", "own")
		c.wantNothing()
	})
}

// The members of a shared subscription take turns, however many other groups get
// the same messages; who is away is passed over.
func TestSharedTurns(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		var all []*client
		for _, filter := range []string{"$share/one/t", "$share/two/t", "$share/one/#"} {
			for member := range 2 {
				all = append(all, pipe(t, d).enter(dialled{id: fmt.Sprint(filter, member), v5: true}).subscribe(filter, 1))
			}
		}
		away := pipe(t, d).enter(kept("away", true)).subscribe("$share/two/t", 1)
		away.vanish()
		pub := pipe(t, d).enter(dialled{id: "pub"})
		for i := range 60 {
			pub.publish(1, uint16(i+1), "t", fmt.Sprint(i))
		}
		synctest.Wait()
		for i, c := range all {
			if n := len(c.in); n < 20 || n > 40 {
				t.Errorf("member %d got %d of 60, want about half", i, n)
			}
		}
		for i := 0; i < len(all); i += 2 {
			if n := len(all[i].in) + len(all[i+1].in); n != 60 {
				t.Errorf("a group got %d of 60", n)
			}
		}
	})
}

// A1: subscribers that do not read at all stop nobody, and hold little memory.
// mochi: one of QoS 1 stops all publishers for good.
func TestSubscribersThatDoNotRead(t *testing.T) {
	const messages, size = 5000, 2000
	autoBubble(t, func(o *Options) { o.Sessions.MaxQueued = 1000 }, func(t *testing.T, d *Door) {
		t.Helper()
		for qos := range byte(3) {
			near, far := bufferedPipe()
			far.out.limit = 4096
			go d.EstablishConnection(far)
			_, _ = near.Write(append(connectPacket(dialled{id: fmt.Sprint("stalled", qos)}), subscribePacket(false, 1, "t", qos)...))
			defer func() { _ = near.Close() }()
		}
		synctest.Wait()
		good := pipe(t, d).enter(dialled{id: "good"}).subscribe("t", 1)
		pub := pipe(t, d).enter(dialled{id: "pub"})
		before, start := heap(), time.Now()
		for i := range messages {
			pub.publish(1, uint16(i+1), "t", strings.Repeat("x", size))
			pub.want(0x40, 2, byte((i+1)>>8), byte(i+1))
			good.ack(packet.TypePuback, good.message().pid)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v: somebody waited", took)
		}
		// The fake log holds all the messages, and each of the three has its buffer.
		if grown := heap() - before; grown > messages*(size+1500)+24<<20 {
			t.Errorf("%d MiB more", grown>>20)
		}
		s := d.Stats().Refused
		if s.FanoutLost == 0 || s.QueueLost == 0 || s.SlowReader != 0 {
			t.Errorf("%+v; want messages lost, and no connection", s)
		}
	})
}

// S1: the more all clients together leave unread, the less each may: so that ten
// thousand that do not read cannot fill the memory. What has gone is not counted.
func TestUnreadOfAll(t *testing.T) {
	const stalled, messages, size = 60, 600, 10_000
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		var all []*pipeEnd
		for i := range stalled {
			near, far := bufferedPipe()
			far.out.limit = 16
			go d.EstablishConnection(far)
			_, _ = near.Write(append(connectPacket(dialled{id: fmt.Sprint(i)}), subscribePacket(false, 1, "t", byte(i%2))...))
			all = append(all, near)
		}
		synctest.Wait()
		pub := pipe(t, d).enter(dialled{id: "pub"})
		for i := range messages {
			pub.publish(1, uint16(i+1), "t", strings.Repeat("x", size))
			pub.want(0x40, 2, byte((i+1)>>8), byte(i+1))
		}
		synctest.Wait()
		if n := d.unsent.Load(); n < fewUnsentBytes/2 || n > fewUnsentBytes+stalled*somePatience {
			t.Errorf("%d KiB are unsent", n>>10)
		}
		for _, near := range all {
			_ = near.Close()
		}
		synctest.Wait()
		if n := d.unsent.Load(); n != 0 {
			t.Errorf("%d bytes are unsent by nobody", n)
		}
	})
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A message that is larger than all that a client may leave unread gets through.
func TestHugeMessage(t *testing.T) {
	const size = 3 * maxUnsentBytes
	large := func(o *Options) { o.MaxPacketBytes = 4 << 20 }
	autoBubble(t, large, func(t *testing.T, d *Door) {
		t.Helper()
		sub := pipe(t, d).enter(dialled{id: "sub"}).subscribe("t", 1)
		pub := pipe(t, d).enter(dialled{id: "pub"})
		for i := range 3 {
			pub.publish(1, uint16(i+1), "t", strings.Repeat("x", size))
			m := sub.message()
			if len(m.payload) != size {
				t.Fatalf("got %d bytes", len(m.payload))
			}
			sub.ack(packet.TypePuback, m.pid)
		}
	})
}
