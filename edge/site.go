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
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/handoff"
	"github.com/tributary-edge/tributary/sync/join"
	"github.com/tributary-edge/tributary/sync/member"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/replica"
	"github.com/tributary-edge/tributary/sync/roster"
	"github.com/tributary-edge/tributary/sync/takeover"
	"github.com/tributary-edge/tributary/sync/uplink"
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
	puller      replica.Puller
	pace        *replica.Pace
	taking      takeover.Forwarder
	known       member.Addresses
	roster      *roster.Roster
	another     chan string // one slot: where a process is that has a better right to be this node
	alarms      alarms
	handoffs    *handoff.Handoffs
	holdFor     time.Duration // at the mark of a hand-off; 0: the uplink's own

	mu       sync.Mutex // guards what follows
	hello    peer.Hello
	listener net.Listener // nil before run
	members  Members      // nil before run
	exchange *replica.Exchange
	atMark   map[tributary.LedgerID]bool // ledgers that this node forwards, and holds back
}

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
	who, damaged, err := roster.Open(mine.Path(), n.id.Node)
	if err != nil {
		return err
	}
	if damaged {
		n.logger.Warn("the list of the nodes of the site is damaged, and begun anew; the other nodes tell what they know", "file", filepath.Join(mine.Path(), roster.FileName))
	}
	s := &site{
		roster: who, another: make(chan string, 1),
		node: n, mine: mine, invitations: join.NewInvitations(mine.Authority), view: view.New(n.id.Node, patience(n.cfg.Kafka.Linger)),
		hello: peer.Hello{Site: mine.Name, Node: n.id.Node, Boot: n.id.Boots, Nonce: nonce(), Name: n.cfg.Node.Name},
		alike: newAlike(n.logger),
	}
	s.alike.heirs = heirs{self: n.id.Node, after: willAfter, there: func(now time.Time) []tributary.NodeID { return s.view.There(now) }}
	s.view.Own = func() (tributary.LedgerID, tributary.LSN) { return n.log.Ledger(), n.log.Durable() }
	log := copied{n.log, s}
	s.keeper = replica.Keeper{
		Log: log, Logger: n.logger, Status: s.heard, Left: s.view.Left, Own: n.log.Writes, Classify: classify, Shared: s.shared,
	}
	s.pace = &replica.Pace{BytesPerSecond: int64(n.cfg.Site.MaxBandwidth)}
	s.keeper.Pace, s.keeper.Heals = s.pace, healed{n.log}
	s.puller = replica.Puller{
		Log: log, View: s.view, Copies: func() int { return n.cfg.Ack.Copies }, Keepers: s.keepers, Heals: healed{n.log}, Needs: s.taking.Needs,
		More: func(of tributary.NodeID) []peer.Pull { return s.fan.pulls(of) },
	}
	s.taking = takeover.Forwarder{View: s.view, Log: log, Own: n.log.Wrote, Committed: s.tookOver, Logger: n.logger}
	if n.cfg.Ack.Copies > 0 {
		s.acks = &replica.Acks{Copies: s.wanted, Accept: !n.cfg.Ack.RefuseAlone, Short: s.short}
	}
	s.openHandoffs()
	n.site = s
	return nil
}

// patience returns how long the position of another node's ledger may stand still. If
// records linger, it does so for as long as they do, and nothing is wrong.
func patience(linger time.Duration) view.Patience {
	p := view.Default
	p.WriterGone = max(p.WriterGone, linger+time.Second)
	p.WriterLives += 2 * linger
	return p
}

func nonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand.Read
	return binary.BigEndian.Uint64(b[:])
}

// copied fits the log to replica and takeover.
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

// Follow implements takeover.Log.
func (c copied) Follow(id tributary.LedgerID) (takeover.Reader, error) { return c.Reader(id) }

// Damaged implements takeover.Log.
func (c copied) Damaged(id tributary.LedgerID, lsn tributary.LSN) bool {
	return slices.ContainsFunc(c.Log.Missing(), func(h store.Hole) bool { return h.Ledger == id && h.From <= lsn && lsn < h.To })
}

// healed fits the log to replica where records are missing.
type healed struct{ *store.Log }

// Missing implements replica.Healer.
func (h healed) Missing() (all []replica.Range) {
	for _, m := range h.Log.Missing() {
		all = append(all, replica.Range{Ledger: m.Ledger, From: m.From, To: m.To})
	}
	return all
}

