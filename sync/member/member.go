// Package member says which nodes of the site are probably there. Membership is
// a hint: no safety property depends on it, a wrong answer costs time and never a
// record. Who may speak and who forwards what is decided elsewhere, by
// certificates and by the position in Kafka.
//
// It is the only user of serf, which gossips over one port, TCP and UDP, and
// encrypts all it says with the site's gossip key. A stranger without the key is
// neither seen nor heard. A node finds the others by its seeds, by the addresses
// it has known before and by what Discover finds, and looks for those it misses
// for as long as it runs.
//
// In a site of two or three nodes one that dies is seen as failed after 4 to 7 s,
// and one that comes back at another address as alive within 15 s of its death.
package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
)

// DefaultPort is the port of gossip, TCP and UDP. It is not serf's own 7946,
// which swarms and load balancers on the same machine like to have.
const DefaultPort = 7883

// KeyBytes is the size of the gossip key.
const KeyBytes = 32

// Config is what New needs to know. Node, Boot, Nonce, PeerPort and Key have no
// default. Functions are called from Run, one at a time unless said otherwise, and
// may be nil.
type Config struct {
	Node     tributary.NodeID
	Boot     uint64 // counts the starts of the node, from 1; stored before Run
	Nonce    uint64 // drawn at this start, and never stored
	Name     string // for people; see maxName
	PeerPort uint16 // where this node's sync/peer listens
	Protocol uint16 // the version of sync/peer's protocol that this node speaks

	// Bind is where gossip listens; default every address, DefaultPort.
	Bind netip.AddrPort
	// Advertise is where others reach Bind; default the address of Bind or, if
	// that is every address, the one from which this machine reaches others. If
	// that changes while Run runs, this node leaves and comes back under the new.
	Advertise netip.AddrPort
	// Key is the site's gossip key, KeyBytes long. It keeps strangers out of the
	// gossip, and is no more than that: the way between nodes is authenticated TLS.
	Key []byte

	// Seeds are host:port or host of nodes that are usually there. Host names are
	// looked up at each attempt.
	Seeds []string
	// Known returns addresses that Learned was given before, in this run or an
	// earlier one. It is called while other functions may be.
	Known func() []string
	// Learned is given addresses, ip:port, where a node is alive. The caller adds
	// them to what Known returns, and may drop the oldest.
	Learned func(addresses []string)
	// Discover looks for nodes (mDNS) until ctx ends, and returns their addresses,
	// ip:port. What it finds is not trusted. It is called while other functions may be.
	Discover func(ctx context.Context) []string
	// Conflict is told of two processes that use one NodeID, once a minute for as
	// long as it is so.
	Conflict func(Conflict)

	Network Network      // nil: the operating system's
	Logger  *slog.Logger // nil: none
}

