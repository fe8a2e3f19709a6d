package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// readCommitted returns what a read_committed reader sees of topics that exist.
func readCommitted(t testing.TB, brokers []string, topics ...string) []*kgo.Record {
	t.Helper()
	return consume(t, brokers, kgo.ReadCommitted(), topics)
}

// readCommittedOver is readCommitted for a cluster on a virtual network.
func readCommittedOver(t testing.TB, w *uplinkWire, c *kfake.Cluster, topics ...string) []*kgo.Record {
	t.Helper()
	return consume(t, c.ListenAddrs(), kgo.ReadCommitted(), topics, kgo.Dialer(w.dial))
}

func consume(t testing.TB, brokers []string, isolation kgo.IsolationLevel, topics []string, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(brokers...), kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeTopics(topics...), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	type at struct {
		topic     string
		partition int32
	}
	left := map[at]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[at{o.Topic, o.Partition}] = o.Offset
		}
	})
	var out []*kgo.Record
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read Kafka back: %v; not at the end: %v", err, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				out = append(out, r)
			}
			if p := (at{r.Topic, r.Partition}); r.Offset+1 >= left[p] {
				delete(left, p)
			}
		})
	}
	return out
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// checkExactlyOnce fails unless got holds every record of l once, with its key
// and value, and the records of each key in order (U1, U2). A record that is gone
// may have got there before; if not, one gap record must speak of it (U4).
func checkExactlyOnce(t testing.TB, l *ledger, got []*kgo.Record) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	want := map[string]record.Entry{}
	entries := slices.Clone(l.gone)
	for _, g := range l.groups {
		entries = append(entries, g.Entries...)
	}
	for _, e := range entries {
		if e.Stream != "" {
			want[fmt.Sprint(e.LSN)] = e
		}
	}
	gone := map[tributary.LSN]bool{}
	for _, e := range l.gone {
		gone[e.LSN] = true
	}
	told := map[tributary.LSN]bool{}
	seen := map[string]int{}
	lastOf := map[string]tributary.LSN{}
	wrong := 0
	complain := func(format string, args ...any) {
		if wrong++; wrong <= 10 {
			t.Errorf(format, args...)
		}
	}
	for _, r := range got {
		if header(r, headerLedger) != l.id.String() {
			continue
		}
		lsn := header(r, headerLSN)
		if note, ok := readGap(t, r); ok {
			for at := tributary.LSN(note.From); at < tributary.LSN(note.To); at++ {
				if !gone[at] || told[at] {
					complain("record %d is said to be gone by %s; is it: %t, is it said twice: %t", at, r.Value, gone[at], told[at])
				}
				told[at] = true
			}
			continue
		}
		e, ok := want[lsn]
		if !ok {
			complain("record %s is in Kafka and not in the ledger", lsn)
			continue
		}
		if seen[lsn]++; seen[lsn] > 1 {
			complain("record %s is in Kafka %d times", lsn, seen[lsn])
			continue
		}
		if string(e.Value) != string(r.Value) || string(e.Key) != string(r.Key) {
			complain("record %s is %q %q in Kafka, want %q %q", lsn, r.Key, r.Value, e.Key, e.Value)
		}
		in := r.Topic + "/" + string(e.Key)
		if last, ok := lastOf[in]; ok && e.LSN < last {
			complain("record %d of key %s comes after record %d", e.LSN, e.Key, last)
		}
		lastOf[in] = e.LSN
	}
	lost := len(want) - len(seen)
	for lsn := range told {
		switch at := fmt.Sprint(lsn); {
		case seen[at] > 0:
			complain("record %d is in Kafka and is said to be gone", lsn)
		case want[at].Stream != "":
			lost--
		}
	}
	if lost != 0 {
		complain("%d of %d records are not in Kafka", lost, len(want))
	}
}

// readGap returns what a gap record says; ok is false if r is another record.
func readGap(t testing.TB, r *kgo.Record) (note gapNote, ok bool) {
	t.Helper()
	reason := header(r, headerGap)
	if reason == "" {
		return note, false
	}
	if err := json.Unmarshal(r.Value, &note); err != nil {
		t.Fatalf("gap record %s: %v", r.Value, err)
	}
	if note.Version != 1 || note.Kind != "gap" || string(note.Reason) != reason || note.Ledger != header(r, headerLedger) ||
		fmt.Sprint(note.From) != header(r, headerLSN) || note.From >= note.To || note.Count != note.To-note.From {
		t.Errorf("gap record %s with headers %v", r.Value, r.Headers)
	}
	return note, true
}
