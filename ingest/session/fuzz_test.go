package session

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tributary-edge/tributary"
)

// S1: bytes from a damaged database cannot stop the node, and what is accepted
// is written again as it was. The checksum is made right, or nothing would be
// tried but the checksum.
func FuzzRestore(f *testing.F) {
	st := NewStore(Options{})
	s, _ := life(f, st)
	inherits(s)
	state := st.Dirty()["press-4"]
	f.Add(state[:len(state)-4])
	f.Add(open(f, NewStore(Options{}), "c").state())
	f.Fuzz(func(t *testing.T, body []byte) {
		st := NewStore(Options{})
		if err := st.Restore("c", seal(body)); err != nil {
			if !errors.Is(err, ErrDamaged) || st.Len() > 0 {
				t.Fatal(err)
			}
			return
		}
		s := st.Get("c")
		state := s.state()
		if err := st.Restore("c", state); err != nil {
			t.Fatal(err)
		}
		if again := st.Get("c").state(); !bytes.Equal(again, state) {
			t.Fatalf("restored % x, and wrote % x", state, again)
		}
		drain(t, st.Get("c"))
		s = st.Get("c")
		s.Offer(at(tributary.LedgerID{0xFF, 1}, 1, 2))
		s.Forget(ledgerA, 1<<40)
	})
}

// S1: nor can bytes from a damaged log; what they make of a session can be
// written and is delivered to its end.
func FuzzReplay(f *testing.F) {
	st := NewStore(Options{})
	s, events := life(f, st)
	state := st.Dirty()["press-4"]
	for _, e := range append(events, dropped(s), inherits(s), st.Drop("press-4").EndedEvent()) {
		f.Add(e)
		if c := bytes.Clone(e); len(c) > 2 {
			c[2] = 30 // a number that the state does not have
			f.Add(c)
		}
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		st := NewStore(Options{})
		if err := st.Restore("press-4", state); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := st.Replay(event); err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
		}
		st.Each(func(s *Session) {
			if err := NewStore(Options{}).Restore(s.Client, s.state()); err != nil {
				t.Fatal(err)
			}
			drain(t, s)
		})
	})
}
