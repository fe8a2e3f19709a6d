package store

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
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
