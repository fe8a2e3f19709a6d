package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// TestModel does random things to a session and to a naive model of it, and
// compares all that can be seen of them.
func TestModel(t *testing.T) {
	for _, seed := range seeds(t, 300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		m := &model{max: 1 + rng.IntN(12)}
		s := open(t, NewStore(Options{MaxQueued: m.max}), "c")
		if rng.IntN(3) == 0 {
			s.SetExpiry(0, false)
		}
		for i := range 3000 {
			if what := m.step(rng, s); what != "" {
				t.Fatalf("step %d: %s\nrepeat it with: SEED=%d go test -run TestModel ./ingest/session/", i, what, seed)
			}
		}
	}
}

// A model is a session as one would explain it: lists, and a walk through them
// for every question.
type model struct {
	max      int
	lsn      tributary.LSN
	attached bool
	window   int
	queue    []*sent
	flight   []*sent
	given    int // packet ids so far
}

type sent struct {
	Message
	id       uint16
	here     bool // on this connection
	dup      bool
	received bool
	noted    bool
}

func (m *model) step(rng *rand.Rand, s *Session) string {
	switch n := rng.IntN(100); {
	case n < 35:
		return m.offer(rng, s)
	case n < 65:
		return m.take(rng, s)
	case n < 90:
		return m.acknowledge(rng, s)
	case n < 94:
		m.attached, m.window = true, 1+rng.IntN(8)
		for _, x := range m.flight {
			x.here, x.dup = false, true
		}
		s.Attach(m.window)
	case n < 96:
		m.attached = false
		s.Detach(start)
		for _, x := range m.flight {
			x.here = false
		}
	case n < 98:
		return m.forget(rng, s)
	}
	if queued, inflight := s.Waiting(); queued != len(m.queue) || inflight != len(m.flight) {
		return fmt.Sprintf("%d wait and %d are in flight, should be %d and %d", queued, inflight, len(m.queue), len(m.flight))
	}
	oldest := map[tributary.LedgerID]tributary.LSN{}
	s.Oldest(oldest)
	want, some := tributary.LSN(0), false
	for _, x := range slices.Concat(m.flight, m.queue) {
		if x.Copy == nil && !x.received && (!some || x.LSN < want) {
			want, some = x.LSN, true
		}
	}
	if got, ok := oldest[ledgerA]; got != want || ok != some {
		return fmt.Sprintf("oldest is %d %v, should be %d %v", got, ok, want, some)
	}
	return ""
}

func (m *model) offer(rng *rand.Rand, s *Session) string {
	msg := Message{Ledger: ledgerA, LSN: m.lsn, QoS: 1 + byte(rng.IntN(2)), Retain: rng.IntN(2) == 0}
	if rng.IntN(3) == 0 {
		msg.IDs = []uint32{uint32(m.lsn), 7}
	}
	old := rng.IntN(8) == 0 && m.lsn > 0
	switch {
	case rng.IntN(6) == 0:
		msg.Copy, old = &record.Entry{}, false
	case old:
		msg.LSN -= tributary.LSN(1 + rng.IntN(int(m.lsn)))
	default:
		m.lsn += tributary.LSN(1 + rng.IntN(3))
		msg.LSN = m.lsn
	}
	want := 0
	if !old {
		m.queue = append(m.queue, &sent{Message: msg})
		for len(m.queue) > 0 && len(m.queue)+len(m.flight) > m.max {
			m.queue = m.queue[1:]
			want++
		}
	}
	if got := s.Offer(msg); got != want {
		return fmt.Sprintf("offer of %d dropped %d, should be %d", msg.LSN, got, want)
	}
	return ""
}

// next is what is to be sent next, or nil.
func (m *model) next() *sent {
	here := 0
	for _, x := range m.flight {
		if x.here {
			here++
		}
	}
	if !m.attached || here >= m.window {
		return nil
	}
	for _, x := range m.flight {
		if !x.here {
			return x
		}
	}
	if len(m.queue) == 0 {
		return nil
	}
	x := m.queue[0]
	m.queue, m.flight = m.queue[1:], append(m.flight, x)
	for x.id == 0 || m.find(x.id) != x {
		x.id = uint16(m.given%maxPacketID) + 1
		m.given++
	}
	return x
}

