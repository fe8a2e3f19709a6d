package ingest

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary/ingest/packet"
)

// A will may be empty, and a DISCONNECT with 0x04 wants it sent. mochi: refuses
// the first and forgets the second.
func TestWillOnRequest(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		sub := pipe(t, d).enter(dialled{id: "sub", v5: true}).subscribe("#", 1)
		for _, bye := range [][]byte{{0xe0, 1, 4}, {0xe0, 2, 4, 0}} {
			p := connectPacket(dialled{id: "dev", v5: true, will: "w"})
			p = bytes.Replace(p, text(nil, "gone"), []byte{0, 0}, 1)
			p[1] -= 4
			c := pipe(t, d)
			c.v5 = true
			c.send(p...)
			if ack := c.next(); ack[3] != 0 {
				t.Fatalf("CONNACK % x", ack)
			}
			c.send(bye...)
			c.wantEnd()
			sub.ack(packet.TypePuback, sub.wantMessage(delivered{topic: "w", qos: 1}))
		}
		for _, bye := range [][]byte{{0xe0, 0}, {0xe0, 1, 0}} {
			c := pipe(t, d).enter(dialled{id: "dev", v5: true, will: "w"})
			c.send(bye...)
			c.wantEnd()
			sub.wantNothing()
		}
	})
}

// A session lasts as long as it says, and no longer: MQTT 5, 3.1.2.11.2.
func TestSessionExpiry(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		short := dialled{id: "sub", v5: true, resume: true, expiry: 10}
		pub := pipe(t, d).enter(dialled{id: "pub"})
		for _, step := range []struct {
			away    time.Duration
			present byte
		}{{5 * time.Second, 1}, {12 * time.Second, 0}} {
			pipe(t, d).enter(short).subscribe("t", 1).vanish()
			pub.publish(1, 1, "t", "x")
			<-time.After(step.away)
			c := pipe(t, d)
			if ack := c.connect(short); ack[2] != step.present {
				t.Errorf("away for %v: session present %d", step.away, ack[2])
			}
			if step.present == 1 {
				c.ack(packet.TypePuback, c.wantMessage(delivered{topic: "t", payload: "x", qos: 1}))
			}
			c.wantNothing()
			c.send(0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0) // ends with the connection after all
			c.wantEnd()
			synctest.Wait()
		}
		if n, subs := d.sessions.Len(), d.out.tree.Len(); n != 1 || subs != 0 {
			t.Errorf("%d sessions and %d subscriptions are left, want 1 and 0", n, subs)
		}
	})
}

// A clean start ends the session before it, and what that was owed.
func TestCleanStartEndsTheQueue(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		autoBubble(t, nil, func(t *testing.T, d *Door) {
			t.Helper()
			pub := pipe(t, d).enter(dialled{id: "pub"})
			pipe(t, d).enter(kept("sub", v5)).subscribe("t", 1).vanish()
			pub.publish(1, 1, "t", "x")
			clean := kept("sub", v5)
			clean.resume = false
			c := pipe(t, d)
			if ack := c.connect(clean); ack[2] != 0 {
				t.Error("a session is present")
			}
			pub.publish(1, 2, "t", "y")
			c.wantNothing()
			if n := d.out.tree.Len(); n != 0 {
				t.Errorf("%d subscriptions are left", n)
			}
		})
	})
}

// Nobody takes over the session of another user: not while it is connected, and
// not what it is owed afterwards (S2).
func TestTakeOverByAnother(t *testing.T) {
	autoBubble(t, nil, func(t *testing.T, d *Door) {
		t.Helper()
		alice, bob := kept("dev", true), kept("dev", true)
		alice.user, bob.user = "alice", "bob"
		pub := pipe(t, d).enter(dialled{id: "pub"})
		a := pipe(t, d).enter(alice).subscribe("t", 1)
		if ack := pipe(t, d).connect(bob); ack[3] != packet.CodeNotAuthorized {
			t.Errorf("CONNACK % x, want not authorized", ack)
		}
		pub.publish(1, 1, "t", "x")
		a.wantMessage(delivered{topic: "t", payload: "x", qos: 1})
		a.vanish()
		b := pipe(t, d)
		if ack := b.connect(bob); ack[2] != 0 || ack[3] != 0 {
			t.Errorf("CONNACK % x, want success and no session", ack)
		}
		pub.publish(1, 2, "t", "y")
		b.wantNothing()
	})
}

// A session and the tree have the same subscriptions, also when the connection
// ends in between, or the log does not take one.
func TestSubscriptionsThatAreNotLogged(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		same := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			d.mu.Lock()
			s := d.subs["dev"]
			d.mu.Unlock()
			if n, m := len(s.Subscriptions()), d.out.tree.Len(); n != want || m != want {
				t.Errorf("%s: %d in the session, %d in the tree, want %d", when, n, m, want)
			}
		}
		c := pipe(t, d).enter(kept("dev", true))
		c.send(subscribePacket(true, 1, "a", 1)...)
		synctest.Wait()
		l.commit(nil)
		c.want(0x90, 4, 0, 1, 0, 1)
		l.setFail(errFull)
		c.send(subscribePacket(true, 2, "a", 0)...)
		c.want(0x90, 4, 0, 2, 0, 0x97)
		c.send(subscribePacket(true, 3, "b", 1)...)
		c.want(0x90, 4, 0, 3, 0, 0x97)
		l.setFail(nil)
		same("no room", 1)
		c.publish(1, 1, "a", "x") // the old one stays, with its QoS
		synctest.Wait()
		l.commit(nil)
		c.want(0x40, 2, 0, 1)
		c.ack(packet.TypePuback, c.wantMessage(delivered{topic: "a", payload: "x", qos: 1}))
		for _, one := range []struct {
			p    []byte
			want int
		}{{subscribePacket(true, 4, "c", 1), 2}, {frame(0xa2, text([]byte{0, 5, 0}, "a")), 1}} {
			c.send(one.p...)
			synctest.Wait()
			c = pipe(t, d).enter(kept("dev", true)) // takes over before it is durable
			l.commit(nil)
			same("durable", one.want)
		}
	})
}
