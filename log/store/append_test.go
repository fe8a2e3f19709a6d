package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/record"
)

// L1, A1: many records appended together are taken, refused and kept as they are one
// after the other, until the log is full and beyond, alarms and records that are too
// large among them.
func TestAppendAll(t *testing.T) {
	for seed := range seeds(t, 20) {
		synctest.Test(t, func(t *testing.T) { appendAll(t, seed) })
	}
}

func appendAll(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	// Within the window nothing is committed, so that both have the same groups.
	opt := Options{AlarmReserve: 32 << 10, Opening: rec("", 0, 0), Window: time.Second}
	one, all := start(t, disktest.New(1<<30), opt), start(t, disktest.New(1<<30), opt)
	defer func() { one.close(t); all.close(t) }()
	for n, full, alarms := 0, 0, 0; full < 200 || alarms < 3; {
		<-time.After(2 * opt.Window)
		synctest.Wait()
		batch := make([]record.Record, 1+rng.IntN(12))
		for i := range batch {
			batch[i] = *rec([]string{"a", "b"}[rng.IntN(2)], 0, n)
			batch[i].Value = bytes.Repeat([]byte{byte(n)}, rng.IntN(3000))
			batch[i].Alarm = rng.IntN(8) == 0
			if i == len(batch)-1 && rng.IntN(10) == 0 { // it ends the window
				batch[i].Value = make([]byte, one.maxRecord-rng.IntN(200))
			}
			if rng.IntN(8) == 0 { // a control record
				batch[i].Stream, batch[i].Headers = "", nil
			}
			n++
		}
		want, wantErr := 0, error(nil)
		for ; want < len(batch) && wantErr == nil; want++ {
			_, wantErr = one.Append(&batch[want], tributary.Ticket{})
		}
		if wantErr != nil {
			want--
		}
		_, got, err := all.AppendAll(tributary.LedgerID{}, batch, make([]tributary.Ticket, len(batch)))
		if got != want || (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() || one.Next() != all.Next() {
			t.Fatalf("%d of %d are appended together (%v), and %d one by one (%v); next are %d and %d\n%s",
				got, len(batch), err, want, wantErr, all.Next(), one.Next(), again(t, seed))
		}
		if errors.As(err, new(*FullError)) {
			full++
			if batch[got].Alarm {
				alarms++
			}
		}
	}
	<-time.After(2 * opt.Window)
	synctest.Wait()
	if one.count() != all.count() || tributary.LSN(all.count()) != all.Next() {
		t.Errorf("%d and %d are acknowledged, of %d\n%s", one.count(), all.count(), all.Next(), again(t, seed))
	}
}

// Records that are more than a group together become several groups.
func TestAppendAllIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, disktest.New(1<<30), Options{SegmentBytes: 4 << 20})
		defer l.close(t)
		batch := make([]record.Record, 40)
		for i := range batch {
			batch[i] = *rec("s", 0, i)
			batch[i].Value = make([]byte, 2*maxGroupBytes/len(batch))
		}
		synctest.Wait() // there is a segment for them
		if _, n, err := l.AppendAll(tributary.LedgerID{}, batch, make([]tributary.Ticket, len(batch))); n != len(batch) || err != nil {
			t.Fatalf("%d of %d are appended: %v", n, len(batch), err)
		}
		synctest.Wait()
		if got := l.Stats().Groups; got < 2 || l.count() != len(batch) {
			t.Errorf("%d records of 2 MiB are in %d groups, and %d are acknowledged", len(batch), got, l.count())
		}
	})
}

// What is meant for a ledger that has ended goes to no other one (U2).
func TestAppendAllToAnEndedLedger(t *testing.T) {
	l := start(t, disktest.New(4<<20), Options{})
	defer l.close(t)
	r := []record.Record{{Stream: "s", Value: []byte("1")}}
	live, n, err := l.AppendAll(tributary.LedgerID{}, r, make([]tributary.Ticket, 1))
	if live != l.Ledger() || n != 1 || err != nil {
		t.Fatal(live, n, err)
	}
	if to, n, err := l.AppendAll(live, r, make([]tributary.Ticket, 1)); to != live || n != 1 || err != nil {
		t.Error(to, n, err)
	}
	if _, n, err := l.AppendAll(tributary.LedgerID{1}, r, make([]tributary.Ticket, 1)); n != 0 || !errors.Is(err, ErrLedgerEnded) {
		t.Error(n, err)
	}
}