func (m *model) find(id uint16) *sent {
	for _, x := range m.flight {
		if x.id == id {
			return x
		}
	}
	return nil
}

func (m *model) take(rng *rand.Rand, s *Session) string {
	x := m.next()
	d, ok := s.Take()
	for ok && d.Drop { // TestCrash has what that is good for
		s.Noted(&d)
		d, ok = s.Take()
	}
	if ok != (x != nil) {
		return fmt.Sprintf("took %v %+v, should be %+v", ok, d, x)
	}
	if !ok {
		return ""
	}
	x.here = true
	want := Delivery{Message: x.Message, PacketID: x.id, Dup: x.dup && !x.received, Release: x.received}
	if x.received {
		want.Message = Message{QoS: 2}
	}
	if (d.Event != nil) != (s.lasting && x.QoS == 2 && !x.noted) {
		return fmt.Sprintf("event % x of %+v", d.Event, d)
	}
	if rng.IntN(2) == 0 {
		s.Noted(&d)
		x.noted = true
	}
	if d.Event = nil; fmt.Sprintf("%+v", d) != fmt.Sprintf("%+v", want) {
		return fmt.Sprintf("took %+v, should be %+v", d, want)
	}
	return ""
}

// acknowledge acknowledges a message in flight, or any id, in some way.
func (m *model) acknowledge(rng *rand.Rand, s *Session) string {
	id := uint16(rng.IntN(20))
	if len(m.flight) > 0 && rng.IntN(10) > 0 {
		id = m.flight[rng.IntN(len(m.flight))].id
	}
	x := m.find(id)
	over := func() {
		m.flight = slices.DeleteFunc(m.flight, func(y *sent) bool { return x == y })
	}
	var known, want bool
	switch what := rng.IntN(9); {
	case what < 3:
		known, want = s.Puback(id), x != nil && x.QoS == 1
		if want {
			over()
		}
	case what < 7:
		failed := rng.IntN(4) == 0
		var event []byte
		known, event = s.Pubrec(id, failed)
		want = x != nil && x.QoS == 2
		if (event != nil) != (want && !failed && s.lasting) {
			return fmt.Sprintf("PUBREC of %d: event % x", id, event)
		}
		if want && failed {
			over()
		} else if want {
			x.received, x.noted = true, false
		}
	case what < 8:
		known, want = s.Pubcomp(id), x != nil && x.received
		if want {
			over()
		}
	default:
		known, want = s.Discard(id), x != nil
		switch {
		case !want || x.received:
		case x.QoS == 2 && x.dup:
			m.release(x)
		default:
			over()
		}
	}
	if known != want {
		return fmt.Sprintf("acknowledgement of %d: known %v, should be %v", id, known, want)
	}
	return ""
}

// release puts a PUBREL where it is the next to be sent; one that was still to be
// sent again keeps its place.
func (m *model) release(x *sent) {
	if x.here {
		m.flight = slices.DeleteFunc(m.flight, func(y *sent) bool { return x == y })
		i := 0
		for i < len(m.flight) && m.flight[i].here {
			i++
		}
		m.flight = slices.Insert(m.flight, i, x)
	}
	x.received, x.noted, x.here = true, false, false
}

func (m *model) forget(rng *rand.Rand, s *Session) string {
	before := tributary.LSN(0)
	if m.lsn > 0 {
		before = tributary.LSN(rng.IntN(int(m.lsn)))
	}
	lost := func(x *sent) bool { return x.Copy == nil && !x.received && x.LSN < before && !x.here }
	want := 0
	keep := func(x *sent) bool {
		if !lost(x) {
			return true
		}
		want++
		return false
	}
	var flight []*sent
	for _, x := range m.flight {
		if keep(x) {
			flight = append(flight, x)
		} else if x.QoS == 2 {
			x.received, x.noted = true, false
			flight = append(flight, x)
		}
	}
	m.flight = flight
	m.queue = slices.DeleteFunc(m.queue, func(x *sent) bool { return !keep(x) })
	if got := s.Forget(ledgerA, before); got != want {
		return fmt.Sprintf("forgetting before %d dropped %d, should be %d", before, got, want)
	}
	return ""
}
