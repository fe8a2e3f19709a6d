package status

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A Node is one of the site, as the node that was asked sees it.
type Node struct {
	Name     string   `json:"name"`
	ID       string   `json:"id"`
	Address  string   `json:"address"`  // HOST:PORT where others connect; "" if it is not there
	State    string   `json:"state"`    // this, alive, failed, left: what gossip says; or unknown
	Standing string   `json:"standing"` // member, removed, gone, lost: what it is to the site
	Ledgers  int      `json:"ledgers"`  // that it holds something of that Kafka lacks,
	Records  uint64   `json:"records"`  // and how many records those are
	Copied   uint64   `json:"copied"`   // it has the live ledger of the node that was asked durably, below this record,
	Behind   uint64   `json:"behind"`   // and lacks so many
	Forwards []string `json:"forwards"` // ledgers that it forwards to Kafka
}

// shortID is how many digits of an id are shown to people.
const shortID = 8

// WriteNodes writes a table for people.
func WriteNodes(w io.Writer, all []Node) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "NAME\tID\tADDRESS\tSTATE\tNOT IN KAFKA\tCOPY\tFORWARDS")
	for i := range all {
		n := &all[i]
		state := n.State
		if n.Standing != "member" {
			state += ", " + n.Standing
		}
		held, copied, forwards := "-", "-", "-"
		if n.Records > 0 {
			held = fmt.Sprintf("%d records of %d ledgers", n.Records, n.Ledgers)
		}
		switch {
		case n.Copied > 0 && n.Behind > 0:
			copied = fmt.Sprintf("%d behind", n.Behind)
		case n.Copied > 0:
			copied = "complete"
		}
		if len(n.Forwards) > 0 {
			var ids []string
			for _, id := range n.Forwards {
				ids = append(ids, id[:min(len(id), shortID)])
			}
			forwards = strings.Join(ids, " ")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", dash(n.Name), n.ID, dash(n.Address), state, held, copied, forwards)
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
