package member

import (
	"net/netip"
	"time"

	"github.com/hashicorp/serf/serf"
)

// A Conflict is one NodeID in two places: the card or the data directory of a
// node was copied, or an old image of it was started. Known is the one that gossip
// believes, which may be this node; Other claims to be it as well. What to do is
// the caller's to decide (R3); gossip goes on with Known.
type Conflict struct {
	Known, Other Member
}

const (
	// moveTime is more than it takes until a node that has come back at another
	// address is believed: only a claim that lasts longer is a conflict.
	moveTime = 20 * time.Second
	// claimLife is how long after its last repetition a claim is forgotten.
	claimLife = 2 * time.Minute
	// reportEvery is how often a conflict that lasts is reported.
	reportEvery = time.Minute
)

// A claim is what somebody says who is not the node that is known by this name.
type claim struct {
	address                     netip.AddrPort
	nonce                       uint64
	first, last, reportedLately time.Time
}

// NotifyMerge implements serf.MergeDelegate: it sees each node that is told of,
// before it is believed. It only looks.
func (m *Members) NotifyMerge(told []*serf.Member) error {
	for _, s := range told {
		if other, err := read(s); err == nil && s.Status != serf.StatusLeft { // refresh counts the unreadable
			other.State = Alive
			m.hear(other)
		}
	}
	return nil
}

// hear compares what is told with what is known. A node that comes back from a
// crash at another address looks like a clone, until gossip has noticed that the
// old one is dead. A clone is certain if it has the same boot counter, or if
// somebody has started this very node since it started; otherwise it is one if the
// claim is repeated for longer than a move takes.
func (m *Members) hear(other Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := other.Node == m.cfg.Node
	known := m.self
	if !own {
		known = m.peers[other.Node]
	}
	if known.State != Alive || other.Nonce == known.Nonce || other.GossipAddress == known.GossipAddress {
		return
	}
	certain := other.Boot == known.Boot || own && other.Boot > known.Boot
	now := time.Now()
	c := m.claims[other.Node]
	if c.address != other.GossipAddress || c.nonce != other.Nonce || now.Sub(c.last) > claimLife {
		c = claim{address: other.GossipAddress, nonce: other.Nonce, first: now}
	}
	c.last = now
	if (certain || now.Sub(c.first) > moveTime) && now.Sub(c.reportedLately) >= reportEvery {
		c.reportedLately = now
		other.Since = c.first
		m.report(Conflict{Known: known, Other: other})
	}
	m.claims[other.Node] = c
}

// report leaves a conflict for Run to tell the caller. m.mu is held.
func (m *Members) report(c Conflict) {
	const maxUnreported = 16
	m.reported++
	if len(m.conflicts) < maxUnreported {
		m.conflicts = append(m.conflicts, c)
	}
	signal(m.kick)
}

// tellConflicts tells the caller of the conflicts found since the last call.
func (m *Members) tellConflicts() {
	m.mu.Lock()
	conflicts := m.conflicts
	m.conflicts = nil
	m.mu.Unlock()
	for _, c := range conflicts {
		m.log.Warn("two processes use the id of one node", "node", c.Known.Node,
			"known", c.Known.GossipAddress, "known_boot", c.Known.Boot, "other", c.Other.GossipAddress, "other_boot", c.Other.Boot)
		if m.cfg.Conflict != nil {
			m.cfg.Conflict(c)
		}
	}
}
