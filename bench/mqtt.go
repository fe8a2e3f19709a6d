package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tributary-edge/tributary/bench/load"
	"github.com/tributary-edge/tributary/bench/peer"
	"github.com/tributary-edge/tributary/bench/report"
)

const payloadBytes = 256

// shapes returns the ways in which brokers are pressed: by a site full of
// devices, by one fast device, and by one that waits for each acknowledgement.
func shapes() (many, one, slow load.Shape) {
	return load.Shape{Conns: 100, Window: 20, Size: payloadBytes, QoS: 1},
		load.Shape{Conns: 1, Window: 100, Size: payloadBytes, QoS: 1},
		load.Shape{Conns: 1, Window: 1, Size: payloadBytes, QoS: 1}
}

// A series is what one server did under one shape, a value per window.
type series struct {
	perSecond []float64
	p50, p99  []float64 // milliseconds
	cpu       []float64 // seconds of the server per million messages
}

// A contest is the servers and the disk, with all that was measured.
type contest struct {
	servers []*peer.Server
	disk    *peer.Disk
	results map[string]map[load.Shape]*series // by server name
	raw     map[load.Shape][]float64          // syncs per second, beside each window
}

// measureMQTT has all servers running and presses one at a time.
func measureMQTT(ctx context.Context, o options) (report.Report, error) {
	c, err := startAll(ctx, o)
	defer c.stop()
	if err != nil {
		return report.Report{}, err
	}
	many, one, slow := shapes()
	for w := range o.windows {
		for _, shape := range []load.Shape{many, one, slow} {
			fmt.Fprintf(o.log, "window %d of %d, %v\n", w+1, o.windows, shape)
			if err := c.round(ctx, o, w, shape); err != nil {
				return report.Report{}, err
			}
		}
	}
	return c.report(o), nil
}

// startAll starts the servers. What it returns is to be stopped, also when
// there is an error.
func startAll(ctx context.Context, o options) (*contest, error) {
	c := &contest{results: map[string]map[load.Shape]*series{}, raw: map[load.Shape][]float64{}}
	var err error
	if c.disk, err = peer.NewDisk(o.dir); err != nil {
		return c, err
	}
	for _, start := range []func(context.Context, string) (*peer.Server, error){startTributary, peer.Mosquitto, peer.NATS} {
		s, err := start(ctx, o.dir)
		if err != nil {
			return c, err
		}
		c.servers = append(c.servers, s)
		c.results[s.Name] = map[load.Shape]*series{}
	}
	return c, nil
}

// startTributary builds and starts a node whose Kafka is away.
func startTributary(ctx context.Context, dir string) (*peer.Server, error) {
	program := dir + "/tributary-program"
	if err := peer.BuildTributary(ctx, program); err != nil {
		return nil, err
	}
	port, err := peer.FreePort()
	if err != nil {
		return nil, err
	}
	return peer.Tributary(ctx, peer.Node{
		Program: program, Dir: dir, Topic: "bench", Brokers: fmt.Sprintf("127.0.0.1:%d", port),
	})
}

func (c *contest) stop() {
	for _, s := range c.servers {
		s.Stop()
	}
}

// round takes one window of each, beginning with another one every time.
func (c *contest) round(ctx context.Context, o options, w int, shape load.Shape) error {
	perSecond, _, err := c.disk.Measure(o.window / 2)
	if err != nil {
		return err
	}
	c.raw[shape] = append(c.raw[shape], perSecond)
	for i := range c.servers {
		s := c.servers[(i+w)%len(c.servers)]
		r := c.results[s.Name]
		if r[shape] == nil {
			r[shape] = &series{}
		}
		if err := r[shape].add(ctx, s, o.window, fmt.Sprintf("w%d", w), shape); err != nil {
			return fmt.Errorf("%s, %v: %w\n%s", s.Name, shape, err, s.Tail())
		}
	}
	return nil
}

// add presses s for one window.
func (r *series) add(ctx context.Context, s *peer.Server, window time.Duration, name string, shape load.Shape) error {
	fleet, err := load.Open(ctx, s.Plain, name, shape)
	if err != nil {
		return err
	}
	var before, after time.Duration
	got, err := fleet.Measure(ctx, window/4, window, func() { before = s.CPU() }, func() { after = s.CPU() })
	if err != nil {
		return err
	}
	milliseconds := func(q float64) float64 { return got.Latency.Quantile(q).Seconds() * 1000 }
	r.perSecond = append(r.perSecond, got.PerSecond())
	r.p50 = append(r.p50, milliseconds(.50))
	r.p99 = append(r.p99, milliseconds(.99))
	r.cpu = append(r.cpu, (after-before).Seconds()/float64(got.Messages)*1e6)
	return nil
}

func (c *contest) report(o options) report.Report {
	t := report.Table{
		Title: fmt.Sprintf("QoS 1, %d B, connections x window; medians of %d windows of %v, taken in turn",
			payloadBytes, o.windows, o.window),
		Header: []string{"load", "server", "ack after sync", "msg/s", "p50 ms", "p99 ms", "CPU-s/million"},
	}
	many, one, slow := shapes()
	for _, shape := range []load.Shape{many, one, slow} {
		for _, s := range c.servers {
			r := c.results[s.Name][shape]
			t.Rows = append(t.Rows, []string{
				shape.String(), s.Name, map[bool]string{true: "yes", false: "no"}[s.Durable],
				fmt.Sprintf("%.0f", report.Median(r.perSecond)), fmt.Sprintf("%.2f", report.Median(r.p50)),
				fmt.Sprintf("%.2f", report.Median(r.p99)), fmt.Sprintf("%.1f", report.Median(r.cpu)),
			})
		}
		t.Rows = append(t.Rows, []string{shape.String(), "4 KiB write + fdatasync", "", fmt.Sprintf("%.0f", report.Median(c.raw[shape])), "", "", ""})
	}
	ours := c.results["tributary"]
	return report.Report{
		Tables: []report.Table{t},
		Targets: []report.Target{
			report.AtLeast("100x20: tributary / mosquitto", report.MedianRatio(ours[many].perSecond, c.results["mosquitto"][many].perSecond), 2),
			report.AtLeast("100x20: tributary / nats", report.MedianRatio(ours[many].perSecond, c.results["nats-always"][many].perSecond), 20),
			report.AtLeast("1x100: tributary / raw fdatasync", report.MedianRatio(ours[one].perSecond, c.raw[one]), 20),
		},
	}
}
