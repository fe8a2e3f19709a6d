package load

import (
	"math/bits"
	"time"
)

// Values are kept to within 1/32: each power of two is cut into 32 buckets.
const (
	cuts     = 32
	cutsBits = 5
)

// A Histogram counts durations without keeping them. The zero value is empty.
type Histogram struct {
	counts [64 * cuts]uint32
	total  uint64
}

// Add counts one duration; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) { h.add(d, 1) }

func (h *Histogram) add(d time.Duration, n int) {
	h.counts[bucket(uint64(max(d, 0)))] += uint32(n)
	h.total += uint64(n)
}

// Quantile returns a duration that the share q of all counted ones do not
// exceed, too high by at most 1/32; 0 when nothing was counted.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		if seen += uint64(n); n > 0 && seen >= want {
			return time.Duration(upper(i))
		}
	}
	return 0
}

func bucket(v uint64) int {
	if v < cuts {
		return int(v)
	}
	shift := bits.Len64(v) - cutsBits - 1
	return shift*cuts + int(v>>shift)
}

// upper is the largest value of a bucket.
func upper(i int) uint64 {
	if i < 2*cuts {
		return uint64(i)
	}
	shift := i/cuts - 1
	return (uint64(i-shift*cuts)+1)<<shift - 1
}
