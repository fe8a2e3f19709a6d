package edge

import (
	"context"
	"errors"

	"github.com/tributary-edge/tributary/log/store"
)

// Alive returns nil when a message that came now would get its answer: it is made
// durable, or refused. While the log hangs, Alive does, until ctx ends; then it
// returns the error of ctx. A log that has failed is no reason to end the process:
// devices are told, and what is stored is still forwarded.
func (n *Node) Alive(ctx context.Context) error {
	err := n.log.Probe(ctx)
	if errors.Is(err, store.ErrFailed) || errors.Is(err, store.ErrClosed) {
		return nil
	}
	return err
}
