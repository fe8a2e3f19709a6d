package ingest

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
	"testing/synctest"
)

func sealed(body []byte) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), body...), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

func kept(id string, v5 bool) dialled {
	return dialled{id: id, v5: v5, resume: true, expiry: 3600}
}

// checkOnce checks what is in the log. When the table is built to forget, it
// must be something else, or the test would not notice.
func checkOnce(t *testing.T, l *fakeLog, want, whenForgetful string) {
	t.Helper()
	if forgetQoS2 {
		want = whenForgetful
	}
	if got := l.payloads(); got != want {
		t.Errorf("log has %q, want %q", got, want)
	}
}

// U1: a QoS 2 message that is sent again, before or after it is durable, is
// acknowledged again and logged once.
func TestQoS2Resend(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			c := pipe(t, d).enter(kept("dev", v5))
			c.publish(2, 5, "t", "m")
			c.send(publishPacket(v5, 2<<1|8, 5, "t", "m")...)
			c.wantNothing()
			l.commit(nil)
			c.want(0x50, 2, 0, 5)
			c.send(publishPacket(v5, 2<<1|8, 5, "t", "m")...)
			c.want(0x50, 2, 0, 5)
			c.send(0x62, 2, 0, 5)
			c.wantNothing()
			l.commit(nil)
			c.want(0x70, 2, 0, 5)
			c.send(0x62, 2, 0, 5)
			if v5 {
				c.want(0x70, 3, 0, 5, 0x92)
			} else {
				c.want(0x70, 2, 0, 5)
			}
			c.publish(2, 5, "t", "n")
			synctest.Wait()
			l.commit(nil)
			c.want(0x50, 2, 0, 5)
			if got := l.payloads(); got != "m [qos2.release] n" || d.Stats().Resent != 2 {
				t.Errorf("log has %q, %d resent", got, d.Stats().Resent)
			}
		})
	})
}

// U1: the same over a new connection of a kept session, at each step.
func TestQoS2Reconnect(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			c := pipe(t, d).enter(kept("dev", v5))
			c.publish(2, 5, "t", "m")
			synctest.Wait()
			again := func() {
				_ = c.nc.Close()
				synctest.Wait()
				c = pipe(t, d).enter(kept("dev", v5))
				c.send(publishPacket(v5, 2<<1|8, 5, "t", "m")...)
			}
			again()
			c.wantNothing() // still not durable
			l.commit(nil)
			c.want(0x50, 2, 0, 5)
			again()
			synctest.Wait()
			l.commit(nil)
			c.want(0x50, 2, 0, 5)
			c.send(0x62, 2, 0, 5)
			synctest.Wait()
			_ = c.nc.Close()
			c = pipe(t, d).enter(kept("dev", v5))
			c.send(0x62, 2, 0, 5)
			synctest.Wait()
			l.commit(nil)
			if !forgetQoS2 {
				c.want(0x70, 2, 0, 5)
			}
			checkOnce(t, l, "m [qos2.release]", "m [qos2.clean] m [qos2.clean] m [qos2.release] [qos2.clean]")
		})
	})
}

// U1: PUBCOMP before the release is durable would let the client use the id
// for a new message, which a crash would then take for the old one.
func TestPubcompWaitsForTheRelease(t *testing.T) {
	if forgetQoS2 {
		t.Skip("built with break_qos2: the table forgets on purpose")
	}
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(kept("dev", true))
		c.publish(2, 5, "t", "m")
		synctest.Wait()
		l.commit(nil)
		c.want(0x50, 2, 0, 5)
		c.send(0x62, 2, 0, 5)
		synctest.Wait()
		_ = c.nc.Close()
		c = pipe(t, d).enter(kept("dev", true))
		c.send(0x62, 2, 0, 5) // the first one is still on its way to the disk
		c.wantNothing()
		l.commit(nil)
		c.want(0x70, 2, 0, 5)
		l.setFail(errFull)
		c.publish(2, 6, "t", "x")
		c.want(0x50, 3, 0, 6, 0x97)
	})
}

