package session

import (
	"fmt"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// A Message is a message for a subscriber: a position in the log, or, for a
// retained one, a copy.
type Message struct {
	Ledger tributary.LedgerID
	LSN    tributary.LSN
	Copy   *record.Entry // nil: the message is to be read from the log
	QoS    byte          // as granted: 1 or 2
	Retain bool
	IDs    []uint32 // subscription identifiers
}

// A Delivery is what is to be sent next.
type Delivery struct {
	Message
	PacketID uint16
	Dup      bool   // it may have been sent before, on an earlier connection
	Release  bool   // send PUBREL for the id; there is no message
	Drop     bool   // send nothing: Event tells of messages that were dropped
	Event    []byte // not nil: this control record must be durable before this packet, or a later one, is sent
}

// Offer puts m at the end of what is to be delivered, and keeps m.Copy and
// m.IDs, which are not changed any more. When more than MaxQueued wait, the
// oldest that are not in flight go: dropped says how many. A position at or
// before the last one offered is left out, since a replay offers twice; copies
// never are.
//
// Until a connection serves it, a session that was restored may have what is in
// flight in addition to MaxQueued: it does not know yet how much of that was
// acknowledged, and must not drop what waits because of it.
func (s *Session) Offer(m Message) (dropped int) {
	if m.QoS != 1 && m.QoS != 2 {
		panic(fmt.Sprintf("QoS %d was offered to the session of %q: only 1 and 2 are kept", m.QoS, s.Client))
	}
	it := m.item()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone && !s.leaves {
		return 0
	}
	if m.Copy != nil {
		it.origin, it.at = copied, s.store.position(m.Ledger, m.LSN)
	} else {
		it.at = s.store.offered(m.Ledger, m.LSN, &s.last)
		if !s.last.in(it.at.ledger).before(it.at) {
			return 0
		}
		s.last.raise(it.at)
	}
	s.queue.push(it)
	s.mark()
	return s.shrink()
}

// item returns m as one that is in its place, but for its position.
func (m *Message) item() item {
	it := item{qos: m.QoS, retain: m.Retain}
	if m.Copy != nil || len(m.IDs) > 0 {
		it.more = &more{entry: m.Copy, ids: m.IDs}
	}
	return it
}

// shrink drops what is too much, and returns how many messages that is.
func (s *Session) shrink() (dropped int) {
	for s.queue.len() > 0 && s.overfull() {
		it := s.queue.remove(0)
		s.lose(&it)
		dropped++
	}
	return dropped
}

func (s *Session) overfull() bool {
	n := s.queue.len()
	if s.served {
		n += s.flight.len()
	}
	return n > s.store.maxQueued()
}

// Attach says that a connection serves the session; window is the client's
// Receive Maximum, 65,535 when it gave none. What was in flight will be delivered
// again, first, in its old order, with DUP or as its PUBREL. An earlier connection
// has been detached before, or is no more than forgotten by this.
func (s *Session) Attach(window int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	s.attached, s.served, s.detached = true, true, time.Time{}
	s.window, s.sent = min(max(window, 1), maxPacketID), 0
	s.told = 0 // what was not durable when the connection broke may never be
	for i := range s.flight.len() {
		s.flight.at(i).again = true
	}
	s.mark()
}

// Detach says that no connection serves the session from now on. From here its
// expiry counts.
func (s *Session) Detach(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached, s.detached, s.sent = false, now, 0
	s.mark()
}

// Take returns what is to be sent next, or false: there is nothing, no
// connection, or the window is full. Packet ids are unique among those in
// flight, and a free one is used again as late as possible.
//
// In a lasting session, each delivery of QoS 2 has an event, and what was dropped
// has one before anything newer is sent: or a replay could find it again, and send
// it then. Either comes again on the next connection, until Noted says that it is
// durable. A delivery whose event cannot be made
// durable is not sent; the caller ends the connection, or waits.
func (s *Session) Take() (d Delivery, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.attached || s.sent >= s.window {
		return Delivery{}, false
	}
	if s.told < len(s.lost) && s.remembered() {
		s.told++
		s.losing = len(s.lost)
		lost := s.lost[s.told-1]
		return Delivery{Message: Message{LSN: lost.from.lsn}, Drop: true, Event: s.droppedEvent(lost)}, true
	}
	if s.sent == s.flight.len() {
		if s.queue.len() == 0 {
			return Delivery{}, false
		}
		s.losing = len(s.lost)
		it := s.queue.remove(0)
		it.id = s.freeID()
		s.flight.push(it)
		s.mark()
	}
	it := s.flight.at(s.sent)
	s.sent++
	d = Delivery{PacketID: it.id}
	if it.received {
		d.QoS, d.Release = 2, true
	} else {
		d.Message, d.Dup = it.message(), it.again
	}
	if it.qos == 2 && !it.noted {
		d.Event = s.exchangeEvent(it)
	}
	return d, true
}

// Noted says that the event of a delivery is durable, or, for a Delivery with
// Release and its packet id alone, that of a Pubrec.
func (s *Session) Noted(d *Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Drop {
		if s.told > 0 && s.lost[0].from.lsn == d.LSN { // they become durable in their order
			s.lost, s.told, s.losing = s.lost[1:], s.told-1, max(0, s.losing-1)
		}
		if len(s.lost) == 0 {
			s.lost = nil
		}
		return
	}
	if i := s.flight.find(d.PacketID); i >= 0 {
		if it := s.flight.at(i); it.received == d.Release && (d.Release || it.at.lsn == d.LSN) {
			it.noted = true
		}
	}
}

const maxPacketID = 65_535

func after(id uint16) uint16 {
	if id == maxPacketID {
		return 1
	}
	return id + 1
}

// freeID returns the next packet id that is not in flight. It looks through
// what is in flight only when it comes upon an id that it has not looked at since
// the last time, which is mostly once in 65,535 messages. There is a free one,
// because Take gives out a new one only when fewer than window are in flight.
func (s *Session) freeID() uint16 {
	for s.clear == 0 {
		s.clear = maxPacketID
		for i := range s.flight.len() {
			ahead := int(s.flight.at(i).id) - int(s.next)
			if ahead < 0 {
				ahead += maxPacketID
			}
			s.clear = min(s.clear, uint16(ahead))
		}
		if s.clear == 0 {
			s.next = after(s.next)
		}
	}
	id := s.next
	s.next = after(id)
	s.clear--
	return id
}

// Puback takes the client's acknowledgement of a QoS 1 message. known is false
// when no such message is in flight.
func (s *Session) Puback(id uint16) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.flight.find(id)
	if i < 0 || s.flight.at(i).qos != 1 {
		return false
	}
	s.done(i)
	return true
}

