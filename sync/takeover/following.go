package takeover

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// following reads a copy that may still grow: it has ended when it has not grown
// for a while. What is missing in it is no gap: another node may have it, and only
// a person can say that nobody has (R15).
type following struct {
	Reader

	f       *Forwarder
	missing *Stuck // what comes next is not here
}

const (
	growEvery = 200 * time.Millisecond
	growFor   = 10 * time.Second
)

// Base implements uplink.Source. Where the beginning of a copy is damaged, it begins
// with what is missing.
func (c *following) Base() tributary.LSN {
	return min(c.Reader.Base(), c.f.View.Position(c.Ledger()))
}

// Read implements uplink.Source.
func (c *following) Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	id := c.Ledger()
	if end, _, _ := c.f.Log.CopyEnd(id); from > end { // Kafka has more
		return record.Chunk{}, io.EOF
	}
	for waited := time.Duration(0); ; waited += growEvery {
		got, err := c.Reader.Read(ctx, from, maxBytes)
		if err == nil && got.Gap != nil && got.Next > c.f.skipped(id) {
			c.missing = &Stuck{Ledger: id, From: got.From, To: got.Next}
			return record.Chunk{}, io.EOF
		}
		if !errors.Is(err, io.EOF) || waited >= growFor || !c.f.View.Written(id, time.Now()) {
			return got, err
		}
		select {
		case <-time.After(growEvery):
		case <-ctx.Done():
			return got, ctx.Err()
		}
	}
}

// healFor is how long a damaged part of a ledger of this node is waited for, before
// Kafka is told that it is gone: a peer may have it, or come back with it.
const healFor = time.Minute

const healEvery = 500 * time.Millisecond

// Healing is a ledger that this node has written, as long as others may have copies:
// what is damaged of it is no gap before they have had time to give it (R15).
type Healing struct {
	Reader

	at    tributary.LSN
	since time.Time // when what begins with record at was found to be missing
}

// Read implements uplink.Source.
func (h *Healing) Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	for {
		got, err := h.Reader.Read(ctx, from, maxBytes)
		if err != nil || got.Gap == nil || got.Gap.Reason != record.Damaged {
			return got, err
		}
		if h.since.IsZero() || h.at != from {
			h.at, h.since = from, time.Now()
		}
		if time.Since(h.since) >= healFor {
			return got, nil
		}
		select {
		case <-time.After(healEvery):
		case <-ctx.Done():
			return record.Chunk{}, ctx.Err()
		}
	}
}
