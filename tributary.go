// Package tributary holds the words that every other package speaks: which
// ledger a record is in, and at which number.
//
// It has no behaviour beyond printing, parsing and comparing these words, and
// imports nothing but the standard library. Start reading at package edge for
// the daemon, at log/store for the log, at sync/uplink for the way to Kafka.
package tributary

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
)

// A NodeID names one gateway for life: drawn at first start and kept with the
// data directory. It is not the host name and not the address.
type NodeID [16]byte

// NewNodeID draws a NodeID.
func NewNodeID() (id NodeID) {
	_, _ = rand.Read(id[:]) // never fails: crypto/rand.Read
	return id
}

// String returns the 32 hexadecimal digits used in files and log lines.
func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// ParseNodeID reads what String wrote.
func ParseNodeID(s string) (id NodeID, err error) {
	if id, err = parseID(s); err != nil {
		err = fmt.Errorf("node id %q is not 32 hexadecimal digits", s)
	}
	return id, err
}

func parseID(s string) (id [16]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, errNoID
	}
	return [16]byte(b), nil
}

var errNoID = errors.New("no id")

// A LedgerID names one ledger: what one process wrote during its lifetime.
// Nobody but that process ever appends to it.
type LedgerID [16]byte

// NewLedgerID draws a LedgerID.
func NewLedgerID() (id LedgerID) {
	_, _ = rand.Read(id[:]) // never fails: crypto/rand.Read
	return id
}

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id LedgerID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *LedgerID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseLedgerID(string(text))
	return err
}

// ParseLedgerID reads what String wrote.
func ParseLedgerID(s string) (id LedgerID, err error) {
	if id, err = parseID(s); err != nil {
		err = fmt.Errorf("ledger id %q is not 32 hexadecimal digits", s)
	}
	return id, err
}

// String returns the 32 hexadecimal digits used in files, Kafka keys and log lines.
func (id LedgerID) String() string { return hex.EncodeToString(id[:]) }

// An LSN numbers the records of one ledger, from 0, without gaps (L1).
type LSN uint64

// A Position says how far a ledger is in Kafka: every record below Next is
// committed there. Next is always the boundary of a group, and Chain is the
// ledger's chain at that boundary, so that two parties can tell whether they
// speak of the same bytes.
type Position struct {
	Ledger LedgerID
	Next   LSN
	Chain  uint64
}

// String returns ledger@next.
func (p Position) String() string { return fmt.Sprintf("%v@%d", p.Ledger, p.Next) }

// A Ticket is what an appender leaves with a record and gets back when the
// record is durable. The log does not look into it.
type Ticket struct {
	Owner any    // who waits; nil when nobody does
	Tag   uint64 // which of the owner's records this is
}
