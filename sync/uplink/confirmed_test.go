package uplink

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// groups is a ledger of groups of two records; those of a group in waits wait.
type groups struct {
	Source

	waits map[tributary.LSN]bool // by the first record
	end   tributary.LSN
}

func (g *groups) Read(ctx context.Context, from tributary.LSN, maxBytes int) (c record.Chunk, err error) {
	if from >= g.end {
		<-ctx.Done()
		return c, ctx.Err()
	}
	c = record.Chunk{From: from, Next: from}
	for ; c.Next < g.end; c.Next += 2 {
		if c.Next > from && maxBytes == 1 {
			break
		}
		key := []byte("1")
		if g.waits[c.Next] {
			key = []byte("2")
		}
		c.Entries = append(c.Entries, record.Entry{LSN: c.Next, Record: record.Record{Key: []byte("1")}}, record.Entry{LSN: c.Next + 1, Record: record.Record{Key: key}})
	}
	return c, nil
}

// R22 (C16): a record that has to wait is read when devices were answered, and not
// before; what was answered, or need not wait, is read at once.
func TestConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lac atomic.Uint64
		c := &Confirmed{
			Source: &groups{waits: map[tributary.LSN]bool{4: true, 8: true}, end: 12},
			LAC:    func() tributary.LSN { return tributary.LSN(lac.Load()) },
			Waits:  func(r *record.Record) bool { return string(r.Key) == "2" },
		}
		read := func(from, want tributary.LSN) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			got, err := c.Read(ctx, from, 1<<20)
			if want == 0 && err == nil || want > 0 && (err != nil || got.Next != want) {
				t.Errorf("from %d it reads to %d, %v; should be %d", from, got.Next, err, want)
			}
		}
		read(0, 2)
		read(2, 4)
		read(4, 0)
		lac.Store(6)
		read(4, 6)
		read(6, 8)
		read(8, 0)
		lac.Store(10)
		read(4, 12)
		c.Source.(*groups).waits[10] = true
		go func() {
			time.Sleep(500 * time.Millisecond) //nolint:forbidigo // bubble time
			lac.Store(12)
		}()
		read(10, 12)
	})
}
