package replica

import (
	"context"
	"crypto/tls"
	"errors"
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
	// Dial opens a TCP connection; nil: a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Accept is Config for those who are let in; nil: Config. Stranger is given each
	// connection of theirs after its handshake, and says whether it has dealt with
	// it, because it is no peer's; it may be nil.
	Accept   *tls.Config
	Stranger func(ctx context.Context, c *tls.Conn) bool
	Nodes    func() []Node // those that are probably there, without this one
	// Known says whether a node of the site is, or was, at an address without a port:
	// strangers take no place from it. nil: nobody is known.
	Known  func(host string) bool
	Keeper *Keeper
	// Sender returns what is sent to a peer on a new connection.
	Sender func(to tributary.NodeID) *Sender
	// Pulls returns what this node wants to have of a peer: asked each second.
	Pulls func(of tributary.NodeID) []peer.Pull
	// Admit says whether a peer may speak: not if a later process of its node is
	// known (R3). news says that it is the first connection of this process: those
	// with earlier ones are closed, and what is under way there is lost (R17).
	Admit func(h *peer.Hello) (news bool, err error)
	// Rejected is told that a peer knows another process of this node, which was there
	// first, or is later (R3). Clone is told of another process that says it is this
	// node, and says whether that one is to become another: or else this one does.
	Rejected func(by string)
	Clone    func(other *peer.Hello) (itYields bool)
	Logger   *slog.Logger // nil: none

	mu      sync.Mutex                  // guards what follows
	spoken  map[*peer.Conn]bool         // connections with peers
	latest  map[tributary.NodeID]uint64 // nonces of their latest processes
	waiting waiting
	saying  map[tributary.NodeID]chan peer.Message // to those this node has dialed
	dialed  map[tributary.NodeID]*dialing
}

const (
	lookForNodes = time.Second
	redialLeast  = 500 * time.Millisecond
	redialMost   = 10 * time.Second

	handshakeTimeout = 10 * time.Second
)

// Run exchanges until ctx ends; then its connections are closed, and so is the
// listener.
func (x *Exchange) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = x.Listener.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { x.accept(ctx) })
	tick := time.NewTicker(lookForNodes)
	defer tick.Stop()
	for {
		there := map[tributary.NodeID]bool{}
		for _, n := range x.Nodes() {
			there[n.ID] = true
			x.dialNode(ctx, n, &all)
		}
		x.mu.Lock()
		for id, d := range x.dialed {
			if !there[id] {
				d.stop()
				delete(x.dialed, id)
			}
		}
		x.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done(): // and so is each dialing
			return ctx.Err()
		}
	}
}

// dialing is what keeps a connection to one node.
type dialing struct {
	address string
	stop    context.CancelFunc
	again   chan struct{} // one slot: the node is there
}

// dialNode has a connection to n kept, where it is said to be.
func (x *Exchange) dialNode(ctx context.Context, n Node, all *sync.WaitGroup) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if d := x.dialed[n.ID]; d != nil {
		if d.address == n.Address {
			return
		}
		d.stop() // it has moved
	}
	if x.dialed == nil {
		x.dialed = map[tributary.NodeID]*dialing{}
	}
	d := &dialing{address: n.Address, again: make(chan struct{}, 1)}
	ctx, d.stop = context.WithCancel(ctx)
	x.dialed[n.ID] = d
	all.Go(func() { x.keepDialing(ctx, n, d.again) })
}

// isThere has a node dialed at once that has dialed this one: without a connection to it a
// hand-off takes it for silent.
func (x *Exchange) isThere(n tributary.NodeID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if d := x.dialed[n]; d != nil {
		select {
		case d.again <- struct{}{}:
		default:
		}
	}
}

