package store

import (
	"math/bits"
	"time"
)

// A spread knows how durations of the last half minute to minute are distributed,
// to within an eighth, in a fixed 4 kB. The zero value is ready.
type spread struct {
	turned      time.Time // when now began
	now, before [spreadSteps]uint32
}

const (
	spreadSteps  = 512
	spreadEighth = 3                // bits: each power of two has eight steps
	spreadTurn   = 30 * time.Second // two of these are looked at
)

// add counts a duration that n records or flushes took.
func (s *spread) add(at time.Time, took time.Duration, n int) {
	s.turn(at)
	s.now[step(took)] += uint32(n)
}

// turn forgets what is older than two turns.
func (s *spread) turn(at time.Time) {
	age := at.Sub(s.turned)
	if age < spreadTurn {
		return
	}
	s.before = s.now
	if age >= 2*spreadTurn {
		s.before = [spreadSteps]uint32{}
	}
	s.now, s.turned = [spreadSteps]uint32{}, at
}

// below returns the duration that a part of all, from 0 to 1, do not exceed; 0 if
// there are none.
func (s *spread) below(at time.Time, part float64) time.Duration {
	s.turn(at)
	total := 0.0
	for i := range s.now {
		total += float64(s.now[i]) + float64(s.before[i])
	}
	if total == 0 {
		return 0
	}
	sum := 0.0
	for i := range s.now {
		if sum += float64(s.now[i]) + float64(s.before[i]); sum >= part*total {
			return ceiling(i)
		}
	}
	return ceiling(spreadSteps - 1)
}

// step is where a duration is counted: in microseconds, its power of two and the
// three digits behind the first.
func step(d time.Duration) int {
	us := uint64(max(0, d.Microseconds()))
	if us < 1<<spreadEighth {
		return int(us)
	}
	power := bits.Len64(us) - 1 - spreadEighth
	return min(spreadSteps-1, (power+1)<<spreadEighth+int(us>>power)&(1<<spreadEighth-1))
}

// ceiling is the longest duration of a step.
func ceiling(i int) time.Duration {
	if i < 1<<spreadEighth {
		return time.Duration(i) * time.Microsecond
	}
	power, rest := i>>spreadEighth-1, i&(1<<spreadEighth-1)
	return time.Duration((1<<spreadEighth+rest+1)<<power-1) * time.Microsecond
}
