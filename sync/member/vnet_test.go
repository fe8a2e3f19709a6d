package member

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A virtual is a network in memory, for a bubble. It counts all that goes over
// it, with the headers that Ethernet, IP, UDP and TCP would add.
type virtual struct {
	mu      sync.Mutex
	tcp     map[string]*vlistener
	udp     map[string]*vpackets
	carried atomic.Int64
}

const (
	udpHeaders = 14 + 20 + 8
	tcpHeaders = 14 + 20 + 32
	// tcpFrames is how many frames without data a short connection has: to open,
	// to acknowledge, to close.
	tcpFrames = 10
)

func newVirtual() *virtual {
	return &virtual{tcp: map[string]*vlistener{}, udp: map[string]*vpackets{}}
}

// host is the network as seen from one address.
func (v *virtual) host(at netip.AddrPort) *vhost {
	h := &vhost{virtual: v}
	h.at.Store(&at)
	return h
}

type vhost struct {
	*virtual
	at atomic.Pointer[netip.AddrPort]
}

// here is address, or where the host is if that is every address.
func (h *vhost) here(address string) string {
	if netip.MustParseAddrPort(address).Addr().IsUnspecified() {
		return h.at.Load().String()
	}
	return address
}

func (h *vhost) Listen(_ context.Context, _, address string) (net.Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	address = h.here(address)
	l := &vlistener{v: h.virtual, at: address, conns: make(chan net.Conn), down: make(chan struct{})}
	h.tcp[address] = l
	return l, nil
}

func (h *vhost) ListenPacket(_ context.Context, _, address string) (net.PacketConn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	address = h.here(address)
	p := &vpackets{v: h.virtual, at: netip.MustParseAddrPort(address), in: make(chan vpacket, 256), down: make(chan struct{})}
	h.udp[address] = p
	return p, nil
}

func (h *vhost) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	h.mu.Lock()
	l := h.tcp[address]
	h.mu.Unlock()
	if l == nil {
		<-ctx.Done() // nobody is there to refuse
		return nil, ctx.Err()
	}
	here, there := net.Pipe()
	select {
	case l.conns <- &vconn{Conn: there, v: h.virtual, peer: *h.at.Load()}:
		h.carried.Add(tcpFrames * tcpHeaders)
		return &vconn{Conn: here, v: h.virtual, peer: netip.MustParseAddrPort(address)}, nil
	case <-l.down:
	case <-ctx.Done():
	}
	return nil, net.ErrClosed
}

type vconn struct {
	net.Conn
	v    *virtual
	peer netip.AddrPort
}

func (c *vconn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.peer) }

func (c *vconn) Write(b []byte) (int, error) {
	c.v.carried.Add(int64(len(b) + tcpHeaders))
	return c.Conn.Write(b)
}

type vlistener struct {
	v     *virtual
	at    string
	conns chan net.Conn
	down  chan struct{}
}

func (l *vlistener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.down:
		return nil, net.ErrClosed
	}
}

func (l *vlistener) Close() error {
	l.v.mu.Lock()
	defer l.v.mu.Unlock()
	if l.v.tcp[l.at] == l {
		delete(l.v.tcp, l.at)
	}
	close(l.down)
	return nil
}

func (l *vlistener) Addr() net.Addr { return nil }

type vpacket struct {
	data []byte
	from netip.AddrPort
}

type vpackets struct {
	v    *virtual
	at   netip.AddrPort
	in   chan vpacket
	down chan struct{}
}

func (p *vpackets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case in := <-p.in:
		return copy(b, in.data), net.UDPAddrFromAddrPort(in.from), nil
	case <-p.down:
		return 0, nil, net.ErrClosed
	}
}

func (p *vpackets) WriteTo(b []byte, to net.Addr) (int, error) {
	p.v.carried.Add(int64(len(b) + udpHeaders))
	p.v.mu.Lock()
	other := p.v.udp[to.String()]
	p.v.mu.Unlock()
	if other != nil {
		select {
		case other.in <- vpacket{append([]byte(nil), b...), p.at}:
		default:
		}
	}
	return len(b), nil
}

func (p *vpackets) Close() error {
	p.v.mu.Lock()
	defer p.v.mu.Unlock()
	if p.v.udp[p.at.String()] == p {
		delete(p.v.udp, p.at.String())
	}
	close(p.down)
	return nil
}

func (p *vpackets) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(p.at) }
func (p *vpackets) SetDeadline(time.Time) error      { return nil }
func (p *vpackets) SetReadDeadline(time.Time) error  { return nil }
func (p *vpackets) SetWriteDeadline(time.Time) error { return nil }
