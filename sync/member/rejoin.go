package member

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/serf/serf"
)

const (
	// In its first settling time a node looks for the others, and tells them of
	// itself, each settlingPace: if it has come back at another address they only
	// believe it once they have noticed that the old one is dead.
	settling     = 20 * time.Second
	settlingPace = 2 * time.Second
	// Then it looks for those that it misses, for ever.
	missingPace = 20 * time.Second
	idlePace    = 60 * time.Second
	// addressPace is how often a node looks whether it has another address now.
	addressPace = 5 * time.Second
	// discoverTime is how long Discover may take.
	discoverTime = 2 * time.Second
)

// rejoin looks for the other nodes until ctx ends or this node is no longer at
// this address.
func (m *Members) rejoin(ctx context.Context, s *serf.Serf, at netip.AddrPort) {
	began := time.Now()
	for ctx.Err() == nil {
		settled := time.Since(began) > settling
		missing := m.candidates(ctx, at, settled)
		for _, a := range missing {
			if ctx.Err() != nil {
				return
			}
			if _, err := s.Join([]string{a.String()}, true); err != nil {
				m.log.Debug("no node of the site answers", "address", a, "error", err)
			}
		}
		pace := settlingPace
		switch {
		case settled && len(missing) > 0:
			pace = jittered(missingPace)
		case settled:
			pace = jittered(idlePace)
		}
		if !m.wait(ctx, pace, at) {
			return
		}
	}
}

// wait waits for a while, and says whether this node is still there then, and at
// the same address.
func (m *Members) wait(ctx context.Context, pace time.Duration, at netip.AddrPort) bool {
	over := time.After(pace)
	look := time.NewTicker(addressPace)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return true
		case <-look.C:
		}
		if now := m.advertised(ctx); now != at && ctx.Err() == nil {
			m.log.Info("the address of this node has changed", "from", at, "to", now)
			return false
		}
	}
}

// jittered returns between three quarters of d and d, so that the nodes of a
// site that got power at one moment do not stay in step.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/4) }

// candidates returns where a node may be, in no order. Once this node has settled
// the addresses of nodes that are alive are not among them.
func (m *Members) candidates(ctx context.Context, self netip.AddrPort, settled bool) []netip.AddrPort {
	skip := map[netip.AddrPort]bool{self: true}
	var found []netip.AddrPort
	add := func(a netip.AddrPort) {
		if !skip[a] {
			skip[a] = true
			found = append(found, a)
		}
	}
	peers := m.List()
	for _, p := range peers {
		if settled && p.State == Alive {
			skip[p.GossipAddress] = true
		}
	}
	for _, p := range peers {
		add(p.GossipAddress)
	}
	for _, seed := range m.cfg.Seeds {
		for _, a := range resolve(ctx, seed) {
			add(a)
		}
	}
	for _, text := range m.heardOf(ctx) {
		if a, err := netip.ParseAddrPort(text); err == nil { // names of strangers are not looked up
			add(a)
		}
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found
}

// heardOf returns what Known and Discover say.
func (m *Members) heardOf(ctx context.Context) (addresses []string) {
	if m.cfg.Known != nil {
		addresses = append(addresses, m.cfg.Known()...)
	}
	if m.cfg.Discover != nil {
		ctx, stop := context.WithTimeout(ctx, discoverTime)
		defer stop()
		addresses = append(addresses, m.cfg.Discover(ctx)...)
	}
	return addresses
}

// resolve returns the addresses of host:port, or of a host at DefaultPort; none
// if it has none now.
func resolve(ctx context.Context, name string) []netip.AddrPort {
	if a, err := netip.ParseAddrPort(name); err == nil {
		return []netip.AddrPort{a}
	}
	host, port := name, uint16(DefaultPort)
	if h, p, err := net.SplitHostPort(name); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return nil
		}
		host, port = h, uint16(n)
	}
	ctx, stop := context.WithTimeout(ctx, discoverTime)
	defer stop()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	found := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		found = append(found, netip.AddrPortFrom(ip.Unmap(), port))
	}
	return found
}
