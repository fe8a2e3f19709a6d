package session

import (
	"encoding/binary"

	"github.com/tributary-edge/tributary/ingest/topic"
)

// EventKey is the key of the control records that events are the values of.
const EventKey = "session"

// eventVersion is what is written; older ones are read too.
const eventVersion = 3

// An eventKind says what an event tells.
type eventKind byte

const (
	eventOpened eventKind = iota + 1
	eventEnded
	eventSubscribed
	eventUnsubscribed
	eventSent
	eventReceived
	eventWill
	eventDropped
	eventInherited
)

// event begins an event. Its number is drawn while the session is locked and
// after the change that it tells of, so that a state that has the number has the
// change.
func (s *Session) event(kind eventKind) []byte {
	s.seq = s.store.seq.Add(1)
	s.mark()
	b := binary.AppendUvarint([]byte{eventVersion, byte(kind)}, s.seq)
	b = binary.AppendUvarint(b, s.born)
	return appendBytes(b, s.Client)
}

func (s *Session) remembered() bool { return s.lasting && !s.gone }

// OpenedEvent returns what the log is to know after Open, SetExpiry and the end of
// that, or nil if that is nothing.
func (s *Session) OpenedEvent() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil
	}
	if !s.lasting {
		if !s.traced {
			return nil
		}
		b := s.event(eventEnded)
		s.traced = false
		return b
	}
	b := appendBytes(s.event(eventOpened), s.User)
	return binary.BigEndian.AppendUint32(b, s.expiry)
}

// EndedEvent returns what the log is to know of a session that has ended, or nil
// if the log knows nothing of it.
func (s *Session) EndedEvent() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.traced {
		return nil
	}
	return s.event(eventEnded)
}

// SubscribedEvent returns what the log is to know of a subscription before its
// SUBACK is sent, or nil if that is nothing.
func (s *Session) SubscribedEvent(sub topic.Subscription) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.remembered() {
		return nil
	}
	return appendSubscription(s.event(eventSubscribed), &sub)
}

// UnsubscribedEvent returns what the log is to know before an UNSUBACK is sent,
// or nil if that is nothing.
func (s *Session) UnsubscribedEvent(filter string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.remembered() {
		return nil
	}
	return appendBytes(s.event(eventUnsubscribed), filter)
}

// WillEvent returns what the log is to know after SetWill, or nil if that is nothing.
func (s *Session) WillEvent() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.remembered() {
		return nil
	}
	return appendWill(s.event(eventWill), s.will)
}

// exchangeEvent returns where a delivery of QoS 2 stands. It also says up to
// where everything is done with: acknowledgements of QoS 1 and PUBCOMPs have no
// events of their own, and without this a replay would have to take all messages
// since the checkpoint for pending ones.
func (s *Session) exchangeEvent(it *item) []byte {
	if !s.remembered() {
		return nil
	}
	kind := eventSent
	if it.received {
		kind = eventReceived
	}
	e, low := encoder{}, s.low()
	e.reach(&low)
	e.item(it)
	return e.appendTo(binary.BigEndian.AppendUint16(s.event(kind), it.id))
}

// droppedEvent returns what was dropped.
func (s *Session) droppedEvent(of span) []byte {
	e := encoder{}
	e.position(of.from)
	e.position(of.to)
	return e.appendTo(s.event(eventDropped))
}

// inheritedEvent returns what came from a session that has ended, or nil if the
// log need not know.
func (s *Session) inheritedEvent(items []item) []byte {
	if len(items) == 0 || !s.remembered() {
		return nil
	}
	e := encoder{b: binary.AppendUvarint(nil, uint64(len(items)))}
	for i := range items {
		e.item(&items[i])
	}
	return e.appendTo(s.event(eventInherited))
}
