package disk

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestProbeFlush(t *testing.T) {
	root := t.TempDir()
	l, err := ProbeFlush(t.Context(), root, 20, time.Minute)
	if err != nil || l.Flushes != 20 || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max {
		t.Errorf("%+v, %v", l, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	for name, ctx := range map[string]context.Context{"no time": t.Context(), "ended": ended} {
		limit := map[string]time.Duration{"no time": 0, "ended": time.Minute}[name]
		if l, err := ProbeFlush(ctx, root, 20, limit); err != nil || l.Flushes != 1 {
			t.Errorf("%s: %+v, %v; want one flush", name, l, err)
		}
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	if _, err := ProbeFlush(t.Context(), filepath.Join(root, "missing"), 20, time.Minute); err == nil {
		t.Error("a folder that is not there was probed")
	}
}

func TestLatencyOf(t *testing.T) {
	var took []time.Duration
	for i := range 200 {
		took = append(took, time.Duration(200-i)*time.Millisecond)
	}
	if got, want := latencyOf(took), (Latency{200, 100*time.Millisecond + 500*time.Microsecond, 100 * time.Millisecond, 198 * time.Millisecond, 200 * time.Millisecond}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
