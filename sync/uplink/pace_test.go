package uplink

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// R25: an owner that is fenced now and then, once in an hour and with nothing to send in
// between, comes back within seconds each time; one that is fenced again and again
// waits longer and longer, and never longer than half a minute.
func TestPauseAfterAFence(t *testing.T) {
	f := newForwarder(Config{}, &ledger{}, nil)
	for n := range 100 {
		if got := f.wait(kerr.ProducerFenced, time.Hour); got < 500*time.Millisecond || got > 2*time.Second {
			t.Fatalf("the %dth time in so many hours it waits %v", n, got)
		}
	}
	longest := time.Duration(0)
	for range 100 {
		longest = max(longest, f.wait(kerr.ProducerFenced, time.Second))
	}
	if longest < 10*time.Second || longest > 31*time.Second {
		t.Errorf("in a fight it waits %v at most", longest)
	}
}
