package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/sync/uplink"
)

// following reads a copy that may still grow: it has ended when it has not grown
// for a while. What is missing in it is no gap: another node may have it, and only
// a person can say that nobody has (R15).
type following struct {
	Reader

	log     Log
	grows   func() bool // whether somebody writes the ledger
	missing error       // what comes next is not here
}

const (
	growEvery = 200 * time.Millisecond
	growFor   = 10 * time.Second
)

// Read implements uplink.Source.
func (f *following) Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	if end, _, _ := f.log.CopyEnd(f.Ledger()); from > end { // Kafka has more
		return record.Chunk{}, io.EOF
	}
	for waited := time.Duration(0); ; waited += growEvery {
		c, err := f.Reader.Read(ctx, from, maxBytes)
		if err == nil && c.Gap != nil {
			f.missing = &uplink.StoppedError{
				What: fmt.Sprintf("Records %d to %d of a copy are damaged here, or were dropped", c.From, c.Next),
				Do:   "Start the node that wrote them, or one that has another copy: it forwards them.",
			}
			return record.Chunk{}, io.EOF
		}
		if !errors.Is(err, io.EOF) || waited >= growFor || !f.grows() {
			return c, err
		}
		select {
		case <-time.After(growEvery):
		case <-ctx.Done():
			return c, ctx.Err()
		}
	}
}
