package uplink

import (
	"context"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// Confirmed is a live ledger of which some records wait until devices have been
// answered (R22). A record of QoS 2 that reaches Kafka before anybody else knows of
// it, and whose node then dies, would be sent again, to a node that takes it for new.
// Others need not wait: a message of QoS 1 may be there twice.
type Confirmed struct {
	Source

	// LAC returns below which record devices have been answered: where a group ends.
	LAC func() tributary.LSN
	// Waits says whether a record has to wait for that.
	Waits func(r *record.Record) bool
}

const confirmedEvery = 10 * time.Millisecond

// Read implements Source. It returns whole groups before the first that waits.
func (c *Confirmed) Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	for {
		got, err := c.Source.Read(ctx, from, maxBytes)
		if err != nil || !c.holds(&got) {
			return got, err
		}
		if one, err := c.Source.Read(ctx, from, 1); err != nil || !c.holds(&one) {
			return one, err
		}
		select {
		case <-time.After(confirmedEvery):
		case <-ctx.Done():
			return record.Chunk{}, ctx.Err()
		}
	}
}

// holds says whether something in a chunk has to wait.
func (c *Confirmed) holds(got *record.Chunk) bool {
	lac := c.LAC()
	return got.Next > lac && slices.ContainsFunc(got.Entries, func(e record.Entry) bool { return e.LSN >= lac && c.Waits(&e.Record) })
}
