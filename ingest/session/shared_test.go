package session

import (
	"bytes"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/topic"
	"github.com/tributary-edge/tributary/log/record"
)

// share makes s a member of a shared subscription.
func share(t testing.TB, s *Session) *Session {
	t.Helper()
	if _, err := s.Subscribe(topic.Subscription{Filter: "$share/g/t", QoS: 2}); err != nil {
		t.Fatal(err)
	}
	return s
}

func lsns(all []Message) (lsns []tributary.LSN) {
	for _, m := range all {
		lsns = append(lsns, m.LSN)
	}
	return lsns
}

// A member leaves what nobody may have a part of, and what it is offered until it
// is asked for that. Others leave nothing.
func TestLeft(t *testing.T) {
	for _, member := range []bool{true, false} {
		st := NewStore(Options{})
		s := open(t, st, "c")
		if member {
			share(t, s)
		}
		s.Attach(3)
		for lsn := range tributary.LSN(5) {
			s.Offer(at(ledgerA, lsn, 1+byte(lsn%2)))
		}
		s.Offer(Message{LSN: 1, QoS: 1, Copy: &record.Entry{}})
		for range 3 {
			take(t, s)
		}
		s.Puback(1)
		st.Drop("c")
		s.Offer(at(ledgerA, 5, 1))
		var want []tributary.LSN // 0 is acknowledged, and 1 is of QoS 2 and may have been sent
		if member {
			want = []tributary.LSN{2, 3, 4, 5}
		}
		if got := lsns(s.Left()); !slices.Equal(got, want) {
			t.Errorf("member %t: left %v, want %v", member, got, want)
		}
		if s.Offer(at(ledgerA, 6, 1)); len(s.Left()) > 0 || s.flight.len()+s.queue.len() > 0 {
			t.Errorf("member %t: it keeps messages", member)
		}
	}
}

// What is inherited goes before what is newer, is not taken twice, and is there
// after a restart, from events or from a state, though all after it may be done.
func TestInherit(t *testing.T) {
	for _, from := range []string{"nothing", "events", "state"} {
		st := NewStore(Options{})
		st.Begin(ledgerB)
		st.Begin(ledgerA)
		s := open(t, st, "c")
		events := [][]byte{s.OpenedEvent()}
		s.Attach(1)
		s.Offer(at(ledgerA, 4, 1))
		take(t, s)
		s.Offer(at(ledgerA, 7, 1))
		s.Offer(Message{LSN: 1, QoS: 1, Copy: &record.Entry{}})
		s.Offer(at(ledgerA, 9, 1))
		dropped, event := s.Inherit([]Message{at(ledgerA, 8, 2), at(ledgerB, 100, 1), at(ledgerA, 4, 1), at(ledgerA, 9, 1), at(ledgerA, 2, 1)})
		if dropped > 0 || event == nil {
			t.Fatal(dropped, event)
		}
		if events = append(events, event); from != "nothing" {
			state := st.Dirty()["c"]
			st = NewStore(Options{})
			st.Begin(ledgerB)
			st.Begin(ledgerA)
			if from == "state" {
				if err := st.Restore("c", state); err != nil {
					t.Fatal(err)
				}
			}
			for i, e := range slices.Concat(events, events[1:]) {
				if err := st.Replay(e); err != nil {
					t.Fatal(err)
				}
				if s = st.Get("c"); from == "events" && i == 0 {
					s.Offer(at(ledgerA, 4, 1))
					s.Offer(at(ledgerA, 7, 1))
					s.Offer(Message{LSN: 1, QoS: 1, Copy: &record.Entry{}})
					s.Offer(at(ledgerA, 9, 1))
				}
			}
		}
		s.Attach(10)
		var got []tributary.LSN
		for d, ok := s.Take(); ok; d, ok = s.Take() {
			got = append(got, d.LSN)
		}
		want := []tributary.LSN{4, 100, 2, 7, 1, 8, 9}
		if from == "events" {
			want = []tributary.LSN{100, 2, 4, 7, 1, 8, 9} // nobody knows that 4 was in flight
		}
		if !slices.Equal(got, want) {
			t.Errorf("from %s: got %v, want %v", from, got, want)
		}
	}
}

// S1: what is inherited counts for the bound, and the oldest goes.
func TestInheritTooMuch(t *testing.T) {
	s := open(t, NewStore(Options{MaxQueued: 3}), "c")
	s.Offer(at(ledgerA, 10, 1))
	s.Offer(at(ledgerA, 11, 1))
	if dropped, _ := s.Inherit([]Message{at(ledgerA, 1, 1), at(ledgerA, 2, 1)}); dropped != 1 {
		t.Errorf("%d dropped", dropped)
	}
	s.Attach(10)
	if d := take(t, s); d.LSN != 2 {
		t.Errorf("the oldest is %d", d.LSN)
	}
}

// What earlier versions of the program have written is read: version 2, and version
// 1, which has the same form.
func TestOldVersions(t *testing.T) {
	was, events := life(t, NewStore(Options{}))
	text, err := os.ReadFile("testdata/version2.txt")
	if err != nil {
		t.Fatal(err)
	}
	for version := range byte(2) {
		old := make([][]byte, 0, len(events)+1)
		for line := range strings.Lines(string(text)) {
			b, err := hex.DecodeString(strings.TrimSpace(line))
			if err != nil {
				t.Fatal(err)
			}
			b[0] = version + 1
			old = append(old, b)
		}
		st := NewStore(Options{})
		state := old[len(events)]
		if err := st.Restore("press-4", seal(state[:len(state)-4])); err != nil {
			t.Fatal(err)
		}
		if got := st.Get("press-4").state(); !bytes.Equal(got, was.state()) {
			t.Errorf("restored % x, want % x", got, was.state())
		}
		st = NewStore(Options{})
		for _, e := range old[:len(events)] {
			if err := st.Replay(e); err != nil {
				t.Fatal(err)
			}
		}
		if subs := st.Get("press-4").Subscriptions(); len(subs) != 1 {
			t.Errorf("subscriptions %v", subs)
		}
	}
}
