package ingest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/session"
	"github.com/tributary-edge/tributary/log/record"
)

var (
	errFull = errors.New("no room")
	errDead = errors.New("the log has failed")
)

// A fakeLog is the log as the Door sees it, in memory. Records become durable
// when the test says so, or, after auto, by themselves.
type fakeLog struct {
	committed func(tributary.LedgerID, tributary.LSN, []tributary.Ticket, error)
	ledger    tributary.LedgerID
	before    []*fakeLog // of earlier processes, oldest first

	mu        sync.Mutex
	entries   []record.Entry
	tickets   []tributary.Ticket
	failed    []int // entries whose group failed
	durable   int   // entries below it are committed, or failed
	readable  int   // entries below it may be read
	fail      error // what Append returns
	full      bool  // there is no room but for alarms
	eventless bool  // nor for what was dropped
	reads     int
	appended  sync.Cond
	grown     chan struct{} // closed and replaced when readable grows
}

// fakeLedger is the ledger of every fakeLog.
var fakeLedger = tributary.LedgerID{0xfa}

// fakeLogMillis is the time by the fake log's clock, which nobody else has.
func fakeLogMillis() int64 { return time.Now().Add(time.Hour).UnixMilli() }

func newFakeLog() *fakeLog {
	l := &fakeLog{ledger: fakeLedger, grown: make(chan struct{})}
	l.appended.L = &l.mu
	return l
}

func (l *fakeLog) Append(r *record.Record, t tributary.Ticket) (tributary.LSN, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return 0, l.fail
	}
	if l.full && !r.Alarm || l.eventless && string(r.Key) == session.EventKey && r.Value[1] == 8 {
		return 0, errFull
	}
	e := record.Entry{LSN: tributary.LSN(len(l.entries)), Record: *r}
	e.Key, e.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	e.Headers = slices.Clone(r.Headers)
	if e.Millis == 0 {
		e.Millis = fakeLogMillis()
	}
	for i := range e.Headers {
		e.Headers[i].Value = bytes.Clone(e.Headers[i].Value)
	}
	l.entries = append(l.entries, e)
	l.tickets = append(l.tickets, t)
	l.appended.Broadcast()
	return e.LSN, nil
}

func (l *fakeLog) AppendAll(to tributary.LedgerID, rs []record.Record, ts []tributary.Ticket) (tributary.LedgerID, int, error) {
	return appendEach(l, to, rs, ts)
}

// appendEach is AppendAll for a log that has no better way.
func appendEach(l interface {
	Append(*record.Record, tributary.Ticket) (tributary.LSN, error)
}, to tributary.LedgerID, rs []record.Record, ts []tributary.Ticket,
) (tributary.LedgerID, int, error) {
	for i := range rs {
		if _, err := l.Append(&rs[i], ts[i]); err != nil {
			return to, i, err
		}
	}
	return to, len(rs), nil
}

// commit makes everything appended so far one durable group, or a failed one.
func (l *fakeLog) commit(err error) {
	l.mu.Lock()
	from, to := l.durable, len(l.entries)
	tickets := slices.Clone(l.tickets[from:to])
	l.durable = to
	for i := from; err != nil && i < to; i++ {
		l.failed = append(l.failed, i)
	}
	if err == nil && to > from {
		l.readable = to
		close(l.grown)
		l.grown = make(chan struct{})
	}
	l.mu.Unlock()
	if to > from {
		l.committed(l.ledger, tributary.LSN(from), tickets, err)
	}
}

// auto commits by itself, after each append, until the test ends.
func (l *fakeLog) auto(t testing.TB) {
	t.Helper()
	stop, done := false, make(chan struct{})
	go func() {
		defer close(done)
		for {
			l.mu.Lock()
			for l.durable == len(l.entries) && !stop {
				l.appended.Wait()
			}
			ended := stop && l.durable == len(l.entries)
			l.mu.Unlock()
			if ended {
				return
			}
			l.commit(nil)
		}
	}()
	t.Cleanup(func() {
		l.mu.Lock()
		stop = true
		l.appended.Broadcast()
		l.mu.Unlock()
		<-done
	})
}

func (l *fakeLog) setFail(err error) {
	l.mu.Lock()
	l.fail = err
	l.mu.Unlock()
}

// setFull leaves room for alarms alone.
func (l *fakeLog) setFull() {
	l.mu.Lock()
	l.full = true
	l.mu.Unlock()
}

func (l *fakeLog) Read(ctx context.Context, ledger tributary.LedgerID, from tributary.LSN, maxBytes int) (record.Chunk, error) {
	for _, old := range l.before {
		if old.ledger == ledger {
			return old.Read(ctx, ledger, from, maxBytes)
		}
	}
	for {
		l.mu.Lock()
		if l.readable > int(from) {
			c := record.Chunk{From: from, Next: tributary.LSN(l.readable), Entries: slices.Clone(l.entries[from:l.readable])}
			l.reads++
			l.mu.Unlock()
			return c, nil
		}
		grown := l.grown
		l.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return record.Chunk{}, ctx.Err()
		}
	}
}

// all returns what was appended so far.
func (l *fakeLog) all() []record.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// records is all, without what is noted of sessions.
func (l *fakeLog) records() []record.Entry {
	return slices.DeleteFunc(l.all(), func(e record.Entry) bool { return e.Stream == "" && string(e.Key) == session.EventKey })
}

// payloads returns the values of the messages appended so far, joined by
// spaces; control records show as their key in brackets, except for what is
// noted of sessions.
func (l *fakeLog) payloads() string {
	var s []string
	for _, e := range l.records() {
		if e.Header(headerTopic) == nil {
			s = append(s, "["+string(e.Key)+"]")
		} else {
			s = append(s, string(e.Value))
		}
	}
	return strings.Join(s, " ")
}

// A routeFunc is a Router.
type routeFunc func(topic, clientID, username string) (Destination, error)

func (f routeFunc) Route(topic, clientID, username string) (Destination, error) {
	return f(topic, clientID, username)
}

func routeAll(_, clientID, _ string) (Destination, error) {
	return Destination{Stream: "telemetry", Key: []byte(clientID)}, nil
}

// newTestDoor returns a Door on a log, with small limits.
func newTestDoor(t *testing.T, l *fakeLog, change func(*Options)) *Door {
	t.Helper()
	o := Options{
		Log: l, Reader: l, Router: routeFunc(routeAll), Guard: openDoor{}, DeadLetter: "dead",
		IsFull:         func(err error) bool { return errors.Is(err, errFull) },
		MaxPacketBytes: 128 << 10, ReceiveMaximum: 8,
	}
	if change != nil {
		change(&o)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l.committed = d.Committed
	return d
}

// runDoor lets d run until the test ends, or until the function that it
// returns is called, which then returns what Run returned.
func runDoor(t *testing.T, d *Door) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	<-d.Ready()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// An openDoor lets everybody do everything.
type openDoor struct{}

func (openDoor) Authenticate(_ context.Context, c *auth.Credentials) (auth.Identity, error) {
	return auth.Identity{User: c.Username}, nil
}

func (openDoor) Allows(_, _ string, _ auth.Access, _ string) bool  { return true }
func (openDoor) Stands(*auth.Identity, *tls.ConnectionState) error { return nil }
func (openDoor) Generation() uint64                                { return 0 }
