package ingest

import (
	"context"
	"fmt"
	"sort"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

const (
	deliveryReadBytes = 256 << 10
	backReadBytes     = 64 << 10
	backPages         = 4
)

// pages are what the delivery has read of the log lately. What is delivered for
// the first time has one of its own, so that those who are behind do not make
// it be read twice. They are for one goroutine.
type pages struct {
	reader Reader
	live   [2]page         // of this node's log, and of other ledgers
	back   [backPages]page // of those who are behind
	turn   int             // which of back is replaced next
}

// A page is a part of a ledger.
type page struct {
	ledger tributary.LedgerID
	record.Chunk
}

func (p *page) has(ledger tributary.LedgerID, lsn tributary.LSN) bool {
	return p.ledger == ledger && lsn >= p.From && lsn < p.Next
}

// next returns records of a ledger: those from j.from on, and perhaps some before
// them. They are good until the next call.
func (p *pages) next(ctx context.Context, j *job) (*record.Chunk, error) {
	live := &p.live[index(j.other)]
	if live.has(j.ledger, j.from) { // more had come than was asked for
		return &live.Chunk, nil
	}
	err := p.read(ctx, live, j.ledger, j.from, deliveryReadBytes)
	return &live.Chunk, err
}

// entry returns one record of the log, which is not changed any more.
func (p *pages) entry(ctx context.Context, ledger tributary.LedgerID, lsn tributary.LSN) (*record.Entry, error) {
	for i := range p.live {
		if p.live[i].has(ledger, lsn) {
			return find(&p.live[i].Chunk, lsn)
		}
	}
	for i := range p.back {
		if p.back[i].has(ledger, lsn) {
			return find(&p.back[i].Chunk, lsn)
		}
	}
	one := &p.back[p.turn]
	p.turn = (p.turn + 1) % backPages
	if err := p.read(ctx, one, ledger, lsn, backReadBytes); err != nil {
		return nil, err
	}
	return find(&one.Chunk, lsn)
}

func find(c *record.Chunk, lsn tributary.LSN) (*record.Entry, error) {
	i := sort.Search(len(c.Entries), func(i int) bool { return c.Entries[i].LSN >= lsn })
	if i == len(c.Entries) || c.Entries[i].LSN != lsn {
		return nil, fmt.Errorf("record %d is not in the log any more", lsn)
	}
	return &c.Entries[i], nil
}

// read makes a page one that begins at or before lsn, and goes beyond.
func (p *pages) read(ctx context.Context, into *page, ledger tributary.LedgerID, lsn tributary.LSN, maxBytes int) error {
	*into = page{}
	chunk, err := p.reader.Read(ctx, ledger, lsn, maxBytes)
	if err != nil {
		return fmt.Errorf("read record %d: %w", lsn, err)
	}
	if chunk.From > lsn || chunk.Next <= lsn {
		return fmt.Errorf("read record %d: got records %d to %d", lsn, chunk.From, chunk.Next)
	}
	*into = page{ledger, chunk}
	return nil
}
