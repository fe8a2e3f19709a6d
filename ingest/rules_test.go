package ingest

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
)

// A rules is a guard that lets everybody in, and denies what is listed: an access
// and a topic.
type rules map[string]bool

func (rules) Authenticate(_ context.Context, c *auth.Credentials) (auth.Identity, error) {
	return auth.Identity{User: c.Username}, nil
}

func (r rules) Allows(_, _ string, a auth.Access, topic string) bool {
	return !r[fmt.Sprint(a, " ", topic)]
}

func (rules) Stands(*auth.Identity, *tls.ConnectionState) error { return nil }

func (rules) Generation() uint64 { return 0 }

// S2: the rules are asked for the concrete topic on every way to and from a client.
func TestRulesOnEveryWay(t *testing.T) {
	denied := rules{}
	for _, way := range []struct {
		access auth.Access
		topic  string
	}{
		{auth.Write, "no/write"},
		{auth.Read, "no/read"},
		{auth.Subscribe, "no/#"},
	} {
		denied[fmt.Sprint(way.access, " ", way.topic)] = true
	}
	guarded := func(o *Options) { o.Guard = denied }
	bubble(t, guarded, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		c := pipe(t, d).enter(dialled{id: "dev", v5: true})
		c.publish(1, 1, "no/write", "x")
		c.want(0x40, 3, 0, 1, packet.CodeNotAuthorized)
		c.publish(1, 2, "no/write", "x", 0x23, 0, 1) // sets an alias
		c.want(0x40, 3, 0, 2, packet.CodeNotAuthorized)
		c.publish(1, 3, "", "x", 0x23, 0, 1)
		c.want(0x40, 3, 0, 3, packet.CodeNotAuthorized)
		c.send(publishPacket(true, 2|1, 4, "no/write", "kept")...) // retained
		c.want(0x40, 3, 0, 4, packet.CodeNotAuthorized)
		c.publish(0, 0, "no/write", "x")
		if ack := pipe(t, d).connect(dialled{id: "will", v5: true, will: "no/write"}); ack[3] != packet.CodeNotAuthorized {
			t.Errorf("a will to a topic that is denied: CONNACK % x", ack)
		}
		for _, filter := range []string{"no/#", "$share/g/no/#"} {
			c.send(subscribePacket(true, 9, filter, 0)...)
			c.want(0x90, 4, 0, 9, 0, packet.CodeNotAuthorized)
		}
		if got := l.payloads(); got != "" {
			t.Errorf("log has %q, want nothing", got)
		}
		c.send(publishPacket(true, 2|1, 5, "no/read", "secret")...)
		c.want(0x40, 2, 0, 5)
		sub := pipe(t, d).enter(kept("sub", true)).subscribe("+/read", 1)              // the retained one is not for it
		zero := pipe(t, d).enter(dialled{id: "zero", v5: true}).subscribe("+/read", 0) // QoS 0 goes another way
		zero.wantNothing()
		c.publish(1, 6, "no/read", "live")
		c.want(0x40, 2, 0, 6)
		sub.wantNothing()
		zero.wantNothing()
		c.publish(1, 7, "a/read", "sent again")
		c.want(0x40, 2, 0, 7)
		sub.message()
		sub.vanish()
		denied[fmt.Sprint(auth.Read, " ", "a/read")] = true
		pipe(t, d).enter(kept("sub", true)).wantNothing()
	})
}

// Above its rate a client is read more slowly, and others are not; nothing is
// refused or lost.
func TestRateLimit(t *testing.T) {
	limited := func(o *Options) { o.MaxMessagesPerSecond, o.MaxBytesPerSecond = 10, 10_000 }
	bubble(t, limited, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		begun := time.Now()
		c := pipe(t, d).enter(dialled{id: "fast", v5: true})
		for pid := uint16(1); pid <= 8; pid++ {
			c.publish(1, pid, "t", "x")
			c.want(0x40, 2, 0, byte(pid))
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("8 messages took %v; a second's worth is free", took)
		}
		for range 5 {
			for pid := uint16(1); pid <= 8; pid++ {
				c.publish(1, pid, "t", "x")
				c.want(0x40, 2, 0, byte(pid))
			}
		}
		if took := time.Since(begun); took < 3500*time.Millisecond || took > 4500*time.Millisecond {
			t.Errorf("48 messages at 10 a second, 10 of them free, took %v", took)
		}
		large := pipe(t, d).enter(dialled{id: "large", v5: true})
		begun = time.Now()
		for pid := uint16(1); pid <= 6; pid++ {
			large.publish(1, pid, "t", strings.Repeat("x", 5000))
			large.want(0x40, 2, 0, byte(pid))
		}
		if took := time.Since(begun); took < 1800*time.Millisecond || took > 2500*time.Millisecond {
			t.Errorf("30 kB at 10 kB a second, 10 of them free, took %v", took)
		}
		if d.Stats().Refused.Slowed == 0 {
			t.Error("it is not counted")
		}
		for pid := uint16(1); pid <= 8; pid++ {
			c.publish(1, pid, "t", "x")
		}
		synctest.Wait()
		_ = c.nc.Close() // a client that waits can go
		synctest.Wait()
	})
}