// A Network opens sockets as net.ListenConfig and net.Dialer do; network is "tcp"
// or "udp".
type Network interface {
	Listen(ctx context.Context, network, address string) (net.Listener, error)
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// A State is how a node is, as far as gossip knows.
type State uint8

// The states of a node.
const (
	Alive  State = iota + 1 // it has answered within the last seconds
	Failed                  // it does not answer, and has not said goodbye
	Left                    // it has said goodbye
)

// String returns the word used in status and log lines.
func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Failed:
		return "failed"
	case Left:
		return "left"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// A Member is another node, as it has described itself by gossip.
type Member struct {
	Node     tributary.NodeID
	Name     string // for people: valid UTF-8, and anything else it likes
	Boot     uint64
	Nonce    uint64
	Protocol uint16

	GossipAddress netip.AddrPort
	PeerAddress   netip.AddrPort // where its sync/peer listens

	State State
	Since time.Time // when this node learned of State, Boot and Nonce
}

// Stats counts what has gone over the port of gossip since New, without the
// headers of TCP, UDP and IP, and what was wrong with it.
type Stats struct {
	BytesSent     uint64
	BytesReceived uint64
	Refused       uint64 // connections: too many at once, or of one host
	Conflicts     uint64 // reports of two processes with one NodeID
	Unreadable    int    // nodes that have the key but do not describe themselves as ours do; now
}

// Members keeps the list of the other nodes. All methods may be called at once.
type Members struct {
	cfg    Config
	tags   map[string]string
	log    *slog.Logger
	lines  *lines
	change chan struct{} // one slot: List has changed
	kick   chan struct{} // one slot: serf has news
	bytes  traffic

	outward func(context.Context) netip.Addr // see there

	mu         sync.Mutex
	self       Member
	peers      map[tributary.NodeID]Member
	unreadable int
	claims     map[tributary.NodeID]claim
	conflicts  []Conflict // not yet reported
	reported   uint64
}

// New checks cfg, and says everything that is wrong with it. Nothing listens and
// nothing is sent before Run.
func New(cfg Config) (*Members, error) {
	if cfg.Bind.Port() == 0 {
		addr := cfg.Bind.Addr()
		if !addr.IsValid() {
			addr = netip.IPv4Unspecified()
		}
		cfg.Bind = netip.AddrPortFrom(addr, DefaultPort)
	}
	if cfg.Advertise.IsValid() && cfg.Advertise.Port() == 0 {
		cfg.Advertise = netip.AddrPortFrom(cfg.Advertise.Addr(), cfg.Bind.Port())
	}
	if cfg.Network == nil {
		cfg.Network = system{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Node == (tributary.NodeID{}) {
		wrong("member: a node without an id")
	}
	if cfg.Boot == 0 || cfg.Nonce == 0 {
		wrong("member: boot counter %d and nonce %d: neither is ever zero", cfg.Boot, cfg.Nonce)
	}
	if len(cfg.Key) != KeyBytes {
		wrong("member: the gossip key has %d bytes: it must have %d; gossip without one is not offered", len(cfg.Key), KeyBytes)
	}
	if cfg.PeerPort == 0 {
		wrong("member: the port of the peers' listener is not known")
	}
	if len(cfg.Name) > maxName {
		wrong("member: the node's name has %d bytes: it may have %d", len(cfg.Name), maxName)
	}
	if cfg.Advertise.IsValid() && cfg.Advertise.Addr().IsUnspecified() {
		wrong("member: %v is no address that others can reach: give one, or none", cfg.Advertise)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	self := Member{Node: cfg.Node, Name: cfg.Name, Boot: cfg.Boot, Nonce: cfg.Nonce, Protocol: cfg.Protocol, State: Alive, Since: time.Now()}
	return &Members{
		cfg:    cfg,
		tags:   tagsOf(self, cfg.PeerPort),
		log:    cfg.Logger,
		lines:  &lines{log: cfg.Logger},
		change: make(chan struct{}, 1),
		kick:   make(chan struct{}, 1),
		self:   self,
		peers:  map[tributary.NodeID]Member{},
		claims: map[tributary.NodeID]claim{},

		outward: outward,
	}, nil
}

// List returns the other nodes of the site that are there, or were within the
// last 24 hours, by NodeID. The slice is the caller's. Before Run has met anybody
// it is empty; after Run it says what was so at its end.
func (m *Members) List() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.peers), func(a, b Member) int { return bytes.Compare(a.Node[:], b.Node[:]) })
}

// Changed has an element when List may have changed since the element before it
// was taken. It is for one receiver, and is never closed.
func (m *Members) Changed() <-chan struct{} { return m.change }

// Stats returns the counts.
func (m *Members) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{
		BytesSent:     m.bytes.sent.Load(),
		BytesReceived: m.bytes.received.Load(),
		Refused:       m.bytes.refused.Load(),
		Conflicts:     m.reported,
		Unreadable:    m.unreadable,
	}
}

// signal puts an element into a channel of one slot, if it is empty.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
