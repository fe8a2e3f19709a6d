// Package sitetest runs a whole site in one synctest bubble: gateways, with the real
// code of all their parts, on disks that lose their power and in a network that is
// cut, a Kafka in memory, and devices. Hours take milliseconds, and a month is free.
//
// What is not real: serf (see gossip), the operating system's network and disks, Kafka
// (kfake), and meta.db, which lies on a real directory: it is never cut in the middle of
// a commit.
package sitetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/sync/join"
	"github.com/tributary-edge/tributary/sync/peer"
)

const siteName = "plant"

type statusPeer = status.Peer

// A site is gateways, devices and a Kafka, in a bubble.
type site struct {
	t      *testing.T
	root   string // of real directories
	dirs   int
	began  time.Time
	rng    *rand.Rand
	seed   uint64
	again  string // the command that repeats it
	copies int    // [ack] copies
	extra  string // of every configuration

	net     *network
	kafka   *kafka
	bundle  *join.Bundle
	oracle  *oracle
	did     figures
	stop    context.CancelFunc // of devices
	hard    context.CancelFunc // of devices, whatever they have begun
	ctx     context.Context    //nolint:containedctx // of devices
	hardCtx context.Context    //nolint:containedctx // the same
	publish sync.WaitGroup     // devices

	mu      sync.Mutex // guards what follows, and of hosts what devices look at
	hosts   []*host
	gossips []*gossip
	devices []*device
	ended   []*process // they may be winding up
	lines   []string
	failed  bool
}

// figures count what a schedule has been through.
type figures struct {
	events, acked, excused, twice int
	passed                        time.Duration // in the bubbles
}

// bubble runs f with a site, in a bubble, and checks everything at its end.
func bubble(t *testing.T, seed uint64, f func(s *site)) (did figures) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	again := fmt.Sprintf("again: SEED=%d go test -run '^%s$' ./edge/sitetest/", seed, t.Name())
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, seed)
		s.again = again
		f(s)
		s.end()
		did = s.did
	})
	return did
}

func newSite(t *testing.T, seed uint64) *site {
	t.Helper()
	s := &site{
		t: t, root: scratch(t), began: time.Now(), seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), copies: 1,
		net: newNetwork(seed), oracle: &oracle{readings: map[string]*reading{}},
	}
	authority, err := peer.NewAuthority(siteName)
	s.must(err)
	s.bundle = &join.Bundle{Site: siteName, Authority: authority, GossipKey: make([]byte, 32)}
	s.kafka = newKafka(s)
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.hardCtx, s.hard = context.WithCancel(context.Background())
	return s
}

// scratch returns a directory in memory if there is one: a flush is free there.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sitetest-") //nolint:usetesting // t.TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // it is in memory
	return dir
}

// addHost adds a machine that has no disk yet.
func (s *site) addHost() *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.hosts) + 1
	h := &host{
		site: s, name: fmt.Sprintf("n%d", n), ip: fmt.Sprintf("10.0.0.%d", n), extra: s.extra,
		rng: rand.New(rand.NewPCG(s.seed, uint64(100+n))), flushes: rand.New(rand.NewPCG(s.seed, uint64(200+n))), sync: 5 * time.Millisecond, acked: make(chan struct{}, 1),
	}
	s.hosts = append(s.hosts, h)
	return h
}

// add adds a gateway with an empty disk, which does not run yet.
func (s *site) add() *host {
	h := s.addHost()
	h.prepare()
	return h
}

// device adds a device that publishes at a gateway, or wherever it can.
func (s *site) device(home *host, qos byte, rest time.Duration) *device {
	n := len(s.devices) + 1
	d := &device{
		site: s, name: fmt.Sprintf("d%d", n), qos: qos, port: s.net.port(fmt.Sprintf("10.0.2.%d", n)), home: home, rest: rest,
		rng: rand.New(rand.NewPCG(s.seed, uint64(1000+n))),
	}
	s.devices = append(s.devices, d)
	s.publish.Go(func() { d.run(s.ctx, s.hardCtx) })
	return d
}

// pass lets time pass.
func (s *site) pass(d time.Duration) { <-time.After(d) }

// Cut cuts the way between two machines, in both directions.
func (s *site) Cut(a, b string) {
	s.net.cut(a, b)
	s.net.cut(b, a)
}

// Heal undoes Cut.
func (s *site) Heal(a, b string) {
	s.net.heal(a, b)
	s.net.heal(b, a)
}

