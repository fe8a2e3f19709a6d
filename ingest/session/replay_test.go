package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/topic"
	"github.com/tributary-edge/tributary/log/record"
)

// life is a session with a bit of everything, and all its events.
func life(t testing.TB, st *Store) (s *Session, events [][]byte) {
	t.Helper()
	note := func(event []byte) {
		if event == nil {
			t.Fatal("no event")
		}
		events = append(events, event)
	}
	st.Begin(ledgerB)
	st.Begin(ledgerA)
	s, _, _, err := st.Open("press-4", "plant", false)
	if err != nil {
		t.Fatal(err)
	}
	s.SetExpiry(3600, true)
	note(s.OpenedEvent())
	s.SetWill(&Will{Topic: "gone", Payload: []byte("x"), QoS: 1, Retain: true, DelaySeconds: 5, Properties: []byte{1, 1}})
	note(s.WillEvent())
	for _, sub := range []topic.Subscription{
		{Filter: "a/#", QoS: 2, NoLocal: true, RetainHandling: 2, ID: 300},
		{Filter: "b", QoS: 1, RetainAsPublished: true},
	} {
		if _, err := s.Subscribe(sub); err != nil {
			t.Fatal(err)
		}
		note(s.SubscribedEvent(sub))
	}
	s.Unsubscribe("b")
	note(s.UnsubscribedEvent("b"))
	s.Attach(3)
	s.Offer(Message{Ledger: ledgerB, LSN: 70, QoS: 2, Retain: true, IDs: []uint32{300}, Copy: &record.Entry{
		LSN: 70, Offset: 3, Logged: 9,
		Record: record.Record{Stream: "tele", Partition: 2, Millis: 11, Key: []byte("k"), Value: []byte("v"), Headers: []record.Header{{Key: "mqtt.topic", Value: []byte("a/b")}}},
	}})
	for _, m := range []Message{at(ledgerB, 100, 2), at(ledgerA, 3, 2), at(ledgerA, 9, 1), at(ledgerA, 10, 2)} {
		s.Offer(m)
	}
	for range 3 {
		note(take(t, s).Event)
	}
	_, event := s.Pubrec(2, false)
	note(event)
	s.Detach(start)
	return s, events
}

// The bytes are fixed: docs/format/session.md shows them. To see the new ones
// after a change of the format, run this test and copy what it prints.
func TestGolden(t *testing.T) {
	st := NewStore(Options{})
	s, events := life(t, st)
	var text strings.Builder
	state := st.Dirty()["press-4"]
	for _, e := range append(events, state, dropped(s), inherits(s), s.EndedEvent()) {
		for len(e) > 56 {
			fmt.Fprintf(&text, "    %x\\\n", e[:56])
			e = e[56:]
		}
		fmt.Fprintf(&text, "    %x\n", e)
	}
	doc, err := os.ReadFile("../../docs/format/session.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), text.String()) {
		t.Errorf("docs/format/session.md does not show these bytes:\n%s", text.String())
	}
}

// dropped returns the event of a queue that was full.
func dropped(s *Session) []byte {
	return s.droppedEvent(span{s.store.position(ledgerB, 90), s.store.position(ledgerA, 2)})
}

// inherits returns the event of two messages from another session.
func inherits(s *Session) []byte {
	_, event := s.Inherit([]Message{at(ledgerB, 120, 1), {Ledger: ledgerA, LSN: 1, QoS: 2, IDs: []uint32{300}}})
	return event
}

