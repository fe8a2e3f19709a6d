// Package load presses MQTT brokers: it publishes with QoS 1 over many
// connections, keeps a fixed number of messages unacknowledged on each (a
// closed loop), and measures how long each PUBACK takes.
//
// It writes and reads MQTT 3.1.1 itself, in as few system calls as it can,
// because it shares the machine with the broker that is measured.
package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A Shape is how a broker is pressed: Conns connections, each with Window
// messages of Size bytes unacknowledged at any time.
type Shape struct {
	Conns, Window, Size int
}

// String returns connections x window.
func (s Shape) String() string { return fmt.Sprintf("%dx%d", s.Conns, s.Window) }

// A Result is what was acknowledged during one window, and how fast.
type Result struct {
	Messages int64
	Elapsed  time.Duration
	Latency  Histogram // from the write of a PUBLISH to the read of its PUBACK
}

// PerSecond is the rate of acknowledged messages.
func (r *Result) PerSecond() float64 { return float64(r.Messages) / r.Elapsed.Seconds() }

// The phases of a run. Only what is acknowledged while measuring counts.
const (
	warming int32 = iota
	measuring
	draining
)

// slack is how much longer than planned a run may take before its connections
// time out.
const slack = 60 * time.Second

// A Fleet is a set of connections that publish together. It is used once.
type Fleet struct {
	shape  Shape
	conns  []*conn
	phase  atomic.Int32
	budget atomic.Int64 // messages that may still be sent
}

// Open connects a fleet. Client ids begin with name.
func Open(ctx context.Context, addr, name string, shape Shape) (*Fleet, error) {
	f := &Fleet{shape: shape}
	for i := range shape.Conns {
		c, err := dial(ctx, addr, fmt.Sprintf("%s-%d", name, i), true)
		if err != nil {
			f.Close()
			return nil, err
		}
		c.prepare(rand.New(rand.NewPCG(1, uint64(i))), fmt.Sprintf("bench/%s/%d", name, i), shape.Size)
		f.conns = append(f.conns, c)
	}
	return f, nil
}

// Measure publishes for warm and then for window, returns what was
// acknowledged during window, and closes the fleet. The server is calm when it
// returns: everything that was sent has been acknowledged. During the window
// it calls begin and end, which may be nil, to let the caller read counters.
func (f *Fleet) Measure(ctx context.Context, warm, window time.Duration, begin, end func()) (Result, error) {
	f.budget.Store(math.MaxInt64)
	done := f.start(warm + window)
	var start time.Time
	var elapsed time.Duration
	err := wait(ctx, done, warm)
	if err == nil {
		call(begin)
		start = time.Now()
		f.phase.Store(measuring)
		err = wait(ctx, done, window)
		f.phase.Store(draining)
		elapsed = time.Since(start)
		call(end)
	}
	f.phase.Store(draining)
	if err != nil {
		f.Close()
		return Result{}, errors.Join(err, <-done)
	}
	if err := <-done; err != nil {
		return Result{}, err
	}
	total := Result{Elapsed: elapsed}
	for _, c := range f.conns {
		total.Messages += c.acked
		total.Latency.Merge(&c.latency)
	}
	return total, nil
}

// Feed publishes exactly total messages, returns when all are acknowledged,
// and closes the fleet.
func (f *Fleet) Feed(total int64) error {
	f.budget.Store(total)
	return <-f.start(10 * time.Minute)
}

// Close ends all connections at once.
func (f *Fleet) Close() {
	for _, c := range f.conns {
		_ = c.net.Close()
	}
}

// start lets every connection publish. The channel gets the first error, or
// nil, once all have finished.
func (f *Fleet) start(planned time.Duration) <-chan error {
	errs := make([]error, len(f.conns))
	var all sync.WaitGroup
	for i, c := range f.conns {
		all.Go(func() { errs[i] = c.publish(f, time.Now().Add(planned+slack)) })
	}
	done := make(chan error, 1)
	go func() {
		all.Wait()
		f.Close()
		for _, err := range errs {
			if err != nil {
				done <- err
				break
			}
		}
		close(done)
	}()
	return done
}

// wait lets d pass. Connections that end before that have failed: their budget
// is larger than any window.
func wait(ctx context.Context, done <-chan error, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case err := <-done:
		return fmt.Errorf("connections ended early: %w", err)
	}
}

func call(f func()) {
	if f != nil {
		f()
	}
}
