package ingest

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/packet"
)

// A1: a subscriber that is away costs no reading of the log, and gets in order what it
// is owed when it is back, what is to be retained included.
func TestAwayReadsNothing(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		l.auto(t)
		pipe(t, d).enter(kept("sub", true)).subscribe("t/#", 1).vanish()
		synctest.Wait()
		reads := func() int {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.reads
		}
		before := reads()
		pub := pipe(t, d).enter(dialled{id: "pub"})
		send := func(c *client, flags byte, n int) {
			c.send(publishPacket(false, flags, uint16(n), fmt.Sprintf("t/%d", n%3), fmt.Sprint(n))...)
			if flags>>1&3 == 1 {
				c.want(0x40, 2, 0, byte(n))
			}
			synctest.Wait()
		}
		for n := 1; n <= 50; n++ {
			send(pub, 1<<1, n)
		}
		if got := reads(); got != before {
			t.Errorf("the log was read %d times for a subscriber that is away", got-before)
		}
		send(pub, 1<<1|1, 51) // retained
		send(pub, 0, 52)      // nothing is kept of QoS 0
		sub := pipe(t, d).enter(kept("sub", true))
		for n := 1; n <= 51; n++ {
			sub.ack(packet.TypePuback, sub.wantMessage(delivered{topic: fmt.Sprintf("t/%d", n%3), payload: fmt.Sprint(n), qos: 1}))
		}
		sub.wantNothing()
		send(pub, 0, 54)
		sub.wantMessage(delivered{topic: "t/0", payload: "54"})
		pipe(t, d).enter(dialled{id: "late"}).subscribe("t/0", 0).wantMessage(delivered{topic: "t/0", payload: "51", retain: true})
	})
}

// What is known of records is bounded, and stays with its records.
func TestHeardIsBounded(t *testing.T) {
	d := newTestDoor(t, newFakeLog(), nil)
	o := d.out
	group := make([]heard, 1000)
	var next tributary.LSN
	for range 2 * maxHeard / len(group) {
		for i := range group {
			group[i].to = &routed{generation: uint64(next) + uint64(i)}
		}
		o.want(fakeLedger, next, next+1000, group)
		next += 1000
	}
	known := 0
	for _, j := range o.jobs {
		known += len(j.heard)
		for i, h := range j.heard {
			if h.to.generation != uint64(j.from)+uint64(i) {
				t.Fatalf("record %d has what is known of %d", j.from+tributary.LSN(i), h.to.generation)
			}
		}
		if n := len(j.heard); n > 0 && n != int(j.to-j.from) {
			t.Errorf("%d of the records from %d to %d are known", n, j.from, j.to)
		}
	}
	if known != o.heard || known > maxHeard || known < maxHeard-1000 || len(o.jobs) != 2 || o.jobs[1].to != next {
		t.Errorf("%d are known, of %d counted, in %d jobs", known, o.heard, len(o.jobs))
	}
}
