// Package replica keeps copies: on peers, of what this node writes, and here, of
// what they write.
//
// A Sender streams the live ledger to one peer, group by group as they become
// durable. A Keeper takes what a peer streams. Acks holds acknowledgements to
// devices back until enough copies are durable. The package moves bytes that the
// log has sealed and never looks into them; nothing is ever truncated to match
// anybody, because a ledger has one writer and copies can only be prefixes of
// one another.
package replica

import (
	"context"
	"log/slog"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
)

// A Log is the log of this node. Its methods may be called from many goroutines
// at once; see log/store for what they promise.
type Log interface {
	// Ledger returns the live ledger.
	Ledger() tributary.LedgerID
	// AppendCopy adds to the copy of a ledger that another node writes.
	AppendCopy(s *group.Sealed, done func(error)) error
	// CopyEnd returns where what is held of a ledger ends, durable or about to be.
	CopyEnd(id tributary.LedgerID) (next tributary.LSN, chain uint64, held bool)
	// Held returns what is durable of a ledger.
	Held(id tributary.LedgerID) (from, to tributary.LSN, chain uint64, held bool)
	// Forwarded says that all of a ledger below next is in Kafka.
	Forwarded(id tributary.LedgerID, next tributary.LSN)
	// Position returns below which record a ledger is known to be in Kafka.
	Position(id tributary.LedgerID) tributary.LSN
	// Read returns a Reader of a ledger.
	Read(id tributary.LedgerID) (Reader, error)
}

// A Healer is the log of this node where records of a ledger are missing; see
// log/store.
type Healer interface {
	// Missing returns the ranges of ledgers that are damaged here.
	Missing() []Range
	// Heal adds one group that is missing.
	Heal(s *group.Sealed, done func(error)) error
}

// A Range is the records [From, To) of a ledger.
type Range struct {
	Ledger   tributary.LedgerID
	From, To tributary.LSN
}

// A Reader reads one ledger; see log/store.Reader.
type Reader interface {
	Base() tributary.LSN
	ChainAt(lsn tributary.LSN) (chain uint64, ok bool)
	// Sealed returns what is stored from record from on. It waits for more of the
	// live ledger; any other ends with io.EOF.
	Sealed(ctx context.Context, from tributary.LSN, maxBytes int) ([]group.Sealed, error)
	Close()
}

const (
	batchBytes   = 256 << 10 // that a Sender reads at a time
	windowBytes  = 4 << 20   // that a Sender has under way
	mostInWindow = 1 << 14   // groups
)

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
