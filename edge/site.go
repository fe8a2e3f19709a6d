package edge

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/join"
	"github.com/tributary-edge/tributary/sync/member"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/replica"
	"github.com/tributary-edge/tributary/sync/view"
)

// site is this node among the others of its site.
type site struct {
	node        *Node
	mine        *join.Site
	invitations *join.Invitations
	view        *view.View
	acks        *replica.Acks
	keeper      replica.Keeper
	fan         *fanout // made with the door
	alike       *alike
	hello       peer.Hello
	listener    net.Listener

	mu      sync.Mutex      // guards what follows
	members *member.Members // nil before run
	known   []string        // where gossip of others has been
	clone   string          // what is known of another process that says it is this node; "" nothing
	taken   map[tributary.LedgerID]bool
	silent  map[tributary.LedgerID]time.Time // ledgers that are not to be taken over again before
	asked   map[tributary.LedgerID]asking

	origins map[tributary.LedgerID]origin // of ledgers that were looked at; takeOver's own
}

// mostKnown bounds the addresses that are remembered of others.
const mostKnown = 64

// openSite makes this node one of a site, if the configuration says so.
func (n *Node) openSite() error {
	dir := n.cfg.Node.DataDir
	if n.cfg.Site.Listen == "" {
		if _, err := os.Stat(filepath.Join(dir, "site")); err == nil {
			n.logger.Warn("this node is one of a site, but [site] listen is not set: it keeps no copies, and nobody keeps any for it")
		}
		return nil
	}
	mine, ok, err := join.Open(dir, n.id.Node)
	if err == nil && !ok {
		mine, err = join.Create(dir, n.cfg.Node.Site, n.id.Node)
	}
	if err != nil {
		return err
	}
	if mine.Name != n.cfg.Node.Site {
		return fmt.Errorf("[node] site is %q, and this node is one of site %q: nothing was changed; give it that name, or make it one of another site with tributary join", n.cfg.Node.Site, mine.Name)
	}
	s := &site{
		node: n, mine: mine, invitations: join.NewInvitations(mine.Authority), view: view.New(n.id.Node, patience(n.cfg.Kafka.Linger)),
		hello: peer.Hello{Site: mine.Name, Node: n.id.Node, Boot: n.id.Boots, Nonce: nonce(), Name: n.cfg.Node.Name},
		taken: map[tributary.LedgerID]bool{}, silent: map[tributary.LedgerID]time.Time{},
		asked: map[tributary.LedgerID]asking{}, origins: map[tributary.LedgerID]origin{}, alike: newAlike(n.logger),
	}
	s.keeper = replica.Keeper{Log: copied{n.log, s}, Logger: n.logger, Status: s.heard, Own: s.own, Classify: classify, Shared: s.shared}
	if n.cfg.Ack.Copies > 0 {
		s.acks = &replica.Acks{Copies: s.wanted, Accept: !n.cfg.Ack.RefuseAlone, Short: s.short}
	}
	n.site = s
	return nil
}

// patience returns how long the position of another node's ledger may stand still. If
// records linger, it does so for as long as they do, and nothing is wrong.
func patience(linger time.Duration) view.Patience {
	p := view.Default
	p.WriterLives += 2 * linger
	return p
}

func nonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand.Read
	return binary.BigEndian.Uint64(b[:])
}

// copied fits the log to replica.
type copied struct {
	*store.Log

	site *site
}

// Position implements replica.Log: how far a ledger is in Kafka. What the log was told
// may be less, as long as a subscriber here is owed what comes after that; a peer has
// given it up perhaps, and its copy counts all the same (R10).
func (c copied) Position(id tributary.LedgerID) tributary.LSN {
	return max(c.Log.Position(id), c.site.position(id))
}

// Read implements replica.Log.
func (c copied) Read(id tributary.LedgerID) (replica.Reader, error) { return c.Reader(id) }

// classify says to a peer why the log does not take what it sends.
func classify(err error) peer.Reason {
	switch {
	case errors.Is(err, store.ErrNotNext):
		return peer.Gap
	case errors.Is(err, store.ErrDiverged), errors.Is(err, store.ErrLive):
		return peer.Diverged
	case errors.As(err, new(*store.FullError)), errors.As(err, new(*store.TooLargeError)):
		return peer.Full
	case errors.Is(err, store.ErrFailed), errors.Is(err, store.ErrClosed):
		return peer.Failed
	default:
		return 0
	}
}

