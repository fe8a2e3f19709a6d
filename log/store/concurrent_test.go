package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/record"
)

// U4, L1: many append at once, the log packs, drops and loses a write, and one
// follows all ledgers meanwhile: each acknowledged record is read once, in order,
// or is in a gap; nothing else is read. The same after a restart.
func TestEverythingAtOnce(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { everythingAtOnce(t, seed) })
		})
	}
}

func everythingAtOnce(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	d := disktest.New(1 << 30)
	opt := Options{SegmentBytes: 64 << 10, MaxBytes: int64(6+rng.IntN(14)) * (64 << 10), Compress: rng.IntN(2) == 0, DropOldest: rng.IntN(2) == 0}
	l, _, err := Open(d, opt)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{
		t: t, seed: seed, log: l, acked: map[slot]uint64{}, seen: map[slot]uint64{},
		gone: map[tributary.LedgerID][]Hole{}, forwarded: map[tributary.LedgerID]tributary.LSN{},
	}
	l.OnCommit(c.committed)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	quiet, end := context.WithCancel(t.Context())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		c.follow(quiet)
	}()
	var writers sync.WaitGroup
	for w := range uint64(4) {
		writers.Go(func() { c.write(w) })
	}
	if rng.IntN(2) == 0 {
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond) //nolint:forbidigo // bubble time
		failOnce(d, []string{"sync", "write"}[rng.IntN(2)], rand.New(rand.NewPCG(seed, 98)))
	}
	writers.Wait()
	synctest.Wait() // all is committed, or has failed
	end()
	<-followed
	stop()
	if err := <-done; err != nil {
		t.Error("run:", err)
	}
	c.check()
	d.Fail(nil)
	c.checkAgain(d, opt)
}

// failOnce has one operation of a kind fail, and some of those that make, name and
// remove files.
func failOnce(d *disktest.Disk, kind string, rng *rand.Rand) {
	var once atomic.Bool
	d.Fail(func(op disktest.Op) error { // the disk calls it under its lock
		if op.Kind == kind && once.CompareAndSwap(false, true) {
			return syscall.EIO
		}
		if slices.Contains([]string{"create", "rename", "remove", "syncdir"}, op.Kind) && rng.IntN(10) == 0 {
			return syscall.EIO
		}
		return nil
	})
}

type slot struct {
	ledger tributary.LedgerID
	lsn    tributary.LSN
}

// A crowd appends to one log and reads it at once. A record's value begins with its
// number.
type crowd struct {
	t      *testing.T
	seed   uint64
	log    *Log
	number atomic.Uint64 // of the newest record

	mu    sync.Mutex
	acked map[slot]uint64

	seen      map[slot]uint64 // these are the follower's
	gone      map[tributary.LedgerID][]Hole
	forwarded map[tributary.LedgerID]tributary.LSN
}

func (c *crowd) committed(id tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range tickets {
		if err == nil {
			c.acked[slot{id, base + tributary.LSN(i)}] = tickets[i].Tag
		}
	}
}

// write appends records of many sizes, in bursts.
func (c *crowd) write(writer uint64) {
	rng := rand.New(rand.NewPCG(c.seed, writer))
	pause := func() { time.Sleep(100 * time.Microsecond) } //nolint:forbidigo // bubble time
	for range 300 {
		n := c.number.Add(1)
		v := make([]byte, 8+rng.IntN(3000))
		binary.BigEndian.PutUint64(v, n)
		if rng.IntN(3) == 0 { // does not compress
			for i := 8; i < len(v); i++ {
				v[i] = byte(rng.Uint32())
			}
		}
		for {
			_, err := c.log.Append(&record.Record{Stream: "s", Key: []byte("k"), Value: v}, tributary.Ticket{Tag: n})
			if err == nil {
				break
			}
			if !errors.As(err, new(*FullError)) {
				c.t.Error(err)
				return
			}
			pause()
		}
		for rng.IntN(3) > 0 {
			pause()
		}
	}
}

// follow reads one ledger after the other, and returns when it is quiet and all is
// read.
func (c *crowd) follow(quiet context.Context) {
	rng := rand.New(rand.NewPCG(c.seed, 99))
	finished := map[tributary.LedgerID]bool{}
	for {
		id := c.log.Ledger()
		for _, i := range c.log.Ledgers() {
			if !finished[i.ID] {
				id = i.ID
				break
			}
		}
		if finished[id] {
			return
		}
		err := c.followOne(quiet, id, rng)
		if err == nil {
			return
		}
		if !errors.Is(err, io.EOF) {
			c.t.Errorf("read %v: %v", id, err)
			return
		}
		finished[id] = true
	}
}

