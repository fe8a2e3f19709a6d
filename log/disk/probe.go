package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Latency is how long a flush of one overwritten page took, over some of them.
type Latency struct {
	Flushes             int
	Mean, P50, P99, Max time.Duration
}

// ProbeFlush overwrites a page in a new file in root and flushes it, again and
// again: at most flushes times, for at most limit and until ctx ends, but at least
// once. The file has no name while it is used, so that nothing of it is left
// however this ends.
func ProbeFlush(ctx context.Context, root string, flushes int, limit time.Duration) (l Latency, err error) {
	f, err := os.CreateTemp(root, "probe-*")
	if err != nil {
		return l, fmt.Errorf("make a file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.Remove(f.Name()); err != nil {
		return l, fmt.Errorf("remove the file: %w", err)
	}
	page := make([]byte, pageBytes)
	if _, err := f.WriteAt(page, 0); err != nil {
		return l, fmt.Errorf("write: %w", err)
	}
	if err := f.Sync(); err != nil { // its block is there from now on, as in a segment
		return l, fmt.Errorf("flush: %w", err)
	}
	var took []time.Duration
	for begin := time.Now(); len(took) == 0 || len(took) < flushes && time.Since(begin) < limit && ctx.Err() == nil; {
		page[0]++
		if _, err := f.WriteAt(page, 0); err != nil {
			return l, fmt.Errorf("write: %w", err)
		}
		start := time.Now()
		if err := (file{f}).Sync(); err != nil {
			return l, fmt.Errorf("flush: %w", err)
		}
		took = append(took, time.Since(start))
	}
	return latencyOf(took), nil
}

// latencyOf summarises at least one duration.
func latencyOf(took []time.Duration) Latency {
	slices.Sort(took)
	n, sum := len(took), time.Duration(0)
	for _, d := range took {
		sum += d
	}
	return Latency{Flushes: n, Mean: sum / time.Duration(n), P50: took[(n-1)*50/100], P99: took[(n-1)*99/100], Max: took[n-1]}
}
