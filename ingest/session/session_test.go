package session

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/topic"
	"github.com/tributary-edge/tributary/log/record"
)

var (
	ledgerA = tributary.LedgerID{0xA}
	ledgerB = tributary.LedgerID{0xB}
	start   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// open opens a session that outlives its connection, or fails the test.
func open(t testing.TB, st *Store, client string) *Session {
	t.Helper()
	s, _, _, err := st.Open(client, "user", false)
	if err != nil {
		t.Fatal(err)
	}
	s.SetExpiry(Never, true)
	return s
}

func at(ledger tributary.LedgerID, lsn tributary.LSN, qos byte) Message {
	return Message{Ledger: ledger, LSN: lsn, QoS: qos}
}

// take takes the next delivery, or fails the test.
func take(t testing.TB, s *Session) Delivery {
	t.Helper()
	d, ok := s.Take()
	if !ok {
		t.Fatal("there is nothing to take")
	}
	return d
}

func none(t *testing.T, s *Session) {
	t.Helper()
	if d, ok := s.Take(); ok {
		t.Fatalf("took %+v, and nothing was due", d)
	}
}

// S1: nobody takes over a session of another identity, and the number of
// sessions has a bound.
func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name           string
		user           string
		clean          bool
		present, drops bool
	}{
		{"the same user", "u", false, true, false},
		{"clean", "u", true, false, true},
		{"another user", "v", false, false, true},
		{"another user, clean", "v", true, false, true},
		{"no user", "", false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := NewStore(Options{MaxSessions: 1})
			old, present, dropped, err := st.Open("c", "u", false)
			if old == nil || present || dropped != nil || err != nil {
				t.Fatalf("the first: %v %v %v %v", old, present, dropped, err)
			}
			old.Offer(at(ledgerA, 1, 1))
			s, present, dropped, err := st.Open("c", c.user, c.clean)
			if err != nil || present != c.present || (dropped == old) != c.drops || (s == old) != c.present {
				t.Fatalf("the second: present %v, dropped %v, %v", present, dropped, err)
			}
			if s.Client != "c" || s.User != c.user || st.Get("c") != s || st.Len() != 1 {
				t.Errorf("the store has %d sessions, and of %q", st.Len(), s.User)
			}
			if q, _ := s.Waiting(); (q == 1) != c.present {
				t.Errorf("%d messages wait", q)
			}
			if _, _, _, err := st.Open("d", "u", c.clean); !errors.Is(err, ErrTooMany) {
				t.Errorf("one more: %v", err)
			}
			if st.Drop("c") != s || st.Drop("c") != nil || st.Len() != 0 {
				t.Error("it was not dropped once")
			}
			s.Attach(10)
			if s.Offer(at(ledgerA, 2, 1)); s.flight.len()+s.queue.len() > 0 {
				t.Error("a session that has ended keeps messages")
			}
		})
	}
}

func TestExpiry(t *testing.T) {
	const never = -1
	for _, c := range []struct {
		name    string
		prepare func(s *Session)
		seconds int // after start
	}{
		{"opened only", func(*Session) {}, never},
		{"attached", func(s *Session) { s.SetExpiry(1, true); s.Attach(1) }, never},
		{"not lasting", func(s *Session) { s.Attach(1); s.Detach(start) }, 0},
		{"expiry 0", func(s *Session) { s.SetExpiry(0, true); s.Detach(start) }, 0},
		{"60 s", func(s *Session) { s.SetExpiry(60, true); s.Attach(1); s.Detach(start) }, 60},
		{"60 s from the last connection", func(s *Session) {
			s.SetExpiry(60, true)
			s.Detach(start.Add(-time.Hour))
			s.Attach(1)
			s.Detach(start)
		}, 60},
		{"never", func(s *Session) { s.SetExpiry(Never, true); s.Detach(start) }, never},
		{"the longest", func(s *Session) { s.SetExpiry(Never-1, true); s.Detach(start) }, Never - 1},
		{"never attached: from the first look", func(s *Session) { s.SetExpiry(60, true) }, 60},
		{"changed at the end", func(s *Session) { s.SetExpiry(60, true); s.Attach(1); s.SetExpiry(5, true); s.Detach(start) }, 5},
		{"no longer lasting", func(s *Session) { s.SetExpiry(60, true); s.SetExpiry(0, false); s.Detach(start) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := NewStore(Options{})
			s, _, _, err := st.Open("c", "", false)
			if err != nil {
				t.Fatal(err)
			}
			c.prepare(s)
			for _, at := range []int{0, c.seconds - 1, c.seconds, 1 << 33} {
				if at < 0 {
					continue
				}
				over := st.Expired(start.Add(time.Duration(at) * time.Second))
				want := c.seconds != never && at == c.seconds
				if got := len(over) == 1 && over[0] == s; got != want || st.Len() == 1 == want {
					t.Fatalf("after %d s: expired %v, want %v", at, got, want)
				}
				if want {
					return
				}
			}
		})
	}
}

