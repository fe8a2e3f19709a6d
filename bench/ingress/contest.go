package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	pressure "github.com/tributary-edge/tributary/bench/load"
	"github.com/tributary-edge/tributary/bench/peer"
)

// Names of servers that are treated unlike others, or that targets are about.
const (
	tributary         = "tributary"
	before            = "before" // another build of it
	limit             = "limit"
	mosquitto         = "mosquitto"
	mosquittoAutosave = "mosquitto-1s"
	natsAlways        = "nats-always"
)

// A series is what one server did under one load. Values with the same index
// were taken in the same turn.
type series struct {
	perSecond []float64
	p50, p99  []float64 // milliseconds
	cpu       []float64 // seconds of the server per million messages
	ownCPU    []float64 // the same of the generator
}

// A place is a server under a load.
type place struct {
	server string
	load   load
}

// A contest is the servers and the disk, with all that was measured.
type contest struct {
	options

	servers  []*peer.Server
	starters []starter // of servers
	disk     *peer.Disk
	results  map[place]*series
	syncs    map[load][]float64 // a second, of the bare disk, beside each window
	sync50   map[load][]float64 // milliseconds
	idleKB   map[string]float64 // per connection
	extra    map[string]*fanouts
	stalls   map[string]*stalls
	failures map[string]string // why something was given up, by what it was
	missing  []string          // what was not measured
}

// startAll starts the servers. What it returns is to be stopped, also when
// there is an error.
func startAll(ctx context.Context, o options) (c *contest, err error) {
	c = &contest{
		options: o, results: map[place]*series{}, syncs: map[load][]float64{}, sync50: map[load][]float64{},
		idleKB: map[string]float64{}, extra: map[string]*fanouts{}, stalls: map[string]*stalls{}, failures: map[string]string{},
	}
	if c.disk, err = peer.NewDisk(o.dir); err != nil {
		return c, err
	}
	cert, err := peer.NewCertificate(o.dir)
	if err != nil {
		return c, err
	}
	all := starters(o, cert)
	wanted := strings.Split(o.servers, ",")
	for _, w := range wanted {
		if o.servers != "" && !slices.ContainsFunc(all, func(a starter) bool { return a.name == w }) {
			return c, fmt.Errorf("there is no server %q", w)
		}
	}
	for _, a := range all {
		if o.servers != "" && !slices.Contains(wanted, a.name) {
			continue
		}
		fmt.Fprintf(o.log, "starting %s\n", a.name)
		s, err := a.start(ctx, o.dir)
		if err != nil {
			return c, err
		}
		c.servers, c.starters = append(c.servers, s), append(c.starters, a)
	}
	return c, nil
}

// A starter starts a server, which has the same name.
type starter struct {
	name  string
	start func(ctx context.Context, dir string) (*peer.Server, error)
}

func starters(o options, cert *peer.Certificate) []starter {
	all := []starter{
		{tributary, func(ctx context.Context, dir string) (*peer.Server, error) {
			program := dir + "/tributary-program"
			if err := peer.BuildTributary(ctx, program); err != nil {
				return nil, err
			}
			return startTributary(ctx, tributary, program, dir, o.compression, cert)
		}},
		{limit, func(ctx context.Context, dir string) (*peer.Server, error) {
			return peer.Limit(ctx, dir, o.compression)
		}},
		{mosquitto, func(ctx context.Context, dir string) (*peer.Server, error) { return peer.MosquittoTLS(ctx, dir, cert) }},
		{mosquittoAutosave, peer.MosquittoAutosave},
		{natsAlways, peer.NATS},
		{"nats", peer.NATSDefault},
		{"mochi", peer.Mochi},
	}
	if o.before != "" {
		all = slices.Insert(all, 1, starter{before, func(ctx context.Context, dir string) (*peer.Server, error) {
			return startTributary(ctx, before, o.before, dir, o.compression, cert)
		}})
	}
	return all
}

// startTributary starts a node whose Kafka is away.
func startTributary(ctx context.Context, name, program, dir, compression string, cert *peer.Certificate) (*peer.Server, error) {
	away, err := peer.FreeAddr()
	if err != nil {
		return nil, err
	}
	return peer.Tributary(ctx, peer.Node{
		Name: name, Program: program, Dir: dir, Topic: "bench", Brokers: away, Compression: compression, Pressed: true, Certificate: cert,
	})
}

// renew starts those anew that write to our log, so that it never gets full.
func (c *contest) renew(ctx context.Context) error {
	for i, s := range c.servers {
		if s.Name != tributary && s.Name != before && s.Name != limit {
			continue
		}
		s.Stop()
		again, err := c.starters[i].start(ctx, c.dir)
		if err != nil {
			return err
		}
		c.servers[i] = again
	}
	return nil
}

func (c *contest) stop() {
	for _, s := range c.servers {
		s.Stop()
	}
}

// fail gives up what could not be measured, loudly, and not the rest.
func (c *contest) fail(what string, s *peer.Server, err error) {
	fmt.Fprintf(c.log, "%s FAILED: %v\n%s\n", what, err, s.Tail())
	if c.failures[what] == "" {
		c.failures[what] = err.Error()
		c.missing = append(c.missing, what+": "+err.Error())
	}
}

// round takes one window of each server, beginning with another one every time.
func (c *contest) round(ctx context.Context, w int, l load) error {
	for i := range c.servers {
		s := c.servers[(i+w)%len(c.servers)]
		what := fmt.Sprintf("%s, %v", s.Name, l)
		if c.failures[what] != "" || l.tls && !speaksTLS(s.Name) {
			continue
		}
		if s.Name == tributary { // right beside it: this is what it is held against
			perSecond, median, err := c.disk.Measure(c.window / 2)
			if err != nil {
				return fmt.Errorf("bare disk: %w", err)
			}
			c.syncs[l] = append(c.syncs[l], perSecond)
			c.sync50[l] = append(c.sync50[l], median.Seconds()*1000)
		}
		b := s.Plain
		if l.tls {
			if b = s.Secure; b.Addr == "" {
				c.fail(what, s, errTLS)
				continue
			}
		}
		p := place{s.Name, l}
		if c.results[p] == nil {
			c.results[p] = &series{}
		}
		if err := c.results[p].add(ctx, s, b, c.window, fmt.Sprintf("w%d", w), l); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if len(c.results[p].perSecond) == 0 { // or else it counts for the turns before
				delete(c.results, p)
			}
			c.fail(fmt.Sprintf("%s, window %d", what, w+1), s, err)
			c.failures[what] = err.Error()
		}
	}
	return nil
}

// speaksTLS says who is compared with TLS.
func speaksTLS(server string) bool {
	return server == tributary || server == before || server == mosquitto
}

// add presses s for one window.
func (r *series) add(ctx context.Context, s *peer.Server, b pressure.Broker, window time.Duration, name string, l load) error {
	fleet, err := pressure.Open(ctx, b, name, l.Shape)
	if err != nil {
		return err
	}
	var before, after time.Duration
	got, err := fleet.Measure(ctx, window/3, window, func() { before = s.CPU() }, func() { after = s.CPU() })
	if err != nil {
		return err
	}
	n := float64(got.Messages)
	r.perSecond = append(r.perSecond, n/got.Elapsed.Seconds())
	r.cpu = append(r.cpu, (after-before).Seconds()/n*1e6)
	r.ownCPU = append(r.ownCPU, got.CPU.Seconds()/n*1e6)
	r.p50 = append(r.p50, got.Latency.Quantile(.50).Seconds()*1000)
	r.p99 = append(r.p99, got.Latency.Quantile(.99).Seconds()*1000)
	return nil
}
