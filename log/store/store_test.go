package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/segment"
)

// running is an open log with its Run in a goroutine, and what it acknowledged.
type running struct {
	*Log

	stop context.CancelFunc
	done chan error

	mu    sync.Mutex
	acked []tributary.LSN
	lost  []error
}

func start(t *testing.T, fs disk.FS, opt Options) *running {
	t.Helper()
	if opt.SegmentBytes == 0 {
		opt.SegmentBytes = 64 << 10 // far below what the daemon allows: many rolls
	}
	l, _, err := Open(fs, opt)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Log: l, done: make(chan error, 1)}
	l.OnCommit(func(_ tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := range tickets {
			if err != nil {
				r.lost = append(r.lost, err)
				continue
			}
			r.acked = append(r.acked, base+tributary.LSN(i))
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.done <- l.Run(ctx) }()
	return r
}

func (r *running) close(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal("run:", err)
	}
}

func (r *running) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.acked)
}

// wait waits until a record is durable or its ledger has ended, but for nothing else
// that the log does meanwhile.
func (r *running) wait(t *testing.T, id tributary.LedgerID, lsn tributary.LSN) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	reader, err := r.Reader(id)
	if err == nil {
		defer reader.Close()
	}
	for r.Ledger() == id && r.Durable() <= lsn {
		if err == nil {
			err = reader.wait(ctx, lsn)
		}
		if err != nil && r.Ledger() == id {
			t.Fatalf("record %d is not durable: %v", lsn, err)
		}
	}
}

func rec(stream string, part int32, n int) *record.Record {
	return &record.Record{
		Stream: stream, Partition: part, Millis: 1_700_000_000_000 + int64(n),
		Key: []byte("device"), Value: fmt.Appendf(nil, "value %d", n),
		Headers: []record.Header{{Key: "mqtt.topic", Value: []byte("a/b")}},
	}
}

// readAll returns every record of a ledger that is not live.
func readAll(t *testing.T, l *Log, id tributary.LedgerID) []record.Entry {
	t.Helper()
	r, err := l.Reader(id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []record.Entry
	for at := r.Base(); ; {
		c, err := r.Read(t.Context(), at, 100_000)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("read %v at %d: %v", id, at, err)
		}
		if c.From != at || c.Next != at+tributary.LSN(len(c.Entries)) {
			t.Fatalf("chunk [%d, %d) with %d records, asked for %d", c.From, c.Next, len(c.Entries), at)
		}
		if chain, ok := r.ChainAt(c.Next); !ok || chain != c.Chain {
			t.Fatalf("chain at %d is %x %v, the chunk says %x", c.Next, chain, ok, c.Chain)
		}
		all, at = append(all, c.Entries...), c.Next
	}
}

// L1, L2: LSNs of a ledger and offsets of each partition are dense, in the
// order of the appends, over many segments and a restart.
func TestDense(t *testing.T) {
	for _, compress := range []bool{false, true} {
		d := disktest.New(1 << 30)
		l := start(t, d, Options{MaxBytes: 32 << 20, Compress: compress})
		rng := rand.New(rand.NewPCG(1, 2))
		const total = 5000
		var want []string
		for n := range total {
			stream, part := fmt.Sprintf("s%d", rng.IntN(3)), rng.Int32N(2)
			lsn, err := l.Append(rec(stream, part, n), tributary.Ticket{})
			if err != nil || lsn != tributary.LSN(n) {
				t.Fatal(lsn, err)
			}
			want = append(want, fmt.Sprint(stream, part))
		}
		l.close(t)
		if l.count() != total {
			t.Fatalf("%d acknowledged, want %d", l.count(), total)
		}

		again := start(t, d, Options{MaxBytes: 32 << 20})
		offsets := map[string]int64{}
		all := readAll(t, again.Log, l.Ledger())
		for n, e := range all {
			place := fmt.Sprint(e.Stream, e.Partition)
			if e.LSN != tributary.LSN(n) || place != want[n] || e.Offset != offsets[place] || string(e.Value) != fmt.Sprintf("value %d", n) {
				t.Fatalf("record %d is %+v, want %s at offset %d", n, e, want[n], offsets[place])
			}
			offsets[place]++
		}
		if len(all) != total {
			t.Fatalf("%d records read, want %d", len(all), total)
		}
		again.close(t)
	}
}

