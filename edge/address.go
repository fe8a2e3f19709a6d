package edge

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/tributary-edge/tributary/sync/member"
)

// resolve returns the address that HOST:PORT of the configuration names.
func resolve(address string) (netip.AddrPort, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip := a.AddrPort().Addr().Unmap()
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(ip, uint16(a.Port)), nil
}

// gossipSeeds returns where the nodes that join told of may gossip: on the usual
// port, or on this node's.
func (s *site) gossipSeeds() (all []string) {
	_, own, _ := net.SplitHostPort(s.node.cfg.Site.Gossip) // it was checked
	for _, p := range s.mine.Peers {
		host, _, err := net.SplitHostPort(p)
		if err != nil {
			continue
		}
		for _, port := range []string{strconv.Itoa(member.DefaultPort), own} {
			if seed := net.JoinHostPort(host, port); !slices.Contains(all, seed) {
				all = append(all, seed)
			}
		}
	}
	return all
}

// here returns where others can join on this node.
func (s *site) here() []string {
	all := s.addresses()
	return all[:min(1, len(all))]
}

// addresses returns where others can join: this node first.
func (s *site) addresses() (all []string) {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	_, port, _ := net.SplitHostPort(l.Addr().String()) // of a listener
	host := s.node.cfg.Site.Advertise
	if host == "" {
		host = hostOf(l.Addr())
	}
	all = append(all, net.JoinHostPort(host, port))
	for _, m := range s.others() {
		if m.State == member.Alive {
			all = append(all, m.PeerAddress.String())
		}
	}
	return all
}

// hostOf returns the host of an address, or if that is every address, the one from
// which this machine reaches others.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		return host
	}
	c, err := net.Dial("udp", "192.0.2.1:9") //nolint:noctx // nothing is sent: it only asks for the route
	if err != nil {
		return "127.0.0.1"
	}
	defer func() { _ = c.Close() }() // nothing was sent
	from, _, _ := net.SplitHostPort(c.LocalAddr().String())
	return from
}

// knows says whether a node of the site is, or was, at an address.
func (s *site) knows(host string) bool {
	return slices.ContainsFunc(s.others(), func(m member.Member) bool { return m.PeerAddress.Addr().String() == host }) ||
		slices.ContainsFunc(s.known.Known(), func(a string) bool {
			at, _, err := net.SplitHostPort(a)
			return err == nil && at == host
		})
}

// rememberPeers notes where the others are, for the next start, until ctx ends.
func (s *site) rememberPeers(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.remember()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *site) remember() {
	var there []string
	for _, m := range s.others() {
		if m.State == member.Alive {
			there = append(there, m.PeerAddress.String())
		}
	}
	if err := s.mine.Remember(there); err != nil {
		s.node.logger.Warn("could not note where the other gateways are; the next start finds them by [site] seeds, or is found", "error", err)
	}
}
