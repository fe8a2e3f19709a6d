package uplink

import (
	"testing"
	"time"
)

// What Pace says counts, within the least that a load must have room for.
func TestPaceReplacesLinger(t *testing.T) {
	c := &Config{Linger: time.Hour, BatchBytes: 1 << 20}
	if c.linger() != time.Hour || c.batchBytes() != 1<<20 {
		t.Errorf("%v, %d without a Pace", c.linger(), c.batchBytes())
	}
	c.Pace = func() (time.Duration, int) { return time.Second, 1 << 10 }
	if c.linger() != time.Second || c.batchBytes() != minRoom {
		t.Errorf("%v, %d", c.linger(), c.batchBytes())
	}
}
