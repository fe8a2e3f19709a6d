//go:build lab

package edgetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/firmware-sim/device"
	"github.com/tributary-edge/tributary/firmware-sim/tally"
)

// A crowd is the devices of a site. Each is a fleet of its own, so that it can
// choose the gateway that it connects to.
type crowd struct {
	name   string // what device ids begin with
	ledger *tally.Ledger
	path   string
	nodes  int            // gateways that devices are at home at, and roam between
	homes  []atomic.Int32 // by device: the number of its gateway
	roam   float64        // chance per connection that it is made to another gateway
	fleets []*device.Fleet

	stop context.CancelFunc
	done chan struct{}
	err  error // once done

	mu     sync.Mutex            // guards what follows
	states map[string][]fate     // by device and sequence number, from 1
	owed   map[message]time.Time // acknowledged, and not seen in Kafka; since when
}

// A message is one reading of one device.
type message struct {
	device string
	seq    uint64
}

// A fate is what has become of a message.
type fate byte

const (
	acked fate = 1 << iota
	seen
)

// newCrowd makes devices, which are at home at the gateways in turn.
func newCrowd(t *testing.T, dir, name string, nodes, devices int, rate, roam float64, seed uint64) *crowd {
	t.Helper()
	c := &crowd{
		name: name, path: filepath.Join(dir, name+".ledger"), nodes: nodes, homes: make([]atomic.Int32, devices), roam: roam,
		states: map[string][]fate{}, owed: map[message]time.Time{}, done: make(chan struct{}),
	}
	var err error
	if c.ledger, err = tally.Open(c.path); err != nil {
		t.Fatal(err)
	}
	for n := range devices {
		c.homes[n].Store(int32(1 + n%nodes))
		versions := device.Mix{{Name: []string{device.Version311, device.Version5}[n/nodes%2], Weight: 1}}
		f, err := device.New(device.Options{
			Dial: c.dial(n, rand.New(rand.NewPCG(seed, uint64(n)))), Prefix: fmt.Sprintf("%s-%03d-", name, n),
			Topic: "site/" + name + "/{device}/tele", Rate: rate, Window: 20,
			QoS: device.Mix{{Name: "0", Weight: 1}, {Name: "1", Weight: 3}, {Name: "2", Weight: 3}}, Versions: versions,
			Faults:     device.Faults{Cut: 0.003, HalfOpen: 0.001, Reboot: 0.002, Duplicate: 0.02},
			AckTimeout: 10 * time.Second, BackoffMax: time.Second, Drain: drain,
			Seed: seed + uint64(n) + 1, Recorder: c,
		})
		if err != nil {
			t.Fatal(err)
		}
		c.fleets = append(c.fleets, f)
	}
	return c
}

// dial is how device n reaches a gateway.
func (c *crowd) dial(n int, rng *rand.Rand) func(context.Context) (net.Conn, error) {
	failed := false
	return func(ctx context.Context) (net.Conn, error) {
		if c.roam > 0 && (failed || rng.Float64() < c.roam) {
			c.homes[n].Store(int32(1 + rng.IntN(c.nodes)))
		}
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", doorOf(int(c.homes[n].Load())))
		failed = err != nil
		return conn, err
	}
}

// start switches the devices on, until finish.
func (c *crowd) start(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	c.stop = stop
	var all sync.WaitGroup
	errs := make(chan error, len(c.fleets))
	for _, f := range c.fleets {
		all.Go(func() { errs <- f.Run(ctx) })
	}
	go func() {
		defer close(c.done)
		all.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				c.err = err
			}
		}
	}()
	t.Cleanup(func() { stop(); c.close() })
}

func (c *crowd) close() { _ = c.ledger.Close() }

// finish makes no more messages and waits for the answers to all.
func (c *crowd) finish(t *testing.T) {
	t.Helper()
	c.stop()
	timer := time.NewTimer(2 * drain)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		t.Fatalf("the devices do not end: %+v", c.stats())
	}
	if s := c.stats(); c.err != nil || s.Outstanding > 0 {
		t.Errorf("the devices did not finish: %v, %d messages without an answer; the last trouble: %s", c.err, s.Outstanding, s.LastError)
	}
	if err := c.ledger.Close(); err != nil {
		t.Fatal(err)
	}
}

// move lets the devices of one gateway connect to others from now on.
func (c *crowd) move(from int, to ...int) {
	for n := range c.homes {
		if int(c.homes[n].Load()) == from {
			c.homes[n].Store(int32(to[n%len(to)]))
		}
	}
}

// stats adds up what the devices have done.
func (c *crowd) stats() (all device.Stats) {
	for _, f := range c.fleets {
		s := f.Stats()
		all.Sent += s.Sent
		all.Acked += s.Acked
		all.Outstanding += s.Outstanding
		all.Reconnects += s.Reconnects
		all.Sessions += s.Sessions
		all.Cuts += s.Cuts
		all.HalfOpen += s.HalfOpen
		all.Reboots += s.Reboots
		all.Duplicates += s.Duplicates
		all.Strays += s.Strays
		if s.LastError != "" {
			all.LastError = s.LastError
		}
	}
	return all
}

// Record implements device.Recorder.
func (c *crowd) Record(name string, e device.Event) {
	c.ledger.Record(name, e)
	if e.Kind == device.Acked {
		c.mark(message{name, e.Seq}, acked)
	}
}

// Flush implements device.Recorder.
func (c *crowd) Flush() error { return c.ledger.Flush() }

// Resume implements device.Recorder.
func (c *crowd) Resume(name string) device.State { return c.ledger.Resume(name) }

// mark notes what has become of a message.
func (c *crowd) mark(m message, what fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := c.states[m.device]
	for uint64(len(states)) < m.seq {
		states = append(states, 0)
	}
	states[m.seq-1] |= what
	c.states[m.device] = states
	if states[m.seq-1] == acked {
		c.owed[m] = time.Now()
	} else {
		delete(c.owed, m)
	}
}

// owing returns how many messages that were acknowledged before a time are not in
// Kafka, as far as has been read, and one of them.
func (c *crowd) owing(before time.Time) (n int, one message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m, since := range c.owed {
		if since.Before(before) {
			n++
			one = m
		}
	}
	return n, one
}
