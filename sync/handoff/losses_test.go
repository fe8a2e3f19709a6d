package handoff

import (
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/peer"
)

// pair is a site of this node and one other, of whose ledgers Kafka has something.
type pair struct {
	Site

	other    tributary.NodeID
	position map[tributary.LedgerID]tributary.LSN
}

func (p *pair) Members() []tributary.NodeID                 { return []tributary.NodeID{p.other} }
func (p *pair) Position(l tributary.LedgerID) tributary.LSN { return p.position[l] }

// R44 and R70: who is lost held copies that counted. Until Kafka has what the others held
// when they learned of it, a gateway that is silent is one too many.
func TestLostCountsAsSilent(t *testing.T) {
	self, other, lost := tributary.NodeID{1}, tributary.NodeID{2}, tributary.NodeID{3}
	site := &pair{other: other, position: map[tributary.LedgerID]tributary.LSN{}}
	h := New(Config{Site: site, Copies: func() int { return 1 }, Self: func() peer.Process { return peer.Process{Node: self} }})
	h.Echoed(&peer.Hello{Node: other}, time.Now(), &peer.Echo{Refuses: true, Copies: 1})
	is := func(when string, want bool) {
		t.Helper()
		if got := h.covers([]tributary.NodeID{other}); got != want {
			t.Errorf("%s: %t", when, got)
		}
	}
	gone := []tributary.NodeID{lost}
	is("nobody is lost", true)
	h.Said(self, gone, Ends{x: 5})
	is("the silent one may hold anything", false)
	h.Said(other, nil, Ends{x: 7})
	is("it does not know of the loss yet, and may count a copy there", false)
	h.Said(other, gone, Ends{x: 7})
	h.Said(other, gone, Ends{x: 70})
	site.position[x] = 6
	is("a record that the lost one had is not in Kafka", false)
	if !h.covers(nil) {
		t.Error("with nobody silent all is known that there is")
	}
	site.position[x] = 7
	is("all of that time is in Kafka", true)
	h.Said(other, gone, Ends{x: 70})
	is("it stays so", true)
	h.Said(self, nil, nil)
	h.Said(self, gone, Ends{x: 80})
	is("it was added again, and is lost again", false)
}
