package member

import (
	"context"
	"net"
	"net/netip"
)

// advertised returns where others reach this node. It may change: an address
// from DHCP does.
func (m *Members) advertised(ctx context.Context) netip.AddrPort {
	switch {
	case m.cfg.Advertise.IsValid():
		return m.cfg.Advertise
	case !m.cfg.Bind.Addr().IsUnspecified():
		return m.cfg.Bind
	}
	return netip.AddrPortFrom(m.outward(ctx), m.cfg.Bind.Port())
}

// outward returns the address from which this machine would reach one far away.
// Nothing is sent: to connect a UDP socket only asks for the route. A machine
// without a default route has the first address that others could reach.
func outward(ctx context.Context) netip.Addr {
	var dialer net.Dialer
	for _, documentation := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		c, err := dialer.DialContext(ctx, "udp", documentation)
		if err != nil {
			continue
		}
		local, err := netip.ParseAddrPort(c.LocalAddr().String())
		_ = c.Close()
		if err == nil {
			return local.Addr().Unmap()
		}
	}
	addrs, _ := net.InterfaceAddrs() // none, if it fails
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