// What is restored is what there was, to the byte.
func TestStateRoundTrip(t *testing.T) {
	st := NewStore(Options{})
	was, _ := life(t, st)
	state := st.Dirty()["press-4"]
	again := NewStore(Options{})
	if err := again.Restore("press-4", state); err != nil {
		t.Fatal(err)
	}
	is := again.Get("press-4")
	if !bytes.Equal(is.state(), state) {
		t.Error("another state")
	}
	if is.User != "plant" || is.expiry != 3600 || !is.detached.Equal(start) || !reflect.DeepEqual(is.Will(), was.Will()) {
		t.Errorf("got %+v", is)
	}
	was.Attach(10)
	is.Attach(10)
	for {
		a, ok := was.Take()
		b, also := is.Take()
		a.Event, b.Event = nil, nil
		if ok != also || !reflect.DeepEqual(a, b) {
			t.Fatalf("takes %+v, was %+v", b, a)
		}
		if !ok {
			break
		}
	}
}

// Without a checkpoint, the events and the offers make the session again. Events
// may come twice.
func TestReplay(t *testing.T) {
	was, events := life(t, NewStore(Options{}))
	st := NewStore(Options{})
	st.Begin(ledgerB)
	st.Begin(ledgerA)
	apply := func(events [][]byte) {
		for _, e := range slices.Concat(events, events) {
			if err := st.Replay(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	apply(events[:1])
	s := st.Get("press-4")
	for range 2 {
		for _, m := range []Message{at(ledgerB, 100, 2), at(ledgerA, 3, 2), at(ledgerA, 9, 1), at(ledgerA, 10, 2)} {
			s.Offer(m)
		}
	}
	apply(events[1:])
	was.Attach(10)
	s.Attach(10)
	for {
		a, ok := was.Take()
		b, also := s.Take()
		a.Event, b.Event = nil, nil
		if ok != also || !reflect.DeepEqual(a, b) {
			t.Fatalf("takes %+v, was %+v", b, a)
		}
		if !ok {
			break
		}
	}
	if !reflect.DeepEqual(s.Subscriptions(), was.Subscriptions()) || !reflect.DeepEqual(s.Will(), was.Will()) || s.User != "plant" || s.expiry != 3600 {
		t.Errorf("got %+v", s)
	}
	if next, _, _, err := st.Open("other", "", false); err != nil || next.born <= was.seq-4 {
		t.Errorf("the next session has number %d, %v", next.born, err)
	}
}

// The caller is told what to change in its tree, and only what really changes.
func TestChange(t *testing.T) {
	st := NewStore(Options{})
	_, events := life(t, st)
	state := st.Dirty()["press-4"]
	ended := st.Drop("press-4").EndedEvent()
	again := NewStore(Options{})
	apply := func(event []byte) Change {
		c, err := again.Apply(event)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := apply(events[2]); c != (Change{}) {
		t.Errorf("a subscription of nobody: %+v", c)
	}
	if c := apply(events[0]); c.Session != again.Get("press-4") || c.Ended != nil {
		t.Errorf("opened: %+v", c)
	}
	if c := apply(events[2]); c.Subscribed == nil || c.Subscribed.Filter != "a/#" {
		t.Errorf("subscribed: %+v", c)
	}
	apply(events[3])
	if c := apply(events[4]); c.Unsubscribed != "b" {
		t.Errorf("unsubscribed: %+v", c)
	}
	if err := again.Restore("press-4", state); err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if c := apply(e); c != (Change{}) {
			t.Errorf("what the state has: %+v", c)
		}
	}
	s := again.Get("press-4")
	if c := apply(ended); c.Ended != s || again.Len() != 0 {
		t.Errorf("ended: %+v", c)
	}
}

// Events of a session that has ended do nothing to the next one of that client,
// wherever in the log they are.
func TestOldEventsOfTheSameClient(t *testing.T) {
	st := NewStore(Options{})
	_, events := life(t, st)
	s, _, old, err := st.Open("press-4", "another", false)
	if err != nil || old == nil {
		t.Fatal(old, err)
	}
	events = append(events, old.EndedEvent())
	s.SetExpiry(1, true)
	opened := s.OpenedEvent()
	state := st.Dirty()["press-4"]
	for _, name := range []string{"state", "event"} {
		again := NewStore(Options{})
		if name == "state" {
			err = again.Restore("press-4", state)
		} else {
			err = again.Replay(opened)
		}
		if err != nil {
			t.Fatal(err)
		}
		s := again.Get("press-4")
		for _, e := range events {
			if c, err := again.Apply(e); err != nil || c != (Change{}) {
				t.Errorf("after the %s: %+v %v", name, c, err)
			}
		}
		if q, f := s.Waiting(); again.Get("press-4") != s || s.User != "another" || q+f+len(s.Subscriptions()) > 0 {
			t.Errorf("after the %s, the old session is in the new one: %+v", name, s)
		}
	}
	again := NewStore(Options{})
	for _, e := range append(events, opened) {
		if err := again.Replay(e); err != nil {
			t.Fatal(err)
		}
	}
	if s := again.Get("press-4"); s == nil || s.User != "another" || len(s.Subscriptions()) > 0 {
		t.Errorf("all events make %+v", s)
	}
}

// A state that was taken before its session had any event is not older than the
// events of the session before.
func TestStateWithoutEvents(t *testing.T) {
	st := NewStore(Options{})
	_, events := life(t, st)
	s, _, _, err := st.Open("press-4", "plant", true)
	if err != nil {
		t.Fatal(err)
	}
	s.SetExpiry(1, true)
	again := NewStore(Options{})
	if err := again.Restore("press-4", st.Dirty()["press-4"]); err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if c, err := again.Apply(e); err != nil || c != (Change{}) {
			t.Fatalf("%+v %v", c, err)
		}
	}
}

// Sessions that do not outlive their connection leave no trace; one that does no
// longer is ended where it was known.
func TestNoTrace(t *testing.T) {
	st := NewStore(Options{})
	s, _, _, err := st.Open("c", "", true)
	if err != nil {
		t.Fatal(err)
	}
	sub := topic.Subscription{Filter: "a", QoS: 2}
	s.SetExpiry(0, false)
	s.SetWill(&Will{Topic: "w"})
	if _, err := s.Subscribe(sub); err != nil {
		t.Fatal(err)
	}
	s.Attach(1)
	s.Offer(at(ledgerA, 1, 2))
	events := [][]byte{s.OpenedEvent(), s.SubscribedEvent(sub), s.UnsubscribedEvent("a"), s.WillEvent(), take(t, s).Event}
	_, received := s.Pubrec(1, false)
	s.Detach(start)
	st.Drop("c")
	for i, e := range append(events, received, s.EndedEvent()) {
		if e != nil {
			t.Errorf("event %d: % x", i, e)
		}
	}
	if dirty := st.Dirty(); len(dirty) > 0 {
		t.Errorf("dirty: %v", dirty)
	}
	st = NewStore(Options{})
	s, events = life(t, st)
	st.Dirty()
	s.SetExpiry(0, false)
	if state, dirty := st.Dirty()["press-4"]; !dirty || state != nil {
		t.Errorf("no longer lasting, and the state is % x", state)
	}
	ended := s.OpenedEvent()
	if s.SubscribedEvent(sub) != nil || s.OpenedEvent() != nil || st.Drop("press-4").EndedEvent() != nil {
		t.Error("no longer lasting, and it has events")
	}
	again := NewStore(Options{})
	for _, e := range append(events, ended) {
		if err := again.Replay(e); err != nil {
			t.Fatal(err)
		}
	}
	if again.Len() != 0 {
		t.Error("a replay does not end it")
	}
}

// S1: what a replay makes does not grow with the number of exchanges that are
// over, although nothing in the log says that of each.
func TestReplayIsBounded(t *testing.T) {
	st := NewStore(Options{})
	again := NewStore(Options{})
	s := open(t, st, "c")
	s.Attach(10)
	apply := func(e []byte) {
		if err := again.Replay(e); err != nil {
			t.Fatal(err)
		}
	}
	apply(s.OpenedEvent())
	is := again.Get("c")
	for lsn := range tributary.LSN(5000) {
		m := at(ledgerA, lsn, 1+byte(lsn)%2)
		s.Offer(m)
		is.Offer(m)
		d := take(t, s)
		if d.Event == nil {
			s.Puback(d.PacketID)
			continue
		}
		apply(d.Event)
		_, event := s.Pubrec(d.PacketID, false)
		apply(event)
		s.Pubcomp(d.PacketID)
	}
	if q, f := is.Waiting(); q > 1 || f > 1 {
		t.Errorf("%d wait and %d are in flight after the replay, and all was acknowledged", q, f)
	}
	if is.Attach(1); take(t, is).PacketID != 5000 {
		t.Error("the last exchange is not there")
	}
	is.Pubcomp(5000)
	is.Offer(at(ledgerA, 6000, 1))
	if d := take(t, is); d.PacketID != 5001 {
		t.Errorf("after the replay, the id %d is used again early", d.PacketID)
	}
}

// A session that waits costs little, and so does a message that waits.
func TestMemory(t *testing.T) {
	if size := unsafe.Sizeof(item{}); size > 32 {
		t.Errorf("a message takes %d bytes", size)
	}
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	st := NewStore(Options{})
	const n = 10_000
	before := heap()
	for i := range n {
		s, _, _, err := st.Open(fmt.Sprint("device-", i), "user", true)
		if err != nil {
			t.Fatal(err)
		}
		s.Attach(10)
	}
	idle := (heap() - before) / n
	s := open(t, st, "c")
	before = heap()
	for lsn := range tributary.LSN(1000) {
		s.Offer(at(ledgerA, lsn, 1))
	}
	waiting := (heap() - before) / 1000
	t.Logf("%d bytes for a session (%d of it the struct), %d for a message that waits", idle, unsafe.Sizeof(*s), waiting)
	if idle > 600 || waiting > 64 {
		t.Error("that is too much")
	}
	runtime.KeepAlive(st)
}

// seal appends the checksum of a state.
func seal(body []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

// drain takes and acknowledges all that a session has.
func drain(t *testing.T, s *Session) {
	t.Helper()
	queued, inflight := s.Waiting()
	s.Attach(3)
	for range 3 * (queued + inflight) {
		d, ok := s.Take()
		if !ok {
			break
		}
		if d.Drop {
			s.Noted(&d)
			continue
		}
		if d.QoS == 1 {
			s.Puback(d.PacketID)
			continue
		}
		s.Pubrec(d.PacketID, false)
		if !s.Pubcomp(d.PacketID) {
			t.Fatalf("PUBCOMP of %+v is not known", d)
		}
	}
	if queued, inflight := s.Waiting(); queued+inflight > 0 {
		t.Fatalf("%d wait and %d are in flight after all was acknowledged", queued, inflight)
	}
}

// Every cut and every flipped bit of a state is found.
func TestDamagedState(t *testing.T) {
	st := NewStore(Options{})
	life(t, st)
	state := st.Dirty()["press-4"]
	for cut := range state {
		if err := st.Restore("c", state[:cut]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d of %d bytes: %v", cut, len(state), err)
		}
		if err := st.Restore("c", seal(state[:min(cut, len(state)-5)])); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d of %d bytes, sealed: %v", cut, len(state), err)
		}
	}
	for bit := range 8 * len(state) {
		damaged := bytes.Clone(state)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := st.Restore("c", damaged); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	newer := bytes.Clone(state[:len(state)-4])
	newer[0]++
	if err := st.Restore("c", seal(newer)); err == nil || !strings.Contains(err.Error(), "version 4") {
		t.Errorf("another version: %v", err)
	}
	if err := st.Replay([]byte{4, 1}); err == nil || !strings.Contains(err.Error(), "version 4") {
		t.Errorf("another version: %v", err)
	}
}
