package device

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func fresh() *session {
	s := newSession(State{Discard: true})
	s.begin()
	s.connected()
	return s
}

// send places and sends a message, as a new one.
func send(t *testing.T, s *session, seq uint64, qos byte) *flight {
	t.Helper()
	f := s.place(message{seq: seq, qos: qos})
	if s.sent(f) {
		t.Errorf("message %d: DUP on the first sending", seq)
	}
	return f
}

func ack(kind byte, f *flight, code byte) packet {
	return packet{kind: kind, packetID: f.packetID, code: code}
}

// A duplicate gets an answer of its own. Were the packet id used again before
// it, that answer would acknowledge the wrong message.
func TestPacketIDWaitsForTheAnswerToADuplicate(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		s := fresh()
		f := send(t, s, 1, qos)
		if !s.sent(f) {
			t.Error("a repetition without DUP")
		}
		id := f.packetID
		if qos == 1 {
			if got, _ := s.answer(ack(typePuback, f, 0)); got != acked {
				t.Fatalf("PUBACK is %v", got)
			}
		} else {
			if got, _ := s.answer(ack(typePubrec, f, 0)); got != taken {
				t.Fatalf("PUBREC is %v", got)
			}
			f.released()
			s.releases = nil
			if got, _ := s.answer(ack(typePubcomp, f, 0)); got != done {
				t.Fatalf("PUBCOMP is %v", got)
			}
		}
		if s.open != 0 || s.quota != 1 || s.doubts() != 1 {
			t.Errorf("QoS %d: open %d, quota %d, doubts %d; want 0, 1, 1", qos, s.open, s.quota, s.doubts())
		}
		s.lastID = id - 1
		if g := send(t, s, 2, 1); g.packetID == id {
			t.Errorf("QoS %d: packet id %d is used again while an answer is owed", qos, id)
		}
		if qos == 1 {
			if got, _ := s.answer(ack(typePuback, f, 0)); got != nothing {
				t.Errorf("the second PUBACK is %v", got)
			}
		} else {
			if got, _ := s.answer(ack(typePubrec, f, 0)); got != nothing || len(s.releases) != 1 {
				t.Errorf("the second PUBREC is %v, with %d PUBRELs due", got, len(s.releases))
			}
			f.released()
			s.releases = nil
			if got, _ := s.answer(ack(typePubcomp, f, 0x92)); got != nothing {
				t.Errorf("the second PUBCOMP is %v", got)
			}
		}
		s.lastID = id - 1
		if g := s.place(message{seq: 3, qos: 1}); g.packetID != id {
			t.Errorf("QoS %d: packet id %d is not free after all answers", qos, id)
		}
	}
}

func TestRefusal(t *testing.T) {
	s := fresh()
	f := send(t, s, 1, 2)
	s.sent(f) // and a duplicate
	if got, _ := s.answer(ack(typePubrec, f, 0x97)); got != nothing {
		t.Errorf("the first answer of two is %v; the second may still be yes", got)
	}
	if got, _ := s.answer(ack(typePubrec, f, 0x91)); got != denied || len(s.retries) != 1 || s.retries[0].seq != 1 {
		t.Errorf("the second refusal is %v, retries %v", got, s.retries)
	}
	if s.quota != 0 || s.open != 0 || len(s.byID) != 0 || s.idle() {
		t.Errorf("quota %d, open %d, ids %d, idle %v", s.quota, s.open, len(s.byID), s.idle())
	}
	g := send(t, s, 2, 2)
	s.sent(g)
	s.answer(ack(typePubrec, g, 0x97))
	if got, _ := s.answer(ack(typePubrec, g, 0)); got != taken || len(s.retries) != 1 {
		t.Errorf("refused and then taken: %v, retries %v", got, s.retries)
	}
}

func TestStrayAnswers(t *testing.T) {
	s := fresh()
	one, two := send(t, s, 1, 1), send(t, s, 2, 2)
	for _, p := range []packet{
		{kind: typePuback, packetID: 77},
		ack(typePuback, two, 0), ack(typePubrec, one, 0), ack(typePubcomp, one, 0), ack(typePubcomp, two, 0),
	} {
		if got, _ := s.answer(p); got != stray {
			t.Errorf("%+v is %v", p, got)
		}
	}
	s.connected() // the next connection owes nothing yet
	if got, _ := s.answer(ack(typePuback, one, 0)); got != stray {
		t.Errorf("an answer before the PUBLISH is %v", got)
	}
	if s.open != 2 || len(s.order) != 2 {
		t.Errorf("open %d, order %d", s.open, len(s.order))
	}
}

// TestSessionAgainstModel plays random histories and compares with the plain
// rules: ids are unique while anything is owed, quota is what the connection
// has to answer, and in the end everything was acknowledged.
func TestSessionAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		if err := playHistory(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func playHistory(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newSession(State{Discard: true})
	s.begin()
	s.connected()
	var owed []packet // answers the broker will give, in any order
	seq, ackedCount := uint64(0), 0
	publish := func(f *flight) {
		s.sent(f)
		kind := byte(typePuback)
		if f.qos == 2 {
			kind = typePubrec
		}
		code := byte(0)
		if rng.IntN(10) == 0 {
			code = 0x97
		}
		owed = append(owed, packet{kind: kind, packetID: f.packetID, code: code})
	}
	for step := 0; step < 400 || !s.idle(); step++ {
		if step > 20_000 {
			return fmt.Errorf("no end: open %d, retries %d", s.open, len(s.retries))
		}
		switch dice := rng.IntN(20); {
		case dice == 0 && step < 400: // reconnect
			owed = nil
			if rng.IntN(3) == 0 {
				s.begin()
			}
			s.connected()
			for _, f := range s.releases {
				f.released()
				owed = append(owed, packet{kind: typePubcomp, packetID: f.packetID})
			}
			s.releases = nil
			for f := s.unsent(); f != nil; f = s.unsent() {
				publish(f)
			}
		case dice < 6 && step < 400 && len(s.byID) < 50:
			seq++
			publish(s.place(message{seq: seq, qos: byte(1 + rng.IntN(2))}))
		case dice < 7 && len(s.order) > 0:
			publish(s.order[rng.IntN(len(s.order))])
		case dice < 9 && len(s.retries) > 0:
			m := s.retries[0]
			s.retries = s.retries[1:]
			publish(s.place(m))
		case len(owed) > 0:
			at := rng.IntN(len(owed))
			p := owed[at]
			owed = append(owed[:at], owed[at+1:]...)
			first := s.byID[p.packetID]
			result, _ := s.answer(p)
			if result == stray {
				return fmt.Errorf("step %d: %+v is stray", step, p)
			}
			if result == acked || result == taken {
				ackedCount++
			}
			if first.unfinished < 0 || first.owed < 0 {
				return fmt.Errorf("step %d: owed %d, unfinished %d", step, first.owed, first.unfinished)
			}
			for _, f := range s.releases {
				f.released()
				owed = append(owed, packet{kind: typePubcomp, packetID: f.packetID})
			}
			s.releases = nil
		}
		wanted := 0
		for _, f := range s.byID {
			wanted += f.unfinished
		}
		if s.quota != wanted {
			return fmt.Errorf("step %d: quota %d; flights say %d", step, s.quota, wanted)
		}
	}
	if ackedCount != int(seq) {
		return fmt.Errorf("%d of %d messages acknowledged", ackedCount, seq)
	}
	return nil
}
