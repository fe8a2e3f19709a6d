package uplink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// ledger is a Source in memory.
type ledger struct {
	id tributary.LedgerID

	mu     sync.Mutex     // guards what follows
	groups []record.Chunk // and gaps
	gone   []record.Entry // what was in the gaps
	from   tributary.LSN  // base
	next   tributary.LSN
	closed bool
	grown  chan struct{} // closed and replaced when groups or closed change
}

func newLedger() *ledger {
	return &ledger{id: tributary.NewLedgerID(), grown: make(chan struct{})}
}

func (l *ledger) Ledger() tributary.LedgerID { return l.id }

func (l *ledger) Base() tributary.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from
}

func (l *ledger) end() tributary.LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

func (l *ledger) ChainAt(lsn tributary.LSN) (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lsn == 0 {
		return 0, true
	}
	for _, g := range l.groups {
		if g.Next == lsn && lsn >= l.from {
			return g.Chain, true
		}
	}
	return 0, false
}

func (l *ledger) Read(ctx context.Context, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	for {
		l.mu.Lock()
		c, ok := l.read(from, maxBytes)
		end, closed, grown := l.next, l.closed, l.grown
		l.mu.Unlock()
		switch {
		case ok:
			return c, nil
		case from < end:
			return record.Chunk{}, fmt.Errorf("record %d is inside a group", from)
		case closed:
			return record.Chunk{}, io.EOF
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return record.Chunk{}, ctx.Err()
		}
	}
}

func (l *ledger) read(from tributary.LSN, maxBytes int) (c record.Chunk, ok bool) {
	first, ok := slices.BinarySearchFunc(l.groups, from, func(g record.Chunk, lsn tributary.LSN) int { return cmp.Compare(g.From, lsn) })
	if !ok {
		return l.restOfGap(first-1, from)
	}
	if l.groups[first].Gap != nil {
		return l.groups[first], true
	}
	c.From = from
	c.Entries = make([]record.Entry, 0, maxBytes/256+len(l.groups[first].Entries))
	for _, g := range l.groups[first:] {
		if maxBytes <= 0 || g.Gap != nil {
			break
		}
		c.Next, c.Chain = g.Next, g.Chain
		c.Entries = append(c.Entries, g.Entries...)
		maxBytes -= 256 * len(g.Entries)
	}
	return c, true
}

// restOfGap is what Read gives from inside a gap: a store cannot tell which of
// its streams are behind from.
func (l *ledger) restOfGap(i int, from tributary.LSN) (c record.Chunk, ok bool) {
	if i < 0 || l.groups[i].Gap == nil || from >= l.groups[i].Next {
		return c, false
	}
	c = l.groups[i]
	gap := *c.Gap
	gap.Streams = nil
	c.From, c.Gap = from, &gap
	return c, true
}

// drop makes a gap of the groups and gaps of [from, to), which begins and ends
// with one.
func (l *ledger) drop(from, to tributary.LSN, reason record.GapReason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := slices.IndexFunc(l.groups, func(g record.Chunk) bool { return g.From == from })
	last := slices.IndexFunc(l.groups, func(g record.Chunk) bool { return g.Next == to })
	gap := record.Gap{Reason: reason, Streams: map[string]int64{}}
	for _, g := range l.groups[first : last+1] {
		for _, e := range g.Entries {
			gap.Streams[e.Stream]++
			gap.FirstMillis, gap.LastMillis = cmp.Or(gap.FirstMillis, e.Millis), e.Millis
		}
		if g.Gap != nil {
			for stream, n := range g.Gap.Streams {
				gap.Streams[stream] += n
			}
			gap.FirstMillis, gap.LastMillis = cmp.Or(gap.FirstMillis, g.Gap.FirstMillis), g.Gap.LastMillis
		}
		l.gone = append(l.gone, g.Entries...)
	}
	c := record.Chunk{From: from, Next: to, Chain: l.groups[last].Chain, Gap: &gap}
	l.groups = slices.Replace(l.groups, first, last+1, c)
}

