package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary/log/disk/loopdisk"

	"github.com/tributary-edge/tributary/bench/logs/ours"
	"github.com/tributary-edge/tributary/bench/logs/rival"
	"github.com/tributary-edge/tributary/bench/report"
)

// crowd is how many goroutines append at once in the second half of a turn; in
// the first it is one. Each waits for its acknowledgement.
const crowd = 100

// A contestant is a store with what was measured of it: [0] with one appender,
// [1] with a crowd.
type contestant struct {
	*rival.Store

	results [2]series
}

// A series has a value per turn. Those of the bare disk are from the window
// right before.
type series struct {
	perSecond, p50       []float64 // p50 in µs
	rawPerSecond, rawP50 []float64
	deviceBytes, flushes []float64 // for each byte of payload, and for each record
}

// measureContest opens all contestants and lets them take turns.
func measureContest(ctx context.Context, o options) (r report.Report, err error) {
	fmt.Fprintln(o.log, "opening all contestants")
	all, raw, err := enter(ctx, o.disk.Dir)
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.Close())
		}
	}()
	if err != nil {
		return r, err
	}
	values := ours.Values(5000)
	rng := rand.New(rand.NewPCG(o.seed, 0))
	turns := slices.Clone(all)
	for round := range o.rounds + 1 { // nothing is kept of the first: files and buffers grow
		fmt.Fprintf(o.log, "round %d of %d\n", round, o.rounds)
		for i, appenders := range []int{1, crowd} {
			rng.Shuffle(len(turns), func(a, b int) { turns[a], turns[b] = turns[b], turns[a] })
			for _, c := range turns {
				if err := ctx.Err(); err != nil {
					return r, err
				}
				if err := c.turn(o, raw, appenders, values, &c.results[i]); err != nil {
					return r, fmt.Errorf("%s: %w", c.Name, err)
				}
				if round == 0 {
					c.results[i] = series{}
				}
			}
		}
	}
	return result(o, all), nil
}

// enter opens every contestant in a directory of its own. What it returns is to
// be closed, also when there is an error.
func enter(ctx context.Context, parent string) (all []*contestant, raw *rival.Store, err error) {
	for i, open := range append(rival.All(), rival.Raw) {
		dir := filepath.Join(parent, fmt.Sprint("contestant-", i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return all, nil, err
		}
		s, err := open(ctx, dir)
		if err != nil {
			return all, nil, err
		}
		all, raw = append(all, &contestant{Store: s}), s
	}
	return all, raw, nil
}

// turn takes half a window of the bare disk, and then one of c. What the
// contestant before has left to be written is written first: else it would slow
// down the disk, and make the next one look good beside it.
func (c *contestant) turn(o options, raw *rival.Store, appenders int, values [][]byte, s *series) error {
	if c.Store == raw {
		appenders = 1
	}
	if err := o.disk.Sync(); err != nil {
		return err
	}
	beside, err := press(raw, 1, o.window/2, values)
	if err != nil {
		return err
	}
	before, err := o.disk.Counts()
	if err != nil {
		return err
	}
	w, err := press(c.Store, appenders, o.window, values)
	if err != nil {
		return err
	}
	after, err := o.disk.Counts()
	if err != nil {
		return err
	}
	s.add(w, beside, after.Sub(before))
	return nil
}

func (s *series) add(w, raw window, device loopdisk.Counts) {
	s.perSecond, s.p50 = append(s.perSecond, w.perSecond()), append(s.p50, w.p50())
	s.rawPerSecond, s.rawP50 = append(s.rawPerSecond, raw.perSecond()), append(s.rawP50, raw.p50())
	n := float64(len(w.took))
	s.deviceBytes = append(s.deviceBytes, float64(device.Bytes)/(n*ours.Bytes))
	s.flushes = append(s.flushes, float64(device.Flushes)/n)
}

// A window is what happened in one: how long each append took, sorted.
type window struct {
	took  []time.Duration
	whole time.Duration
}

func (w window) perSecond() float64 { return float64(len(w.took)) / w.whole.Seconds() }
func (w window) p50() float64       { return float64(w.took[len(w.took)/2].Nanoseconds()) / 1e3 }

// press has so many goroutines append, each waiting for every acknowledgement.
func press(s *rival.Store, appenders int, length time.Duration, values [][]byte) (window, error) {
	runtime.GC() // what others left behind is not to be cleared away in this window
	took, errs := make([][]time.Duration, appenders), make([]error, appenders)
	var over atomic.Bool
	var all sync.WaitGroup
	start := time.Now()
	timer := time.AfterFunc(length, func() { over.Store(true) })
	defer timer.Stop()
	for g := range appenders {
		all.Go(func() {
			for i := g * 31; !over.Load() && errs[g] == nil; i++ {
				begin := time.Now()
				errs[g] = s.Append(values[i%len(values)])
				took[g] = append(took[g], time.Since(begin))
			}
		})
	}
	all.Wait()
	w := window{slices.Concat(took...), time.Since(start)}
	slices.Sort(w.took)
	if err := errors.Join(errs...); err != nil {
		return w, err
	}
	if len(w.took) == 0 {
		return w, errors.New("not one append in a window: make -window longer")
	}
	return w, nil
}