// A session that is being opened again does not expire meanwhile.
func TestExpiryWhileOpening(t *testing.T) {
	st := NewStore(Options{})
	s := open(t, st, "c")
	s.SetExpiry(10, true)
	s.Detach(start)
	if again, present, _, err := st.Open("c", "user", false); again != s || !present || err != nil {
		t.Fatal("it was not there")
	}
	if over := st.Expired(start.Add(time.Hour)); len(over) > 0 {
		t.Error("expired before Attach")
	}
}

func TestSubscriptions(t *testing.T) {
	st := NewStore(Options{MaxSubscriptions: 2})
	s := open(t, st, "c")
	subs := []topic.Subscription{{Filter: "a/#", QoS: 1, ID: 7}, {Filter: "$share/g/b", QoS: 2}}
	for _, sub := range subs {
		if existed, err := s.Subscribe(sub); existed || err != nil {
			t.Fatal(existed, err)
		}
	}
	if _, err := s.Subscribe(topic.Subscription{Filter: "c"}); !errors.Is(err, ErrTooManySubscriptions) {
		t.Errorf("one too many: %v", err)
	}
	subs[0].QoS = 2
	if existed, err := s.Subscribe(subs[0]); !existed || err != nil {
		t.Errorf("replaced: %v %v", existed, err)
	}
	if got := s.Subscriptions(); !slices.Equal(got, subs) {
		t.Errorf("got %v", got)
	}
	if s.Unsubscribe("c") || !s.Unsubscribe("a/#") || s.Unsubscribe("a/#") {
		t.Error("what was unsubscribed is not what was there")
	}
	if got := s.Subscriptions(); !slices.Equal(got, subs[1:]) {
		t.Errorf("got %v", got)
	}
}

// The window is kept, DUP is only on what is sent again, and the order is that
// of the offers.
func TestDelivery(t *testing.T) {
	s := open(t, NewStore(Options{}), "c")
	for lsn := range tributary.LSN(5) {
		s.Offer(at(ledgerA, lsn, 1))
	}
	none(t, s) // no connection
	s.Attach(2)
	for want := range tributary.LSN(2) {
		if d := take(t, s); d.LSN != want || d.PacketID != uint16(want)+1 || d.Dup || d.Event != nil || d.Ledger != ledgerA {
			t.Fatalf("got %+v", d)
		}
	}
	none(t, s) // the window
	if s.Puback(3) || s.Pubcomp(1) || !s.Puback(2) || s.Puback(2) {
		t.Error("acknowledgements are not told apart")
	}
	if known, _ := s.Pubrec(1, false); known {
		t.Error("PUBREC was taken for QoS 1")
	}
	take(t, s)
	if q, f := s.Waiting(); q != 2 || f != 2 {
		t.Errorf("%d wait, %d in flight", q, f)
	}
	s.Detach(start)
	none(t, s)
	s.Attach(1)
	if d := take(t, s); d.LSN != 0 || d.PacketID != 1 || !d.Dup {
		t.Errorf("first again: %+v", d)
	}
	none(t, s) // a smaller window is kept by what is sent again, too
	s.Puback(1)
	if d := take(t, s); d.LSN != 2 || d.PacketID != 3 || !d.Dup {
		t.Errorf("second again: %+v", d)
	}
	s.Puback(3)
	if d := take(t, s); d.LSN != 3 || d.PacketID != 4 || d.Dup {
		t.Errorf("then the next: %+v", d)
	}
}

