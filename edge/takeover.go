package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/replica"
	"github.com/tributary-edge/tributary/sync/uplink"
	"github.com/tributary-edge/tributary/sync/view"
)

// sender returns what this node sends to a peer.
func (s *site) sender(to tributary.NodeID) *replica.Sender {
	sender := &replica.Sender{
		Log:    copied{s.node.log, s},
		Wanted: func(ledger tributary.LedgerID) bool { return s.keeps(ledger, to) },
		Acked:  func(ledger tributary.LedgerID) tributary.LSN { return s.acknowledged(ledger) },
		Copied: func(ledger tributary.LedgerID, durable tributary.LSN) {
			if s.acks != nil {
				s.acks.Copied(to, ledger, durable)
			}
		},
		Diverged: func(ledger tributary.LedgerID, at tributary.LSN) {
			s.node.logger.Error("a peer has another history of what this process writes: two processes have written to one ledger", "ledger", ledger.String(), "from", uint64(at))
		},
		Status: s.says,
		Answer: func(m peer.Message) { s.answered(to, m) },
	}
	if s.acks != nil {
		sender.Waits = s.acks.Waits
	}
	return sender
}

// keeps says whether a peer is to keep a copy of a ledger of this node: as many do
// as the configuration wants, of those that are there (R6), and those with subscribers (R53).
func (s *site) keeps(ledger tributary.LedgerID, node tributary.NodeID) bool {
	if s.fan.wants(node) {
		return true
	}
	var there []tributary.NodeID
	for _, n := range s.nodes() {
		there = append(there, n.ID)
	}
	return slices.Contains(view.Peers(ledger, there, max(1, s.node.cfg.Ack.Copies)), node)
}

func (s *site) acknowledged(ledger tributary.LedgerID) tributary.LSN {
	if s.acks == nil {
		return s.node.log.Durable()
	}
	return s.acks.Acked(ledger)
}

// says is what this node says of itself.
func (s *site) says() *peer.Status {
	n := s.node
	st := &peer.Status{
		SentMillis: uint64(time.Since(n.started).Milliseconds()), Live: n.log.Ledger(),
		KafkaReached: n.up.snapshot().State == uplink.Forwarding.String(), FreeBytes: uint64(max(0, n.log.Stats().FreeBytes)),
		Subscribers: n.door.Subscribed(),
	}
	if s.acks != nil {
		st.Short, _ = s.acks.State()
	}
	all := n.log.Ledgers()
	wanted := s.fan.recent(all)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range all {
		position := s.position(l.ID)
		if l.To <= position && !l.Live && !wanted[l.ID] {
			continue
		}
		st.Held = append(st.Held, peer.Held{
			Ledger: l.ID, Base: l.From, Durable: l.To, Chain: l.ToChain, Position: position,
			Forwarding: s.taken[l.ID] || l.Live && st.KafkaReached, Own: !l.Copy,
		})
	}
	return st
}

// position returns below which record a ledger is known to be in Kafka.
func (s *site) position(id tributary.LedgerID) tributary.LSN {
	return max(s.node.up.position(id).Next, s.view.Position(id))
}

// heard takes what a peer says of itself.
func (s *site) heard(from *peer.Hello, st *peer.Status) {
	holds := make([]view.Holding, len(st.Held))
	for i := range st.Held {
		h := &st.Held[i]
		holds[i] = view.Holding{Ledger: h.Ledger, Durable: h.Durable, Position: h.Position}
		s.moved(h.Ledger, h.Position)
	}
	s.view.Heard(from.Node, st.Live, holds, time.Now())
	s.fan.heard(from.Node, st, time.Now())
}

// moved notes that Kafka has all of a ledger below next. What this node has written
// is for the uplink to say, with the packet ids that go with it.
func (s *site) moved(id tributary.LedgerID, next tributary.LSN) {
	s.view.Moved(id, next, time.Now())
	if !s.own(id) {
		s.node.log.Forwarded(id, s.fan.limit(id, next))
	}
}

// Moved implements uplink.Watcher.
func (s *site) Moved(p tributary.Position) { s.moved(p.Ledger, p.Next) }

// Read implements uplink.Watcher.
func (s *site) Read(at time.Time) { s.view.ReadKafka(at) }

