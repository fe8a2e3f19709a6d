package sitetest

import (
	"bytes"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/member"
)

// gossip stands for sync/member: it has the same list, with the same delays, and costs
// next to nothing. serf has bubbles of its own.
type gossip struct {
	site *site
	host *host
	port *port
	cfg  member.Config

	mu    sync.Mutex // guards what follows
	peers map[tributary.NodeID]member.Member
	heard map[tributary.NodeID]time.Time
	at    map[tributary.NodeID]*port
	told  map[tributary.NodeID]time.Time
}

const (
	gossipEvery = time.Second
	gossipFails = 5 * time.Second // a node that is not heard of for so long has failed
)

func (s *site) gossip(h *host, p *port, c member.Config) *gossip {
	if !p.isDead() {
		s.mu.Lock()
		h.id = c.Node // a node may become another one while it runs (R3)
		s.mu.Unlock()
	}
	return &gossip{
		site: s, host: h, port: p, cfg: c, peers: map[tributary.NodeID]member.Member{},
		heard: map[tributary.NodeID]time.Time{}, at: map[tributary.NodeID]*port{}, told: map[tributary.NodeID]time.Time{},
	}
}

// Run implements edge.Members.
func (g *gossip) Run(ctx context.Context) error {
	g.site.mu.Lock()
	g.site.gossips = append(g.site.gossips, g)
	g.site.mu.Unlock()
	defer func() {
		g.site.mu.Lock()
		defer g.site.mu.Unlock()
		g.site.gossips = slices.DeleteFunc(g.site.gossips, func(o *gossip) bool { return o == g })
	}()
	tick := time.NewTicker(gossipEvery)
	defer tick.Stop()
	for {
		g.look(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// List implements edge.Members.
func (g *gossip) List() []member.Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Values(g.peers), func(a, b member.Member) int { return bytes.Compare(a.Node[:], b.Node[:]) })
}

// look finds out who is there.
func (g *gossip) look(now time.Time) {
	g.site.mu.Lock()
	others := slices.Clone(g.site.gossips)
	g.site.mu.Unlock()
	for _, o := range others {
		if o != g && g.reaches(o) {
			g.hear(o, now)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, p := range g.peers {
		if p.State == member.Alive && now.Sub(g.heard[id]) > gossipFails {
			p.State, p.Since = member.Failed, now
			g.peers[id] = p
		}
	}
}

func (g *gossip) reaches(o *gossip) bool {
	n := g.site.net
	n.mu.Lock()
	defer n.mu.Unlock()
	return !g.port.dead && !o.port.dead && !n.link(g.host.ip, o.host.ip).cut && !n.link(o.host.ip, g.host.ip).cut
}

// hear notes that a process is there. Of two that are one node the one that was there
// first stays.
func (g *gossip) hear(o *gossip, now time.Time) {
	g.mu.Lock()
	id := o.cfg.Node
	m := o.member()
	was, known := g.peers[id]
	clash := id == g.cfg.Node || known && g.at[id] != o.port && !g.at[id].isDead() && now.Sub(g.heard[id]) < gossipFails
	if clash {
		if id == g.cfg.Node {
			was = g.member()
		}
		tell := g.cfg.Conflict != nil && now.Sub(g.told[id]) > time.Minute
		if tell {
			g.told[id] = now
		}
		g.mu.Unlock()
		if tell {
			g.cfg.Conflict(member.Conflict{Known: was, Other: m})
		}
		return
	}
	defer g.mu.Unlock()
	m.State, m.Since = member.Alive, was.Since
	if !known || was.State != member.Alive || was.Nonce != m.Nonce {
		m.Since = now
	}
	g.peers[id], g.heard[id], g.at[id] = m, now, o.port
}

func (g *gossip) member() member.Member {
	at := netip.MustParseAddr(g.host.ip)
	return member.Member{
		Node: g.cfg.Node, Name: g.cfg.Name, Boot: g.cfg.Boot, Nonce: g.cfg.Nonce, Protocol: g.cfg.Protocol,
		GossipAddress: netip.AddrPortFrom(at, member.DefaultPort), PeerAddress: netip.AddrPortFrom(at, g.cfg.PeerPort), State: member.Alive,
	}
}
