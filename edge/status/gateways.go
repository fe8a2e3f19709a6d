package status

import (
	"fmt"
	"strings"
)

// Gateways is the site as one node sees it. A node that is alone has none.
type Gateways struct {
	Peers  []Peer `json:"peers"` // the other nodes, those too that are not there
	Copies []Copy `json:"copies"`
	Nodes  []Node `json:"nodes,omitempty"` // all of the site, this one too: who holds what, and who forwards

	Wanted      int      `json:"copies_wanted"`    // on peers, before a device gets its acknowledgement
	Refuses     bool     `json:"refuses"`          // it waits for as long as they are missing
	Short       bool     `json:"short"`            // it gets it without them, because too few peers have them
	Unprotected uint64   `json:"unprotected"`      // records acknowledged in that way, since the start
	Alarms      []string `json:"alarms,omitempty"` // raised within a day

	Stuck []Stuck `json:"stuck"` // ledgers of others that cannot be forwarded from here

	Waiting        int     `json:"waiting"`         // records on this disk that wait for copies
	WaitingSeconds float64 `json:"waiting_seconds"` // the oldest of them

	LetIn      uint64   `json:"let_in"`            // devices for which the other nodes were asked, since the start
	Unverified uint64   `json:"unverified"`        // of these, those whose records are flagged, because a node did not answer
	AtMark     []string `json:"at_mark,omitempty"` // ledgers that wait for what their devices sent to other nodes before
}

// A Peer is another node of the site.
type Peer struct {
	Node    string `json:"node"`
	Name    string `json:"name"`
	Address string `json:"address"`
	State   string `json:"state"`  // alive, failed, left: what gossip says
	Copied  uint64 `json:"copied"` // it has the live ledger of this node durably, below this record
}

// A Copy is what this node holds of a ledger that another node has written.
type Copy struct {
	Ledger     string `json:"ledger"`
	From       uint64 `json:"from"`
	To         uint64 `json:"to"`
	Waiting    uint64 `json:"waiting"`    // records of it that Kafka lacks, as far as is known
	Forwarding bool   `json:"forwarding"` // this node sends it, in place of its writer
}

// A Stuck is a ledger of another node whose records [From, To) come next and are
// damaged in the copy that this node holds.
type Stuck struct {
	Ledger  string  `json:"ledger"`
	From    uint64  `json:"from"`
	To      uint64  `json:"to"`
	Seconds float64 `json:"seconds"` // since when
}

// stuckFor is for how many seconds another gateway may take to give what is damaged
// before a person is asked.
const stuckFor = 60

func (r *Report) judgeGateways() {
	g := r.Gateways
	if g == nil {
		return
	}
	for _, what := range g.Alarms {
		r.say(Yellow, "%s", what)
	}
	for i := range g.Stuck {
		if k := &g.Stuck[i]; k.Seconds > stuckFor {
			r.say(Red, "records %d to %d of ledger %s, which another gateway wrote, are damaged here, and no gateway that is there has them: nothing behind them goes to Kafka. Bring back a gateway that has a copy, or give them up with \"tributary skip %s\"",
				k.From, k.To-1, k.Ledger, k.Ledger)
		}
	}
	missing := g.Wanted - g.there()
	switch {
	case g.Refuses && (missing > 0 || g.WaitingSeconds > longWait):
		r.say(Red, "devices wait: %d of the %d peers that must have copies are there, and [ack] if_peers_missing is \"refuse\". Bring a peer back. %d records wait, for %.0f s",
			g.there(), g.Wanted, g.Waiting, g.WaitingSeconds)
	case g.Short:
		r.say(Yellow, "too few peers have copies of what devices send (%d wanted): it is acknowledged when it is on this disk alone; %d records were, since the start. Bring a peer back", g.Wanted, g.Unprotected)
	case missing > 0:
		r.say(Yellow, "%d of the %d peers that should have copies are there: what devices send is acknowledged when Kafka has it, or five seconds late, when it is on this disk alone. Bring a peer back", g.there(), g.Wanted)
	}
}

// longWait is for how many seconds copies may be waited for before that is a reason.
const longWait = 10

// there returns how many peers are there.
func (g *Gateways) there() (n int) {
	for i := range g.Peers {
		if g.Peers[i].State == "alive" {
			n++
		}
	}
	return n
}

// text is one line for people.
func (g *Gateways) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d peers there", g.there(), len(g.Peers))
	for i := range g.Peers {
		p := &g.Peers[i]
		fmt.Fprintf(&b, "   %s %s", p.Name, p.State)
		if p.Copied > 0 {
			fmt.Fprintf(&b, ", has %d", p.Copied)
		}
	}
	var waiting uint64
	sending := 0
	for i := range g.Copies {
		waiting += g.Copies[i].Waiting
		if g.Copies[i].Forwarding {
			sending++
		}
	}
	fmt.Fprintf(&b, "   copies held %d, %d records of them not in Kafka", len(g.Copies), waiting)
	if sending > 0 {
		fmt.Fprintf(&b, "   forwarding %d for others", sending)
	}
	return b.String()
}
