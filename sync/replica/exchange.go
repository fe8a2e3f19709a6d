package replica

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/peer"
)

// A Node is another node of the site, where it is said to be.
type Node struct {
	ID      tributary.NodeID
	Name    string // for people
	Address string // host:port
}

// An Exchange is this node among its peers: it lets them in, dials each of them,
// and keeps on doing so.
type Exchange struct {
	Self     peer.Hello
	Config   *tls.Config // of peer.Authority
	Listener net.Listener
	// Accept is Config for those who are let in; nil: Config. Stranger is given each
	// connection of theirs after its handshake, and says whether it has dealt with
	// it, because it is no peer's; it may be nil.
	Accept   *tls.Config
	Stranger func(ctx context.Context, c *tls.Conn) bool
	Nodes    func() []Node // those that are probably there, without this one
	Keeper   *Keeper
	// Sender returns what is sent to a peer on a new connection.
	Sender func(to tributary.NodeID) *Sender
	// Pulls returns what this node wants to have of a peer: asked each second.
	Pulls func(of tributary.NodeID) []peer.Pull
	// Clone is told that another process has said that it is this node (R3).
	Clone  func(other *peer.Hello)
	Logger *slog.Logger // nil: none

	mu      sync.Mutex // guards what follows
	seen    map[tributary.NodeID]peer.Hello
	waiting map[string]int // connections that have not said who they are, by address
	saying  map[tributary.NodeID]chan peer.Message
}

const (
	lookForNodes = time.Second
	redialLeast  = 500 * time.Millisecond
	redialMost   = 10 * time.Second

	handshakeTimeout = 10 * time.Second
	// Connections that have not said who they are, at a time: strangers must not use
	// up the room of peers.
	mostWaiting        = 256
	mostWaitingAddress = 4
)

// Run exchanges until ctx ends; then its connections are closed, and so is the
// listener.
func (x *Exchange) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = x.Listener.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { x.accept(ctx) })
	dialed := map[tributary.NodeID]*dialing{}
	tick := time.NewTicker(lookForNodes)
	defer tick.Stop()
	for {
		there := map[tributary.NodeID]bool{}
		for _, n := range x.Nodes() {
			there[n.ID] = true
			d := dialed[n.ID]
			if d != nil && d.address != n.Address {
				d.stop() // it has moved
				d = nil
			}
			if d == nil {
				d = &dialing{address: n.Address}
				var dialCtx context.Context
				dialCtx, d.stop = context.WithCancel(ctx)
				dialed[n.ID] = d
				all.Go(func() { x.keepDialing(dialCtx, n) })
			}
		}
		for id, d := range dialed {
			if !there[id] {
				d.stop()
				delete(dialed, id)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, d := range dialed {
				d.stop()
			}
			return ctx.Err()
		}
	}
}

// dialing is what keeps a connection to one node.
type dialing struct {
	address string
	stop    context.CancelFunc
}

// keepDialing has a connection to n for as long as ctx lasts, as far as that is
// possible.
func (x *Exchange) keepDialing(ctx context.Context, n Node) {
	wait := redialLeast
	said := ""
	for ctx.Err() == nil {
		began := time.Now()
		err := x.exchange(ctx, n)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > redialMost {
			wait, said = redialLeast, ""
		}
		if err == nil {
			err = errors.New("the connection has ended")
		}
		if text := err.Error(); text != said { // not again and again
			said = text
			orDiscard(x.Logger).Warn("no connection to a peer; it is tried again", "peer", n.Name, "address", n.Address, "error", err)
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
		}
		wait = min(2*wait, redialMost)
	}
}

// exchange dials n once and speaks with it until the connection ends.
func (x *Exchange) exchange(ctx context.Context, n Node) error {
	c, err := peer.Dial(ctx, n.Address, x.Config, x.Self, n.ID)
	if err != nil {
		return err
	}
	if err := x.admit(c.Peer()); err != nil {
		return errors.Join(err, c.Close())
	}
	orDiscard(x.Logger).Info("connected to a peer", "peer", c.Peer().Name, "address", n.Address)
	ctx, cancel := context.WithCancel(ctx)
	var pulling sync.WaitGroup
	pulling.Go(func() { x.pull(ctx, c, n.ID) })
	pulling.Go(func() { x.say(ctx, c) })
	err = x.Sender(n.ID).Run(ctx, c)
	cancel()
	pulling.Wait()
	return err
}

