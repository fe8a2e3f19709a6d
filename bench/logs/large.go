package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/segment"
	"github.com/tributary-edge/tributary/log/store"

	"github.com/tributary-edge/tributary/bench/logs/ours"
	"github.com/tributary-edge/tributary/bench/report"
)

// A log of 1 GB: groups of 100 records take 7 pages each, 438 of them a segment
// of 12 MiB, and the newest of 85 segments is half full.
const (
	largeGroup  = 100
	largeGroups = 84*438 + 219
)

// measureLarge scans and opens a log of 1 GB.
func measureLarge(ctx context.Context, o options) (r report.Report, err error) {
	fmt.Fprintln(o.log, "writing a log of 1 GB")
	dir := filepath.Join(o.disk.Dir, "large")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	host, err := disk.Dir(dir)
	if err != nil {
		return r, err
	}
	fs := &disktest.Meter{FS: host, NoSync: true}
	if err := enlarge(ctx, fs, largeGroups); err != nil {
		return r, err
	}
	r.Targets, err = scanAll(o, host)
	if err != nil {
		return r, err
	}
	half, err := restart(ctx, fs)
	if err != nil {
		return r, err
	}
	if err := enlarge(ctx, fs, 217); err != nil { // and one of one record
		return r, err
	}
	full, err := restart(ctx, fs)
	if err != nil {
		return r, err
	}
	opened, used, err := openAlone(ctx, o, dir)
	const mib = 1 << 20
	r.Targets = append(r.Targets,
		report.AtMost("MiB read at a start, log of 1 GB, newest segment full", full/mib, 16),
		report.AtMost("memory (RSS) of a process with only an open log of 1 GB, MB", opened/1e6, 10))
	r.Tables = []report.Table{{
		Title:  "A log of 1 GB",
		Header: []string{"", ""},
		Rows: [][]string{
			{"MiB read at a start, newest segment half full", fmt.Sprintf("%.2f", half/mib)},
			{"the same, newest segment full: the worst case", fmt.Sprintf("%.2f", full/mib)},
			{"MB resident in a process that has opened it", fmt.Sprintf("%.2f", opened/1e6)},
			{"the same, after 100,000 appends by 100 goroutines", fmt.Sprintf("%.2f", used/1e6)},
		},
	}}
	return r, err
}

func large() store.Options { return store.Options{MaxBytes: 2 << 30} }

// enlarge appends groups to the log in fs.
func enlarge(ctx context.Context, fs disk.FS, groups int) error {
	l, err := ours.Start(ctx, fs, large(), true, nil)
	if err != nil {
		return err
	}
	value := make([]byte, ours.Bytes)
	if _, err := l.Together(largeGroup, groups, func(int) []byte { return value }); err != nil {
		return err
	}
	return l.Close()
}

// restart opens the log and returns how many bytes were read for it.
func restart(ctx context.Context, fs *disktest.Meter) (read float64, err error) {
	fs.Read.Store(0)
	l, err := ours.Start(ctx, fs, large(), true, nil)
	if err != nil {
		return 0, err
	}
	read = float64(fs.Read.Load())
	return read, l.Close()
}

// scanAll reads all segments as a recovery does that finds no footers: ten
// times, the first for the page cache. The best counts; see measureAppends.
func scanAll(o options, fs disk.FS) ([]report.Target, error) {
	names, err := fs.List()
	if err != nil {
		return nil, err
	}
	var seconds []float64
	for pass := range 10 {
		start := time.Now()
		var bytes int64
		for _, name := range names {
			n, err := scan(fs, name)
			if err != nil {
				return nil, err
			}
			bytes += n
		}
		took := time.Since(start).Seconds()
		fmt.Fprintf(o.log, "pass %d: scanned %d bytes in %.3f s\n", pass, bytes, took)
		if pass > 0 {
			seconds = append(seconds, took/float64(bytes)*1e9)
		}
	}
	return []report.Target{report.AtMost("seconds for a scan with checksums of 1 GB of log, in memory; the best", slices.Min(seconds), .5)}, nil
}

func scan(fs disk.FS, name string) (int64, error) {
	seq, _, ok := segment.ParseName(name)
	if !ok {
		return 0, nil
	}
	f, err := fs.Open(name, false)
	if err != nil {
		return 0, err
	}
	s, err := segment.Open(f, seq)
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	found, err := s.Scan(0, nil)
	return found.End - segment.HeaderBytes, errors.Join(err, f.Close())
}

// openAlone has a process of its own open the log, and returns its resident
// memory, in bytes: once at the beginning, and once after many appends.
func openAlone(ctx context.Context, o options, dir string) (opened, used float64, err error) {
	fmt.Fprintln(o.log, "opening it in a process of its own")
	program := filepath.Join(o.disk.Dir, "openlog-program")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./logs/openlog")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("build openlog: %w\n%s", err, out)
	}
	out, err := exec.CommandContext(ctx, program, dir).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("openlog: %w", err)
	}
	_, err = fmt.Sscan(string(out), &opened, &used)
	return opened, used, err
}