// A1, D1: a full log refuses before it writes, keeps what it has, and accepts
// again as soon as Kafka has the oldest segment.
func TestFullRefusesAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, disktest.New(1<<30), Options{})
		var full *FullError
		n := 0
		for ; ; n++ {
			if _, err := l.Append(rec("s", 0, n), tributary.Ticket{}); errors.As(err, &full) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n < 40 || l.count() != n {
			t.Fatalf("%d accepted, %d acknowledged", n, l.count())
		}
		l.Forwarded(l.Ledger(), tributary.LSN(n))
		synctest.Wait()
		if _, err := l.Append(rec("s", 0, n), tributary.Ticket{}); err != nil {
			t.Fatal("after everything is in Kafka:", err)
		}
		synctest.Wait()
		if l.count() != n+1 {
			t.Fatal("not acknowledged")
		}
		r, err := l.Reader(l.Ledger())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Read(t.Context(), 0, 1); !errors.Is(err, ErrTrimmed) {
			t.Errorf("reading a recycled segment: %v, want ErrTrimmed", err)
		}
		if r.Base() == 0 {
			t.Error("base is still 0")
		}
		l.close(t)
	})
}

// D2: after a failed flush nothing is acknowledged in that ledger any more, what
// was is there, and the log goes on with another one, once. Then it refuses.
func TestFailedFlushIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		l := start(t, d, Options{})
		add := func(n int) error {
			_, err := l.Append(rec("s", 0, n), tributary.Ticket{})
			synctest.Wait()
			return err
		}
		if err := add(0); err != nil {
			t.Fatal(err)
		}
		first := l.Ledger()
		eio := errors.New("input/output error")
		fails := 1
		d.Fail(func(op disktest.Op) error {
			if op.Kind == "sync" && fails > 0 {
				fails-- // the kernel would call the next flush a success
				return eio
			}
			return nil
		})
		if err := add(1); err != nil {
			t.Fatal(err)
		}
		if l.count() != 1 || len(l.lost) != 1 || !errors.Is(l.lost[0], ErrLedgerEnded) || !errors.Is(l.lost[0], eio) {
			t.Fatalf("acknowledged %d, refused %v", l.count(), l.lost)
		}
		if err := add(2); err != nil || l.count() != 2 || l.Ledger() == first || l.Stats().LedgerEnded == "" {
			t.Fatalf("after the failure: %v, %d acknowledged, the ledger is %v", err, l.count(), l.Ledger())
		}
		if got := readAll(t, l.Log, first); len(got) != 1 {
			t.Errorf("the first ledger has %d records, should have 1", len(got))
		}

		fails = 1
		if err := add(3); err != nil {
			t.Fatal(err)
		}
		if err := <-l.done; !errors.Is(err, ErrFailed) || !errors.Is(err, eio) {
			t.Fatalf("run returned %v", err)
		}
		if err := add(4); !errors.Is(err, ErrFailed) {
			t.Errorf("append after the second failure: %v", err)
		}
		if l.count() != 2 || len(l.lost) != 2 {
			t.Errorf("acknowledged %d, refused %d, want 2 and 2", l.count(), len(l.lost))
		}
		l.stop()

		again, found, err := Open(d.Crash(rand.New(rand.NewPCG(1, 1))), Options{SegmentBytes: 64 << 10})
		if err != nil || len(found.Rot) > 0 {
			t.Fatal(found, err)
		}
		for i, held := range again.Ledgers() {
			if got := readAll(t, again, held.ID); i > 1 || string(got[0].Value) != []string{"value 0", "value 2"}[i] {
				t.Errorf("ledger %d begins with %q", i, got[0].Value)
			}
		}
	})
}

