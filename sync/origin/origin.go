// Package origin is who wrote a ledger: its opening record says it, in every copy
// that has it.
package origin

import (
	"encoding/json"

	"github.com/tributary-edge/tributary"
)

// Key is the key of the opening record.
const Key = "open"

// An Opening is the first record of a ledger.
type Opening struct {
	Format  int    `json:"v"` // of this record
	Node    string `json:"node"`
	NodeID  string `json:"node_id"`
	Site    string `json:"site"`
	Boots   uint64 `json:"boots"` // counts the starts of the node
	Version string `json:"version"`
}

// Value returns the value of the opening record.
func (o Opening) Value() []byte {
	o.Format = 1
	value, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings and numbers
	}
	return value
}

// An Origin is which node wrote a ledger, and in which of its lives: what devices
// sent is in the order of the lives (U2). The zero Origin is not known.
type Origin struct {
	Node  tributary.NodeID
	Boots uint64
}

// Known says whether it is known who wrote the ledger.
func (o Origin) Known() bool { return o != Origin{} }

// Parse reads an origin from the value of an opening record. What cannot be read
// is not known.
func Parse(value []byte) Origin {
	var said Opening
	if json.Unmarshal(value, &said) != nil {
		return Origin{}
	}
	node, err := tributary.ParseNodeID(said.NodeID)
	if err != nil {
		return Origin{}
	}
	return Origin{node, said.Boots}
}
