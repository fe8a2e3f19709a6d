package uplink

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/tributary-edge/tributary"
)

// positionVersion is the version of the position record that this code writes,
// and the newest that it reads: docs/format/positions.md.
const positionVersion = 1

// position is the value of a position record.
type position struct {
	Version        int    `json:"v"`
	Next           uint64 `json:"next"`
	Chain          string `json:"chain"` // 16 hexadecimal digits
	Node           string `json:"node"`
	KafkaClusterID string `json:"kafka_cluster_id"`
	Transactions   uint64 `json:"txns"` // of this ledger, by all its forwarders
}

func (p position) encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("encode position: %v", err)) // strings and numbers always encode
	}
	return b
}

// decodePosition reads the value of a position record. A value that it cannot
// read is an error and never "no position": a ledger sent again from its start
// would be in Kafka twice.
func decodePosition(value []byte) (position, error) {
	var p position
	if value == nil {
		return p, fmt.Errorf("it was deleted (a tombstone)")
	}
	var v struct {
		Version *int    `json:"v"`
		Next    *uint64 `json:"next"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return p, fmt.Errorf("it is not a position: %w", err)
	}
	if v.Version == nil || *v.Version < 1 || v.Next == nil {
		return p, fmt.Errorf("it has no version or no next LSN")
	}
	if *v.Version > positionVersion {
		return p, fmt.Errorf("it has version %d, and this program knows %d", *v.Version, positionVersion)
	}
	if err := json.Unmarshal(value, &p); err != nil {
		return p, fmt.Errorf("it is not a position: %w", err)
	}
	if _, err := p.chain(); err != nil {
		return p, err
	}
	return p, nil
}

func (p position) chain() (uint64, error) {
	chain, err := strconv.ParseUint(p.Chain, 16, 64)
	if err != nil || len(p.Chain) != 16 {
		return 0, fmt.Errorf("its chain %q is not 16 hexadecimal digits", p.Chain)
	}
	return chain, nil
}

// position is the record that s writes together with everything below next.
func (s *session) position(next tributary.LSN, chain uint64) position {
	return position{
		Version:        positionVersion,
		Next:           uint64(next),
		Chain:          fmt.Sprintf("%016x", chain),
		Node:           s.cfg.Node,
		KafkaClusterID: s.clusterID,
		Transactions:   s.transactions + 1,
	}
}
