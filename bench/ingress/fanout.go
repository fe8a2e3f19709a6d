package main

import (
	"context"
	"fmt"
	"time"

	pressure "github.com/tributary-edge/tributary/bench/load"
	"github.com/tributary-edge/tributary/bench/peer"
)

// fanouts is what one subscriber of everything costs a server that is pressed
// at a fixed rate.
type fanouts struct {
	without, with []float64 // seconds of the server per million messages
	more          []float64 // the difference in each turn
	perSecond     []float64 // with a subscriber
	delivered     []float64 // of a hundred messages
}

// fansOut says who delivers, and can keep up with a rate that makes sense.
func fansOut(name string) bool {
	return name != natsAlways && name != limit && name != mosquittoAutosave
}

func (c *contest) fanoutRound(ctx context.Context, w int) {
	for i := range c.servers {
		s := c.servers[(i+w)%len(c.servers)]
		what := s.Name + ", " + fanout
		if !fansOut(s.Name) || c.failures[what] != "" {
			continue
		}
		if c.extra[s.Name] == nil {
			c.extra[s.Name] = &fanouts{}
		}
		if err := c.extra[s.Name].add(ctx, s, c.options, w); err != nil && ctx.Err() == nil {
			delete(c.extra, s.Name)
			c.fail(what, s, err)
		}
	}
}

// add takes a window without and one with a subscriber, in turns.
func (r *fanouts) add(ctx context.Context, s *peer.Server, o options, w int) error {
	var cpu [2]float64 // without, with
	for i := range 2 {
		subscribers := (i + w) % 2
		f, err := pressure.Open(ctx, s.Plain, fmt.Sprintf("f%d-%d", w, subscribers), many.Shape)
		if err != nil {
			return err
		}
		f.Rate = o.rate
		if subscribers > 0 {
			if err := f.Subscribe(ctx, s.Plain, fmt.Sprintf("sub%d", w), "bench/#"); err != nil {
				f.Close()
				return err
			}
		}
		var before, after time.Duration
		got, err := f.Measure(ctx, o.window/3, o.window, func() { before = s.CPU() }, func() { after = s.CPU() })
		if err != nil {
			return err
		}
		n := float64(got.Messages)
		cpu[subscribers] = (after - before).Seconds() / n * 1e6
		if subscribers > 0 {
			r.perSecond = append(r.perSecond, got.PerSecond())
			r.delivered = append(r.delivered, float64(got.Delivered)/n*100)
		}
	}
	r.without, r.with = append(r.without, cpu[0]), append(r.with, cpu[1])
	r.more = append(r.more, cpu[1]-cpu[0])
	return nil
}
