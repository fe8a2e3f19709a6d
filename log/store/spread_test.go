package store

import (
	"testing"
	"time"
)

// Every duration is counted where it belongs: in a step whose longest is at most an
// eighth above it, and never below.
func TestSpreadSteps(t *testing.T) {
	for us := int64(0); us < 1<<40; us += 1 + us/7 {
		d := time.Duration(us) * time.Microsecond
		got := ceiling(step(d))
		if got < d || got > d+d/8 {
			t.Fatalf("%v is counted as %v", d, got)
		}
	}
	if step(1<<62) >= spreadSteps || step(-1) != 0 {
		t.Error("out of the table")
	}
}

func TestSpread(t *testing.T) {
	var s spread
	start := time.Unix(1e9, 0)
	if got := s.below(start, 0.5); got != 0 {
		t.Errorf("%v of nothing", got)
	}
	s.add(start, time.Millisecond, 98)
	s.add(start, 40*time.Millisecond, 2)
	for part, want := range map[float64]time.Duration{0.5: time.Millisecond, 0.98: time.Millisecond, 0.99: 40 * time.Millisecond} {
		if got := s.below(start, part); got < want || got > want+want/8 {
			t.Errorf("%v: %v, want %v", part, got, want)
		}
	}
	s.add(start.Add(31*time.Second), time.Second, 1) // the others are of the turn before
	if got := s.below(start.Add(31*time.Second), 0.5); got > 2*time.Millisecond {
		t.Errorf("half a minute later %v", got)
	}
	if got := s.below(start.Add(62*time.Second), 0.5); got < time.Second {
		t.Errorf("a minute later %v", got)
	}
	if got := s.below(start.Add(5*time.Minute), 0.5); got != 0 {
		t.Errorf("five minutes later %v", got)
	}
}
