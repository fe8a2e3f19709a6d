package load

import (
	"testing"
	"time"
)

func TestBucketBounds(t *testing.T) {
	for _, v := range []uint64{0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 1000, 1 << 20, 1<<40 + 12345, 1<<63 - 1} {
		i := bucket(v)
		if up := upper(i); up < v || float64(up) > float64(v)*(1+1./cuts) {
			t.Errorf("%d is in bucket %d, whose largest value is %d", v, i, up)
		}
		if i > 0 && upper(i-1) >= v {
			t.Errorf("%d is in bucket %d, but fits into the one below", v, i)
		}
	}
}

func TestQuantile(t *testing.T) {
	var h Histogram
	for i := range 1000 {
		h.Add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		got := h.Quantile(q)
		if got < want || got > want+want/cuts {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
}