// run is this node's part in the site, until ctx ends.
func (s *site) run(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.node.cfg.Site.Listen)
	if err != nil {
		return fmt.Errorf("listen on [site] listen: %w; nothing that is stored is touched. Is another program there? Stop it, or choose another [site] listen", err)
	}
	s.mu.Lock()
	s.listener = listener
	s.mu.Unlock()
	if err := s.gossip(listener.Addr()); err != nil {
		return errors.Join(err, listener.Close())
	}
	conf := s.mine.Authority.Config(s.mine.Cert)
	strangers := join.NewServer(s.mine, s.invitations, s.addresses, s.node.logger)
	exchange := replica.Exchange{
		Self: s.hello, Config: conf, Listener: listener, Accept: strangers.Config(conf),
		Stranger: func(ctx context.Context, c *tls.Conn) bool {
			if c.ConnectionState().NegotiatedProtocol != join.Protocol {
				return false
			}
			strangers.Serve(ctx, c)
			return true
		},
		Nodes: s.nodes, Keeper: &s.keeper, Sender: s.sender, Pulls: s.pulls, Clone: s.cloned, Logger: s.node.logger,
	}
	s.alike.connect(exchange.Say, s.sharers)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	errs := make(chan error, 5)
	part := func(f func(context.Context) error) {
		parts.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				errs <- err
				stop()
			}
		})
	}
	part(exchange.Run)
	part(s.members.Run)
	part(s.takeOver)
	part(s.alike.run)
	if s.acks != nil {
		part(func(ctx context.Context) error { s.acks.Run(ctx); return nil })
	}
	parts.Wait()
	close(errs)
	return <-errs
}

// gossip prepares membership; at is where this node listens for peers.
func (s *site) gossip(at net.Addr) (err error) {
	cfg := &s.node.cfg.Site
	c := member.Config{
		Node: s.hello.Node, Boot: s.hello.Boot, Nonce: s.hello.Nonce, Name: s.hello.Name, Protocol: peer.Version,
		Key: s.mine.GossipKey, Seeds: slices.Concat(cfg.Seeds, s.gossipSeeds()), Logger: s.node.logger,
		Known: s.knownAddresses, Learned: s.learned,
		Conflict: func(c member.Conflict) {
			if c.Known.Node == s.hello.Node {
				s.note(fmt.Sprintf("%s at %v", c.Other.Name, c.Other.GossipAddress))
			}
		},
	}
	tcp, ok := at.(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("[site] listen: %v is no TCP address", at)
	}
	c.PeerPort = uint16(tcp.Port)
	if c.Bind, err = resolve(cfg.Gossip); err != nil {
		return fmt.Errorf("[site] gossip: %w", err)
	}
	if cfg.Advertise != "" {
		c.Advertise = netip.AddrPortFrom(netip.MustParseAddr(cfg.Advertise), c.Bind.Port()) // it was checked
	}
	m, err := member.New(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = m
	return err
}

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

func (s *site) knownAddresses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.known)
}

func (s *site) learned(addresses []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range addresses {
		if !slices.Contains(s.known, a) {
			s.known = append(s.known, a)
		}
	}
	s.known = s.known[max(0, len(s.known)-mostKnown):]
}

// remember notes where the others are, for the next start.
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

// drain waits for the node to be told to end, and a little for copies of what it has
// taken. What has none then is left to the policy: the door waits for it.
func (s *site) drain(ctx context.Context) {
	<-ctx.Done()
	if s.acks == nil {
		return
	}
	<-time.After(drainFor)
	s.acks.End(errNoCopies)
}

const drainFor = 2 * time.Second

var errNoCopies = errors.New("this node ends, and too few peers have copies of the record; it is on this disk, and the device is to send it again")

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

// others returns the other nodes, as far as gossip knows.
func (s *site) others() []member.Member {
	s.mu.Lock()
	m := s.members
	s.mu.Unlock()
	if m == nil {
		return nil
	}
	return m.List()
}

// nodes returns the others that are probably there.
func (s *site) nodes() (all []replica.Node) {
	for _, m := range s.others() {
		if m.State == member.Alive {
			all = append(all, replica.Node{ID: m.Node, Name: m.Name, Address: m.PeerAddress.String()})
		}
	}
	return all
}

// wanted returns how many peers must have a record: none before the site has
// another node.
func (s *site) wanted() int {
	if !s.mine.Shared() && len(s.others()) == 0 {
		return 0
	}
	return s.node.cfg.Ack.Copies
}

func (s *site) short(is bool) {
	if is {
		s.node.logger.Warn("too few peers have copies of what devices send: it is acknowledged when it is on this disk alone, and counted")
	} else {
		s.node.logger.Info("the copies have caught up")
	}
}

func (s *site) cloned(other *peer.Hello) { s.note(other.Name) }

// note remembers that another process says it is this node.
func (s *site) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clone != what {
		s.node.logger.Error("another process says that it is this node: its card or data directory was copied. Nothing is lost or sent twice; delete the copied directory there, and start it anew", "other", what)
	}
	s.clone = what
}

// own says whether this node has written a ledger.
func (s *site) own(id tributary.LedgerID) bool {
	if id == s.node.log.Ledger() {
		return true
	}
	for _, l := range s.node.log.Ledgers() {
		if l.ID == id {
			return !l.Copy
		}
	}
	return false
}
