package edge

import (
	"context"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/handoff"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/roster"
	"github.com/tributary-edge/tributary/sync/uplink"
)

// openHandoffs prepares to let in devices that come from other gateways.
func (s *site) openHandoffs() {
	log := heldLog{s.node.log}
	s.atMark = map[tributary.LedgerID]bool{}
	s.handoffs = handoff.New(handoff.Config{
		Self: func() peer.Process { h := s.whoami(); return peer.Process{Node: h.Node, Nonce: h.Nonce} },
		Site: around{s}, Log: log, Index: handoff.NewIndex(log, s.position),
		Close:  func(ctx context.Context, clients []string) error { return s.node.door.Yield(ctx, clients) },
		Writes: s.node.log.Writes,
		Append: func(r *record.Record) error { _, err := s.node.log.Append(r, tributary.Ticket{}); return err },
		Copies: s.wanted, Refuse: s.node.cfg.Ack.RefuseAlone, Logger: s.node.logger,
	})
	s.keeper.Asked, s.keeper.Promise = s.handoffs.Answer, s.promise
}

// heldLog fits the log to handoff.
type heldLog struct{ log *store.Log }

// Held implements handoff.Log.
func (l heldLog) Held() (all []handoff.Held) {
	for _, i := range l.log.Ledgers() {
		all = append(all, handoff.Held{Ledger: i.ID, From: i.From, To: i.To})
	}
	return all
}

// Read implements handoff.Log.
func (l heldLog) Read(id tributary.LedgerID) (handoff.Reader, error) { return l.log.Reader(id) }

// Settle implements handoff.Log.
func (l heldLog) Settle(ctx context.Context) error { return l.log.Settle(ctx) }

// around fits the other gateways to handoff.
type around struct{ site *site }

// Members implements handoff.Site.
func (a around) Members() []tributary.NodeID { return a.site.roster.Members() }

// Alive implements handoff.Site.
func (a around) Alive(n tributary.NodeID) bool { return a.site.view.Alive(n, time.Now()) }

// Say implements handoff.Site.
func (a around) Say(to tributary.NodeID, m peer.Message) bool {
	a.site.mu.Lock()
	x := a.site.exchange
	a.site.mu.Unlock()
	return x != nil && x.Say(to, m)
}

// CloseStreams implements handoff.Site.
func (a around) CloseStreams(ctx context.Context, of []peer.Process, silent []tributary.NodeID) error {
	nonces, mute := map[tributary.NodeID]uint64{}, map[tributary.NodeID]bool{}
	for _, p := range of {
		nonces[p.Node] = p.Nonce
	}
	for _, n := range silent {
		mute[n] = true
	}
	return a.site.keeper.Cut(ctx, func(h *peer.Hello) bool {
		nonce, known := nonces[h.Node]
		return mute[h.Node] || known && nonce != h.Nonce
	})
}

// Holders implements handoff.Site.
func (a around) Holders(l tributary.LedgerID, lsn tributary.LSN) (n int) {
	for _, id := range a.site.view.There(time.Now()) {
		for _, h := range a.site.view.Holds(id) {
			if h.Ledger == l && h.Durable > lsn {
				n++
			}
		}
	}
	return n
}

// Position implements handoff.Site, and uplink.Marks.
func (a around) Position(l tributary.LedgerID) tributary.LSN { return a.site.position(l) }

// Wrote implements handoff.Site.
func (a around) Wrote(l tributary.LedgerID) bool { return a.site.node.log.Wrote(l) }

// Holds implements uplink.Marks.
func (a around) Holds(l tributary.LedgerID, end tributary.LSN) bool {
	from, to, _, held := a.site.node.log.Held(l)
	return held && from <= a.site.position(l) && to >= end
}

// KafkaRead implements uplink.Marks.
func (a around) KafkaRead() time.Time { return a.site.view.KafkaRead() }

// Found implements uplink.Marks.
func (a around) Found(p tributary.Position) { a.site.moved(p.Ledger, p.Next) }

// Holding implements uplink.Marks.
func (a around) Holding(l tributary.LedgerID, is bool) {
	s := a.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if is {
		s.atMark[l] = true
	} else {
		delete(s.atMark, l)
	}
}

// arrived is what a report has of hand-offs.
func (s *site) arrived() (letIn, unverified uint64, atMark []string) {
	c := s.handoffs.Count()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.atMark {
		atMark = append(atMark, id.String())
	}
	slices.Sort(atMark)
	return c.Handoffs, c.Unverified, atMark
}

func (s *site) isAtMark(l tributary.LedgerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.atMark[l]
}

// holdAtMarks has a forwarder stop at the marks of hand-offs, if there are other
// gateways.
func (s *site) holdAtMarks(cfg *uplink.Config) {
	if s != nil {
		cfg.Marks, cfg.Strict, cfg.Hold = around{s}, s.node.cfg.Site.Strict, s.holdFor
	}
}

// answered takes what a peer answers.
func (s *site) answered(from *peer.Hello, m peer.Message) {
	switch m := m.(type) {
	case *peer.Echo:
		s.handoffs.Echoed(from, s.node.started.Add(time.Duration(m.SentMillis)*time.Millisecond), m)
	case *peer.Shared:
		s.alike.answered(from.Node, m)
	default:
		s.handoffs.Answered(from, m)
		s.keeper.Answered(from, m)
	}
}

// promise says for how long this node cannot acknowledge anything with too few copies
// (R44).
func (s *site) promise(e *peer.Echo) {
	e.Refuses, e.Copies = s.node.cfg.Ack.RefuseAlone, uint8(s.wanted())
	if s.acks != nil && !s.hasUnprotected() {
		e.SlackMillis = uint64(s.acks.Slack(s.position).Milliseconds())
	}
}

// hasUnprotected says whether this node holds records of processes that are gone,
// perhaps acknowledged with too few copies, that are neither in Kafka nor on enough
// other nodes. For a ledger that lives its writer answers.
func (s *site) hasUnprotected() bool {
	live := s.node.log.Ledger()
	for _, l := range s.node.log.Ledgers() {
		if l.ID == live || l.To <= s.position(l.ID) || s.view.Written(l.ID, time.Now()) {
			continue
		}
		if (around{s}).Holders(l.ID, l.To-1) < s.wanted() {
			return true
		}
	}
	return false
}

// settle notes what a node holds and whom it knows to be lost, as it says. What has more
// ledgers than a Status can tell of is not settled yet.
func (s *site) settle(from tributary.NodeID, st *peer.Status) {
	if len(st.Held) >= peer.MaxLedgers {
		return
	}
	var lost []tributary.NodeID
	for _, n := range st.Nodes {
		if roster.State(n.State) == roster.Lost {
			lost = append(lost, n.Node)
		}
	}
	ends := make(handoff.Ends, len(st.Held))
	for i := range st.Held {
		ends[st.Held[i].Ledger] = st.Held[i].Durable
	}
	s.handoffs.Said(from, lost, ends)
}

// arrivals fits handoff to the door.
type arrivals struct{ site *site }

// Take implements ingest.Handoff.
func (a arrivals) Take(ctx context.Context, client string) (ingest.Arrival, error) {
	h := a.site.handoffs
	got, err := h.Take(ctx, client)
	if err != nil {
		return ingest.Arrival{}, err
	}
	out := ingest.Arrival{Epoch: got.Epoch, Doubtful: got.Doubtful, Known: got.Known, Gone: got.Gone, Decide: h.Decide}
	if got.Unverified {
		out.Flags |= mark.Unverified
	}
	return out, nil
}
