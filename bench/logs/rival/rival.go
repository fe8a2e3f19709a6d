// Package rival has what is compared, a file for each: other logs and embedded
// databases, Tributary's log, and the bare disk.
package rival

import (
	"context"
	"encoding/binary"
)

// A Store is one contestant, open.
type Store struct {
	Name string
	// Groups says who makes one flush of what several goroutines append:
	// the store itself, the front that is put before it, or nobody.
	Groups string
	// Append returns when value is on the disk. It may be called from many
	// goroutines at once, but for Raw's; value is not kept.
	Append func(value []byte) error
	Close  func() error
}

// What Groups can be.
const (
	byItself = "itself"
	byFront  = "front"
	byNobody = "nobody"
)

// An Opener opens a contestant in an empty directory of its own. It works until
// ctx ends.
type Opener func(ctx context.Context, dir string) (*Store, error)

// All returns the openers of the contestants, Tributary's first, without Raw.
func All() []Opener {
	return []Opener{Tributary, RaftWAL, Tidwall, Pebble, SQLite, Bbolt, NATS}
}

// key makes a key for stores that have no numbers of their own.
func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
