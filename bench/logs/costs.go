package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/disk/loopdisk"
	"github.com/tributary-edge/tributary/log/store"

	"github.com/tributary-edge/tributary/bench/logs/ours"
	"github.com/tributary-edge/tributary/bench/report"
)

// measureCosts counts what our own log costs the device and the processor.
func measureCosts(ctx context.Context, o options) (r report.Report, err error) {
	for _, measure := range []func(context.Context, options) ([]report.Target, error){measureDevice, measureAppends} {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		targets, err := measure(ctx, o)
		if err != nil {
			return r, err
		}
		r.Targets = append(r.Targets, targets...)
	}
	return r, nil
}

// withLog calls f with an open log in a new directory, and removes it.
func withLog(ctx context.Context, o options, opt store.Options, noSync bool, f func(l *ours.Log) error) (err error) {
	dir := filepath.Join(o.disk.Dir, "ours")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fs, err := disk.Dir(dir)
	if err != nil {
		return err
	}
	l, err := ours.Start(ctx, &disktest.Meter{FS: fs, NoSync: noSync}, opt, false, nil)
	if err != nil {
		return err
	}
	return errors.Join(f(l), l.Close())
}

// measureDevice counts what reaches the device, for groups of an exact size.
func measureDevice(ctx context.Context, o options) (targets []report.Target, err error) {
	fmt.Fprintln(o.log, "counting flushes and bytes")
	blank := make([]byte, ours.Bytes)
	for _, c := range []struct {
		size, groups int
		compress     bool
		value        func(i int) []byte
		most         float64
	}{
		{1, 500, false, func(int) []byte { return blank }, 0},
		{400, 100, false, func(int) []byte { return blank }, 1.1},
		{20, 500, true, ours.Telemetry, 1.5},
		{200, 100, true, ours.Telemetry, .25},
	} {
		err := withLog(ctx, o, store.Options{Compress: c.compress}, false, func(l *ours.Log) error {
			if _, err := l.Together(c.size, 5, c.value); err != nil { // the first segments are made
				return err
			}
			device, commits, payload, err := counted(ctx, o.disk, l, c.size, c.groups, c.value)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("groups of %d, zstd %v: ", c.size, c.compress)
			if c.groups >= 500 {
				// The journal is written every 5 seconds, which is a flush or two of another kind.
				flushes := math.Round(100*float64(device.Flushes)/float64(commits)) / 100
				targets = append(targets, report.AtMost(name+"flushes per commit", flushes, 1))
			}
			if c.most > 0 {
				bytes := float64(device.Bytes) / float64(payload)
				targets = append(targets, report.AtMost(name+"device bytes per payload byte", bytes, c.most))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return targets, nil
}

// counted appends groups and returns what the device did, and how many commits
// and bytes of payload that was.
func counted(ctx context.Context, d *loopdisk.Disk, l *ours.Log, size, groups int, value func(i int) []byte) (c loopdisk.Counts, commits, payload int64, err error) {
	before, err := calm(ctx, d)
	if err != nil {
		return c, 0, 0, err
	}
	done := l.Stats().Groups
	if payload, err = l.Together(size, groups, value); err != nil {
		return c, 0, 0, err
	}
	after, err := d.Counts()
	return after.Sub(before), l.Stats().Groups - done, payload, err
}

// calm returns what the device has done when it rests: the segment after the
// first is filled with zeros beside the first commits.
func calm(ctx context.Context, d *loopdisk.Disk) (loopdisk.Counts, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last loopdisk.Counts
	for {
		now, err := d.Counts()
		if err != nil {
			return now, err
		}
		if now == last {
			break
		}
		last = now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
	if err := d.Sync(); err != nil { // it is a flush itself
		return last, err
	}
	return d.Counts()
}

// measureAppends takes the rate of appends that nobody waits for, with flushes
// that cost nothing, and what they allocate. The best window counts: others can
// only take processor time away, and there is nothing beside to compare with.
func measureAppends(ctx context.Context, o options) (targets []report.Target, err error) {
	const appenders, each = 2, 500_000
	fmt.Fprintln(o.log, "appending without flushes")
	var perSecond, allocations []float64
	value := make([]byte, ours.Bytes)
	err = withLog(ctx, o, store.Options{}, true, func(l *ours.Log) error {
		for round := range o.rounds + 1 {
			var all sync.WaitGroup
			var failed [appenders]error
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			for g := range appenders {
				all.Go(func() {
					for i := 0; i < each && failed[g] == nil; i++ {
						failed[g] = l.Put(value, tributary.Ticket{})
					}
				})
			}
			all.Wait()
			for _, err := range failed {
				if err != nil {
					return err
				}
			}
			if err := l.Drain(int64(l.Next())); err != nil {
				return err
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if round > 0 { // buffers and the ring grow in the first
				perSecond = append(perSecond, appenders*each/took.Seconds())
				allocations = append(allocations, float64(after.Mallocs-before.Mallocs)/(appenders*each))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []report.Target{
		report.AtLeast("appends per second, without flushes, 2 goroutines; the best window", slices.Max(perSecond), 2e6),
		report.AtMost("allocations per append", report.Median(allocations), .05),
	}, nil
}
