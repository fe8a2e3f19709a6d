package ingest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
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
			c := pipe(t, d).enter(kept("dev", v5))
			for pid := uint16(1); pid <= 3; pid++ {
				c.publish(1, pid, "t", fmt.Sprint(pid))
			}
			synctest.Wait()
			_ = c.nc.Close()
			synctest.Wait()
			c = pipe(t, d).enter(kept("dev", v5))
			c.resend(1, "1") // not durable yet
			c.wantNothing()
			l.commit(nil)
			c.want(0x40, 2, 0, 1)
			c.resend(2, "2")
			c.want(0x40, 2, 0, 2)
			c.resend(3, "another")
			c.resend(4, "3")
			c.publish(1, 3, "t", "3") // without DUP it is a new one
			synctest.Wait()           // two connections: without this their order is open
			other := pipe(t, d).enter(kept("other", v5))
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
		c := pipe(t, d).enter(kept("dev", true))
		c.publish(1, 1, "t", "1")
		synctest.Wait()
		_ = c.nc.Close()
		synctest.Wait()
		c = pipe(t, d).enter(kept("dev", true))
		c.resend(1, "1")
		synctest.Wait()
		l.commit(errDead)
		c.want(0xe0, 2, 0x83, 0)
		c = pipe(t, d).enter(kept("dev", true))
		c.resend(1, "1")
		synctest.Wait()
		l.commit(nil)
		c.want(0x40, 2, 0, 1)
		if got := l.payloads(); got != "1 1" {
			t.Errorf("log has %q, want it twice", got)
		}
	})
}

// A hastyLog commits, or fails, before Append returns.
type hastyLog struct {
	*fakeLog
	err error
}

func (l *hastyLog) Append(r *record.Record, t tributary.Ticket) (tributary.LSN, error) {
	lsn, err := l.fakeLog.Append(r, t)
	l.commit(l.err)
	return lsn, err
}

func (l *hastyLog) AppendAll(to tributary.LedgerID, rs []record.Record, ts []tributary.Ticket) (tributary.LedgerID, int, error) {
	return appendEach(l, to, rs, ts)
}

// A group may have failed before its message is remembered.
func TestResentAfterAnEarlyFailure(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		synctest.Test(t, func(t *testing.T) {
			l := &hastyLog{fakeLog: newFakeLog()}
			d := newTestDoor(t, l.fakeLog, func(o *Options) { o.Log = l })
			runDoor(t, d)
			c := pipe(t, d).enter(kept("dev", v5))
			l.err = errDead
			c.publish(1, 1, "t", "1")
			synctest.Wait()
			_ = c.nc.Close()
			synctest.Wait()
			l.err = nil
			c = pipe(t, d).enter(kept("dev", v5))
			c.resend(1, "1")
			c.want(0x40, 2, 0, 1)
			if got := l.payloads(); got != "1 1" {
				t.Errorf("log has %q, want it twice: the first was not kept", got)
			}
		})
	})
}

// What a process did not get to acknowledge is known to the next one.
func TestResentQoS1OverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		d := newTestDoor(t, l, nil)
		stop := runDoor(t, d)
		c := pipe(t, d).enter(kept("dev", false))
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
		c = pipe(t, d).enter(kept("dev", false))
		c.resend(7, "x")
		synctest.Wait()
		later.commit(nil) // what is noted of its session
		c.want(0x40, 2, 0, 7)
		if got := later.payloads(); got != "" {
			t.Errorf("log has %q, want nothing", got)
		}
	})
}