func TestQoS2(t *testing.T) {
	s := open(t, NewStore(Options{}), "c")
	s.Attach(1)
	s.Offer(at(ledgerA, 1, 2))
	s.Offer(at(ledgerA, 2, 2))
	d := take(t, s)
	if d.Event == nil || d.Dup || s.Puback(d.PacketID) || s.Pubcomp(d.PacketID) {
		t.Fatalf("first sending: %+v", d)
	}
	known, event := s.Pubrec(d.PacketID, false)
	if !known || event == nil {
		t.Fatalf("PUBREC: %v, event % x", known, event)
	}
	none(t, s) // until PUBCOMP
	s.Detach(start)
	s.Attach(1)
	if again := take(t, s); !again.Release || again.PacketID != d.PacketID || again.Event == nil || again.Dup {
		t.Errorf("again: %+v", again)
	}
	if !s.Pubcomp(d.PacketID) || s.Pubcomp(d.PacketID) {
		t.Error("PUBCOMP is not taken once")
	}
	d = take(t, s)
	if known, event := s.Pubrec(d.PacketID, true); !known || event != nil {
		t.Errorf("failed PUBREC: %v, event % x", known, event)
	}
	if _, f := s.Waiting(); f != 0 {
		t.Error("a failed exchange goes on")
	}
}

// S1: what waits has a bound; the oldest goes, but never what is in flight.
func TestDropsOldest(t *testing.T) {
	s := open(t, NewStore(Options{MaxQueued: 3}), "c")
	s.Attach(2)
	dropped := 0
	for lsn := range tributary.LSN(10) {
		dropped += s.Offer(at(ledgerA, lsn, 1))
		s.Take()
	}
	if q, f := s.Waiting(); dropped != 7 || q != 1 || f != 2 {
		t.Errorf("%d dropped, %d wait, %d in flight", dropped, q, f)
	}
	s.Puback(1)
	if d := take(t, s); !d.Drop || d.Event == nil {
		t.Errorf("what was dropped comes first: %+v", d)
	}
	if d := take(t, s); d.LSN != 9 {
		t.Errorf("the newest is %d", d.LSN)
	}
	s = open(t, NewStore(Options{MaxQueued: 2}), "c")
	s.Attach(10)
	for lsn := range tributary.LSN(3) {
		if dropped, full := s.Offer(at(ledgerA, lsn, 1)), lsn == 2; (dropped == 1) != full {
			t.Errorf("offer %d: %d dropped", lsn, dropped)
		}
		s.Take()
	}
}

// Packet ids are used again as late as possible, and never while in flight.
func TestPacketIDs(t *testing.T) {
	s := open(t, NewStore(Options{}), "c")
	s.Attach(10)
	lsn := tributary.LSN(0)
	next := func() uint16 {
		lsn++
		s.Offer(at(ledgerA, lsn, 1))
		return take(t, s).PacketID
	}
	for range 2 {
		next() // 1 and 2 stay in flight
	}
	for want := 3; want <= maxPacketID; want++ {
		id := next()
		if int(id) != want {
			t.Fatalf("got %d, want %d", id, want)
		}
		if id != 5000 {
			s.Puback(id)
		}
	}
	if id := next(); id != 3 {
		t.Errorf("after the round: %d, and 1 and 2 are in flight", id)
	}
	s.Puback(1)
	for want := 4; want < 5000; want++ {
		id := next()
		s.Puback(id)
	}
	if id := next(); id != 5001 {
		t.Errorf("got %d, and 5000 is in flight", id)
	}
}

func TestDiscard(t *testing.T) {
	s := open(t, NewStore(Options{}), "c")
	s.Attach(10)
	for lsn := range tributary.LSN(4) {
		s.Offer(at(ledgerA, lsn, 1+byte(lsn)%2))
	}
	var ids []uint16
	for range 4 {
		ids = append(ids, take(t, s).PacketID)
	}
	if s.Discard(99) || !s.Discard(ids[0]) || !s.Discard(ids[1]) {
		t.Error("what was not sent is not discarded")
	}
	if _, f := s.Waiting(); f != 2 {
		t.Errorf("%d are in flight", f)
	}
	s.Detach(start)
	s.Attach(10)
	take(t, s)
	take(t, s)
	if !s.Discard(ids[2]) || !s.Discard(ids[3]) {
		t.Error("not discarded")
	}
	if d := take(t, s); !d.Release || d.PacketID != ids[3] {
		t.Errorf("the client may hold the id, and gets %+v", d)
	}
	none(t, s)
	if !s.Pubcomp(ids[3]) {
		t.Error("PUBCOMP is not expected")
	}
}