// Pubrec takes the client's word that it has a QoS 2 message; failed means that
// its reason code was 0x80 or above, which ends the exchange. Otherwise PUBREL is
// due: after event is durable, if it is not nil. known is false when no such
// message is in flight; MQTT 5 then wants a PUBREL with 0x92.
func (s *Session) Pubrec(id uint16, failed bool) (known bool, event []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.flight.find(id)
	if i < 0 || s.flight.at(i).qos != 2 {
		return false, nil
	}
	if failed {
		s.done(i)
		return true, nil
	}
	it := s.flight.at(i)
	it.receive()
	s.mark()
	return true, s.exchangeEvent(it)
}

// Pubcomp takes the client's word that it has released a packet id. known is
// false when no PUBREL is out for it.
func (s *Session) Pubcomp(id uint16) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.flight.find(id)
	if i < 0 || !s.flight.at(i).received {
		return false
	}
	s.done(i)
	return true
}

// Discard ends a delivery that Take gave and that cannot be sent: the message has
// expired, is too large for the client, or cannot be read. It counts as
// delivered. If it is one of QoS 2 that may have been sent before, its PUBREL is
// what Take gives next: a client that has stored the id would otherwise take the
// next message with it for the same one.
func (s *Session) Discard(id uint16) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.flight.find(id)
	if i < 0 {
		return false
	}
	it := s.flight.at(i)
	switch {
	case it.received:
		return true // its PUBREL is on its way
	case it.qos == 1 || !it.again:
		s.done(i)
		return true
	}
	it.receive()
	if i < s.sent {
		s.sent--
		s.flight.move(i, s.sent)
	}
	s.mark()
	return true
}

// done takes the item i out of what is in flight.
func (s *Session) done(i int) {
	s.flight.remove(i)
	if i < s.sent {
		s.sent--
	}
	s.mark()
}

// Waiting returns how many messages wait to be sent for the first time, and how
// many are in flight.
func (s *Session) Waiting() (queued, inflight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.len(), s.flight.len()
}
