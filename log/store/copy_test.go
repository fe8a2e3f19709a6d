package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// R1: what a node copies of another's ledger, while it writes its own, is there
// after a restart, byte for byte, and told apart from the own ledgers.
func TestCopyIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner := start(t, disktest.New(1<<30), Options{MaxBytes: 4 << 20})
		d := disktest.New(1 << 30)
		holder := start(t, d, Options{MaxBytes: 4 << 20})
		id, own := owner.Ledger(), holder.Ledger()
		from := tributary.LSN(0)
		r, err := owner.Reader(id)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 200 {
			for range n % 5 {
				mustAppend(t, owner, n)
			}
			mustAppend(t, holder, n)
			synctest.Wait()
			if from == owner.Durable() {
				continue
			}
			from = copyAll(t, r, holder, from)
		}
		synctest.Wait()
		same := func(l *Log) {
			t.Helper()
			want, got := sealedOf(t, owner.Log, id), sealedOf(t, l, id)
			if len(want) != len(got) {
				t.Fatalf("%d groups, should be %d", len(got), len(want))
			}
			for i := range want {
				if string(want[i].Bytes) != string(got[i].Bytes) {
					t.Fatalf("group %d differs", i)
				}
			}
			for _, i := range l.Ledgers() {
				if i.Copy != (i.ID == id) || i.From != 0 {
					t.Errorf("%+v", i)
				}
			}
		}
		same(holder.Log)
		holder.close(t)
		if _, err := Verify(d); err != nil {
			t.Error(err)
		}
		again, _, err := Open(d, Options{SegmentBytes: 64 << 10, MaxBytes: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		same(again)
		if n := len(readAll(t, again, own)); n != 200 {
			t.Errorf("%d own records, should be 200", n)
		}
		if !again.Wrote(own) || !again.Wrote(again.Ledger()) || again.Wrote(id) {
			t.Error("it does not know what it has written")
		}
		if n := testing.AllocsPerRun(10, func() { again.Wrote(id) }); n > 0 { // each Append of a peer asks
			t.Errorf("%v allocations to know who has written a ledger", n)
		}
		r.Close()
		owner.close(t)
	})
}

// R1: a copy takes nothing that does not follow what it has.
func TestCopyRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner := start(t, disktest.New(1<<30), Options{})
		holder := start(t, disktest.New(1<<30), Options{MaxBytes: 4 << 20, CopyReserve: 1 << 20})
		for n := range 20 {
			mustAppend(t, owner, n)
			synctest.Wait()
		}
		all := sealedOf(t, owner.Log, owner.Ledger())
		add := func(s *group.Sealed) error { return holder.AppendCopy(s, func(error) {}) }
		expect := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, should be %v", what, err, want)
			}
		}
		expect("begins with what is not in Kafka", add(&all[5]), ErrNotNext)
		holder.Forwarded(owner.Ledger(), all[5].Base)
		expect("begins with what is", add(&all[5]), nil)
		expect("again", add(&all[5]), ErrNotNext)
		expect("before", add(&all[4]), ErrNotNext)
		expect("a hole", add(&all[7]), ErrNotNext)
		holder.Forwarded(owner.Ledger(), all[8].Base)
		expect("what lies between is in Kafka", add(&all[8]), nil)
		expect("a hole that is not", add(&all[10]), ErrNotNext)
		other := all[9]
		other.PrevChain++
		expect("another history", add(&other), ErrDiverged)
		expect("the own ledger", owner.AppendCopy(&all[3], nil), ErrLive)
		if next, chain, held := holder.CopyEnd(owner.Ledger()); !held || next != all[8].Next() || chain != all[8].Header.Chain() {
			t.Errorf("the copy ends at %d, %016x, %v", next, chain, held)
		}
		synctest.Wait()
		if holes := holder.Holes(); len(holes) > 0 {
			t.Errorf("what was in Kafka before it came is taken for damage: %v", holes)
		}
		owner.close(t)
		holder.close(t)
	})
}

// A1: copies leave to own records what is kept for them.
func TestCopiesLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner := start(t, disktest.New(1<<30), Options{MaxBytes: 8 << 20})
		holder := start(t, disktest.New(1<<30), Options{MaxBytes: 2 << 20, CopyReserve: 512 << 10})
		var full *FullError
		from := tributary.LSN(0)
		r, err := owner.Reader(owner.Ledger())
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; full == nil && n < 5000; n++ {
			mustAppend(t, owner, n)
			synctest.Wait()
			all, err := r.Sealed(t.Context(), from, 1)
			if err != nil {
				t.Fatal(err)
			}
			err = holder.AppendCopy(&all[0], func(err error) {
				if err != nil {
					t.Error(err)
				}
			})
			if errors.As(err, &full) {
				break
			}
			from = all[0].Next()
		}
		synctest.Wait()
		before := holder.Stats().UsedBytes
		if full == nil || before < 700<<10 {
			t.Fatalf("full: %v, with %d bytes", full, before)
		}
		n := 0
		for ; ; n++ {
			if _, err := holder.Append(rec("s", 0, n), tributary.Ticket{}); err != nil {
				break
			}
			synctest.Wait()
		}
		if own := holder.Stats().UsedBytes - before; own < 450<<10 {
			t.Errorf("only %d bytes were left for own records", own)
		}
		r.Close()
		owner.close(t)
		holder.close(t)
	})
}