// followOne reads one ledger. It returns io.EOF at its end, and nil if it is quiet.
func (c *crowd) followOne(quiet context.Context, id tributary.LedgerID, rng *rand.Rand) error {
	r, err := c.log.Reader(id)
	if err != nil {
		return err
	}
	defer r.Close()
	lag := rng.IntN(20)
	for at := tributary.LSN(0); ; {
		chunk, err := r.Read(quiet, at, 20_000)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			c.log.Forwarded(id, at)
			c.forwarded[id] = at
			return err
		}
		if chunk.Gap != nil {
			c.gone[id] = append(c.gone[id], Hole{id, at, chunk.Next})
			if chunk.Gap.Reason != record.Dropped {
				c.t.Errorf("[%d, %d) is %s", at, chunk.Next, chunk.Gap.Reason)
			}
		}
		for _, e := range chunk.Entries {
			c.seen[slot{id, e.LSN}] = binary.BigEndian.Uint64(e.Value)
		}
		at = chunk.Next
		pause := lag
		if rng.IntN(15) == 0 {
			pause = rng.IntN(1500)
		}
		time.Sleep(time.Duration(pause) * 100 * time.Microsecond) //nolint:forbidigo // bubble time
		if rng.IntN(3) > 0 || at >= c.log.Durable() {             // at the end too: a full log waits for it
			c.log.Forwarded(id, at)
			c.forwarded[id] = at
		}
	}
}

// check compares what was read with what was acknowledged.
func (c *crowd) check() {
	c.t.Helper()
	lost := 0
	for p, n := range c.acked {
		got, ok := c.seen[p]
		gap := slices.ContainsFunc(c.gone[p.ledger], func(h Hole) bool { return h.From <= p.lsn && p.lsn < h.To })
		switch {
		case ok && got != n:
			c.t.Fatalf("%v is %d, should be %d", p, got, n)
		case ok == gap:
			c.t.Fatalf("%v was read: %v; is in a gap: %v", p, ok, gap)
		case gap:
			lost++
		}
	}
	for p := range c.seen {
		if _, ok := c.acked[p]; !ok {
			c.t.Fatalf("%v was never acknowledged", p)
		}
	}
	s := c.log.Stats()
	c.t.Logf("%d acknowledged of %d, %d dropped (%d), packed %d to %d", len(c.acked), c.number.Load(), lost, s.DroppedRecords, s.PackedFrom, s.PackedTo)
}

// checkAgain opens the log and compares what is left.
func (c *crowd) checkAgain(d *disktest.Disk, opt Options) {
	c.t.Helper()
	again, found, err := Open(d, opt)
	if err != nil {
		c.t.Fatal(err)
	}
	have := map[tributary.LedgerID]LedgerInfo{}
	for _, i := range again.Ledgers() {
		have[i.ID] = i
	}
	for p := range c.acked {
		if i := have[p.ledger]; p.lsn >= c.forwarded[p.ledger] && (p.lsn < i.From || p.lsn >= i.To) {
			c.t.Fatalf("after a restart %v is lost: [%d, %d), %d forwarded", p, i.From, i.To, c.forwarded[p.ledger])
		}
	}
	for id, i := range have {
		r, err := again.Reader(id)
		if err != nil {
			c.t.Fatal(err)
		}
		for at := i.From; at < i.To; {
			chunk, err := r.Read(c.t.Context(), at, 20_000)
			if err != nil || chunk.Gap != nil && chunk.Gap.Reason != record.Dropped {
				c.t.Fatalf("after a restart, at %d of [%d, %d): %+v, %v (%+v)", at, i.From, i.To, chunk.Gap, err, found)
			}
			for _, e := range chunk.Entries {
				p := slot{id, e.LSN}
				if n, ok := c.acked[p]; !ok || n != binary.BigEndian.Uint64(e.Value) {
					c.t.Fatalf("after a restart %v is %d, should be %d, %v (%+v)", p, binary.BigEndian.Uint64(e.Value), n, ok, found)
				}
			}
			at = chunk.Next
		}
		r.Close()
	}
}
