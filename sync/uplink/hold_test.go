package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
)

// marks are what a gateway knows of the others.
type marks struct {
	mu    sync.Mutex // guards what follows
	known map[tributary.LedgerID]tributary.LSN
	ours  map[tributary.LedgerID]bool // this gateway will forward it
	away  bool                        // Kafka is
	held  int                         // forwarders that wait
}

func newMarks() *marks {
	return &marks{known: map[tributary.LedgerID]tributary.LSN{}, ours: map[tributary.LedgerID]bool{}}
}

func (m *marks) Position(l tributary.LedgerID) tributary.LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[l]
}

func (m *marks) Holds(l tributary.LedgerID, _ tributary.LSN) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ours[l]
}

func (m *marks) KafkaRead() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return time.Time{}.Add(time.Hour)
	}
	return time.Now()
}

func (m *marks) Found(p tributary.Position) { m.moved(p.Ledger, p.Next) }

func (m *marks) moved(l tributary.LedgerID, next tributary.LSN) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[l] = max(m.known[l], next)
}

func (m *marks) Holding(_ tributary.LedgerID, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if is {
		m.held++
	} else {
		m.held--
	}
}

func (m *marks) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}

// handoff is the mark of a device that waits for one ledger.
func handoff(client string, epoch uint64, on tributary.LedgerID, end tributary.LSN) record.Record {
	h := mark.Handoff{Client: client, Epoch: epoch, Deps: []mark.Dep{{Ledger: on, End: end}}}
	return h.Record()
}

// of is a record of a session.
func of(client string, s mark.Stamp) record.Record {
	return record.Record{
		Stream: "a", Millis: time.Now().UnixMilli(), Key: []byte(client), Value: []byte(fmt.Sprint(client, " ", s.Epoch, ".", s.N)),
		Headers: []record.Header{{Key: headerClientID, Value: []byte(client)}, {Key: mark.StampKey, Value: s.Append(nil)}},
	}
}

// R45, R46: two ledgers wait for each other at marks, each for what is before the mark of
// the other, in one read of the log. Both go on, and each waits for the other.
func TestMarksOfTwoLedgers(t *testing.T) {
	c := cluster(t)
	a, b, known := newLedger(), newLedger(), newMarks()
	for n := range tributary.LSN(20) { // in each: a record, then a mark and another one in a group
		for i, l := range []*ledger{a, b} {
			other := []*ledger{b, a}[i]
			l.add(of("one", mark.Stamp{Epoch: 1, N: uint64(n) + 1}))
			end := 3*n + 1 // the other's record of this round
			if i == 1 {
				end = 3 * n // or of the last
			}
			l.add(handoff("two", uint64(n), other.id, end), of("two", mark.Stamp{Epoch: uint64(n), N: 1}))
		}
	}
	a.close()
	b.close()
	cfg := config(c)
	cfg.Marks = known
	var all sync.WaitGroup
	for _, l := range []*ledger{a, b} {
		watch := &follows{log: newLog(), marks: known}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			if err := quick(t, cfg, l, watch).run(ctx); err != nil {
				t.Errorf("forward: %v", err)
			}
		})
	}
	all.Wait()
	if got := len(readCommitted(t, c.ListenAddrs(), "a")); got != 80 {
		t.Errorf("%d records, should be 80", got)
	}
	if known.waiting() != 0 {
		t.Error("somebody still waits")
	}
}

// follows tells marks of what is committed.
type follows struct {
	*log

	marks *marks
}

func (f *follows) Committed(c Commit) {
	f.marks.moved(c.Position.Ledger, c.Position.Next)
	f.log.Committed(c)
}

// I3, R45: what is before a mark goes to Kafka at once, what comes after it waits, and
// carries its session (R48).
func TestMarkHoldsBack(t *testing.T) {
	c := cluster(t)
	l, known, other := newLedger(), newMarks(), tributary.NewLedgerID()
	l.fill("a", 4, 2)
	l.add(of("dev", mark.Stamp{Epoch: 3, N: 9}), handoff("dev", 4, other, 10), of("dev", mark.Stamp{Flags: mark.Unverified | mark.TwicePossible, Epoch: 4, N: 1}))
	l.fill("a", 4, 2)
	l.close()
	cfg := config(c)
	cfg.Marks = known
	watch := newLog()
	f := quick(t, cfg, l, watch)
	done := make(chan error, 1)
	go func() { done <- f.run(t.Context()) }()
	watch.until(t, "what is before the mark", committed(4))
	known.moved(other, 9)
	for known.waiting() == 0 {
		<-time.After(time.Millisecond)
	}
	if watch.holds(committed(5)) {
		t.Error("it passed the mark")
	}
	known.moved(other, 10)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	sessions := map[string]string{}
	for _, r := range readCommitted(t, c.ListenAddrs(), "a") {
		if s := header(r, headerSession); s != "" {
			sessions[s] = header(r, headerFlags)
		}
		if header(r, mark.StampKey) != "" {
			t.Error("the stamp is in Kafka")
		}
	}
	if len(sessions) != 2 || sessions["3.9"] != "" || sessions["4.1"] != "unverified,twice-possible" {
		t.Errorf("sessions %v", sessions)
	}
}

// R45: a position that nobody speaks of any more is read from Kafka.
func TestMarkAsksKafka(t *testing.T) {
	c := cluster(t)
	before := newLedger()
	before.fill("a", 6, 2)
	before.close()
	drain(t, config(c), before)
	l := newLedger()
	l.add(handoff("dev", 4, before.id, 6))
	l.fill("a", 1, 1)
	l.close()
	cfg := config(c)
	cfg.Marks = newMarks()
	drain(t, cfg, l)
}

// R45: a ledger that does not move is given up after a minute, once for all the marks that
// wait for it, and the sessions behind them are flagged. The minute counts while Kafka
// can be read. Never is one given up that this gateway will forward, nor with strict.
func TestMarkIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		ours, strict, away bool
		within             time.Duration
	}{
		"given up":   {within: 80 * time.Second},
		"ours":       {ours: true},
		"strict":     {strict: true},
		"Kafka away": {away: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t)
				defer b.cluster.Close()
				known, other := newMarks(), tributary.NewLedgerID()
				known.ours[other], known.away = c.ours, c.away
				cfg := b.config()
				cfg.Marks, cfg.Strict = known, c.strict
				for n := range uint64(3) {
					b.ledger.add(handoff("dev", n, other, 10), of("dev", mark.Stamp{Epoch: n, N: 1}))
				}
				b.ledger.add(of("other", mark.Stamp{Epoch: 1, N: 1}))
				b.ledger.close()
				done := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				began := time.Now()
				go func() { done <- quick(t, cfg, b.ledger, b.watch).run(ctx) }()
				select {
				case err := <-done:
					if took := time.Since(began); err != nil || c.within == 0 || took > c.within || took < time.Minute {
						t.Errorf("it passed after %v: %v", took, err)
					}
				case <-time.After(time.Hour):
					if c.within > 0 {
						t.Error("it waits for ever")
					}
				}
				cancel()
				if c.within == 0 {
					if err := <-done; !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					return
				}
				for _, r := range readCommittedOver(t, b.wire, b.cluster, "a") {
					want := "late-possible"
					if string(r.Key) == "other" {
						want = ""
					}
					if got := header(r, headerFlags); got != want {
						t.Errorf("%s is flagged %q, should be %q", r.Value, got, want)
					}
				}
			})
		})
	}
}
