package rival

import (
	"context"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Pebble opens a pebble database whose every write is synced; its write-ahead
// log gathers what arrives together.
func Pebble(_ context.Context, dir string) (*Store, error) {
	db, err := pebble.Open(dir, &pebble.Options{MemTableSize: 16 << 20, Logger: quiet{}})
	if err != nil {
		return nil, err
	}
	var n atomic.Uint64
	return &Store{
		Name: "pebble", Groups: byItself, Close: db.Close,
		Append: func(value []byte) error { return db.Set(key(n.Add(1)), value, pebble.Sync) },
	}, nil
}

// quiet drops what pebble tells of its work; what it cannot do, Append returns.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

// Fatalf must not return.
func (quiet) Fatalf(format string, args ...any) { pebble.DefaultLogger.Fatalf(format, args...) }
