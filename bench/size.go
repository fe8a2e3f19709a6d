package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tributary-edge/tributary/bench/peer"
	"github.com/tributary-edge/tributary/bench/report"
)

// Megabytes are powers of ten for files, as shops and file listings have
// them, and so are those of memory.
const megabyte = 1e6

// settle is how long an idle node is watched; the largest memory counts.
const settle = 10 * time.Second

// measureSize builds for the gateway and watches a node that nobody uses.
func measureSize(ctx context.Context, o options) (report.Report, error) {
	program := filepath.Join(o.dir, "tributary-arm64")
	if err := peer.BuildTributary(ctx, program, "GOOS=linux", "GOARCH=arm64"); err != nil {
		return report.Report{}, err
	}
	info, err := os.Stat(program)
	if err != nil {
		return report.Report{}, err
	}
	s, err := startTributary(ctx, o.dir)
	if err != nil {
		return report.Report{}, err
	}
	defer s.Stop()
	fmt.Fprintf(o.log, "watching an idle node for %v\n", settle)
	var rss int64
	for end := time.Now().Add(settle); time.Now().Before(end); {
		rss = max(rss, s.RSS())
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return report.Report{}, ctx.Err()
		}
	}
	return report.Report{Targets: []report.Target{
		report.AtMost("binary for arm64, stripped, MB", float64(info.Size())/megabyte, 20),
		report.AtMost("memory of an idle node (RSS), MB", float64(rss)/megabyte, 25),
	}}, nil
}