func mustAppend(t *testing.T, l *running, n int) {
	t.Helper()
	if _, err := l.Append(rec("s", int32(n%3), n), tributary.Ticket{}); err != nil {
		t.Fatal(err)
	}
}

// copyAll copies what r has from record from on, and returns where that ends.
func copyAll(t *testing.T, r *Reader, to *running, from tributary.LSN) tributary.LSN {
	t.Helper()
	all, err := r.Sealed(t.Context(), from, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		s, err := group.Prove(all[i].Codec, all[i].Bytes, r.dec)
		if err != nil {
			t.Fatal(err)
		}
		if err := to.AppendCopy(&s, func(err error) {
			if err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
		from = s.Next()
	}
	return from
}

// sealedOf returns all that is durable of a ledger.
func sealedOf(t *testing.T, l *Log, id tributary.LedgerID) (all []group.Sealed) {
	t.Helper()
	r, err := l.Reader(id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for at := r.Base(); id != l.Ledger() || at < l.Durable(); {
		more, err := r.Sealed(context.Background(), at, 1<<20)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, more...)
		at = all[len(all)-1].Next()
	}
	return all
}

// R15: what the disk has damaged of a copy is taken from another one: all of it can be
// read again, in its order, by every way to read, after a restart too.
func TestHeal(t *testing.T) {
	packed, runs := 0, 0
	for seed := range seeds(t, 40) {
		runs++
		synctest.Test(t, func(t *testing.T) {
			if heal(t, seed) {
				packed++
			}
		})
	}
	if runs > 1 && packed == 0 {
		t.Error("nothing was packed meanwhile: the test is too short")
	}
}

// What is on its way into a hole is not missing any more, also while it is being flushed:
// two peers that give the same do not have it stored twice.
func TestHealOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner := start(t, disktest.New(1<<30), Options{MaxBytes: 4 << 20})
		d := disktest.New(1 << 30)
		holder := start(t, d, Options{MaxBytes: 8 << 20})
		id := owner.Ledger()
		r, err := owner.Reader(id)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		from := tributary.LSN(0)
		for range 100 {
			mustAppend(t, owner, 1000)
			synctest.Wait()
			from = copyAll(t, r, holder, from)
		}
		synctest.Wait()
		holder.close(t)
		for seed := uint64(0); ; seed++ {
			damage(t, d, rand.New(rand.NewPCG(seed, 15)), 64<<10)
			holder = start(t, d, Options{MaxBytes: 8 << 20})
			findHoles(t, holder.Log, id)
			if len(holder.Missing()) > 0 {
				break
			}
			holder.close(t)
		}
		all, err := r.Sealed(t.Context(), holder.Missing()[0].From, 1)
		if err != nil {
			t.Fatal(err)
		}
		dec, err := newDecoder()
		if err != nil {
			t.Fatal(err)
		}
		defer dec.Close()
		groups, err := all[0].Groups(dec)
		if err != nil {
			t.Fatal(err)
		}
		raw, flushes := groups[0].Raw(), 0
		d.Fail(func(op disktest.Op) error {
			if op.Kind == "sync" {
				flushes++
				if err := holder.Heal(&raw, func(error) {}); !errors.Is(err, ErrNotNext) {
					t.Errorf("while it is flushed: %v", err)
				}
			}
			return nil
		})
		if err := holder.Heal(&raw, func(error) {}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		d.Fail(nil)
		if err := holder.Heal(&raw, func(error) {}); !errors.Is(err, ErrNotNext) || flushes == 0 {
			t.Errorf("afterwards: %v; %d flushes", err, flushes)
		}
		holder.close(t)
		owner.close(t)
	})
}