// pull asks n for what it has and this node wants.
func (x *Exchange) pull(ctx context.Context, c *peer.Conn, n tributary.NodeID) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, p := range x.Pulls(n) {
			if c.Send(&p) != nil {
				return // the Sender finds out as well
			}
		}
		if c.Flush() != nil {
			return
		}
	}
}

// mostSaid is how many messages of Say wait for one peer.
const mostSaid = 64

// Say sends m to a peer that this node is connected to, soon and without waiting, or
// not at all if much waits already. It says whether there is a connection, to a node
// that knows such messages.
func (x *Exchange) Say(to tributary.NodeID, m peer.Message) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.saying[to]
	if c == nil {
		return false
	}
	select {
	case c <- m:
	default:
	}
	return true
}

// say sends what Say is given, while the connection lasts.
func (x *Exchange) say(ctx context.Context, c *peer.Conn) {
	if c.Peer().Version < 2 {
		return
	}
	queue, to := make(chan peer.Message, mostSaid), c.Peer().Node
	x.mu.Lock()
	if x.saying == nil {
		x.saying = map[tributary.NodeID]chan peer.Message{}
	}
	x.saying[to] = queue
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.saying[to] == queue {
			delete(x.saying, to)
		}
	}()
	for {
		select {
		case m := <-queue:
			if c.Send(m) != nil || c.Flush() != nil {
				return // the Sender finds out as well
			}
		case <-ctx.Done():
			return
		}
	}
}

// accept lets peers in until the listener is closed.
func (x *Exchange) accept(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for ctx.Err() == nil {
		raw, err := x.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select { // too many open files, say: that passes
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		if !x.wait(raw, 1) {
			_ = raw.Close() // nothing was said
			continue
		}
		all.Go(func() { x.serve(ctx, raw) })
	}
}

// wait counts a connection that has not said who it is, or no longer is one. It
// returns false, and counts nothing, if there are too many.
func (x *Exchange) wait(raw net.Conn, more int) bool {
	from, _, err := net.SplitHostPort(raw.RemoteAddr().String())
	if err != nil {
		from = raw.RemoteAddr().String()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.waiting == nil {
		x.waiting = map[string]int{}
	}
	all := 0
	for _, n := range x.waiting {
		all += n
	}
	if more > 0 && (all >= mostWaiting || x.waiting[from] >= mostWaitingAddress) {
		return false
	}
	if x.waiting[from] += more; x.waiting[from] == 0 {
		delete(x.waiting, from)
	}
	return true
}

func (x *Exchange) serve(ctx context.Context, raw net.Conn) {
	conf := x.Accept
	if conf == nil {
		conf = x.Config
	}
	t := tls.Server(raw, conf)
	shaken, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := t.HandshakeContext(shaken)
	cancel()
	if err == nil && x.Stranger != nil && x.Stranger(ctx, t) {
		x.wait(raw, -1)
		return
	}
	var c *peer.Conn
	if err == nil {
		c, err = peer.Accept(ctx, t, nil, x.Self, x.admit)
	} else {
		_ = raw.Close() // nothing was said
	}
	x.wait(raw, -1)
	if err != nil {
		orDiscard(x.Logger).Debug("refused a connection", "from", raw.RemoteAddr().String(), "error", err)
		return
	}
	if err := x.Keeper.Serve(ctx, c); err != nil && ctx.Err() == nil {
		orDiscard(x.Logger).Info("the connection from a peer has ended", "peer", c.Peer().Name, "error", err)
	}
}

// admit says whether a peer is who it says. Of two processes that are one node,
// one is a clone, or comes from an old image: it must become another node (R3).
func (x *Exchange) admit(h *peer.Hello) error {
	if h.Node == x.Self.Node {
		if h.Nonce != x.Self.Nonce {
			x.Clone(h)
		}
		return errors.New("it says that it is this node: one of them was copied from the other, or an address is wrong")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.seen == nil {
		x.seen = map[tributary.NodeID]peer.Hello{}
	}
	was, known := x.seen[h.Node]
	if known && (h.Boot < was.Boot || h.Boot == was.Boot && h.Nonce != was.Nonce) {
		return fmt.Errorf("node %v has started %d times, and this one says %d: it is a clone, or comes from an old image", h.Node, was.Boot, h.Boot)
	}
	x.seen[h.Node] = *h
	return nil
}
