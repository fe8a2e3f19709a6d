package uplink

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tributary-edge/tributary"
)

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