// pulls returns what a peer has of ledgers that nobody writes any more, and this
// node has not (R14).
func (s *site) pulls(of tributary.NodeID) (all []peer.Pull) {
	for _, h := range s.view.Holds(of) {
		if s.view.Written(h.Ledger, time.Now()) || h.Ledger == s.node.log.Ledger() {
			continue // its writer streams it to those who are to keep it
		}
		position := s.view.Position(h.Ledger)
		from, _, held := s.node.log.CopyEnd(h.Ledger)
		if !held {
			from = position
		}
		if h.Durable > max(from, position) && s.asks(of, h.Ledger, from, time.Now()) {
			all = append(all, peer.Pull{Ledger: h.Ledger, From: from})
		}
	}
	for _, p := range s.fan.pulls(of) {
		if s.asks(of, p.Ledger, p.From, time.Now()) {
			all = append(all, p)
		}
	}
	return all
}

// asking is what this node has last asked for of a ledger.
type asking struct {
	of   tributary.NodeID
	from tributary.LSN
	at   time.Time
	wait time.Duration
}

const (
	askEvery = time.Second
	askOther = 5 * time.Second // after another peer was asked
	askRest  = time.Minute     // at most, after what came could not be taken: the log has no room for copies
)

// asks says whether a peer is to be asked for a ledger from a record on: one after the
// other, and less and less often while nothing comes of it.
func (s *site) asks(of tributary.NodeID, id tributary.LedgerID, from tributary.LSN, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, asked := s.asked[id]
	wait := askEvery
	switch since := now.Sub(was.at); {
	case !asked:
	case was.of != of && since < askOther, was.from == from && since < was.wait:
		return false
	case was.from == from:
		wait = min(2*was.wait, askRest)
	}
	s.asked[id] = asking{of, from, now, wait}
	return true
}

// answered takes what a peer answers.
func (s *site) answered(from tributary.NodeID, m peer.Message) {
	switch m := m.(type) {
	case *peer.Pulled:
		if err := s.keeper.Take(m); err != nil {
			s.node.logger.Warn("could not keep what a peer gave", "ledger", m.Ledger.String(), "error", err)
		}
	case *peer.Shared:
		s.alike.answered(from, m)
	}
}

// mostLinger is how long records of others wait before they go to Kafka: they have
// waited enough, and who lingers may be fenced before it has sent anything.
const mostLinger = time.Second

// takeOver forwards the ledgers of others that nobody else forwards (R26). It
// returns when ctx ends.
func (s *site) takeOver(ctx context.Context) error {
	cfg, err := uplinkConfig(s.node.cfg)
	if err != nil {
		return err
	}
	cfg.Logger = s.node.logger
	cfg.Linger, cfg.Copy = min(cfg.Linger, mostLinger), true
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { _ = uplink.Watch(ctx, cfg, s) }) // it ends with ctx; cfg is the uplink's own
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.remember()
		held := s.copies()
		for _, id := range s.inTurn(ctx, s.view.Due(held, time.Now()), held) {
			if s.begin(id) {
				all.Go(func() { s.finish(ctx, cfg, id) })
			}
		}
	}
}

// copies returns the copies that this node holds.
func (s *site) copies() (all []view.Holding) {
	for _, l := range s.node.log.Ledgers() {
		if l.Copy {
			all = append(all, view.Holding{Ledger: l.ID, Durable: l.To})
		}
	}
	return all
}

// mostTaken is how many ledgers are taken over at a time: each has a client of Kafka,
// and a node that was started again and again leaves many.
const mostTaken = 8

// ofCopies returns how far Kafka is with the copies that this node holds, so that the
// next start need not ask for each of them.
func (s *site) ofCopies() (all []tributary.Position) {
	if s == nil {
		return nil
	}
	for _, c := range s.copies() {
		if next := s.view.Position(c.Ledger); next > 0 {
			all = append(all, tributary.Position{Ledger: c.Ledger, Next: next})
		}
	}
	return all
}

// begin says whether a ledger is to be taken over now, and remembers that it is.
func (s *site) begin(id tributary.LedgerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[id] || len(s.taken) >= mostTaken || time.Now().Before(s.silent[id]) {
		return false
	}
	s.taken[id] = true
	return true
}

