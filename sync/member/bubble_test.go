package member

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
)

// counter counts the lines that are written to it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(1)
	return len(p), nil
}

// A site is nodes on a virtual network, in a bubble.
type site struct {
	*virtual
	nodes []*node
}

// newSite returns an empty site. At the end of the test it waits for what serf
// leaves behind: the bubble's time stops with the test.
func newSite(t *testing.T) *site {
	t.Helper()
	t.Cleanup(func() { pass(5 * time.Second) })
	return &site{virtual: newVirtual()}
}

func (s *site) add(t *testing.T, id tributary.NodeID, boot uint64, change func(*Config)) *node {
	t.Helper()
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(len(s.nodes) + 1)}), DefaultPort)
	n := start(t, id, boot, at, func(c *Config) {
		c.Network = &wire{Network: s.host(at)}
		c.Seeds = []string{"10.0.0.1:7883"}
		c.Nonce += uint64(len(s.nodes)) // the bubble's clock stands still
		if change != nil {
			change(c)
		}
	})
	s.nodes = append(s.nodes, n)
	return n
}

// pass lets bubble time pass.
func pass(d time.Duration) { <-time.After(d) }

// TestIdle measures a site of three at rest, and how long a death goes unnoticed.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		a, b, c := s.add(t, idA, 1, nil), s.add(t, idB, 1, nil), s.add(t, idC, 1, nil)
		pass(time.Minute)
		if !a.sees(b, Alive) || !a.sees(c, Alive) || !b.sees(c, Alive) {
			t.Fatal("they do not see each other")
		}
		const rest = 10 * time.Minute
		carried, payload := s.carried.Load(), a.Stats().BytesSent
		pass(rest)
		// Each frame is sent by one node and received by one.
		frames := float64(s.carried.Load()-carried) / 3 / rest.Seconds()
		t.Logf("per node %.0f B/s sent, and as much received, with the headers of Ethernet, IP, TCP and UDP; %.0f B/s without", frames, float64(a.Stats().BytesSent-payload)/rest.Seconds())
		if frames > 1000 {
			t.Errorf("a node at rest sends %.0f B/s", frames)
		}
		died := time.Now()
		c.crash()
		for _, n := range []*node{a, b} {
			n.await(t, 10*time.Second, "c is dead", func() bool { return n.sees(c, Failed) })
		}
		t.Logf("the death of one of three is seen after %v", time.Since(died))
		died = time.Now()
		b.crash()
		a.await(t, 10*time.Second, "b is dead", func() bool { return a.sees(b, Failed) })
		t.Logf("the death of one of two is seen after %v", time.Since(died))
	})
}

// TestDetection does it often, and gives the figures.
func TestDetection(t *testing.T) {
	for _, size := range []int{2, 3} {
		var least, most, sum time.Duration
		const rounds = 8
		for range rounds {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				for i := range size {
					s.add(t, tributary.NodeID{byte(i + 1)}, 1, nil)
				}
				pass(30*time.Second + jittered(5*time.Second))
				died, dead := time.Now(), s.nodes[size-1]
				dead.crash()
				s.nodes[0].await(t, 20*time.Second, "it is dead", func() bool { return s.nodes[0].sees(dead, Failed) })
				took := time.Since(died)
				sum += took
				most = max(most, took)
				if least == 0 || took < least {
					least = took
				}
			})
		}
		t.Logf("%d nodes: a death is seen after %v to %v, %v on average", size, least, most, sum/rounds)
		if most > 9*time.Second {
			t.Errorf("%v is too long", most)
		}
	}
}

// TestHeal isolates two nodes from each other for so long that gossip has
// forgotten the other.
func TestHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		var b *node
		a := s.add(t, idA, 1, func(c *Config) {
			c.Seeds = nil
			c.Known = func() []string { return b.known() } // as good as its own
		})
		b = s.add(t, idB, 1, func(c *Config) {
			c.Seeds = nil
			c.Discover = func(ctx context.Context) []string { return []string{"10.0.0.1:7883", "not an address", "10.9.9.9:1"} }
		})
		a.await(t, time.Minute, "a sees b", func() bool { return a.sees(b, Alive) })
		a.wire.cut.Store(true)
		b.wire.cut.Store(true)
		a.await(t, time.Minute, "a misses b", func() bool { return a.sees(b, Failed) })
		pass(time.Hour)
		a.wire.cut.Store(false)
		b.wire.cut.Store(false)
		took := a.await(t, time.Minute, "a sees b again", func() bool { return a.sees(b, Alive) })
		b.await(t, time.Minute, "b sees a again", func() bool { return b.sees(a, Alive) })
		t.Logf("healed after %v", took)
	})
}

