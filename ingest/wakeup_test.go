package ingest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/ingest/packet"
)

// Nobody who waits is forgotten: many subscribers, each with a window of one,
// that go and come at random while messages arrive. Each gets all of them, in
// order. A lost wake-up shows as a subscriber that waits for ever.
func TestNoWakeUpIsLost(t *testing.T) {
	const subscribers, messages = 30, 200
	l := newFakeLog()
	d := newTestDoor(t, l, func(o *Options) { o.Listen = []string{"127.0.0.1:0"} })
	runDoor(t, d)
	l.auto(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	who := func(i int) dialled {
		s := kept(fmt.Sprint("sub", i), true)
		s.receive = 1
		return s
	}
	for i := range subscribers {
		c := dial(t, d).enter(who(i)).subscribe("t", byte(1+i%2))
		_ = c.nc.Close()
	}
	var all sync.WaitGroup
	for i := range subscribers {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() { readAll(t, d, who(i), rng, messages) })
	}
	pub := dial(t, d).enter(dialled{id: "pub"})
	for i := range messages {
		pub.publish(2, uint16(i+1), "t", fmt.Sprint(i))
		pub.next() // PUBREC
		pub.ack(packet.TypePubrel, uint16(i+1))
		pub.next() // PUBCOMP
	}
	all.Wait()
}

// readAll takes messages until it has all of them. It runs in a goroutine of its own.
func readAll(t *testing.T, d *Door, s dialled, rng *rand.Rand, messages int) {
	t.Helper()
	next, held := 0, map[uint16]bool{}
	for next < messages {
		c := dial(t, d)
		c.v5 = true
		c.send(connectPacket(s)...)
		for left := 1 + rng.IntN(20); left > 0 && next < messages; left-- {
			var p []byte
			select {
			case p = <-c.in:
			case <-time.After(20 * time.Second):
				t.Errorf("%s waits for message %d", s.id, next)
				return
			}
			if p == nil {
				break
			}
			switch pid := binary.BigEndian.Uint16(p[2:]); p[0] >> 4 {
			case packet.TypePubrel:
				delete(held, pid)
				c.ack(packet.TypePubcomp, pid)
			case packet.TypePublish:
				m := parseDelivered(t, p, true)
				if was := held[m.pid]; !was && m.payload == fmt.Sprint(next) {
					next++
				} else if !m.dup {
					t.Errorf("%s got %+v, want message %d", s.id, m, next)
					return
				}
				if m.qos == 2 {
					held[m.pid] = true
					c.ack(packet.TypePubrec, m.pid)
				} else {
					c.ack(packet.TypePuback, m.pid)
				}
			}
		}
		_ = c.nc.Close()
	}
}
