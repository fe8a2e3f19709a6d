package edge

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/ingest"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/member"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/replica"
	"github.com/tributary-edge/tributary/sync/roster"
	"github.com/tributary-edge/tributary/sync/takeover"
	"github.com/tributary-edge/tributary/sync/uplink"
	"github.com/tributary-edge/tributary/sync/view"
)

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

// nodes returns the others that are probably there: not more than a site has, whatever
// is told by gossip.
func (s *site) nodes() (all []replica.Node) {
	for _, m := range s.others() {
		if m.State == member.Alive && len(all) < roster.Most {
			all = append(all, replica.Node{ID: m.Node, Name: m.Name, Address: m.PeerAddress.String()})
		}
	}
	return all
}

// wanted returns how many peers must have a record: none before the site has
// another node, or when all others were removed.
func (s *site) wanted() int {
	if !s.mine.Shared() && len(s.others()) == 0 || s.roster.Alone() {
		return 0
	}
	return s.node.cfg.Ack.Copies
}

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
		Full:   func(tributary.LedgerID) { s.full(to) },
		Pace:   s.pace,
		Status: s.says,
		Answer: s.answered,
	}
	if s.acks != nil {
		sender.Waits = s.acks.Waits
	}
	return sender
}

// keeps says whether a peer is to keep a copy of a ledger of this node: as many do
// as the configuration wants, of those that are there and were not removed (R6), and
// those with subscribers (R53).
func (s *site) keeps(ledger tributary.LedgerID, node tributary.NodeID) bool {
	if s.fan.wants(node) && s.roster.State(node) == roster.Member {
		return true
	}
	return slices.Contains(s.view.Keepers(ledger, s.keepers(), max(1, s.node.cfg.Ack.Copies), time.Now()), node)
}

// full notes that a peer has no room for copies: another one is to keep them, if
// there is one.
func (s *site) full(node tributary.NodeID) {
	s.view.Full(node, time.Now())
	s.alarms.raise(s, fmt.Sprintf("gateway %s has no room for copies of what this one takes: give its log more room, or bring it to Kafka", s.nameOf(node)))
}

// nameOf returns what a node is called.
func (s *site) nameOf(node tributary.NodeID) string {
	for _, m := range s.others() {
		if m.Node == node && m.Name != "" {
			return m.Name
		}
	}
	return node.String()
}

// keepers returns the nodes that may keep copies.
func (s *site) keepers() (all []tributary.NodeID) {
	for _, n := range s.nodes() {
		if s.roster.State(n.ID) == roster.Member {
			all = append(all, n.ID)
		}
	}
	return all
}

func (s *site) acknowledged(ledger tributary.LedgerID) tributary.LSN {
	if s.acks == nil {
		return s.node.log.Durable()
	}
	lac, _ := s.acks.Acked(ledger)
	return lac
}

// confirmed returns a ledger of this node as it is to be forwarded, and who is told: if
// devices wait for copies, QoS 2 is forwarded when they were answered (R22), and what is
// in Kafka needs no copy (R11).
func (s *site) confirmed(src *store.Reader, up *uplinkState) (uplink.Source, uplink.Observer) {
	if s == nil {
		return src, up
	}
	whole := &takeover.Healing{Reader: src}
	if s.acks == nil {
		return whole, up
	}
	id := src.Ledger()
	lac := func() tributary.LSN {
		lac, known := s.acks.Acked(id)
		if !known && id != s.node.log.Ledger() {
			return math.MaxUint64 // nobody waits for an answer
		}
		return lac
	}
	return &uplink.Confirmed{Source: whole, LAC: lac, Waits: ingest.IsQoS2}, answering{up, s}
}

// answering is the observer of a ledger of this node that devices may wait for.
type answering struct {
	*uplinkState

	site *site
}