// Positions that the log may give up are forgotten, and those that it must keep
// are named; the order of ledgers is that of Begin.
func TestOldestAndForget(t *testing.T) {
	st := NewStore(Options{})
	st.Begin(ledgerB) // the older one has the higher id
	st.Begin(ledgerA)
	s := open(t, st, "c")
	s.Attach(2)
	for _, m := range []Message{at(ledgerB, 5, 1), at(ledgerB, 6, 2), at(ledgerB, 7, 1), at(ledgerA, 3, 1), at(ledgerA, 4, 2)} {
		s.Offer(m)
	}
	s.Offer(Message{Ledger: ledgerB, LSN: 1, Copy: &record.Entry{}, QoS: 1})
	take(t, s)
	take(t, s)
	oldest := map[tributary.LedgerID]tributary.LSN{ledgerA: 9, {7}: 2}
	s.Oldest(oldest)
	if len(oldest) != 3 || oldest[ledgerB] != 5 || oldest[ledgerA] != 3 || oldest[tributary.LedgerID{7}] != 2 {
		t.Errorf("oldest: %v", oldest)
	}
	if n := s.Forget(ledgerA, 4); n != 2 {
		t.Errorf("%d are lost while two are on their way", n)
	}
	s.Detach(start)
	if n := s.Forget(ledgerA, 4); n != 2 {
		t.Errorf("%d more are lost", n)
	}
	s.Attach(10)
	if d := take(t, s); !d.Release || d.PacketID != 2 {
		t.Errorf("first the release of QoS 2: %+v", d)
	}
	if d := take(t, s); d.Ledger != ledgerA || d.LSN != 4 || d.Dup {
		t.Errorf("then what is left: %+v", d)
	}
	if d := take(t, s); d.Copy == nil {
		t.Errorf("then the copy: %+v", d)
	}
	none(t, s)
}

// A position that was offered is not offered again, whatever ledger came since.
func TestOffersTwice(t *testing.T) {
	st := NewStore(Options{})
	st.Begin(ledgerB)
	st.Begin(ledgerA)
	st.Begin(ledgerB)
	s := open(t, st, "c")
	s.Attach(100)
	for range 2 {
		for _, m := range []Message{at(ledgerB, 5, 1), at(ledgerB, 6, 1), at(ledgerA, 0, 1), at(ledgerA, 2, 1)} {
			s.Offer(m)
		}
	}
	newer := tributary.LedgerID{1}
	s.Offer(at(newer, 0, 1))
	s.Offer(at(ledgerA, 3, 1))
	var got []tributary.LSN
	for {
		d, ok := s.Take()
		if !ok {
			break
		}
		got = append(got, d.LSN)
	}
	if !slices.Equal(got, []tributary.LSN{5, 6, 0, 2, 0}) {
		t.Errorf("delivered %v", got)
	}
}

// All methods may be called at once: the race detector looks on, and nothing
// is delivered twice or lost.
func TestAtOnce(t *testing.T) {
	st := NewStore(Options{MaxQueued: 10_000})
	s := open(t, st, "c")
	const n = 3000
	var wg sync.WaitGroup
	wg.Go(func() {
		for lsn := range tributary.LSN(n) {
			s.Offer(at(ledgerA, lsn, 1+byte(lsn)%2))
			st.Passed(ledgerA, lsn)
		}
	})
	var got []tributary.LSN
	wg.Go(func() {
		s.Attach(100)
		for len(got) < n {
			d, ok := s.Take()
			if !ok {
				runtime.Gosched()
				continue
			}
			got = append(got, d.LSN)
			if d.QoS == 1 {
				s.Puback(d.PacketID)
				continue
			}
			s.Pubrec(d.PacketID, false)
			s.Pubcomp(d.PacketID)
		}
	})
	wg.Go(func() {
		for i := range 300 {
			st.Redo(st.Dirty())
			st.Begin(tributary.LedgerID{byte(i), 1})
			s.Oldest(map[tributary.LedgerID]tributary.LSN{})
			s.Forget(ledgerB, 1)
			st.Expired(start)
			st.Each(func(s *Session) { s.Waiting() })
		}
	})
	wg.Go(func() {
		for i := range 300 {
			sub := topic.Subscription{Filter: fmt.Sprint(i % 7)}
			if _, err := s.Subscribe(sub); err != nil {
				t.Error(err)
			}
			s.SubscribedEvent(sub)
			s.Unsubscribe(sub.Filter)
			if other, _, _, err := st.Open(fmt.Sprint("d", i), "", true); err == nil {
				other.Detach(start)
			}
		}
	})
	wg.Wait()
	if len(got) != n || !slices.IsSorted(got) {
		t.Errorf("%d of %d were delivered, in order: %v", len(got), n, slices.IsSorted(got))
	}
}