func heal(t *testing.T, seed uint64) (packed bool) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 15))
	again := func() string { return fmt.Sprintf("again: SEED=%d go test -run TestHeal ./log/store/", seed) }
	owner := start(t, disktest.New(1<<30), Options{MaxBytes: 4 << 20})
	d := disktest.New(1 << 30)
	opt := Options{SegmentBytes: 64 << 10, MaxBytes: 8 << 20}
	switch rng.IntN(3) {
	case 0:
		opt.SegmentBytes = 1 << 20 // what is taken from another copy comes into the same file
	case 1:
		opt.MaxBytes = 16 * opt.SegmentBytes // some are packed
	}
	holder := start(t, d, opt)
	id, from := owner.Ledger(), tributary.LSN(0)
	r, err := owner.Reader(id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	more := func(n int) {
		for range n {
			for range 1 + rng.IntN(40) {
				mustAppend(t, owner, rng.IntN(100))
			}
			if rng.IntN(3) == 0 {
				mustAppend(t, holder, 1)
			}
			synctest.Wait()
			from = copyAll(t, r, holder, from)
		}
		synctest.Wait()
	}
	more(100)
	holder.close(t)
	for range 1 + rng.IntN(4) { // rot
		damage(t, d, rng, opt.SegmentBytes)
	}
	holder = start(t, d, opt)
	from, _, _ = holder.CopyEnd(id) // the newest may have been damaged
	for range 3 {
		more(1 + rng.IntN(5))
		dec, err := newDecoder()
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			findHoles(t, holder.Log, id)
			holes := slices.DeleteFunc(holder.Missing(), func(h Hole) bool { return h.Ledger != id })
			if len(holes) == 0 {
				break
			}
			h := holes[rng.IntN(len(holes))]
			for at := h.From; at < h.To && rng.IntN(20) > 0; { // now and then it is cut short
				all, err := r.Sealed(t.Context(), at, 1)
				if err != nil {
					t.Fatal(err)
				}
				groups, err := all[0].Groups(dec)
				if err != nil {
					t.Fatal(err)
				}
				for i := range groups {
					raw := groups[i].Raw()
					if err := holder.Heal(&raw, func(error) {}); err != nil {
						t.Fatalf("records %d to %d of a hole %v: %v; %s", raw.Base, raw.Next(), h, err, again())
					}
					if err := holder.Heal(&raw, func(error) {}); !errors.Is(err, ErrNotNext) {
						t.Fatalf("twice: %v; %s", err, again())
					}
				}
				at = all[0].Next()
			}
			synctest.Wait()
		}
		dec.Close()
		want, got := readTo(t, owner.Log, id, owner.Durable()), readTo(t, holder.Log, id, owner.Durable())
		sealed := 0
		for _, s := range sealedOf(t, holder.Log, id) { // as another node would get it
			sealed += int(s.Next() - s.Base)
		}
		if len(want) != len(got) || len(want) != sealed {
			t.Fatalf("%d records, %d of them in groups for others, should be %d; %s", len(got), sealed, len(want), again())
		}
		for i := range want {
			if got[i].LSN != want[i].LSN || string(got[i].Value) != string(want[i].Value) {
				t.Fatalf("record %d is %d %q, should be %q; %s", want[i].LSN, got[i].LSN, got[i].Value, want[i].Value, again())
			}
		}
		lsn := tributary.LSN(rng.Uint64N(uint64(len(want))))
		check, err := holder.Reader(id)
		if err != nil {
			t.Fatal(err)
		}
		begin := check.GroupStart(lsn)
		theirs, ok := check.ChainAt(begin)
		if mine, _ := r.ChainAt(begin); !ok || mine != theirs {
			t.Errorf("the chain at %d is %016x, should be %016x; %s", begin, theirs, mine, again())
		}
		check.Close()
		packed = packed || holder.Stats().PackedFrom > 0
		holder.close(t)
		holder = start(t, d, opt)
	}
	holder.close(t)
	owner.close(t)
	return packed
}

// damage changes a stretch of a segment.
func damage(t *testing.T, d *disktest.Disk, rng *rand.Rand, size int64) {
	t.Helper()
	names, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { _, _, ok := segment.ParseName(name); return !ok })
	slices.Sort(names)
	name := names[rng.IntN(len(names))]
	if rng.IntN(2) == 0 {
		name = names[max(0, len(names)-2)] // one is prepared
	}
	f, err := d.Open(name, true)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1+rng.IntN(12<<10))
	at := segment.HeaderBytes + rng.Int64N(size/3)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0x55
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// readTo reads a ledger up to a record.
func readTo(t *testing.T, l *Log, id tributary.LedgerID, to tributary.LSN) (all []record.Entry) {
	t.Helper()
	r, err := l.Reader(id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for at := tributary.LSN(0); at < to; {
		c, err := r.Read(t.Context(), at, 100_000)
		if err != nil || c.Gap != nil {
			t.Fatalf("from %d: %v, gap %v", at, err, c.Gap)
		}
		all = append(all, c.Entries...)
		at = c.Next
	}
	return all
}

// findHoles reads a ledger to its end, over its holes.
func findHoles(t *testing.T, l *Log, id tributary.LedgerID) {
	t.Helper()
	r, err := l.Reader(id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for at := r.Base(); ; {
		c, err := r.Read(t.Context(), at, 100_000)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("from %d: %v", at, err)
		}
		at = c.Next
	}
}
