package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Limits against strangers, who can open connections and send whatever they like
// before they are found to have no key.
const (
	maxStreams        = 32      // that others have opened, at once
	maxStreamsPerHost = 4       // of them
	maxStreamBytes    = 1 << 20 // read from a connection; the state of a whole site has a few kB
	maxPacketBytes    = 64 << 10
)

var errHungUp = errors.New("this node is leaving")

type traffic struct{ sent, received, refused atomic.Uint64 }

// system is the operating system's Network.
type system struct{}

func (system) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var conf net.ListenConfig
	return conf.Listen(ctx, network, address)
}

func (system) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var conf net.ListenConfig
	return conf.ListenPacket(ctx, network, address)
}

func (system) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, address)
}

// transport is memberlist's way to the network: its own has no limits, and cannot
// be interrupted.
type transport struct {
	network   Network
	advertise netip.AddrPort
	bytes     *traffic

	udp     net.PacketConn
	tcp     net.Listener
	packets chan *memberlist.Packet
	streams chan net.Conn
	hungUp  chan struct{} // closed: nothing is dialed any more
	down    chan struct{} // closed: nothing is received any more
	closing sync.Once
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[*stream]struct{}
	hosts map[netip.Addr]int // connections that each has opened
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen opens both sockets and starts to receive. Shutdown ends that.
func listen(ctx context.Context, network Network, bind, advertise netip.AddrPort, bytes *traffic) (*transport, error) {
	tcp, err := network.Listen(ctx, "tcp", bind.String())
	if err != nil {
		return nil, fmt.Errorf("gossip cannot listen: %w", err)
	}
	udp, err := network.ListenPacket(ctx, "udp", bind.String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("gossip cannot listen: %w", err), tcp.Close())
	}
	t := &transport{
		network: network, advertise: advertise, bytes: bytes,
		udp: udp, tcp: tcp,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		hungUp: make(chan struct{}), down: make(chan struct{}),
		conns: map[*stream]struct{}{}, hosts: map[netip.Addr]int{},
	}
	t.running.Go(t.receive)
	t.running.Go(t.accept)
	return t, nil
}

// receive takes packets in until Shutdown.
func (t *transport) receive() {
	buf := make([]byte, maxPacketBytes)
	for {
		n, from, err := t.udp.ReadFrom(buf)
		now := time.Now()
		if err != nil {
			if !t.pause() {
				return
			}
			continue
		}
		t.bytes.received.Add(uint64(n))
		select {
		case t.packets <- &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: now}:
		case <-t.down:
			return
		}
	}
}

// accept takes connections in until Shutdown, and closes those above the limits.
func (t *transport) accept() {
	for {
		raw, err := t.tcp.Accept()
		if err != nil {
			if !t.pause() {
				return
			}
			continue
		}
		c, err := t.track(raw, true)
		if err != nil {
			t.bytes.refused.Add(1)
			_ = raw.Close()
			continue
		}
		select {
		case t.streams <- c:
		case <-t.down:
			_ = c.Close()
			return
		}
	}
}

// pause keeps a socket that only has errors (out of files) from spinning. It says
// whether to go on.
func (t *transport) pause() bool {
	select {
	case <-t.down:
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	n, err := t.udp.WriteTo(b, net.UDPAddrFromAddrPort(to))
	t.bytes.sent.Add(uint64(max(n, 0)))
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// DialTimeout implements memberlist.Transport. hangUp interrupts it.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	go func() {
		select {
		case <-t.hungUp:
			cancel()
		case <-ctx.Done():
		}
	}()
	raw, err := t.network.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c, err := t.track(raw, false)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

// hangUp ends what this node has dialed, so that nobody waits for an answer.
// Packets still go out, and goodbyes with them.
func (t *transport) hangUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.hungUp)
	for c := range t.conns {
		if !c.host.IsValid() {
			_ = c.Conn.Close()
		}
	}
}

// Shutdown implements memberlist.Transport. When it returns nothing is received
// any more.
func (t *transport) Shutdown() (err error) {
	t.closing.Do(func() {
		close(t.down)
		err = errors.Join(t.tcp.Close(), t.udp.Close())
		t.running.Wait()
		t.mu.Lock()
		defer t.mu.Unlock()
		for c := range t.conns {
			_ = c.Conn.Close()
		}
	})
	return err
}
