package edge_test

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/clock"
)

// A wrongClock is the clock of a machine without a battery.
type wrongClock struct {
	skew   atomic.Int64 // ms that the time of day is off
	synced atomic.Bool
	boot   time.Time
	id     [16]byte
}

// power switches the machine on: it says that it is 1970.
func (c *wrongClock) power() {
	c.boot = time.Now().Add(-20 * time.Second)
	_, _ = rand.Read(c.id[:])
	c.synced.Store(false)
	c.skew.Store(-time.Now().UnixMilli())
}

func (c *wrongClock) source() clock.Source {
	boot := c.boot
	return clock.Source{
		Wall:   func() int64 { return time.Now().UnixMilli() + c.skew.Load() },
		Uptime: func() int64 { return time.Since(boot).Milliseconds() },
		Synced: c.synced.Load, Boot: c.id,
	}
}

// set is what NTP does: the time of day is right from now on.
func (c *wrongClock) set() {
	c.skew.Store(0)
	c.synced.Store(true)
}

// setBack is what somebody does by hand: the kernel calls the clock unsynchronised then.
func (c *wrongClock) setBack(by time.Duration) {
	c.skew.Store(-by.Milliseconds())
	c.synced.Store(false)
}

// A1, U1, U2: a node whose clock says 1970, then jumps to now, then an hour back,
// and which loses its power, forwards every record once, in order, with the time
// at which it was published. With $KAFKA, the same against that Kafka:
//
//	KAFKA=127.0.0.1:9092 go test ./edge -run TestWrongClock
func TestWrongClock(t *testing.T) {
	topic := fmt.Sprintf("clock-%d", time.Now().UnixNano())
	s := newSite(t, fmt.Sprintf("[log]\nmax_age = \"1d\"\n[default_route]\ntopic = %q\n", topic))
	if broker, ok := os.LookupEnv("KAFKA"); ok {
		s.addr = broker
	}
	var c wrongClock
	c.power()
	s.clock = &c
	s.start()
	var published []time.Time
	dev := s.connect("dev", 1)
	publish := func(n int) {
		t.Helper()
		for range n {
			published = append(published, time.Now())
			dev.publish(1, 0, uint16(len(published)), "plant/a/t", strconv.Itoa(len(published)))
			if head, _ := dev.packet(); head != 0x40 {
				t.Fatalf("got %x, want PUBACK", head)
			}
		}
	}
	forwarded := func(r status.Report) bool { return r.Uplink.Waiting == 0 && r.Uplink.State == "forwarding" }

	publish(5) // in 1970
	if r := s.Report(); r.Uplink.Sent != 0 {
		t.Errorf("%d records left with a time of 1970", r.Uplink.Sent)
	}
	c.set()
	publish(5)
	s.until("the records of 1970 and of now", forwarded)
	c.setBack(time.Hour)
	publish(5)
	s.until("the records of an hour ago", forwarded)
	s.end()

	c.power() // 1970 again: time goes on from the latest that is known
	s.start()
	dev = s.connect("dev", 1)
	publish(5)
	c.set()
	publish(1)
	s.until("the records of the second boot", forwarded)

	all := s.committed(topic, len(published))
	slices.SortFunc(all, func(a, b *kgo.Record) int { return cmp.Compare(a.Offset, b.Offset) })
	corrected := 0
	for i, r := range all {
		if string(r.Value) != strconv.Itoa(i+1) {
			t.Fatalf("record %d is %s", i+1, r.Value)
		}
		if off := r.Timestamp.Sub(published[i]).Abs(); off > time.Second {
			t.Errorf("record %d has the time %v, was published at %v", i+1, r.Timestamp, published[i])
		}
		if slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "tributary.time" }) {
			corrected++
		}
	}
	if len(all) != len(published) || corrected < 9 {
		t.Errorf("%d records, of which %d were put right; want %d and 10", len(all), corrected, len(published))
	}
}
