package uplink

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
)

// watched notes what a Watch tells.
type watched struct {
	mu      sync.Mutex
	at      map[tributary.LedgerID]tributary.Position
	back    bool // a position went back
	read    time.Time
	changed chan struct{}
}

func (w *watched) Moved(p tributary.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.back = w.back || p.Next < w.at[p.Ledger].Next
	w.at[p.Ledger] = p
	w.signal()
}

func (w *watched) Read(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = at
	w.signal()
}

func (w *watched) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watched) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		w.mu.Lock()
		done := ok()
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-w.changed:
		case <-late:
			t.Fatal("waited for", what)
		}
	}
}

// R26: who watches sees each ledger of the site move, whoever forwards it, and
// knows when Kafka cannot be read.
func TestWatch(t *testing.T) {
	c := cluster(t)
	first := newLedger()
	first.fill("a", 5, 5)
	first.close()
	drain(t, config(c), first) // the topic is there

	w := &watched{at: map[tributary.LedgerID]tributary.Position{}, changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, config(c), w) }()
	w.until(t, "Kafka to be read", func() bool { return !w.read.IsZero() })

	other := config(c)
	other.Site = "elsewhere"
	stranger, second := newLedger(), newLedger()
	for _, l := range []*ledger{stranger, second} {
		l.fill("a", 40, 3)
		l.close()
	}
	drain(t, other, stranger)
	drain(t, config(c), second)
	w.until(t, "the position", func() bool { return w.at[second.id].Next == second.end() })
	chain, _ := second.ChainAt(second.end())
	if _, told := w.at[stranger.id]; told || w.at[second.id].Chain != chain || w.back {
		t.Errorf("told %v", w.at)
	}
	read := w.read
	w.until(t, "Kafka to be read again", func() bool { return w.read.After(read) })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch returned %v", err)
	}
	if err := Watch(t.Context(), Config{}, w); err == nil {
		t.Error("a Config without brokers was accepted")
	}
}