// Group commit: a hundred records that arrive during one flush share the next.
func TestOneFlushForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := disktest.New(1 << 30)
		l := start(t, d, Options{SegmentBytes: 1 << 20})
		if _, err := l.Append(rec("s", 0, 0), tributary.Ticket{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		d.Fail(func(op disktest.Op) error {
			if op.Kind == "sync" {
				time.Sleep(20 * time.Millisecond) //nolint:forbidigo // a card, in bubble time
			}
			return nil
		})
		before, from := l.Stats().Flushes, time.Now()
		if _, err := l.Append(rec("s", 0, 1), tributary.Ticket{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // bubble time: the first flush is under way
		for n := range 100 {
			if _, err := l.Append(rec("s", 0, 2+n), tributary.Ticket{}); err != nil {
				t.Fatal(err)
			}
		}
		for l.count() < 102 {
			time.Sleep(time.Millisecond) //nolint:forbidigo // bubble time
		}
		if took, flushes := time.Since(from), l.Stats().Flushes-before; flushes != 2 || took > 50*time.Millisecond {
			t.Errorf("%d flushes in %v, want 2 in about 40ms", flushes, took)
		}
		l.close(t)
	})
}

// D3: a reader that follows sees every record once, in order, and is woken
// without polling.
func TestTailFollows(t *testing.T) {
	l := start(t, disktest.New(1<<30), Options{MaxBytes: 32 << 20})
	r, err := l.Reader(l.Ledger())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const total = 3000
	go func() {
		for n := range total {
			if _, err := l.Append(rec("s", 0, n), tributary.Ticket{}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for at := tributary.LSN(0); at < total; {
		c, err := r.Read(t.Context(), at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range c.Entries {
			if e.LSN != at+tributary.LSN(i) {
				t.Fatalf("record %d where %d should be", e.LSN, at+tributary.LSN(i))
			}
		}
		at = c.Next
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Read(ctx, total, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled read: %v", err)
	}
	l.close(t)
}

// Forwarded segments are freed by age, others never are.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, disktest.New(1<<30), Options{MaxBytes: 4 << 20, MaxAge: time.Hour})
		for n := range 2000 {
			if _, err := l.Append(rec("s", 0, n), tributary.Ticket{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n == 150 {
				break
			}
		}
		full := len(l.held())
		time.Sleep(3 * time.Hour) //nolint:forbidigo // bubble time
		if len(l.held()) != full {
			t.Fatal("segments went that are not in Kafka")
		}
		l.Forwarded(l.Ledger(), 100)
		time.Sleep(2 * time.Minute) //nolint:forbidigo // bubble time
		if len(l.held()) >= full {
			t.Error("old forwarded segments stay")
		}
		r, _ := l.Reader(l.Ledger())
		defer r.Close()
		if base := r.Base(); base == 0 || base > 100 {
			t.Errorf("the log starts at %d, want in (0, 100]", base)
		}
		l.close(t)
	})
}

// Rot in a sealed or unsealed segment is told from a torn tail, named exactly,
// and hides nothing else (D3).
func TestRotIsNotTorn(t *testing.T) {
	d := disktest.New(1 << 30)
	l := start(t, d, Options{SegmentBytes: 4 << 20})
	for n := range 20 {
		if _, err := l.Append(rec("s", 0, n), tributary.Ticket{}); err != nil {
			t.Fatal(err)
		}
		for l.Durable() != tributary.LSN(n+1) { // a group for each record: wait for its commit
			r, _ := l.Reader(l.Ledger())
			_, _ = r.Read(t.Context(), tributary.LSN(n), 1)
			r.Close()
		}
	}
	l.close(t)
	f, err := d.Open(l.segs[0].name, true)
	if err != nil {
		t.Fatal(err)
	}
	at := int64(segment.HeaderBytes + 5*4096 + 150) // in the group of record 5
	if _, err := f.WriteAt([]byte("rot"), at); err != nil {
		t.Fatal(err)
	}
	again, found, err := Open(d, Options{SegmentBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Rot) != 1 || found.Torn || found.Rot[0].From != segment.HeaderBytes+5*4096 {
		t.Fatalf("recovery found %+v", found)
	}
	r, _ := again.Reader(l.Ledger())
	defer r.Close()
	c, err := r.Read(t.Context(), 0, 1<<20)
	if err != nil || c.Next != 5 {
		t.Fatalf("before the hole: up to %d, %v", c.Next, err)
	}
	if c, err := r.Read(t.Context(), 5, 1<<20); err != nil || c.Gap == nil || c.Gap.Reason != record.Damaged || c.Next != 6 || len(c.Entries) > 0 {
		t.Fatalf("in the hole: %+v, %v", c, err)
	}
	if c, err := r.Read(t.Context(), 6, 1<<20); err != nil || c.Next != 20 {
		t.Fatalf("behind the hole: up to %d, %v", c.Next, err)
	}
}

func (r *running) held() []*seg {
	r.Log.mu.Lock()
	defer r.Log.mu.Unlock()
	return r.segs
}
