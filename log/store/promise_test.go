//go:build powercut

package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
)

// A promise is what is known of one ledger.
type promise struct {
	id        tributary.LedgerID
	acked     atomic.Uint64 // below: acknowledged, as far as anybody heard
	forwarded atomic.Uint64 // below: may be gone
}

// A lostError says that a ledger ends before what was acknowledged.
type lostError struct{ acked, found uint64 }

func (e *lostError) Error() string {
	return fmt.Sprintf("D1: ends at record %d; %d were acknowledged: %d lost", e.found, e.acked, e.acked-e.found)
}

// promises are what is known of a log whose power is cut again and again.
type promises struct {
	ledgers []*promise // that may still be there

	acked, more, torn, trimmed int
}

func (ps *promises) tally(rounds uint64) string {
	return fmt.Sprintf("%d power cuts: %d records acknowledged, %d more found, 0 lost, 0 invented, 0 repairs by hand; %d torn tails, %d ledgers trimmed, %d ledgers",
		rounds, ps.acked, ps.more, ps.torn, ps.trimmed, len(ps.ledgers))
}

// add takes in what a victim has reported.
func (ps *promises) add(p *promise) {
	if p.id != (tributary.LedgerID{}) { // or else the cut came before it had a ledger
		ps.ledgers = append(ps.ledgers, p)
		ps.acked += int(p.acked.Load())
	}
}

// forwarded says, in words for a victim, that all earlier ledgers are in Kafka.
func (ps *promises) forwarded() string {
	var all []string
	for _, p := range ps.ledgers {
		p.forwarded.Store(p.acked.Load())
		all = append(all, fmt.Sprintf("%v:%d", p.id, p.acked.Load()))
	}
	return strings.Join(all, " ")
}

// check opens the log in dir as the next process would, and reads all of it.
func (ps *promises) check(dir string) error {
	fs, err := disk.Dir(dir)
	if err != nil {
		return err
	}
	l, found, err := Open(fs, cutOptions())
	if err != nil {
		return fmt.Errorf("D3: does not start again by itself: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = ps.compare(l, found)
	if err := errors.Join(err, l.Run(ctx)); err != nil { // Run closes its files
		return err
	}
	if _, err := Verify(fs); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

func (ps *promises) compare(l *Log, found Recovery) error {
	if len(found.Rot) > 0 {
		return fmt.Errorf("calls a power cut rot: %w", &found.Rot[0])
	}
	if found.Torn {
		ps.torn++
	}
	left := ps.ledgers[:0]
	for _, p := range ps.ledgers {
		from, held := l.base(p.id)
		switch acked := p.acked.Load(); {
		case !held && acked <= p.forwarded.Load():
			continue // in Kafka and gone
		case !held:
			return fmt.Errorf("ledger %v: %w", p.id, &lostError{acked: acked})
		case from > 0:
			ps.trimmed++
		}
		n, err := p.check(l)
		if err != nil {
			return fmt.Errorf("ledger %v: %w", p.id, err)
		}
		ps.more += n
		left = append(left, p)
	}
	ps.ledgers = left
	if held := l.Ledgers(); len(held) > len(left) {
		return fmt.Errorf("D3: holds %d ledgers, %d are known", len(held), len(left))
	}
	return nil
}

// check reads a ledger and returns how many records it has that nobody had heard
// of. From now on they are promised too.
func (p *promise) check(l *Log) (more int, err error) {
	r, err := l.Reader(p.id)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	at := r.Base()
	if uint64(at) > p.forwarded.Load() {
		return 0, fmt.Errorf("D3: starts at record %d, forwarded were %d", at, p.forwarded.Load())
	}
	seen := map[byte]uint64{} // of each goroutine, the sequence number that comes next
	whole := at == 0
	for {
		c, err := r.Read(context.Background(), at, 1<<20)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("D3: read from record %d: %w", at, err)
		}
		for i := range c.Entries {
			e := &c.Entries[i]
			g, seq := e.Value[0], binary.BigEndian.Uint64(e.Value[1:])
			want, known := seen[g]
			if e.LSN != at+tributary.LSN(i) || (known || whole) && seq != want || !bytes.Equal(e.Value, cutRecord(p.id, g, seq).Value) {
				return 0, fmt.Errorf("D3: record %d (%d) is number %d of goroutine %d, %d comes next", at+tributary.LSN(i), e.LSN, seq, g, want)
			}
			seen[g] = seq + 1
		}
		at = c.Next
	}
	acked := p.acked.Load()
	if uint64(at) < acked {
		return 0, &lostError{acked: acked, found: uint64(at)}
	}
	p.acked.Store(uint64(at))
	return int(uint64(at) - acked), nil
}
