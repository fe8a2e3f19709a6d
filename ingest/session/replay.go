package session

import (
	"fmt"
	"time"

	"github.com/tributary-edge/tributary/ingest/topic"
)

// A Change is what an event has changed, for whoever keeps the subscriptions of
// all sessions in a tree.
type Change struct {
	Session      *Session            // the one that has changed; nil: nothing has
	Ended        *Session            // the one that has ended: its subscriptions go
	Subscribed   *topic.Subscription // this one was made or replaced; the retained messages for it may not have been sent
	Unsubscribed string              // the subscription with this filter is gone
}

// Replay is Apply for a caller that does not want to know the change.
func (st *Store) Replay(event []byte) error {
	_, err := st.Apply(event)
	return err
}

// Apply takes up one event. The caller applies the events of all ledgers of the
// log, oldest ledger first, each in the order of its ledger, after Restore and before Open;
// in between it offers the messages again, each in its place. Events that are
// in a restored state already change nothing, so the replay may begin earlier
// than the checkpoint was made. An error wraps ErrDamaged.
func (st *Store) Apply(event []byte) (Change, error) {
	ev, err := st.parse(event)
	if err != nil {
		return Change{}, fmt.Errorf("session event of %d bytes: %w", len(event), err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.raise(max(ev.seq, ev.born))
	s := st.sessions[ev.client]
	if s != nil && ev.seq <= s.restored {
		return Change{}, nil
	}
	var c Change
	if ev.kind == eventOpened && (s == nil || s.born < ev.born) {
		c.Ended = st.drop(ev.client)
		s = st.add(ev.client, ev.user, ev.born)
	}
	if s == nil || s.born != ev.born {
		return Change{}, nil // it has ended, and so did what is told of it
	}
	if ev.kind == eventEnded {
		return Change{Ended: st.drop(ev.client)}, nil
	}
	s.apply(&ev, &c)
	return c, nil
}

// A told is an event, read.
type told struct {
	kind      eventKind
	seq, born uint64
	client    string

	user   string             // opened
	expiry uint32             // opened
	sub    topic.Subscription // subscribed
	filter string             // unsubscribed
	low    reach              // sent, received
	item   item               // sent, received
	will   *Will              // will
	lost   span               // dropped
	items  []item             // inherited
}

func (st *Store) parse(event []byte) (ev told, err error) {
	d := decoder{b: event, store: st}
	version := d.byte()
	if version < 1 || version > eventVersion {
		return ev, fmt.Errorf("version %d: %w", version, ErrDamaged)
	}
	ev.kind = eventKind(d.byte())
	ev.seq, ev.born, ev.client = d.sequence(), d.sequence(), d.string()
	switch ev.kind {
	case eventOpened:
		ev.user, ev.expiry = d.string(), d.uint32()
	case eventEnded:
	case eventSubscribed:
		ev.sub = d.subscription()
	case eventUnsubscribed:
		ev.filter = d.string()
	case eventSent, eventReceived:
		id := d.uint16()
		d.table()
		ev.low, ev.item = d.reach(version), d.item()
		ev.item.id = id
		if id == 0 || ev.item.qos != 2 || ev.item.received != (ev.kind == eventReceived) {
			d.fail()
		}
	case eventWill:
		ev.will = d.will()
	case eventDropped:
		d.table()
		ev.lost = span{d.position(), d.position()}
	case eventInherited:
		d.table()
		for range d.count(minItem) {
			it := d.item()
			if it.origin != inherited || it.received {
				d.fail()
			}
			ev.items = append(ev.items, it)
		}
	default:
		d.fail()
	}
	if d.bad || len(d.b) > 0 {
		return ev, ErrDamaged
	}
	return ev, nil
}

func (s *Session) apply(ev *told, c *Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Session = s
	s.lasting, s.traced = true, true
	s.seq = max(s.seq, ev.seq)
	switch ev.kind {
	case eventOpened:
		s.expiry, s.detached = ev.expiry, time.Time{}
	case eventEnded:
		// nothing is left to change
	case eventSubscribed:
		s.subscribe(ev.sub)
		c.Subscribed = &ev.sub
	case eventUnsubscribed:
		if s.unsubscribe(ev.filter) {
			c.Unsubscribed = ev.filter
		}
	case eventSent, eventReceived:
		s.doneBelow(ev.low)
		it := s.bind(&ev.item)
		if ev.item.received {
			it.receive()
		}
		it.noted = true
	case eventWill:
		s.will = ev.will
	case eventDropped:
		s.drop(ev.lost)
	case eventInherited:
		s.merge(ev.items)
		s.shrink()
	}
	s.mark()
}

// bind makes it the message in flight under its packet id. It is mostly one that
// waits. One that does not is taken as the event tells it: what counts is that
// the client may have it.
func (s *Session) bind(it *item) *item {
	if i := s.flight.find(it.id); i >= 0 {
		if known := s.flight.at(i); known.same(it) {
			return known
		}
		s.flight.remove(i) // its id was used again, so it was over
	}
	taken := *it
	for i := range s.queue.len() {
		if s.queue.at(i).same(it) {
			taken = s.queue.remove(i)
			taken.id, taken.qos = it.id, 2
			break
		}
	}
	s.flight.push(taken)
	s.next = after(it.id)
	return s.flight.at(s.flight.len() - 1)
}

// raise makes sure that the next number is above v.
func (st *Store) raise(v uint64) {
	for {
		now := st.seq.Load()
		if now >= v || st.seq.CompareAndSwap(now, v) {
			return
		}
	}
}
