package ingest

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary/log/record"
)

// D2: a QoS 2 message whose group failed keeps its packet id, whatever the
// failed log answers, because the next process may find the record: the next
// message with that id would be taken for it, acknowledged and lost.
func TestRefusalKeepsThePacketID(t *testing.T) {
	for _, after := range []error{errDead, errFull} {
		versions(t, func(t *testing.T, v5 bool) {
			bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
				sentAway := func(c *client, code byte) {
					if v5 {
						c.want(0xe0, 2, code, 0)
					}
					c.wantEnd()
				}
				c := pipe(t, d).enter(kept("dev", v5))
				c.publish(2, 5, "t", "first")
				synctest.Wait()
				l.setFail(after)
				l.commit(errDead)
				sentAway(c, 0x83)
				c = pipe(t, d).enter(kept("dev", v5))
				c.send(publishPacket(v5, 2<<1|8, 5, "t", "first")...)
				sentAway(c, d.failure(after))

				later := newFakeLog()
				next := newTestDoor(t, later, nil)
				for _, e := range l.records() { // recovery finds the group
					if err := next.Replay(fakeLedger, &e); err != nil {
						t.Fatal(err)
					}
				}
				runDoor(t, next)
				later.auto(t)
				c = pipe(t, next).enter(kept("dev", v5))
				c.send(publishPacket(v5, 2<<1|8, 5, "t", "first")...)
				c.want(0x50, 2, 0, 5)
				c.send(0x62, 2, 0, 5)
				c.next() // PUBCOMP
				c.publish(2, 5, "t", "second")
				c.want(0x50, 2, 0, 5)
				checkOnce(t, later, "[qos2.release] second", "first [qos2.release] second")
			})
		})
	}
}

// S1: a client that never releases is sent away at the receive maximum,
// however often it connects; what it has sent is acknowledged again, and one
// that releases is let go on.
func TestUnreleasedIDsOfOneClient(t *testing.T) {
	if forgetQoS2 {
		t.Skip("built with break_qos2: the table forgets on purpose")
	}
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			l.auto(t)
			c := pipe(t, d).enter(kept("dev", v5))
			for pid := byte(1); pid <= 8; pid++ {
				c.publish(2, uint16(pid), "t", "x")
				c.want(0x50, 2, 0, pid)
			}
			for range 3 {
				_ = c.nc.Close()
				c = pipe(t, d).enter(kept("dev", v5))
				c.send(publishPacket(v5, 2<<1|8, 8, "t", "x")...)
				c.want(0x50, 2, 0, 8)
				c.publish(2, 9, "t", "x")
				if v5 {
					c.want(0xe0, 2, 0x93, 0)
				}
				c.wantEnd()
			}
			if n, s := len(l.records()), d.Stats(); n != 8 || s.Refused.Window != 3 || d.q2.total != 8 {
				t.Errorf("%d records, %d sent away, %d ids; want 8, 3, 8", n, s.Refused.Window, d.q2.total)
			}
			other := pipe(t, d).enter(kept("other", v5))
			other.publish(2, 9, "t", "x")
			other.want(0x50, 2, 0, 9)
			c = pipe(t, d).enter(kept("dev", v5))
			c.send(0x62, 2, 0, 1)
			c.want(0x70, 2, 0, 1)
			c.publish(2, 9, "t", "x")
			c.want(0x50, 2, 0, 9)
		})
	})
}

// MQTT 5, 4.9: after a reconnect, a client may release a whole window and send
// another at once, before a release is durable.
func TestReleasingIDsHoldNoPlace(t *testing.T) {
	if forgetQoS2 {
		t.Skip("built with break_qos2: the table forgets on purpose")
	}
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			c := pipe(t, d).enter(kept("dev", v5))
			for pid := byte(1); pid <= 8; pid++ {
				c.publish(2, uint16(pid), "t", "x")
			}
			synctest.Wait()
			l.commit(nil)
			_ = c.nc.Close()
			synctest.Wait()
			c = pipe(t, d).enter(kept("dev", v5))
			for pid := byte(1); pid <= 8; pid++ {
				c.send(0x62, 2, 0, pid)
			}
			if v5 { // 3.1.1 waits for the releases to be durable
				for pid := uint16(9); pid <= 16; pid++ {
					c.publish(2, pid, "t", "x")
				}
			}
			synctest.Wait()
			l.commit(nil)
			for pid := byte(1); pid <= 8; pid++ {
				c.want(0x70, 2, 0, pid)
			}
			for pid := byte(9); v5 && pid <= 16; pid++ {
				c.want(0x50, 2, 0, pid)
			}
		})
	})
}

