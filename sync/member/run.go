package member

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/tributary-edge/tributary"
)

// forget is how long a node that is not there stays in the list.
const forget = 24 * time.Hour

// Run gossips until ctx ends, and then says goodbye, so that others see this node
// as left: that takes 2 s at most. It is called once. The only error is that the
// port cannot be had, also when that happens later, on a change of address; all
// other trouble is a node that is not in the list. When Run has returned the port
// is free; a probe under way may take serf another 2 s to give up.
func (m *Members) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := m.stay(ctx, m.advertised(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// stay gossips under one address, until ctx ends or the address has changed.
func (m *Members) stay(ctx context.Context, at netip.AddrPort) error {
	t, err := listen(ctx, m.cfg.Network, m.cfg.Bind, at, &m.bytes)
	if err != nil {
		return err
	}
	m.begin(at)
	events := make(chan serf.Event, 64)
	s, err := serf.Create(m.configure(t, events))
	if err != nil {
		t.hangUp()
		_ = t.Shutdown() // what Create said is the reason
		return fmt.Errorf("gossip cannot start: %w", err)
	}
	// serf holds its locks while it hands over an event, so that whoever takes
	// it must not ask serf anything.
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		m.watch(events, s.ShutdownCh())
	}()
	joining, stop := context.WithCancel(ctx)
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		m.rejoin(joining, s, at)
	}()
	m.follow(ctx, s, moved)
	stop()
	t.hangUp()
	_ = s.Leave() // it is logged; what more could be done?
	_ = s.Shutdown()
	<-watching
	<-moved
	return nil
}

// configure returns serf's configuration. The intervals are memberlist's for a
// LAN, but for these:
//   - a suspect has 3 s to defend itself, whatever others say: with two or three
//     nodes there is nobody to confirm a suspicion;
//   - news, of which there are few, go out every 100 ms, so that a goodbye is
//     short; without news nothing is sent;
//   - nothing is compressed: packets of this size do not get smaller.
func (m *Members) configure(t *transport, events chan<- serf.Event) *serf.Config {
	gossip := memberlist.DefaultLANConfig()
	gossip.Transport = t
	gossip.SecretKey = m.cfg.Key
	gossip.LogOutput = m.lines
	gossip.DeadNodeReclaimTime = 5 * time.Second // a node may come back at another address
	gossip.SuspicionMult = 3
	gossip.SuspicionMaxTimeoutMult = 1
	gossip.GossipInterval = 100 * time.Millisecond
	gossip.TCPTimeout = 3 * time.Second
	gossip.EnableCompression = false

	c := serf.DefaultConfig()
	c.MemberlistConfig = gossip
	c.NodeName = m.cfg.Node.String()
	c.Tags = m.tags
	c.LogOutput = m.lines
	c.EventCh = events
	c.Merge = m
	c.EnableNameConflictResolution = false // it would shut down one of the two: see Conflict
	c.DisableCoordinates = true            // they would double the size of each probe
	c.ReconnectInterval = forget           // rejoin does it
	c.ReconnectTimeout = forget
	c.TombstoneTimeout = forget
	c.BroadcastTimeout = 800 * time.Millisecond // twice in a goodbye
	c.LeavePropagateDelay = 200 * time.Millisecond
	return c
}

// watch takes events until serf is down. What they say does not matter: refresh
// asks how things are.
func (m *Members) watch(events <-chan serf.Event, down <-chan struct{}) {
	for {
		select {
		case <-events:
			signal(m.kick)
		case <-down:
			return
		}
	}
}

// follow keeps the list until ctx ends or the address has moved.
func (m *Members) follow(ctx context.Context, s *serf.Serf, moved <-chan struct{}) {
	told := map[netip.AddrPort]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-moved:
			return
		case <-m.kick:
		}
		list := s.Members()
		if m.refresh(list) {
			signal(m.change)
		}
		m.tellConflicts()
		m.tellLearned(told)
	}
}

// begin sets where this node is. The nodes that it knew from another address are
// missing until they are met again.
func (m *Members) begin(at netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.self.GossipAddress = at
	m.self.PeerAddress = netip.AddrPortFrom(at.Addr(), m.cfg.PeerPort)
	for id, p := range m.peers {
		if p.State == Alive {
			p.State, p.Since = Failed, time.Now()
			m.peers[id] = p
		}
	}
}

// refresh makes the list what serf says, and says whether it has changed.
func (m *Members) refresh(list []serf.Member) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	seen := map[tributary.NodeID]bool{}
	unreadable := m.unreadable
	m.unreadable = 0
	for i := range list {
		p, err := read(&list[i])
		if err != nil {
			m.unreadable++
			continue
		}
		if p.Node == m.cfg.Node {
			continue
		}
		seen[p.Node] = true
		was, known := m.peers[p.Node]
		if known && p.State == Alive && p.Nonce != was.Nonce && p.Boot <= was.Boot {
			m.report(Conflict{Known: was, Other: p}) // an old image, or a clone after the other
		}
		p.Since = was.Since
		if !known || p.State != was.State || p.Boot != was.Boot || p.Nonce != was.Nonce {
			p.Since = now
			m.log.Info("a node of the site is seen otherwise", "state", p.State, "node", p.Node, "name", p.Name, "address", p.GossipAddress, "boot", p.Boot)
		}
		if p != was {
			m.peers[p.Node] = p
			changed = true
		}
	}
	for id, p := range m.peers {
		if !seen[id] && now.Sub(p.Since) > forget {
			delete(m.peers, id)
			delete(m.claims, id)
			changed = true
		}
	}
	return changed || m.unreadable != unreadable
}

// tellLearned tells the caller of the addresses where somebody is alive that are
// not yet in told.
func (m *Members) tellLearned(told map[netip.AddrPort]bool) {
	if m.cfg.Learned == nil {
		return
	}
	var news []string
	for _, p := range m.List() {
		if p.State == Alive && !told[p.GossipAddress] {
			told[p.GossipAddress] = true
			news = append(news, p.GossipAddress.String())
		}
	}
	if len(news) > 0 {
		m.cfg.Learned(news)
	}
}