// finish forwards a ledger of another node for as long as there is more, and Kafka
// lets this node.
func (s *site) finish(ctx context.Context, cfg uplink.Config, id tributary.LedgerID) {
	n := s.node
	n.logger.Info("forwarding the ledger of another node, whose position in Kafka stands still", "ledger", id.String())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.taken, id)
	}()
	r, err := n.log.Reader(id)
	if err != nil {
		n.logger.Warn("cannot read a copy", "ledger", id.String(), "error", err)
		return
	}
	defer r.Close()
	part := &following{Reader: r, log: n.log, grows: func() bool { return s.view.Written(id, time.Now()) }}
	err = uplink.Forward(ctx, cfg, part, &taker{site: s, ledger: id, cancel: cancel})
	if err == nil {
		err = part.missing
	}
	var stopped *uplink.StoppedError
	switch {
	case err == nil:
		n.logger.Info("the ledger of another node is in Kafka as far as it is held here", "ledger", id.String())
	case errors.As(err, &stopped):
		n.logger.Warn("the ledger of another node cannot be forwarded from here", "ledger", id.String(), "error", err)
		s.mu.Lock()
		s.silent[id] = time.Now().Add(stoppedRetry)
		s.mu.Unlock()
	}
}

// taker observes the forwarding of another node's ledger: it ends as soon as
// somebody else forwards it (R25).
type taker struct {
	site   *site
	ledger tributary.LedgerID
	cancel context.CancelFunc
}

// Committed implements uplink.Observer.
func (t *taker) Committed(c uplink.Commit) {
	t.site.node.up.tookOver(c)
	t.site.moved(c.Position.Ledger, c.Position.Next)
}

// State implements uplink.Observer.
func (t *taker) State(st uplink.Status) {
	if st.Counters.Fenced > 0 {
		t.site.node.logger.Info("somebody else forwards the ledger of another node now", "ledger", t.ledger.String())
		t.cancel()
	}
}

// following reads a copy that may still grow: it has ended when it has not grown
// for a while. What is missing in it is no gap: another node may have it, and only
// a person can say that nobody has (R15).
type following struct {
	*store.Reader

	log     *store.Log
	grows   func() bool // whether somebody writes the ledger
	missing error       // what comes next is not here
}

const (
	growEvery = 200 * time.Millisecond
	growFor   = 10 * time.Second
)

// Read implements uplink.Source.
func (f *following) Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	if end, _, _ := f.log.CopyEnd(f.Ledger()); from > end { // Kafka has more
		return record.Chunk{}, io.EOF
	}
	for waited := time.Duration(0); ; waited += growEvery {
		c, err := f.Reader.Read(ctx, from, maxBytes)
		if err == nil && c.Gap != nil {
			f.missing = &uplink.StoppedError{
				What: fmt.Sprintf("Records %d to %d of a copy are damaged here, or were dropped", c.From, c.Next),
				Do:   "Start the node that wrote them, or one that has another copy: it forwards them.",
			}
			return record.Chunk{}, io.EOF
		}
		if !errors.Is(err, io.EOF) || waited >= growFor || !f.grows() {
			return c, err
		}
		select {
		case <-time.After(growEvery):
		case <-ctx.Done():
			return c, ctx.Err()
		}
	}
}

// report returns the site as this node sees it.
func (s *site) report() *status.Gateways {
	g := &status.Gateways{Wanted: s.wanted(), Refuses: s.node.cfg.Ack.RefuseAlone, Peers: []status.Peer{}, Copies: []status.Copy{}}
	copied := map[tributary.NodeID]tributary.LSN{}
	if s.acks != nil {
		g.Short, g.Unprotected = s.acks.State()
		var since time.Time
		if g.Waiting, since = s.acks.Waiting(); g.Waiting > 0 {
			g.WaitingSeconds = time.Since(since).Seconds()
		}
		copied = s.acks.Peers(s.node.log.Ledger())
	}
	for _, m := range s.others() {
		g.Peers = append(g.Peers, status.Peer{
			Node: m.Node.String(), Name: m.Name, Address: m.PeerAddress.String(), State: m.State.String(), Copied: uint64(copied[m.Node]),
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.Clone = s.clone
	for _, l := range s.node.log.Ledgers() {
		if !l.Copy {
			continue
		}
		held, _ := l.Behind(s.view.Position(l.ID))
		g.Copies = append(g.Copies, status.Copy{
			Ledger: l.ID.String(), From: uint64(l.From), To: uint64(l.To), Waiting: uint64(held), Forwarding: s.taken[l.ID],
		})
	}
	return g
}
