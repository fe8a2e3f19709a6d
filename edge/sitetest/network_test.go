package sitetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// A network is machines in memory, for a bubble. Each direction between two
// machines has a delay of its own and can be cut. What is sent over a cut is not
// lost but late, as with TCP: some time after the cut is healed it arrives.
type network struct {
	mu        sync.Mutex // guards all that is below, of ports and pipes too
	rng       *rand.Rand
	links     map[way]*link
	listeners map[string]*listener // by address
	dark      map[string]bool      // machines without power
	changed   chan struct{}        // closed and replaced when a way may be open again
	lastPort  uint16
}

// A way is a direction between two machines.
type way struct{ from, to string }

type link struct {
	cut    bool
	since  time.Time // cut
	delay  time.Duration
	jitter time.Duration
	pipes  map[*pipe]struct{}
}

func newNetwork(seed uint64) *network {
	return &network{
		rng: rand.New(rand.NewPCG(seed, 0x6e6574)), links: map[way]*link{}, listeners: map[string]*listener{},
		dark: map[string]bool{}, changed: make(chan struct{}), lastPort: 30000,
	}
}

func (n *network) link(from, to string) *link {
	w := way{from, to}
	l := n.links[w]
	if l == nil {
		l = &link{delay: 200 * time.Microsecond, jitter: 100 * time.Microsecond, pipes: map[*pipe]struct{}{}}
		n.links[w] = l
	}
	return l
}

// slow gives the ways between two machines a delay.
func (n *network) slow(a, b string, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range []*link{n.link(a, b), n.link(b, a)} {
		l.delay, l.jitter = delay, delay/2
	}
}

// cut lets nothing more through from one machine to another.
func (n *network) cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.link(from, to); !l.cut {
		l.cut, l.since = true, time.Now()
	}
}

// mostBackOff is how late at most a segment is sent again when it can get through.
const mostBackOff = 8 * time.Second

// heal undoes a cut. TCP waits longer and longer before it sends again what got no
// answer: each connection comes back at a time of its own, and new ones at once.
func (n *network) heal(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(from, to)
	if !l.cut {
		return
	}
	l.cut = false
	for p := range l.pipes {
		if len(p.segments) > 0 || p.ended {
			p.frozen = time.Now().Add(time.Duration(n.rng.Int64N(1 + int64(min(mostBackOff, time.Since(l.since))))))
		}
		p.cond.Broadcast()
	}
	n.notify()
}

func (n *network) notify() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// A port is the network as one process sees it.
type port struct {
	*network

	host  string
	dead  bool // the process has ended, whatever its goroutines still do
	conns map[*conn]struct{}
	hears []*listener
}

func (n *network) port(host string) *port {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dark[host] {
		delete(n.dark, host)
		n.forget(host)
		n.notify()
	}
	return &port{network: n, host: host, conns: map[*conn]struct{}{}}
}

// kill ends the process: its machine says so to whoever was connected to it.
func (p *port) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bury()
	for c := range p.conns {
		c.close()
	}
}

// powerOff ends the process with its machine: nobody hears of it, until the machine
// is there again.
func (p *port) powerOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bury()
	p.network.dark[p.host] = true
	for c := range p.conns {
		c.vanish()
	}
}

func (p *port) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *port) bury() {
	p.dead = true
	for _, l := range p.hears {
		l.close()
	}
}

type listener struct {
	p       *port
	at      string
	waiting []*conn
	cond    sync.Cond
	closed  bool
}

// Listen is net.ListenConfig.Listen.
func (p *port) Listen(_ context.Context, _, address string) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return nil, errDead
	}
	if p.listeners[address] != nil {
		return nil, syscall.EADDRINUSE
	}
	l := &listener{p: p, at: address}
	l.cond.L = &p.mu
	p.listeners[address] = l
	p.hears = append(p.hears, l)
	return l, nil
}

var errDead = fmt.Errorf("the process has ended: %w", net.ErrClosed)

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	for !l.closed && len(l.waiting) == 0 {
		l.cond.Wait()
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	c := l.waiting[0]
	l.waiting = l.waiting[1:]
	return c, nil
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	l.close()
	return nil
}

func (l *listener) close() {
	if l.closed {
		return
	}
	l.closed = true
	delete(l.p.listeners, l.at)
	for _, c := range l.waiting {
		c.close()
	}
	l.cond.Broadcast()
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.at)) }

// DialContext is net.Dialer.DialContext.
func (p *port) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	to := netip.MustParseAddrPort(address)
	for {
		p.mu.Lock()
		there, back := p.link(p.host, to.Addr().String()), p.link(to.Addr().String(), p.host)
		open, changed := !there.cut && !back.cut && !p.dark[to.Addr().String()], p.changed
		if p.dead {
			p.mu.Unlock()
			return nil, errDead
		}
		trip := there.delay + back.delay
		p.mu.Unlock()
		if open {
			select {
			case <-time.After(trip):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return p.connect(to)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("dial %s: %w", address, ctx.Err())
		}
	}
}

func (p *port) connect(to netip.AddrPort) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[to.String()]
	switch {
	case p.dead:
		return nil, errDead
	case l == nil || len(l.waiting) >= 64:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: syscall.ECONNREFUSED}
	}
	p.lastPort++
	from := netip.AddrPortFrom(netip.MustParseAddr(p.host), p.lastPort)
	out, in := p.pipe(p.host, l.p.host), p.pipe(l.p.host, p.host)
	here := &conn{p: p, in: in, out: out, local: from, remote: to}
	there := &conn{p: l.p, in: out, out: in, local: to, remote: from}
	p.conns[here], l.p.conns[there] = struct{}{}, struct{}{}
	l.waiting = append(l.waiting, there)
	l.cond.Signal()
	return here, nil
}

// mostUnread is how much may be sent that nobody has read.
const mostUnread = 8 << 20

// forget resets the connections that a machine had before it lost its power.
func (n *network) forget(host string) {
	for w, l := range n.links {
		if w.from != host && w.to != host {
			continue
		}
		for p := range l.pipes {
			if p.lost {
				p.reset = true
				delete(l.pipes, p)
				p.cond.Broadcast()
			}
		}
	}
}
