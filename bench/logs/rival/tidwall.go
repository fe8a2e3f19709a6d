package rival

import (
	"context"

	"github.com/tidwall/wal"
)

// Tidwall opens a tidwall/wal, which syncs every batch.
func Tidwall(_ context.Context, dir string) (*Store, error) {
	opt := *wal.DefaultOptions
	opt.NoCopy = true
	l, err := wal.Open(dir, &opt)
	if err != nil {
		return nil, err
	}
	var n uint64
	var b wal.Batch
	f := newFront(func(values [][]byte) error {
		b.Clear()
		for _, v := range values {
			n++
			b.Write(n, v)
		}
		return l.WriteBatch(&b)
	})
	return &Store{Name: "tidwall/wal", Groups: byFront, Append: f.put, Close: func() error {
		f.close()
		return l.Close()
	}}, nil
}
