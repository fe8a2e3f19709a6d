package rival

import (
	"context"
	"sync"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/store"

	"github.com/tributary-edge/tributary/bench/logs/ours"
)

// Tributary opens Tributary's log with its defaults, everything forwarded at
// once, and fills its ring: what is measured is a node that has run for a while,
// whose segments are used again.
func Tributary(ctx context.Context, dir string) (*Store, error) {
	fs, err := disk.Dir(dir)
	if err != nil {
		return nil, err
	}
	l, err := ours.Start(ctx, fs, store.Options{}, false, func(tickets []tributary.Ticket, err error) {
		for _, t := range tickets {
			if done, waits := t.Owner.(chan error); waits {
				done <- err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	const perGroup = 1000
	groups := int(l.Stats().MaxBytes / (perGroup * ours.Bytes))
	blank := make([]byte, ours.Bytes)
	if _, err := l.Together(perGroup, groups, func(int) []byte { return blank }); err != nil {
		return nil, err
	}
	waiters := sync.Pool{New: func() any { return make(chan error, 1) }}
	return &Store{
		Name: "tributary", Groups: byItself, Close: l.Close,
		Append: func(value []byte) error {
			done := waiters.Get().(chan error)
			defer waiters.Put(done)
			if err := l.Put(value, tributary.Ticket{Owner: done}); err != nil {
				return err
			}
			return <-done
		},
	}, nil
}