// Copies implements takeover.Log.
func (c copied) Copies() (all []view.Holding) {
	for _, l := range c.Ledgers() {
		if l.Copy {
			all = append(all, view.Holding{Ledger: l.ID, Durable: l.To})
		}
	}
	return all
}

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

// run is this node's part in the site, until ctx ends: as another node from the
// moment on when another process has a better right to be this one (R3).
func (s *site) run(ctx context.Context) error {
	kafka, err := uplinkConfig(s.node.cfg)
	if err != nil {
		return err
	}
	kafka.Logger, kafka.Pace, kafka.Link = s.node.logger, s.node.running.ask, s.node.up.link
	s.holdAtMarks(&kafka)
	s.node.machine.Kafka(&kafka)
	s.taking.Kafka = kafka
	for {
		err := s.runAs(ctx, s.whoami())
		if !errors.Is(err, errAnother) {
			return err
		}
		if err := s.becomeAnother(); err != nil {
			s.node.logger.Error("could not take a new id; this goes on as it is, and is tried again", "error", err)
		}
	}
}

// runAs is this node's part in the site under one id.
func (s *site) runAs(ctx context.Context, self peer.Hello) error {
	listener, err := s.node.machine.Listen(ctx, "tcp", s.node.cfg.Site.Listen)
	if err != nil {
		return fmt.Errorf("listen on [site] listen: %w; nothing that is stored is touched. Is another program there? Stop it, or choose another [site] listen", err)
	}
	s.mu.Lock()
	s.listener = listener
	s.mu.Unlock()
	if err := s.gossip(self, listener.Addr()); err != nil {
		return errors.Join(err, listener.Close())
	}
	conf := s.mine.Authority.Config(s.mine.Cert)
	strangers := join.NewServer(s.mine, s.invitations, s.addresses, s.node.logger)
	strangers.Joined = s.joined
	exchange := replica.Exchange{
		Self: self, Config: conf, Listener: listener, Dial: s.node.machine.Dial, Accept: strangers.Config(conf),
		Stranger: func(ctx context.Context, c *tls.Conn) bool {
			if c.ConnectionState().NegotiatedProtocol != join.Protocol {
				return false
			}
			strangers.Serve(ctx, c)
			return true
		},
		Nodes: s.nodes, Known: s.knows, Keeper: &s.keeper, Sender: s.sender, Pulls: s.puller.Pulls, Admit: s.admit, Rejected: s.rejected,
		Clone: func(h *peer.Hello) bool { return s.clone(h.Boot, h.Nonce, h.Name) }, Logger: s.node.logger,
	}
	s.mu.Lock()
	s.exchange = &exchange
	s.mu.Unlock()
	s.alike.connect(exchange.Say, s.sharers)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	errs := make(chan error, 9)
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
	part(s.taking.Run)
	part(func(ctx context.Context) error { return uplink.Watch(ctx, s.taking.Kafka, s) })
	part(s.rememberPeers)
	part(s.awaitAnother)
	part(s.leave)
	part(func(ctx context.Context) error { s.handoffs.Run(ctx); return nil })
	part(s.alike.run)
	if s.acks != nil {
		part(func(ctx context.Context) error { s.acks.Run(ctx); return nil })
	}
	parts.Wait()
	close(errs)
	return <-errs
}

// gossip prepares membership of this node; at is where this node listens for peers.
func (s *site) gossip(self peer.Hello, at net.Addr) (err error) {
	cfg := &s.node.cfg.Site
	c := member.Config{
		Node: self.Node, Boot: self.Boot, Nonce: self.Nonce, Name: self.Name, Protocol: peer.Version,
		Key: s.mine.GossipKey, Seeds: slices.Concat(cfg.Seeds, s.gossipSeeds()), Logger: s.node.logger,
		Known: s.known.Known, Learned: s.known.Learned,
		Conflict: func(c member.Conflict) {
			if c.Known.Node == self.Node {
				s.clone(c.Other.Boot, c.Other.Nonce, fmt.Sprintf("%s at %v", c.Other.Name, c.Other.GossipAddress))
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
	m, err := s.node.machine.Members(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = m
	return err
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

func (s *site) short(is bool) {
	if is {
		s.node.logger.Warn("too few peers have copies of what devices send: it is acknowledged when it is on this disk alone, and counted")
	} else {
		s.node.logger.Info("the copies have caught up")
	}
}
