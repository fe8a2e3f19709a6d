package session

import (
	"slices"
	"sync/atomic"

	"github.com/tributary-edge/tributary"
)

// A ledger is one that positions are in. It is shared by all positions of a store.
type ledger struct {
	id    tributary.LedgerID
	rank  atomic.Uint64 // higher is newer; 0: not in the log
	other atomic.Bool   // another node writes it: it is a course of its own
}

// A position is a place in the log. Those of one store can be compared with ==.
type position struct {
	ledger *ledger // nil: none
	lsn    tributary.LSN
}

// before says whether p is older than q for sure. Ledgers that are not in the
// log any more are older than those that are. What two nodes have written is in no
// order.
func (p position) before(q position) bool {
	switch {
	case p.ledger == nil || q.ledger == nil:
		return p.ledger == nil && q.ledger != nil
	case p.ledger == q.ledger:
		return p.lsn < q.lsn
	default:
		return p.course() == nil && q.course() == nil && p.ledger.rank.Load() < q.ledger.rank.Load()
	}
}

// course returns the ledger of another node that p is in, or nil: it is in one of
// this node's own, which follow one another.
func (p position) course() *ledger {
	if p.ledger != nil && p.ledger.other.Load() {
		return p.ledger
	}
	return nil
}

// Begin says that ledger is newer than all that were named so far. The caller
// names all ledgers of the log in their order, oldest first, before it calls
// Offer or Replay; and a new one before the first Offer from it. To name one
// again does nothing. Ledger ids are random, so nothing else tells whether a
// position is older than the last one that a session was offered.
//
// A ledger that a restored state speaks of and that is never named is one that
// the log no longer has: older than all others. One that is named only by an
// Offer is new: then nothing is lost, but what a state already has may come twice.
func (st *Store) Begin(ledger tributary.LedgerID) {
	st.ledgersMu.Lock()
	defer st.ledgersMu.Unlock()
	st.begin(st.intern(ledger))
}

// BeginOther says that another node writes a ledger. What is offered of it is in an
// order of its own: neither before nor behind what this node, or a third one, has
// written. It is called before anything is restored or offered that speaks of the
// ledger; to call it again does nothing.
func (st *Store) BeginOther(ledger tributary.LedgerID) {
	st.ledgersMu.Lock()
	defer st.ledgersMu.Unlock()
	if l := st.intern(ledger); l.rank.Load() == 0 {
		l.other.Store(true)
	}
}

func (st *Store) begin(l *ledger) {
	if l.rank.Load() == 0 && !l.other.Load() {
		st.newest++
		l.rank.Store(st.newest)
	}
}

func (st *Store) intern(id tributary.LedgerID) *ledger {
	l := st.ledgers[id]
	if l == nil {
		l = &ledger{id: id}
		st.ledgers[id] = l
	}
	return l
}

// position returns a position that an event or a state speaks of.
func (st *Store) position(id tributary.LedgerID, lsn tributary.LSN) position {
	st.ledgersMu.Lock()
	defer st.ledgersMu.Unlock()
	return position{st.intern(id), lsn}
}

// offered returns a position that is offered, the last ones having been last.
func (st *Store) offered(id tributary.LedgerID, lsn tributary.LSN, last *reach) position {
	if l := last.own.ledger; l != nil && l.id == id && l.rank.Load() > 0 {
		return position{l, lsn}
	}
	for _, p := range last.others {
		if p.ledger.id == id && p.course() != nil {
			return position{p.ledger, lsn}
		}
	}
	st.ledgersMu.Lock()
	defer st.ledgersMu.Unlock()
	l := st.intern(id)
	st.begin(l)
	return position{l, lsn}
}

// Passed says that every message up to and including this position has been
// offered to all that it was for. A state that is written afterwards says so, and
// then a replay from an earlier position does not offer a session what was
// published before it had subscribed. The goroutine that delivers calls it
// after each chunk of the log.
func (st *Store) Passed(ledger tributary.LedgerID, lsn tributary.LSN) {
	st.ledgersMu.Lock()
	defer st.ledgersMu.Unlock()
	l := st.intern(ledger)
	st.begin(l)
	st.passed.raise(position{l, lsn})
}

// settled returns how far a session that was offered last has been offered
// everything.
func (st *Store) settled(last *reach) reach {
	st.ledgersMu.Lock()
	defer st.ledgersMu.Unlock()
	all := reach{st.passed.own, slices.Clone(st.passed.others)}
	if !last.own.before(all.own) {
		all.own = last.own
	}
	for _, p := range last.others {
		if p.course() != nil && all.in(p.ledger).before(p) {
			all.raise(p)
		}
	}
	return all
}

// Oldest lowers what into has for each ledger to the oldest position that the
// session still has to read from it; a ledger of which into has nothing is
// added. Called for all sessions with one map, it says what the log must keep.
func (s *Session) Oldest(into map[tributary.LedgerID]tributary.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range []*line{&s.flight, &s.queue} {
		for i := range l.len() {
			it := l.at(i)
			if !it.inLog() {
				continue
			}
			if lsn, ok := into[it.at.ledger.id]; !ok || it.at.lsn < lsn {
				into[it.at.ledger.id] = it.at.lsn
			}
		}
	}
}

// Forget takes out what the log no longer has: positions of the ledger below
// before, and all positions of older ledgers. It returns how many messages are
// lost to the client by that. What was sent on this connection stays: its
// acknowledgement may still come, and if it does not, Discard is for what
// cannot be read. An exchange of QoS 2 that the client may have a part of is
// ended with a PUBREL.
func (s *Session) Forget(ledger tributary.LedgerID, before tributary.LSN) (dropped int) {
	limit := s.store.position(ledger, before)
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := func(it *item) bool { return it.inLog() && it.at.before(limit) }
	dropped = s.queue.keep(func(_ int, it *item) bool { return !lost(it) })
	s.flight.keep(func(i int, it *item) bool {
		if i < s.sent || !lost(it) {
			return true
		}
		dropped++
		if it.qos == 2 {
			it.receive()
		}
		return it.received
	})
	if dropped > 0 {
		s.mark()
	}
	return dropped
}

// mostLooked bounds how far into a queue low looks.
const mostLooked = 256

// low returns for each course a position such that all older ones are done with:
// acknowledged, dropped, or never meant for this client. Copies and what was inherited do not
// count: they are not in the order of the log. A course of which that would take
// too long to find out is left out.
func (s *Session) low() reach {
	low := reach{s.last.own, slices.Clone(s.last.others)}
	if low.own.ledger != nil {
		low.own.lsn++
	}
	for i := range low.others {
		low.others[i].lsn++
	}
	for i := range s.flight.len() {
		if it := s.flight.at(i); it.origin == inPlace {
			low.lower(it.at)
		}
	}
	seen := map[*ledger]bool{}
	for i := 0; i < s.queue.len() && len(seen) <= len(low.others); i++ {
		it := s.queue.at(i)
		if i == mostLooked {
			low.others = slices.DeleteFunc(low.others, func(p position) bool { return !seen[p.ledger] })
			if !seen[nil] {
				low.own = position{}
			}
			break
		}
		if course := it.at.course(); it.origin == inPlace && !seen[course] { // those of one course ascend
			seen[course] = true
			low.lower(it.at)
		}
	}
	return low
}

// doneBelow takes out what was done with when an event was made.
func (s *Session) doneBelow(low reach) {
	pending := func(_ int, it *item) bool { return it.origin != inPlace || !it.at.before(low.in(it.at.ledger)) }
	s.flight.keep(pending)
	s.queue.keep(pending)
}
