//go:build attack

package attack

import (
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// stormLimit is how long a storm of 10,000 devices may take; a machine that does
// much else besides has until stormPatience, and the figure is printed.
const (
	stormLimit    = 3 * time.Second
	stormPatience = 60 * time.Second
)

func device(i int) []byte {
	return hello{id: fmt.Sprintf("device-%05d", i), keepAliveSeconds: 60}.packet()
}

// TestIdle measures what a connection costs that does nothing.
func TestIdle(t *testing.T) {
	long(t)
	const devices, limit = 5000, 12_000 // bytes
	needFiles(t, devices+1000)
	for _, kind := range []struct {
		name string
		keep bool
	}{{"clean session", false}, {"lasting session", true}} {
		t.Run(kind.name, func(t *testing.T) {
			n := startNode(t, setup{mqtt: "max_clients = 12000"})
			warm := newCrowd(t, n.plain, 50, device)
			if _, err := warm.connect(); err != nil {
				t.Fatal(err)
			}
			before := n.rss(t)
			c := newCrowd(t, n.plain, devices, func(i int) []byte {
				return hello{id: fmt.Sprintf("idle-%05d", i), keepAliveSeconds: 60, keep: kind.keep}.packet()
			})
			took, err := c.connect()
			if err != nil {
				t.Fatal(err)
			}
			at := n.rss(t)
			pass(10 * time.Second)
			settled := n.rss(t)
			each, eachAtOnce := (settled-before)/devices, (at-before)/devices
			t.Logf("%d idle in %v: RSS %s before, %s at once (%d bytes each), %s after 10 s (%d bytes each); load %s",
				devices, took.Round(time.Millisecond), mb(before), mb(at), eachAtOnce, mb(settled), each, load())
			if each > limit && !kind.keep {
				t.Errorf("an idle connection takes %d bytes, more than %d", each, limit)
			}
			if open := c.connected(); open != devices {
				t.Errorf("%d of %d connections are open", open, devices)
			}
		})
	}
}

// TestStorm has 10,000 devices lose their connections and come back, ten times.
func TestStorm(t *testing.T) {
	long(t)
	devices := setting(t, "DEVICES", 10_000)
	needFiles(t, devices+1000)
	n := startNode(t, setup{mqtt: fmt.Sprintf("max_clients = %d", devices+10)})
	c := newCrowd(t, n.plain, devices, device)
	if _, err := c.connect(); err != nil {
		t.Fatal(err)
	}
	b := stand(t, n, hello{id: "bystander"}, 20*time.Millisecond)
	var times, sizes []int
	for storm := range 10 {
		start := time.Now()
		c.drop()
		if _, err := c.connect(); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		times, sizes = append(times, int(took.Milliseconds())), append(sizes, n.rss(t))
		t.Logf("storm %d: %d devices are back after %v, %d retries, RSS %s; load %s",
			storm+1, devices, took.Round(time.Millisecond), c.retries, mb(sizes[storm]), load())
	}
	peak := n.memory(t, "VmHWM")
	b.leave(t, stormLimit)
	slices.Sort(times)
	t.Logf("back after %d to %d ms, median %d; RSS at most %s", times[0], times[9], times[5], mb(peak))
	if got := time.Duration(times[9]) * time.Millisecond; got > stormLimit {
		t.Errorf("a storm took %v, more than %v (load %s)", got, stormLimit, load())
	}
	if peak > 350e6 {
		t.Errorf("RSS was %s, more than 350 MB", mb(peak))
	}
	if least, most := slices.Min(sizes[1:]), slices.Max(sizes[1:]); float64(most) > 1.1*float64(sizes[1]) {
		t.Errorf("RSS is not flat from the second storm on: %s to %s", mb(least), mb(most))
	}
	if open := c.connected(); open != devices {
		t.Errorf("%d of %d connections are open", open, devices)
	}
}

// TestTakeOverStorm has devices come back while the node still holds all their old
// connections, so that each takes its own over.
func TestTakeOverStorm(t *testing.T) {
	long(t)
	devices := min(setting(t, "DEVICES", 10_000), (allowedFiles(t)-1000)/2)
	n := startNode(t, setup{mqtt: fmt.Sprintf("max_clients = %d", devices+10)})
	c := newCrowd(t, n.plain, devices, device)
	if _, err := c.connect(); err != nil {
		t.Fatal(err)
	}
	b := stand(t, n, hello{id: "bystander"}, 20*time.Millisecond)
	for round := range 3 {
		c.retries = 0
		closeThem := c.forgetAll()
		took, err := c.connect()
		closeThem()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d take-overs in %v, %d retries (%v), RSS %s; load %s",
			round+1, devices, took.Round(time.Millisecond), c.retries, orNothing(c.lastErr), mb(n.rss(t)), load())
	}
	b.leave(t, stormLimit)
	if open := c.connected(); open != devices {
		t.Errorf("%d of %d connections are open", open, devices)
	}
}

// TestStormTLS has 1,000 devices with TLS lose their connections and come back.
func TestStormTLS(t *testing.T) {
	long(t)
	const devices, limit = 1000, 80e6
	needFiles(t, devices+1000)
	p := newPKI(t)
	n := startNode(t, setup{mqtt: fmt.Sprintf("max_clients = %d\n%s", devices+10, p.serverLines()), tls: true})
	b := stand(t, n, hello{id: "bystander"}, 20*time.Millisecond)
	config := &tls.Config{RootCAs: p.pool, ServerName: "localhost"}
	for storm := range 3 {
		start := time.Now()
		clients := enterTLS(t, n.tls, devices, config)
		took := time.Since(start)
		at := n.rss(t)
		pass(3 * time.Second)
		t.Logf("storm %d: %d devices with TLS in %v, RSS %s, %s after 3 s, at most %s; load %s",
			storm+1, devices, took.Round(time.Millisecond), mb(at), mb(n.rss(t)), mb(n.memory(t, "VmHWM")), load())
		for _, c := range clients {
			if err := c.ping(); err != nil {
				t.Errorf("a device with TLS is not answered: %v", err)
				break
			}
		}
		for _, c := range clients {
			_ = c.Close()
		}
	}
	if peak := n.memory(t, "VmHWM"); peak > limit {
		t.Errorf("RSS was %s, more than 80 MB", mb(peak))
	}
	b.leave(t, stormLimit)
}

// enterTLS connects devices, 32 at once: who makes the handshakes here costs as
// much as the node does.
func enterTLS(t *testing.T, address string, devices int, config *tls.Config) []*client {
	t.Helper()
	clients, errs := make([]*client, devices), make([]error, devices)
	var work sync.WaitGroup
	next := make(chan int)
	for range 32 {
		work.Go(func() {
			for i := range next {
				clients[i], errs[i] = enter(address, hello{id: fmt.Sprintf("tls-%05d", i), keepAliveSeconds: 60}, config)
			}
		})
	}
	for i := range devices {
		next <- i
	}
	close(next)
	work.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return clients
}
