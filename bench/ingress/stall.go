package main

import (
	"context"
	"fmt"
	"time"

	pressure "github.com/tributary-edge/tributary/bench/load"
	"github.com/tributary-edge/tributary/bench/peer"
	"github.com/tributary-edge/tributary/bench/report"
)

// stalls is what one subscriber that does not read costs those who publish as fast
// as they can.
type stalls struct {
	without, with []float64 // messages a second
	cpu           []float64 // with it: seconds of the server per million messages
}

func (c *contest) stallRound(ctx context.Context, w int) {
	for i := range c.servers {
		s := c.servers[(i+w)%len(c.servers)]
		what := s.Name + ", " + stall
		if !fansOut(s.Name) || c.failures[what] != "" {
			continue
		}
		if c.stalls[s.Name] == nil {
			c.stalls[s.Name] = &stalls{}
		}
		if err := c.stalls[s.Name].add(ctx, s, c.options, w); err != nil && ctx.Err() == nil {
			delete(c.stalls, s.Name)
			c.fail(what, s, err)
		}
	}
}

// add takes a window without and one with a stalled subscriber, in turns.
func (r *stalls) add(ctx context.Context, s *peer.Server, o options, w int) error {
	for i := range 2 {
		stalled := (i + w) % 2
		f, err := pressure.Open(ctx, s.Plain, fmt.Sprintf("st%d-%d", w, stalled), many.Shape)
		if err != nil {
			return err
		}
		if stalled > 0 {
			if err := f.Stall(ctx, s.Plain, fmt.Sprintf("stalled%d", w), "bench/#"); err != nil {
				f.Close()
				return err
			}
		}
		var before, after time.Duration
		got, err := f.Measure(ctx, o.window/3, o.window, func() { before = s.CPU() }, func() { after = s.CPU() })
		if err != nil {
			return err
		}
		if stalled == 0 {
			r.without = append(r.without, got.PerSecond())
			continue
		}
		r.with = append(r.with, got.PerSecond())
		r.cpu = append(r.cpu, (after-before).Seconds()/float64(got.Messages)*1e6)
	}
	return nil
}

func (c *contest) stallTable() report.Table {
	t := report.Table{
		Title:  fmt.Sprintf("One QoS 1 subscriber of everything that never reads, %v as fast as it goes: messages/s", many),
		Header: []string{"server", "without", "with", "with / without", "CPU-s/million with"},
	}
	for _, s := range c.servers {
		r := c.stalls[s.Name]
		if r == nil || len(r.with) == 0 {
			continue
		}
		t.Rows = append(t.Rows, []string{
			s.Name, fmt.Sprintf("%.0f", report.Median(r.without)), fmt.Sprintf("%.0f", report.Median(r.with)),
			fmt.Sprintf("%.2f", report.MedianRatio(r.with, r.without)), fmt.Sprintf("%.2f", report.Median(r.cpu)),
		})
	}
	return t
}
