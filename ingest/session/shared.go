package session

import (
	"slices"
	"strings"

	"github.com/tributary-edge/tributary/ingest/topic"
)

// shares says whether the session is a member of a shared subscription.
func (s *Session) shares() bool {
	return slices.ContainsFunc(s.subs, func(sub topic.Subscription) bool { return strings.HasPrefix(sub.Filter, "$share/") })
}

// Left returns what a session that has ended may leave to the other members of
// its shared subscriptions (MQTT 5, 4.8.2), and forgets it: what waits, and what
// is in flight with QoS 1. A message of QoS 2 that may have been sent is for
// nobody else. Messages of its other subscriptions are among them; one without
// shared subscriptions leaves nothing. Until this is called, such a session takes
// what it is offered, so that nothing falls between it and the others: the caller
// sees to it first that it is offered no more.
func (s *Session) Left() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.leaves {
		return nil
	}
	var all []Message
	for i := range s.flight.len() {
		if it := s.flight.at(i); it.qos == 1 && it.inLog() {
			all = append(all, it.message())
		}
	}
	for i := range s.queue.len() {
		if it := s.queue.at(i); it.inLog() {
			all = append(all, it.message())
		}
	}
	s.leaves, s.flight, s.queue = false, line{}, line{}
	return all
}

// Inherit takes up messages of a session that has ended, all of them positions of
// the log. Each goes before those that wait and are newer; one that the session
// has already is left out. dropped is as with Offer. The caller appends event to
// the log, if it is not nil; until that is durable, a kill loses what is not sent.
func (s *Session) Inherit(all []Message) (dropped int, event []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone && !s.leaves {
		return len(all), nil
	}
	items := make([]item, 0, len(all))
	for i := range all {
		it := all[i].item()
		it.origin, it.at = inherited, s.store.position(all[i].Ledger, all[i].LSN)
		items = append(items, it)
	}
	slices.SortStableFunc(items, func(a, b item) int { return order(a.at, b.at) })
	items = s.merge(items)
	event = s.inheritedEvent(items)
	s.mark()
	return s.shrink(), event
}

// order is an order of positions in which those of one course are together, and
// ascend.
func order(a, b position) int {
	x, y := a.course(), b.course()
	switch {
	case x != y && x == nil, a.before(b):
		return -1
	case x != y && y == nil, b.before(a):
		return 1
	case x != y:
		return slices.Compare(x.id[:], y.id[:])
	default:
		return 0
	}
}

// merge puts items, which ascend in each course, into the queue, and returns those that were not
// there and are not in flight.
func (s *Session) merge(items []item) (taken []item) {
	items = slices.DeleteFunc(items, func(it item) bool {
		for i := range s.flight.len() {
			if s.flight.at(i).same(&it) {
				return true
			}
		}
		return false
	})
	for len(items) > 0 {
		n := 1
		for n < len(items) && items[n].at.course() == items[0].at.course() {
			n++
		}
		taken = append(taken, s.mergeCourse(items[:n])...)
		items = items[n:]
	}
	return taken
}

// mergeCourse is merge for items of one course.
func (s *Session) mergeCourse(items []item) (taken []item) {
	var queue line
	take := func() {
		taken = append(taken, items[0])
		queue.push(items[0])
		items = items[1:]
	}
	for i := range s.queue.len() {
		it := s.queue.at(i)
		for it.origin != copied && len(items) > 0 && items[0].at.before(it.at) {
			take()
		}
		if len(items) > 0 && items[0].same(it) {
			items = items[1:]
		}
		queue.push(*it)
	}
	for len(items) > 0 {
		take()
	}
	s.queue = queue
	return taken
}