// U1: a node that restarts between PUBREC and PUBREL, or before the PUBREC,
// does not log the message again; and one that is cut off after PUBCOMP takes
// the next use of the id for what it is.
func TestQoS2Restart(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		synctest.Test(t, func(t *testing.T) {
			l := newFakeLog()
			d := newTestDoor(t, l, nil)
			stop := runDoor(t, d)
			c := pipe(t, d).enter(kept("dev", v5))
			for pid := uint16(1); pid <= 3; pid++ {
				c.publish(2, pid, "t", string(rune('a'+pid-1)))
			}
			synctest.Wait()
			l.commit(nil)
			state := d.Snapshot()
			for range 3 {
				c.next()
			}
			c.send(0x62, 2, 0, 1)
			synctest.Wait()
			l.commit(nil)
			c.want(0x70, 2, 0, 1)
			if err := stop(); err != nil {
				t.Fatal(err)
			}

			later := newFakeLog()
			d = newTestDoor(t, later, nil)
			if _, err := d.Restore(state); err != nil {
				t.Fatal(err)
			}
			for _, e := range l.all()[state.Next:] {
				if err := d.Replay(fakeLedger, &e); err != nil {
					t.Fatal(err)
				}
			}
			runDoor(t, d)
			c = pipe(t, d)
			ack := c.connect(kept("dev", v5))
			if present := ack[2] == 1; present == forgetQoS2 {
				t.Errorf("session present: %t; a v5 client throws its state away without it", present)
			}
			c.publish(2, 1, "t", "new")
			c.send(publishPacket(v5, 2<<1|8, 2, "t", "b")...)
			c.send(publishPacket(v5, 2<<1|8, 3, "t", "c")...)
			synctest.Wait()
			later.commit(nil)
			for range 3 {
				if p := c.next(); p[0] != 0x50 || len(p) != 4 {
					t.Fatalf("got % x, want PUBREC", p)
				}
			}
			c.send(0x62, 2, 0, 2)
			synctest.Wait()
			later.commit(nil)
			c.want(0x70, 2, 0, 2)
			checkOnce(t, later, "new [qos2.release]", "new b c [qos2.release]")
		})
	})
}

// A clean start ends the session, and the log knows: the same ids are new
// messages, after a restart too.
func TestCleanStart(t *testing.T) {
	if forgetQoS2 {
		t.Skip("built with break_qos2: the table forgets on purpose")
	}
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(kept("dev", true))
		c.publish(2, 5, "t", "m")
		synctest.Wait()
		l.commit(nil)
		c.want(0x50, 2, 0, 5)
		clean := kept("dev", true)
		clean.resume = false
		c2 := pipe(t, d).enter(clean)
		c.want(0xe0, 2, 0x8e, 0) // taken over
		c2.publish(2, 5, "t", "n")
		synctest.Wait()
		l.commit(nil)
		c2.want(0x50, 2, 0, 5)
		if got := l.payloads(); got != "m [qos2.clean] n" {
			t.Errorf("log has %q", got)
		}
		q := newQoS2(8)
		for _, e := range l.records() {
			if err := q.replay(&e); err != nil {
				t.Fatal(err)
			}
		}
		if len(q.durable["dev"]) != 1 {
			t.Errorf("replayed: %v, want the id of the second message", q.durable)
		}
		l.setFail(errFull) // a clean start that cannot be logged is refused
		again := pipe(t, d)
		if ack := again.connect(clean); ack[3] != 0x97 {
			t.Errorf("CONNACK % x, want quota exceeded", ack)
		}
		again.wantEnd()
	})
}

// A session that ends with its connection leaves nothing behind: no id in the
// log, none in the table, and a later kept session starts afresh.
func TestSessionWithoutFuture(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			c := pipe(t, d).enter(dialled{id: "dev", v5: v5})
			c.publish(2, 5, "t", "m")
			synctest.Wait()
			l.commit(nil)
			c.want(0x50, 2, 0, 5)
			_ = c.nc.Close()
			synctest.Wait()
			c = pipe(t, d)
			if ack := c.connect(kept("dev", v5)); ack[2] != 0 {
				t.Error("session present after a session that had ended")
			}
			c.publish(2, 5, "t", "n")
			synctest.Wait()
			l.commit(nil)
			c.want(0x50, 2, 0, 5)
			if got := l.payloads(); got != "m n" {
				t.Errorf("log has %q", got)
			}
			if pid := l.records()[0].Header(headerPacketID); pid != nil {
				t.Errorf("the record of a session without future carries _pid % x", pid)
			}
		})
	})
}

// PUBREL for a message whose PUBREC is not out yet is a protocol error.
func TestEarlyPubrel(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(kept("dev", true))
		c.publish(2, 5, "t", "m")
		c.send(0x62, 2, 0, 5)
		c.want(0xe0, 2, 0x82, 0)
		c.wantEnd()
		l.commit(nil)
		if !d.q2.holds("dev") {
			t.Error("the message is forgotten")
		}
	})
}