// keepDialing has a connection to n for as long as ctx lasts, as far as that is
// possible. What comes by again says that n is there.
func (x *Exchange) keepDialing(ctx context.Context, n Node, again <-chan struct{}) {
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
		var reject *peer.RejectError
		if errors.As(err, &reject) && reject.Boot > 0 {
			x.Rejected(n.Name)
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
			wait = min(2*wait, redialMost)
		case <-again:
			wait = redialLeast
		case <-ctx.Done():
		}
	}
}

// exchange dials n once and speaks with it until the connection ends.
func (x *Exchange) exchange(ctx context.Context, n Node) error {
	c, err := x.dial(ctx, n)
	if err != nil {
		return err
	}
	if err := x.admit(c.Peer()); err != nil {
		return errors.Join(errors.New(err.Error()), c.Close()) // it is not this node that is refused
	}
	defer x.speaks(c)()
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

func (x *Exchange) dial(ctx context.Context, n Node) (*peer.Conn, error) {
	if x.Dial == nil {
		return peer.Dial(ctx, n.Address, x.Config, x.Self, n.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw, err := x.Dial(ctx, "tcp", n.Address)
	if err != nil {
		return nil, err
	}
	return peer.Client(ctx, raw, x.Config, x.Self, n.ID)
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
		known, ok := x.wait(raw)
		if !ok {
			_ = raw.Close() // nothing was said
			continue
		}
		all.Go(func() { x.serve(ctx, raw, known) })
	}
}

// wait counts a connection that has not said who it is.
func (x *Exchange) wait(raw net.Conn) (done func(), ok bool) {
	from := host(raw.RemoteAddr())
	known := x.Known != nil && x.Known(from)
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.waiting.begin(from, known) {
		return nil, false
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.waiting.end(from, known)
	}, true
}

// serve speaks with whoever has dialed; known is called when it is known who that is.
func (x *Exchange) serve(ctx context.Context, raw net.Conn, known func()) {
	conf := x.Accept
	if conf == nil {
		conf = x.Config
	}
	t := tls.Server(raw, conf)
	shaken, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := t.HandshakeContext(shaken)
	cancel()
	if err == nil && x.Stranger != nil && x.Stranger(ctx, t) {
		known()
		return
	}
	var c *peer.Conn
	if err == nil {
		c, err = peer.Accept(ctx, t, nil, x.Self, x.admit)
	} else {
		_ = raw.Close() // nothing was said
	}
	known()
	if err != nil {
		orDiscard(x.Logger).Debug("refused a connection", "from", raw.RemoteAddr().String(), "error", err)
		return
	}
	defer x.speaks(c)()
	x.isThere(c.Peer().Node)
	if err := x.Keeper.Serve(ctx, c); err != nil && ctx.Err() == nil {
		orDiscard(x.Logger).Info("the connection from a peer has ended", "peer", c.Peer().Name, "error", err)
	}
}

// admit says whether a peer may speak.
func (x *Exchange) admit(h *peer.Hello) error {
	if h.Node == x.Self.Node {
		reject := &peer.RejectError{Reason: "it says that it is this node: one of them was copied from the other, or an address is wrong"}
		if h.Nonce != x.Self.Nonce && x.Clone(h) {
			reject.Boot, reject.Nonce = x.Self.Boot, x.Self.Nonce
		}
		return reject
	}
	news, err := x.Admit(h)
	if err != nil || !news {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.latest == nil {
		x.latest = map[tributary.NodeID]uint64{}
	}
	x.latest[h.Node] = h.Nonce
	for c := range x.spoken {
		if p := c.Peer(); p.Node == h.Node && p.Nonce != h.Nonce {
			_ = c.Close() // of a process that has ended, or should
		}
	}
	return nil
}

// speaks notes that a peer has been admitted. The function that it returns ends that.
func (x *Exchange) speaks(c *peer.Conn) (ends func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.spoken == nil {
		x.spoken = map[*peer.Conn]bool{}
	}
	if latest, known := x.latest[c.Peer().Node]; known && latest != c.Peer().Nonce {
		_ = c.Close() // a later process came meanwhile
	}
	x.spoken[c] = true
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.spoken, c)
	}
}
