package report

import (
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
	if got := MedianRatio([]float64{10, 40, 90}, []float64{5, 10, 30}); got != 3 {
		t.Errorf("median ratio %v, want 3", got)
	}
}

func TestTargets(t *testing.T) {
	r := Report{Targets: []Target{AtLeast("speed", 2, 2), AtMost("size", 20, 20)}}
	if !r.Met() {
		t.Error("a bound that is just kept counts as missed")
	}
	r.Targets = append(r.Targets, AtMost("memory", 25.1, 25))
	if r.Met() {
		t.Error("a missed bound was not noticed")
	}
	var out strings.Builder
	if err := r.Print(&out, false); err != nil || !strings.Contains(out.String(), "MISSED") {
		t.Errorf("printed %q, %v", out.String(), err)
	}
}
