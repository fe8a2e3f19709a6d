package ingest

import (
	"fmt"
	"testing"
	"testing/synctest"
)

// resend is a QoS 1 PUBLISH with DUP.
func (c *client) resend(pid uint16, payload string) {
	c.send(publishPacket(c.v5, 1<<1|8, pid, "t", payload)...)
}

// A QoS 1 message that is sent again after its PUBACK was lost with the connection
// is acknowledged and not logged again; one that is not the same is logged.
func TestResentQoS1(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			c := pipe(t, d).enter(dialled{id: "dev", v5: v5})
			for pid := uint16(1); pid <= 3; pid++ {
				c.publish(1, pid, "t", fmt.Sprint(pid))
			}
			synctest.Wait()
			_ = c.nc.Close()
			synctest.Wait()
			c = pipe(t, d).enter(dialled{id: "dev", v5: v5})
			c.resend(1, "1") // not durable yet
			c.wantNothing()
			l.commit(nil)
			c.want(0x40, 2, 0, 1)
			c.resend(2, "2")
			c.want(0x40, 2, 0, 2)
			c.resend(3, "another")
			c.resend(4, "3")
			c.publish(1, 3, "t", "3") // without DUP it is a new one
			other := pipe(t, d).enter(dialled{id: "other", v5: v5})
			other.resend(1, "1")
			synctest.Wait()
			l.commit(nil)
			c.want(0x40, 2, 0, 3)
			c.want(0x40, 2, 0, 4)
			c.want(0x40, 2, 0, 3)
			other.want(0x40, 2, 0, 1)
			if got := l.payloads(); got != "1 2 3 another 3 3 1" {
				t.Errorf("log has %q", got)
			}
			if s := d.Stats(); s.Resent != 2 {
				t.Errorf("%d resent, want 2", s.Resent)
			}
		})
	})
}

// After a failed group nobody knows what is in the log: what is sent again is
// logged again.
func TestResentAfterAFailure(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev", v5: true})
		c.publish(1, 1, "t", "1")
		synctest.Wait()
		_ = c.nc.Close()
		synctest.Wait()
		c = pipe(t, d).enter(dialled{id: "dev", v5: true})
		c.resend(1, "1")
		synctest.Wait()
		l.commit(errDead)
		synctest.Wait()
		l.commit(nil)
		c.want(0x40, 2, 0, 1)
		if got := l.payloads(); got != "1 1" {
			t.Errorf("log has %q, want it twice", got)
		}
	})
}

// What a process did not get to acknowledge is known to the next one.
func TestResentQoS1OverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		d := newTestDoor(t, l, nil)
		stop := runDoor(t, d)
		c := pipe(t, d).enter(dialled{id: "dev"})
		c.publish(1, 7, "t", "x")
		c.publish(2, 8, "t", "y")
		synctest.Wait()
		l.commit(nil)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		later := newFakeLog()
		d = newTestDoor(t, later, nil)
		for _, e := range l.all() {
			if err := d.Replay(fakeLedger, &e); err != nil {
				t.Fatal(err)
			}
		}
		runDoor(t, d)
		c = pipe(t, d).enter(dialled{id: "dev"})
		c.resend(7, "x")
		c.want(0x40, 2, 0, 7)
		if got := later.payloads(); got != "" {
			t.Errorf("log has %q, want nothing", got)
		}
	})
}

// S1: what is remembered of a client is bounded by what it has in flight, and of
// all clients by their number.
func TestRecentsAreBounded(t *testing.T) {
	one := &recent{}
	for i := range 10_000 {
		one.add(fingerprint{uint16(i), 0}, i%20)
	}
	if n := len(one.prints); n > 21 || !one.has(fingerprint{9999, 0}) || !one.has(fingerprint{9999 - 15, 0}) || one.has(fingerprint{9000, 0}) {
		t.Errorf("%d prints; want about 20, the last ones", n)
	}
}
