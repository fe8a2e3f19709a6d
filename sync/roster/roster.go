// Package roster is who belongs to the site: which nodes have ever been seen, and
// which of them an operator has removed. Each node writes it down, and all tell each
// other, so that in the end all know the same (R3, R70, R71).
package roster

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/tributary-edge/tributary"
)

// A State is what a node is to the site. Of two that are told with one version the
// higher counts.
type State uint8

// The states of a node.
const (
	Member  State = 1 + iota // it takes devices, and keeps copies
	Removed                  // it is to take no devices, and may not know it yet
	Gone                     // it is removed, knows it, and all that it held is in Kafka
	Lost                     // it is removed, and an operator says that it never returns
)

// String returns the word used in status and log lines.
func (s State) String() string {
	switch s {
	case Member:
		return "member"
	case Removed:
		return "removed"
	case Gone:
		return "gone"
	case Lost:
		return "lost"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// A Standing is what a node is to the site, as nodes tell each other. Version grows
// whenever somebody removes the node, or adds it again.
type Standing struct {
	Node    tributary.NodeID
	Version uint64
	State   State
}

// overrules says whether s is newer than t.
func (s Standing) overrules(t Standing) bool {
	return cmp.Or(cmp.Compare(s.Version, t.Version), cmp.Compare(s.State, t.State)) > 0
}

// A Node is one that belongs to the site, or did.
type Node struct {
	Standing

	Name  string // for people, as it said last; "" if it was never seen here
	Boot  uint64 // of the latest process that was seen; 0 if none was
	Nonce uint64
}

// Most is how many nodes a roster has at most, those that were removed included.
const Most = 64

// A Roster is for many goroutines at once.
type Roster struct {
	self tributary.NodeID
	path string

	mu    sync.Mutex // guards what follows, and the file
	nodes []Node     // in the order of their ids; this one is always among them
}

// An ImpostorError says that a process is not the latest one of its node: its data
// directory was copied, or is an old image (R3).
type ImpostorError struct {
	Node        tributary.NodeID
	Boot, Nonce uint64 // of the one that is known
}

// Error implements error.
func (e *ImpostorError) Error() string {
	return fmt.Sprintf("a later process of node %v is known, of its start number %d: this one was copied from it, or comes from an old image of its disk", e.Node, e.Boot)
}

// Later says which of two processes of one node that meet stays what it is: the one
// with the higher number of its start, and of two copies that were started equally
// often the one with the higher nonce.
func Later(boot, nonce, thanBoot, thanNonce uint64) bool {
	return cmp.Or(cmp.Compare(boot, thanBoot), cmp.Compare(nonce, thanNonce)) > 0
}

// Admit notes that a process of a node is there; Save makes that durable. It returns
// an *ImpostorError if a later one is known, or another one with the same number of
// its start, and another error if there is no room for one more node. news says that it is another process than before.
func (r *Roster) Admit(node tributary.NodeID, name string, boot, nonce uint64) (news bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.find(node)
	if n == nil {
		if n = r.add(Standing{Node: node, State: Member}); n == nil {
			return false, fmt.Errorf("the site has %d nodes, those that were removed included, and can have no more", Most)
		}
	}
	if boot < n.Boot || boot == n.Boot && nonce != n.Nonce {
		return false, &ImpostorError{node, n.Boot, n.Nonce}
	}
	if n.Boot == boot && n.Nonce == nonce && n.Name == name {
		return false, nil
	}
	news = n.Boot != boot || n.Nonce != nonce
	n.Name, n.Boot, n.Nonce = name, boot, nonce
	return news, nil
}

// Merge takes what another node tells, and says whether that was news.
func (r *Roster) Merge(told []Standing) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range told {
		if s.State < Member || s.State > Lost {
			continue
		}
		n := r.find(s.Node)
		if n == nil && r.add(s) != nil {
			news = true
		} else if n != nil && s.overrules(n.Standing) {
			n.Standing, news = s, true
		}
	}
	return news
}

// Remove notes that a node is no longer one of the site; lost says that it never
// returns, and what only it held is gone. To remove a node again changes nothing,
// unless it is lost now.
func (r *Roster) Remove(node tributary.NodeID, lost bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.find(node)
	if n == nil {
		return fmt.Errorf("node %v is not known here", node)
	}
	if n.State == Member {
		n.Version++
		n.State = Removed
	}
	if lost {
		n.State = Lost
	}
	return r.save()
}

// Add notes that a node is one of the site, though it may have been removed before.
func (r *Roster) Add(node tributary.NodeID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch n := r.find(node); {
	case n != nil && n.State == Member:
		return nil
	case n != nil:
		n.Standing = Standing{node, n.Version + 1, Member}
	case r.add(Standing{Node: node, State: Member}) == nil:
		return fmt.Errorf("the site has %d nodes, those that were removed included, and can have no more", Most)
	}
	return r.save()
}

// Leave notes that this node, which is removed, knows it and holds nothing that others
// wait for.
func (r *Roster) Leave() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.find(r.self); n.State == Removed {
		n.State = Gone
		return r.save()
	}
	return nil
}

// Save makes durable what Admit and Merge have noted.
func (r *Roster) Save() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.save()
}

// State returns what a node is; Member if it is not known, as whoever has a
// certificate of the site is one.
func (r *Roster) State(node tributary.NodeID) State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.find(node); n != nil {
		return n.State
	}
	return Member
}

// Self returns what this node is.
func (r *Roster) Self() State { return r.State(r.self) }

// Nodes returns all nodes, this one included, in the order of their ids.
func (r *Roster) Nodes() []Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.nodes)
}

// Members returns the nodes that a hand-off has to ask, without this one, in order:
// those of the site, and those that were removed and may not know it (R70). A node
// that is gone or lost is not waited for.
func (r *Roster) Members() (all []tributary.NodeID) {
	for _, n := range r.Nodes() {
		if n.Node != r.self && n.State <= Removed {
			all = append(all, n.Node)
		}
	}
	return all
}

// Alone says whether this node has known others, and all of them were removed.
func (r *Roster) Alone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.nodes) > 1 && !slices.ContainsFunc(r.nodes, func(n Node) bool { return n.Node != r.self && n.State == Member })
}

// Standings returns what others are to be told.
func (r *Roster) Standings() []Standing {
	var all []Standing
	for _, n := range r.Nodes() {
		all = append(all, n.Standing)
	}
	return all
}

// Become makes this node another one (R3). The one that it was stays known.
func (r *Roster) Become(self tributary.NodeID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.self = self
	if r.find(self) == nil && r.add(Standing{Node: self, State: Member}) == nil {
		return fmt.Errorf("the site has %d nodes, those that were removed included, and can have no more", Most)
	}
	return r.save()
}

func (r *Roster) find(id tributary.NodeID) *Node {
	i, found := r.search(id)
	if !found {
		return nil
	}
	return &r.nodes[i]
}

func (r *Roster) search(id tributary.NodeID) (int, bool) {
	return slices.BinarySearchFunc(r.nodes, id, func(n Node, id tributary.NodeID) int { return bytes.Compare(n.Node[:], id[:]) })
}

// add adds a node that is not there, and returns nil if there is no room.
func (r *Roster) add(s Standing) *Node {
	if len(r.nodes) >= Most {
		return nil
	}
	i, _ := r.search(s.Node)
	r.nodes = slices.Insert(r.nodes, i, Node{Standing: s})
	return &r.nodes[i]
}