// S1: when all clients together have as many ids as they may, a new message is
// refused as when the log is full; what is known goes on; and the ids that are
// given back are there for others. The table stays below 64 MiB even in the
// worst case, one id per client.
func TestUnreleasedIDsOfAllClients(t *testing.T) {
	if forgetQoS2 {
		t.Skip("built with break_qos2: the table forgets on purpose")
	}
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		before := heapBytes()
		for i := range maxUnreleased {
			d.q2.learn(fmt.Sprintf("a-client-id-of-23-%06d", i), 1)
		}
		used := heapBytes() - before
		t.Logf("%d ids take %d KiB, %d bytes each", maxUnreleased, used>>10, used/maxUnreleased)
		if used > 64<<20 {
			t.Errorf("%d bytes, want at most 64 MiB", used)
		}
		five := pipe(t, d).enter(kept("five", true))
		old := pipe(t, d).enter(kept("old", false))
		five.publish(2, 1, "t", "x")
		five.want(0x50, 3, 0, 1, 0x97)
		five.publish(1, 2, "t", "QoS 1 needs no room")
		five.want(0x40, 2, 0, 2)
		old.publish(2, 1, "t", "x")
		old.wantEnd()
		if s := d.Stats().Refused; s.Full != 2 || s.Window != 0 {
			t.Errorf("refused: %+v, want 2 full", s)
		}
		known := pipe(t, d).enter(kept("a-client-id-of-23-000007", true))
		known.send(publishPacket(true, 2<<1|8, 1, "t", "x")...)
		known.want(0x50, 2, 0, 1)
		known.send(0x62, 2, 0, 1)
		known.want(0x70, 2, 0, 1)
		five.publish(2, 1, "t", "x")
		five.want(0x50, 2, 0, 1)
		clean := kept("a-client-id-of-23-000008", true)
		clean.resume = false
		pipe(t, d).enter(clean)
		five.publish(2, 3, "t", "x")
		five.want(0x50, 2, 0, 3)
		if d.q2.total != maxUnreleased {
			t.Errorf("%d ids, want %d", d.q2.total, maxUnreleased)
		}
	})
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// D2: after a damaged stretch of the log, in which a release may have been,
// an id that was learnt before it does not make a new message look old; what
// is learnt after it holds.
func TestForgetPacketIDs(t *testing.T) {
	if forgetQoS2 {
		t.Skip("built with break_qos2: the table forgets on purpose")
	}
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		q := newQoS2(8)
		q.learn("dev", 1)
		_, _, checkpoint := q.snapshot()
		if _, err := d.Restore(State{PacketIDs: checkpoint}); err != nil {
			t.Fatal(err)
		}
		replay := func(pid uint16) {
			if err := d.Replay(fakeLedger, &record.Entry{Record: publishRecord("dev", pid)}); err != nil {
				t.Fatal(err)
			}
		}
		replay(2)
		d.ForgetPacketIDs()
		if b := d.Snapshot().PacketIDs; len(b) != 6 || d.q2.holds("dev") || d.q2.total != 0 {
			t.Errorf("snapshot % x, %d ids; want none", b, d.q2.total)
		}
		replay(3)
		c := pipe(t, d).enter(kept("dev", true))
		for pid := byte(1); pid <= 3; pid++ {
			c.publish(2, uint16(pid), "t", fmt.Sprint(pid))
			c.want(0x50, 2, 0, pid)
		}
		if got := l.payloads(); got != "1 2" {
			t.Errorf("log has %q, want the messages with the ids that are forgotten", got)
		}
	})
}

// Next is what Snapshot says it is.
func TestNext(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(kept("dev", true))
		for i := range byte(3) {
			_, next := d.Next()
			if at := d.Snapshot().Next; next != at || int(at) != int(i)+min(1, int(i)) { // what is noted of the session comes first
				t.Errorf("Next is %d, of the snapshot %d, want %d", next, at, i)
			}
			c.publish(2, uint16(i)+1, "t", "x")
			synctest.Wait()
			l.commit(nil)
			c.want(0x50, 2, 0, i+1)
		}
	})
}