// HealAll undoes all that can be undone: every way is open, every gateway that is not
// gone for good runs, and in the place of others there are as many new ones as it takes
// for copies.
func (s *site) HealAll() {
	s.say("heal all")
	s.net.mu.Lock()
	ways := make([]way, 0, len(s.net.links))
	for w := range s.net.links {
		ways = append(ways, w)
	}
	s.net.mu.Unlock()
	slices.SortFunc(ways, func(a, b way) int { return strings.Compare(a.from+a.to, b.from+b.to) })
	for _, w := range ways {
		s.net.heal(w.from, w.to)
	}
	left := 0
	for _, h := range s.hosts {
		if !h.gone {
			left++
		}
	}
	for ; left <= s.copies && len(s.hosts) > 1; left++ {
		s.say("add %s", s.add().name)
	}
	for _, h := range s.hosts {
		h.Start()
	}
}

// mostWait is how long it may take until everything is in Kafka once nothing is in the way.
const mostWait = 15 * time.Minute

// CheckNoLoss heals everything, waits until all is forwarded, and checks what must be
// so (I1, I2, I3, I5, I7, I8, I9).
func (s *site) CheckNoLoss() {
	if s.hasFailed() {
		return
	}
	s.HealAll()
	s.pass(s.rngDuration(5 * time.Second))
	s.stop()
	s.say("devices finish")
	late := time.AfterFunc(mostWait, s.hard)
	s.publish.Wait()
	if !late.Stop() {
		s.fail("I5: devices still wait for acknowledgements")
	}
	s.drain()
	for _, h := range s.hosts {
		if !s.hasFailed() {
			h.Stop()
		}
	}
	if !s.hasFailed() {
		s.check()
	}
}

func (s *site) rngDuration(most time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(most)))
}

// drain waits until all that is held is in Kafka, as far as each gateway knows.
func (s *site) drain() {
	began := time.Now()
	for calm := 0; calm < 3; {
		s.pass(time.Second)
		waits := s.waits()
		if calm++; waits != "" {
			calm = 0
		}
		if time.Since(began) > mostWait {
			s.fail("I5: not everything is forwarded after %v: %s", mostWait, waits)
			return
		}
		if s.hasFailed() {
			return
		}
	}
	s.say("drained after %v", time.Since(began))
}

// waits says what is not in Kafka.
func (s *site) waits() string {
	for _, h := range s.hosts {
		if h.gone {
			continue
		}
		n := h.opened()
		if n == nil {
			return h.name + " does not run"
		}
		r := n.Report()
		if h.waits != r.Uplink.Waiting {
			h.waits, h.since = r.Uplink.Waiting, time.Now()
		}
		if r.Uplink.Waiting > 0 && (!h.rolled || time.Since(h.since) < time.Minute) {
			return fmt.Sprintf("%s has %d records of its own: %+v", h.name, r.Uplink.Waiting, r.Uplink)
		}
		for _, c := range r.Gateways.Copies {
			if c.Waiting > 0 {
				return fmt.Sprintf("%s has %d records of a copy: %+v", h.name, c.Waiting, c)
			}
		}
	}
	return ""
}

// end stops whatever runs.
func (s *site) end() {
	s.hard()
	s.stop()
	s.publish.Wait()
	for _, h := range s.hosts {
		if p := h.process; p != nil {
			h.disk.Kill()
			p.port.kill()
			h.end()
		}
	}
	for _, p := range s.ended {
		<-p.done
	}
	s.kafka.cluster.Close()
	s.kafka.port.kill()
	s.pass(time.Minute) // for what is left of them
	s.did.acked, s.did.passed = s.oracle.acked, time.Since(s.began)
	if s.failed {
		s.t.Logf("what happened:\n%s\n%s", strings.Join(s.lines, "\n"), s.again)
	}
}

// say notes an event.
func (s *site) say(format string, args ...any) {
	s.did.events++
	s.note("* " + fmt.Sprintf(format, args...))
}

func (s *site) note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf("%9.3f %s", time.Since(s.began).Seconds(), line))
}

func (s *site) fail(format string, args ...any) {
	s.t.Helper()
	s.note("! " + fmt.Sprintf(format, args...))
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failed {
		s.t.Errorf(format, args...) // the first says what is wrong
	}
	s.failed = true
}

func (s *site) hasFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// must ends the test if something is wrong that is not to be tested.
func (s *site) must(err error) {
	if err != nil {
		panic(err)
	}
}
