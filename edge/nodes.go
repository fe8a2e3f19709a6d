package edge

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/member"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/roster"
	"github.com/tributary-edge/tributary/sync/view"
)

// members is the guard of the door of a node of a site: one that was removed takes no
// clients (R71).
type members struct {
	*auth.Guard

	site *site
}

const errRemoved = "this node was removed from its site: it takes no clients until it is added again"

// Authenticate implements ingest.Guard.
func (m members) Authenticate(ctx context.Context, c *auth.Credentials) (auth.Identity, error) {
	if m.site.roster.Self() != roster.Member {
		return auth.Identity{}, &auth.Refusal{Code: packet.CodeUseAnotherServer, Why: errRemoved}
	}
	return m.Guard.Authenticate(ctx, c)
}

// Stands implements ingest.Guard.
func (m members) Stands(i *auth.Identity, cs *tls.ConnectionState) error {
	if m.site.roster.Self() != roster.Member {
		return errors.New(errRemoved)
	}
	return m.Guard.Stands(i, cs)
}

// told takes what a peer says of who is of the site.
func (s *site) told(nodes []peer.Standing) {
	all := make([]roster.Standing, len(nodes))
	for i, n := range nodes {
		all[i] = roster.Standing{Node: n.Node, Version: n.Version, State: roster.State(n.State)}
	}
	if s.roster.Merge(all) {
		s.saveRoster()
		s.changed()
	}
}

// changed acts on what this node is to the site now.
func (s *site) changed() {
	if s.roster.Self() != roster.Member {
		s.node.logger.Warn(errRemoved, "disconnected", s.node.door.Recheck())
	}
}

// joined notes that a node was let in.
func (s *site) joined(node tributary.NodeID) error { return s.roster.Add(node) }

// remove removes a node from the site.
func (s *site) remove(node tributary.NodeID, lost bool) error {
	err := s.roster.Remove(node, lost)
	s.changed()
	return err
}

// leave waits until this node is removed, and all that it holds is in Kafka: then
// nobody has to wait for it any more (R70).
func (s *site) leave(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if s.roster.Self() != roster.Removed || s.owes() {
			continue
		}
		if err := s.roster.Leave(); err != nil {
			s.node.logger.Warn("could not note that this node has left its site; it is tried again", "error", err)
			continue
		}
		s.node.logger.Info("this node was removed from its site, and all that it held is in Kafka: it can be switched off")
	}
}

// owes says whether this node holds something that Kafka lacks.
func (s *site) owes() bool {
	return slices.ContainsFunc(s.node.log.Ledgers(), func(l store.LedgerInfo) bool {
		held, gone := l.Behind(s.position(l.ID))
		return held+gone > 0
	})
}

// rows are the nodes of the site, as this one sees them.
func (s *site) rows() (all []status.Node) {
	self := s.whoami().Node
	copied := map[tributary.NodeID]tributary.LSN{}
	if s.acks != nil {
		copied = s.acks.Peers(s.node.log.Ledger())
	}
	gossiped := map[tributary.NodeID]member.Member{}
	for _, m := range s.others() {
		gossiped[m.Node] = m
	}
	for _, n := range s.roster.Nodes() {
		row := status.Node{ID: n.Node.String(), Name: n.Name, Standing: n.State.String(), State: "unknown", Forwards: []string{}}
		holds := s.view.Holds(n.Node)
		if m, known := gossiped[n.Node]; known {
			row.Name, row.Address, row.State = m.Name, m.PeerAddress.String(), m.State.String()
		}
		if n.Node == self {
			row.Name, row.State, holds = s.node.cfg.Node.Name, "this", s.holds()
			if at := s.addresses(); len(at) > 0 {
				row.Address = at[0]
			}
		}
		if to, keeps := copied[n.Node]; keeps {
			row.Copied, row.Behind = uint64(to), uint64(s.node.log.Durable()-min(s.node.log.Durable(), to))
		}
		for _, h := range holds {
			if position := max(h.Position, s.position(h.Ledger)); h.Durable > position {
				row.Ledgers++
				row.Records += uint64(h.Durable - position)
			}
			if h.Forwards {
				row.Forwards = append(row.Forwards, h.Ledger.String())
			}
		}
		all = append(all, row)
	}
	return all
}

// holds is what this node holds.
func (s *site) holds() (all []view.Holding) {
	said := s.says()
	for i := range said.Held {
		h := &said.Held[i]
		all = append(all, view.Holding{Ledger: h.Ledger, Durable: h.Durable, Position: h.Position, Forwards: h.Forwarding})
	}
	return all
}

func (s *site) answerNodes(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.rows())
}

// answerRemove removes the node that is named by its name or its id.
func (s *site) answerRemove(w http.ResponseWriter, req *http.Request) {
	node, err := named(s.rows(), req.FormValue("node"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id, err := tributary.ParseNodeID(node.ID)
	if err == nil {
		err = s.remove(id, req.FormValue("lost") == "true")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.node.logger.Warn("a node was removed from the site", "node", node.ID, "name", node.Name, "lost", req.FormValue("lost") == "true")
	s.answerNodes(w, req)
}

// named returns the one node that has a name, or whose id begins with it.
func named(all []status.Node, name string) (status.Node, error) {
	found := slices.DeleteFunc(slices.Clone(all), func(n status.Node) bool {
		return n.Name != name && (len(name) < leastOfID || !strings.HasPrefix(n.ID, name))
	})
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return status.Node{}, fmt.Errorf("no node of the site is called %q, and none has an id that begins so; nothing was changed: tributary nodes lists them", name)
	}
	return status.Node{}, fmt.Errorf("%d nodes of the site are called %q, or have ids that begin so; nothing was changed: name it by its id, as tributary nodes has it", len(found), name)
}

// leastOfID is how many digits of an id are enough.
const leastOfID = 8
