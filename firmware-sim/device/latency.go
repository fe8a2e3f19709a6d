package device

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in microseconds, exactly below 32 us and with
// an error below 1/32 above: each power of two is cut into 32 buckets. It has a
// fixed size. Its methods may be called at once.
type histogram struct {
	count   atomic.Int64
	max     atomic.Int64
	buckets [(maxOctave + 2) * subBuckets]atomic.Int64
}

const (
	subBits    = 5
	subBuckets = 1 << subBits
	maxOctave  = 31 // 2^37 us are 38 hours; more is counted as that
)

func bucketOf(us int64) int {
	if us < subBuckets {
		return int(max(us, 0))
	}
	octave := bits.Len64(uint64(us)) - subBits - 1
	if octave > maxOctave {
		return (maxOctave+2)*subBuckets - 1
	}
	return octave*subBuckets + int(us>>octave)
}

// upperBound returns the largest duration that a bucket counts.
func upperBound(bucket int) int64 {
	if bucket < 2*subBuckets {
		return int64(bucket)
	}
	octave := bucket/subBuckets - 1
	return (int64(bucket-octave*subBuckets)+1)<<octave - 1
}

func (h *histogram) add(d time.Duration) {
	us := d.Microseconds()
	h.count.Add(1)
	h.buckets[bucketOf(us)].Add(1)
	for {
		seen := h.max.Load()
		if us <= seen || h.max.CompareAndSwap(seen, us) {
			return
		}
	}
}

// A Latency says how long messages took, from the first byte of their first
// PUBLISH to PUBACK (QoS 1) or PUBCOMP (QoS 2), times without a connection
// included. Percentiles are upper bounds, by at most 1/32.
type Latency struct {
	Count              int64
	P50, P90, P99, Max time.Duration
}

func (h *histogram) latency() Latency {
	l := Latency{Count: h.count.Load(), Max: time.Duration(h.max.Load()) * time.Microsecond}
	l.P50, l.P90, l.P99 = h.quantile(0.5), h.quantile(0.9), h.quantile(0.99)
	return l
}

func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(q * float64(h.count.Load()))
	longest := h.max.Load()
	for b := range h.buckets {
		rank -= h.buckets[b].Load()
		if rank < 0 {
			return time.Duration(min(upperBound(b), longest)) * time.Microsecond
		}
	}
	return time.Duration(longest) * time.Microsecond
}