// What is a new message by the standard, or differs in anything that is stored, is
// logged, whatever its DUP flag says: to lose a reading is worse than to have it twice.
func TestNotResent(t *testing.T) {
	for name, again := range map[string]func(t *testing.T, d *Door, c *client) *client{
		"after its PUBACK on the same connection": func(_ *testing.T, _ *Door, c *client) *client { return c },
		"after DISCONNECT": func(t *testing.T, d *Door, c *client) *client {
			t.Helper()
			c.send(0xe0, 0)
			c.wantEnd()
			return pipe(t, d).enter(kept("dev", true))
		},
		"in a new session": func(t *testing.T, d *Door, c *client) *client {
			t.Helper()
			c.vanish()
			s := kept("dev", true)
			s.resume = false
			return pipe(t, d).enter(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
				l.auto(t)
				c := pipe(t, d).enter(kept("dev", true))
				c.publish(1, 1, "t", "open")
				c.want(0x40, 2, 0, 1)
				c = again(t, d, c)
				c.resend(1, "open")
				c.want(0x40, 2, 0, 1)
				if got := strings.ReplaceAll(l.payloads(), " ", ""); got != strings.Repeat("open", 2) {
					t.Errorf("log has %q", got)
				}
			})
		})
	}
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		c := pipe(t, d).enter(kept("dev", true))
		for _, payload := range []string{"open", "closed"} { // one packet id: the first was acknowledged, and its client knows
			c.publish(1, 1, "t", payload)
			c.want(0x40, 2, 0, 1)
		}
		c.vanish()
		c = pipe(t, d).enter(kept("dev", true))
		for _, payload := range []string{"closed", "open"} {
			c.resend(1, payload)
			c.want(0x40, 2, 0, 1)
		}
		if got := l.payloads(); got != "open closed open" {
			t.Errorf("log has %q", got)
		}
	})
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		c := pipe(t, d).enter(kept("dev", true))
		c.publish(1, 1, "cc/1", "23", user("ts", "1")...)
		c.want(0x40, 2, 0, 1)
		c.vanish()
		c = pipe(t, d).enter(kept("dev", true))
		for _, p := range [][]byte{
			publishPacket(true, 2|8, 1, "cc/12", "3", user("ts", "1")...),
			publishPacket(true, 2|8|1, 1, "cc/1", "23", user("ts", "1")...),
			publishPacket(true, 2|8, 1, "cc/1", "23", user("ts", "2")...),
			publishPacket(true, 2|8, 2, "cc/1", "23", user("ts", "1")...),
		} {
			c.send(p...)
			c.next()
		}
		if got := l.payloads(); got != "23 3 23 23 23" {
			t.Errorf("log has %q, want all of them", got)
		}
	})
}

// S1: what is remembered of a client is bounded.
func TestRecentsAreBounded(t *testing.T) {
	one := &recent{}
	for i := range 10_000 {
		one.add(fingerprint{uint16(i), 0}, 0)
	}
	one.conn++
	if n := len(one.ring); n != maxRemembered || !one.has(fingerprint{9999, 0}, 0) || !one.has(fingerprint{10_000 - maxRemembered, 0}, 0) || one.has(fingerprint{9900, 0}, 0) {
		t.Errorf("%d are remembered; want the last %d", n, maxRemembered)
	}
	r := newRecents()
	for i := range maxRecents + 10 {
		r.of(fmt.Sprint(i), true, time.Now())
	}
	if len(r.all) > maxRecents {
		t.Errorf("%d clients are remembered", len(r.all))
	}
}

// U2: a client takes its session over while the message that it has sent again waits for
// the first copy to be durable. That one is in the log once.
func TestTakenOverWhileResentWaits(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			first := pipe(t, d).enter(kept("dev", v5))
			first.publish(1, 1, "t", "1")
			synctest.Wait()
			_ = first.nc.Close()
			synctest.Wait()
			again := pipe(t, d).enter(kept("dev", v5))
			again.resend(1, "1")
			synctest.Wait()
			last := pipe(t, d).enter(kept("dev", v5))
			last.resend(1, "1")
			synctest.Wait()
			l.commit(nil)
			last.want(0x40, 2, 0, 1)
			synctest.Wait()
			l.commit(nil)
			if got := l.payloads(); got != "1" {
				t.Errorf("log has %q", got)
			}
		})
	})
}