// Committed implements uplink.Observer.
func (a answering) Committed(c uplink.Commit) {
	a.uplinkState.Committed(c)
	a.site.acks.InKafka(c.Position.Ledger, c.Position.Next)
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
	for _, l := range all {
		position := s.position(l.ID)
		if l.To <= position && !l.Live && !wanted[l.ID] && !s.view.News(l.ID, time.Now()) {
			continue
		}
		st.Held = append(st.Held, peer.Held{
			Ledger: l.ID, Base: l.From, Durable: l.To, Chain: l.ToChain, Position: position,
			Forwarding: s.taking.Forwards(l.ID) || l.Live && st.KafkaReached, Holding: s.isAtMark(l.ID), Own: !l.Copy,
		})
	}
	for _, n := range s.roster.Standings() {
		st.Nodes = append(st.Nodes, peer.Standing{Node: n.Node, Version: n.Version, State: uint8(n.State)})
	}
	s.settle(s.whoami().Node, st)
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
		holds[i] = view.Holding{Ledger: h.Ledger, Base: h.Base, Durable: h.Durable, Position: h.Position, Forwards: h.Forwarding, AtMark: h.Holding}
	}
	s.told(st.Nodes)
	s.settle(from.Node, st)
	believed, doubt := s.view.Heard(from.Node, st.Live, holds, time.Now())
	if doubt != nil {
		s.node.logger.Warn("a peer says what cannot be; it is left out", "peer", from.Name, "what", doubt)
	}
	for _, h := range believed {
		s.noted(h.Ledger, h.Position)
	}
	s.fan.heard(from.Node, st, time.Now())
}

// moved notes that Kafka has all of a ledger below next. What this node has written
// is for the uplink to say, with the packet ids that go with it.
func (s *site) moved(id tributary.LedgerID, next tributary.LSN) {
	s.view.Moved(id, next, time.Now())
	s.noted(id, next)
	if s.acks != nil && s.node.log.Writes(id) {
		s.acks.InKafka(id, next)
	}
}

// noted tells the log.
func (s *site) noted(id tributary.LedgerID, next tributary.LSN) {
	if !s.node.log.Wrote(id) {
		s.node.log.Forwarded(id, s.fan.limit(id, next))
	}
}

// tookOver notes what this node has forwarded for another.
func (s *site) tookOver(c uplink.Commit) {
	s.node.up.tookOver(c)
	s.moved(c.Position.Ledger, c.Position.Next)
}

// Moved implements uplink.Watcher.
func (s *site) Moved(p tributary.Position) { s.moved(p.Ledger, p.Next) }

// Read implements uplink.Watcher.
func (s *site) Read(at time.Time) { s.view.ReadKafka(at) }

// ofCopies returns how far Kafka is with the copies that this node holds, so that the
// next start need not ask for each of them.
func (s *site) ofCopies() (all []tributary.Position) {
	if s == nil {
		return nil
	}
	for _, c := range (copied{s.node.log, s}).Copies() {
		if next := s.view.Position(c.Ledger); next > 0 {
			all = append(all, tributary.Position{Ledger: c.Ledger, Next: next})
		}
	}
	return all
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
	g.Alarms, g.Stuck = s.alarms.shown(), []status.Stuck{}
	for _, k := range s.taking.Stuck() {
		g.Stuck = append(g.Stuck, status.Stuck{Ledger: k.Ledger.String(), From: uint64(k.From), To: uint64(k.To), Seconds: time.Since(k.Since).Seconds()})
	}
	g.LetIn, g.Unverified, g.AtMark = s.arrived()
	for _, l := range s.node.log.Ledgers() {
		if !l.Copy {
			continue
		}
		held, _ := l.Behind(s.view.Position(l.ID))
		g.Copies = append(g.Copies, status.Copy{
			Ledger: l.ID.String(), From: uint64(l.From), To: uint64(l.To), Waiting: uint64(held), Forwarding: s.taking.Forwards(l.ID),
		})
	}
	return g
}
