package member

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
)

// A node is one process under test.
type node struct {
	*Members

	at    netip.AddrPort
	where atomic.Pointer[netip.AddrPort] // what the machine's address is, if Bind is every address
	wire  *wire
	stop  func() // ends Run, and waits for it

	mu        sync.Mutex
	learned   []string
	conflicts []Conflict
}

var siteKey = []byte("0123456789abcdef0123456789abcdef")

// loopback returns an address that nobody else listens on: all of 127/8 is this
// machine.
func loopback() netip.AddrPort {
	var b [3]byte
	_, _ = rand.Read(b[:])
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, b[0]/2 + 100, b[1], b[2]/2 + 1}), DefaultPort)
}

// start runs a node at an address; change may alter its configuration. It is
// stopped at the end of the test.
func start(t *testing.T, id tributary.NodeID, boot uint64, at netip.AddrPort, change func(*Config)) *node {
	t.Helper()
	n := &node{at: at, wire: &wire{Network: system{}}}
	cfg := Config{
		Node: id, Boot: boot, Nonce: uint64(time.Now().UnixNano()), Name: "gateway", PeerPort: 7884, Protocol: 1,
		Bind: at, Key: siteKey, Network: n.wire, Logger: logger(t),
		Learned: func(a []string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.learned = append(n.learned, a...)
		},
		Conflict: func(c Conflict) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.conflicts = append(n.conflicts, c)
			signal(n.change) // whoever waits looks at conflicts too
		},
	}
	if change != nil {
		change(&cfg)
	}
	if w, ok := cfg.Network.(*wire); ok {
		n.wire = w
	}
	var err error
	if n.Members, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	n.Members.outward = func(context.Context) netip.Addr { return n.where.Load().Addr() }
	n.where.Store(&at)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// crash takes the node off the network and then stops it: nobody hears a goodbye.
func (n *node) crash() {
	n.wire.cut.Store(true)
	go n.stop()
}

// await waits until the node's list is as wanted, and returns how long that took.
func (n *node) await(t *testing.T, limit time.Duration, what string, wanted func() bool) time.Duration {
	t.Helper()
	began, late := time.Now(), time.After(limit)
	for !wanted() {
		select {
		case <-n.Changed():
		case <-late:
			t.Fatalf("after %v it is still not so that %s: %+v; conflicts %v", limit, what, n.List(), n.told())
		}
	}
	return time.Since(began)
}

func (n *node) told() []Conflict {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.conflicts)
}

func (n *node) known() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.learned)
}

// sees says whether n sees other in a state, as the process that it is now.
func (n *node) sees(other *node, s State) bool {
	return slices.ContainsFunc(n.List(), func(m Member) bool {
		return m.Node == other.cfg.Node && m.State == s && m.Nonce == other.cfg.Nonce && m.GossipAddress == other.at
	})
}

func seeds(of ...*node) func(*Config) {
	return func(c *Config) {
		for _, n := range of {
			c.Seeds = append(c.Seeds, n.at.String())
		}
	}
}

func logger(t *testing.T) *slog.Logger {
	t.Helper()
	if os.Getenv("MEMBER_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// A wire is a Network that can be cut: nothing then comes in or goes out.
type wire struct {
	Network
	cut atomic.Bool
}

var errCut = errors.New("the wire is cut")

func (w *wire) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	l, err := w.Network.Listen(ctx, network, address)
	return cutListener{l, w}, err
}

func (w *wire) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	c, err := w.Network.ListenPacket(ctx, network, address)
	return cutPackets{c, w}, err
}

func (w *wire) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if w.cut.Load() {
		return nil, errCut
	}
	c, err := w.Network.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return cutConn{c, w}, nil
}

// A cutConn carries nothing once the wire is cut: a goodbye would still get out of one
// that was open.
type cutConn struct {
	net.Conn
	w *wire
}

func (c cutConn) Write(b []byte) (int, error) {
	if c.w.cut.Load() {
		return 0, errCut
	}
	return c.Conn.Write(b)
}

type cutListener struct {
	net.Listener
	w *wire
}

func (l cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	switch {
	case err != nil:
		return nil, err
	case l.w.cut.Load():
		return nil, errors.Join(errCut, c.Close())
	}
	return cutConn{c, l.w}, nil
}

type cutPackets struct {
	net.PacketConn
	w *wire
}

func (p cutPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := p.PacketConn.ReadFrom(b)
		if err != nil || !p.w.cut.Load() {
			return n, from, err
		}
	}
}

func (p cutPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	if p.w.cut.Load() {
		return len(b), nil
	}
	return p.PacketConn.WriteTo(b, to)
}