// TestAddressChanges gives a running node another address: it says goodbye, and
// is the same process where it comes back.
func TestAddressChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		a := s.add(t, idA, 1, nil)
		b := s.add(t, idB, 1, func(c *Config) {
			c.Bind = netip.AddrPort{}
		})
		a.await(t, time.Minute, "a sees b", func() bool { return a.sees(b, Alive) })
		pass(time.Hour)
		b.at = netip.MustParseAddrPort("10.0.0.77:7883")
		b.wire.Network.(*vhost).at.Store(&b.at) // the old address is gone
		b.where.Store(&b.at)
		took := a.await(t, 2*time.Minute, "a sees b at its new address", func() bool { return a.sees(b, Alive) })
		b.await(t, time.Minute, "b sees a", func() bool { return b.sees(a, Alive) })
		t.Logf("seen after %v", took)
		if len(a.told())+len(b.told()) > 0 {
			t.Errorf("it is taken for a conflict: %v %v", a.told(), b.told())
		}
	})
}

// TestLateSeed starts the seed long after the node that looks for it.
func TestLateSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.nodes = append(s.nodes, nil) // 10.0.0.1 is not there yet
		b := s.add(t, idB, 1, nil)
		pass(time.Hour)
		s.nodes = nil
		a := s.add(t, idA, 1, nil)
		took := b.await(t, time.Minute, "b sees a", func() bool { return b.sees(a, Alive) })
		t.Logf("met after %v", took)
	})
}

// TestClone runs two processes of one node id, at once and with different boot
// counters, in a site of three: somebody tells, and nobody shuts down.
func TestClone(t *testing.T) {
	for name, boots := range map[string][2]uint64{"one image twice": {7, 7}, "the copy later": {7, 8}, "the copy first": {8, 7}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				a := s.add(t, idA, 1, nil)
				x := s.add(t, idC, boots[0], nil)
				a.await(t, time.Minute, "a sees x", func() bool { return a.sees(x, Alive) })
				y := s.add(t, idC, boots[1], nil)
				took := a.await(t, 3*time.Minute, "a is told", func() bool { return len(a.told()) > 0 })
				c := a.told()[0]
				if c.Known.Nonce != x.cfg.Nonce || c.Other.Nonce != y.cfg.Nonce || c.Other.GossipAddress != y.at {
					t.Errorf("a is told of %+v", c)
				}
				y.await(t, 3*time.Minute, "the clone is told", func() bool { return len(y.told()) > 0 })
				pass(10 * time.Minute)
				t.Logf("told after %v; in ten minutes a is told %d times, x %d, y %d", took, len(a.told()), len(x.told()), len(y.told()))
				if !a.sees(x, Alive) || !x.sees(a, Alive) {
					t.Error("the node that was there first is no longer seen")
				}
			})
		})
	}
}

// TestOldImage starts a node again from an image of yesterday, at the same address.
func TestOldImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		a := s.add(t, idA, 1, nil)
		x := s.add(t, idC, 9, nil)
		a.await(t, time.Minute, "a sees x", func() bool { return a.sees(x, Alive) })
		x.crash()
		a.await(t, time.Minute, "a sees that x is dead", func() bool { return a.sees(x, Failed) })
		s.nodes = s.nodes[:1]
		old := s.add(t, idC, 5, nil)
		a.await(t, time.Minute, "a sees the old image", func() bool { return a.sees(old, Alive) })
		a.await(t, time.Minute, "a is told", func() bool { return len(a.told()) == 1 })
		if c := a.told()[0]; c.Known.Boot != 9 || c.Other.Boot != 5 {
			t.Errorf("a is told of %+v", c)
		}
	})
}