// add appends one group.
func (l *ledger) add(records ...record.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := record.Chunk{From: l.next}
	for _, r := range records {
		g.Entries = append(g.Entries, record.Entry{LSN: l.next, Record: r})
		l.next++
	}
	g.Next = l.next
	chain := crc64.New(crc64.MakeTable(crc64.ECMA))
	if n := len(l.groups); n > 0 {
		fmt.Fprint(chain, l.groups[n-1].Chain)
	}
	for _, e := range g.Entries {
		_, _ = chain.Write(e.Key)
		_, _ = chain.Write(e.Value)
	}
	g.Chain = chain.Sum64()
	l.groups = append(l.groups, g)
	close(l.grown)
	l.grown = make(chan struct{})
}

// fill appends groups of n records in all, of 5 keys, with values that say
// where they are.
func (l *ledger) fill(stream string, n, perGroup int) {
	for n > 0 {
		var g []record.Record
		for i := range min(perGroup, n) {
			lsn := uint64(l.end()) + uint64(i)
			g = append(g, record.Record{
				Stream: stream, Millis: time.Now().UnixMilli(),
				Key:   []byte(fmt.Sprintf("device-%d", lsn%5)),
				Value: []byte(fmt.Sprintf("value %d of the ledger", lsn)),
			})
		}
		l.add(g...)
		n -= len(g)
	}
}

func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.grown)
	l.grown = make(chan struct{})
}

// log is an Observer that remembers.
type log struct {
	mu      sync.Mutex // guards what follows
	commits []Commit
	states  []Status
	changed chan struct{} // closed and replaced at every call
}

func newLog() *log { return &log{changed: make(chan struct{})} }

func (l *log) Committed(c Commit) { l.note(func() { l.commits = append(l.commits, c) }) }
func (l *log) State(s Status)     { l.note(func() { l.states = append(l.states, s) }) }

func (l *log) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// until waits for a commit or state that makes ok true.
func (l *log) until(t *testing.T, what string, ok func(commits []Commit, states []Status) bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		good, changed := len(l.states) > 0 && ok(l.commits, l.states), l.changed
		l.mu.Unlock()
		if good {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("no %s after 30 s; last of %d states %+v, %d commits", what, len(l.states), l.states[len(l.states)-1], len(l.commits))
		}
	}
}

// holds reports whether the commits and states so far make ok true.
func (l *log) holds(ok func(commits []Commit, states []Status) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.states) > 0 && ok(l.commits, l.states)
}

func committed(next tributary.LSN) func([]Commit, []Status) bool {
	return func(commits []Commit, _ []Status) bool {
		return len(commits) > 0 && commits[len(commits)-1].Position.Next >= next
	}
}

func inState(state State) func([]Commit, []Status) bool {
	return func(_ []Commit, states []Status) bool {
		return len(states) > 0 && states[len(states)-1].State == state
	}
}

func (l *log) last(t *testing.T) Status {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.states) == 0 {
		t.Fatal("no state was reported")
	}
	return l.states[len(l.states)-1]
}

func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func config(c *kfake.Cluster) Config {
	return Config{Brokers: c.ListenAddrs(), Site: "plant", Node: "n1", CreateTopics: true, Partitions: 3, DeadLetter: "dead"}
}

// quick makes retries fast.
func quick(t testing.TB, cfg Config, src Source, watch Observer) *forwarder {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	f := newForwarder(cfg, src, watch)
	f.pace = pace{first: 2 * time.Millisecond, most: 20 * time.Millisecond, fencedFirst: 2 * time.Millisecond, fencedMost: 20 * time.Millisecond}
	return f
}

// drain forwards a closed ledger to its end.
func drain(t *testing.T, cfg Config, l *ledger) *log {
	t.Helper()
	watch := newLog()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := quick(t, cfg, l, watch).run(ctx); err != nil {
		t.Fatalf("forward: %v; last state %+v", err, watch.last(t))
	}
	return watch
}

// start forwards in the background until stop is called, which returns the error.
func start(t *testing.T, f *forwarder) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

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

// wire opens connections that can be cut, as kill -9 does.
type wire struct {
	mu    sync.Mutex // guards what follows
	conns map[net.Conn]struct{}
	dead  bool
}

var errKilled = errors.New("killed")

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		_ = c.Close()
		return nil, errKilled
	}
	if w.conns == nil {
		w.conns = map[net.Conn]struct{}{}
	}
	w.conns[c] = struct{}{}
	return c, nil
}

// kill cuts all connections for good.
func (w *wire) kill() {
	w.mu.Lock()
	w.dead = true
	w.mu.Unlock()
	w.cut()
}

// cut cuts all connections that are open.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // RST
		}
		_ = c.Close()
	}
}
