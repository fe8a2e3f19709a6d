package device

import (
	"slices"
	"time"
)

// A message is one reading on its way.
type message struct {
	seq    uint64
	qos    byte
	millis int64
	born   time.Time // when it was first sent; zero if by an earlier process
}

// flight is a packet id in use.
type flight struct {
	message

	packetID uint16
	session  uint64 // the last session it was sent in; 0: none yet
	stage    stage
	received uint64 // orders the PUBRECs
	refused  bool   // an answer said so, and none yet said otherwise
	onWire   bool   // sent on this connection
	// owed counts the answers this connection still owes, unfinished its
	// PUBLISHes without a final one. A packet id must not be used again before
	// nothing is owed: the answer to a duplicate would be taken for one to the
	// next message.
	owed, unfinished int
}

type stage byte

const (
	publishing stage = iota // waits for PUBACK or PUBREC
	releasing               // waits for PUBCOMP
	settled                 // over, but answers to duplicates are owed
)

// A session is the client's half of an MQTT session: which packet ids are in
// use, for what, and what has to be sent again. It does no I/O. It is not safe
// for concurrent use.
type session struct {
	number  uint64 // counts the sessions of this device
	discard bool   // see State.Discard

	byID     map[uint16]*flight
	order    []*flight // those in stage publishing, in the order of their first sending
	releases []*flight // those whose PUBREL is to be written
	retries  []message // refused, to be sent again under another id
	lastID   uint16
	received uint64
	open     int // flights that are not settled
	quota    int // PUBLISHes on this connection without a final answer
}

// newSession returns the session that a recorded state describes.
func newSession(st State) *session {
	s := &session{number: st.Session, discard: st.Discard, byID: map[uint16]*flight{}}
	for _, fl := range st.Flights {
		m := message{seq: fl.Seq, qos: fl.QoS, millis: fl.Millis}
		if fl.Refused {
			s.retries = append(s.retries, m)
			continue
		}
		f := &flight{message: m, packetID: fl.PacketID, session: fl.Session}
		s.byID[f.packetID] = f
		s.lastID = f.packetID
		s.open++
		if fl.Acked {
			s.received++
			f.stage, f.received = releasing, s.received
		} else {
			s.order = append(s.order, f)
		}
	}
	return s
}

// idle says whether nothing is left to be sent or to be waited for.
func (s *session) idle() bool { return s.open == 0 && len(s.retries) == 0 }

// begin starts a session the broker knows nothing about. What has been
// acknowledged is over; the rest is to be sent as new.
func (s *session) begin() {
	s.number++
	s.discard = false
	for id, f := range s.byID {
		if f.stage != publishing {
			s.free(f)
			delete(s.byID, id)
		}
	}
}

// forget empties the device's memory.
func (s *session) forget() {
	*s = session{number: s.number, discard: true, lastID: s.lastID, byID: map[uint16]*flight{}}
}

// connected starts a connection on which the session goes on: every PUBREL
// that was not answered is due again, in the order of the PUBRECs
// [MQTT-4.6.0-4], and every PUBLISH, see unsent.
func (s *session) connected() {
	s.quota = 0
	s.releases = s.releases[:0]
	for id, f := range s.byID {
		f.owed, f.unfinished, f.onWire, f.refused = 0, 0, false, false
		switch f.stage {
		case releasing:
			s.releases = append(s.releases, f)
		case settled:
			delete(s.byID, id)
		case publishing:
		}
	}
	slices.SortFunc(s.releases, func(a, b *flight) int { return int(a.received) - int(b.received) })
}

// unsent returns the first flight that was not yet sent on this connection,
// or nil. Nothing new may be sent before that [MQTT-4.4.0-1, MQTT-4.6.0-1].
func (s *session) unsent() *flight {
	if n := len(s.order); n == 0 || s.order[n-1].onWire { // those on the wire come first
		return nil
	}
	for _, f := range s.order {
		if !f.onWire {
			return f
		}
	}
	return nil
}

// firstOwnID begins the packet ids that no reading gets: they are for what a
// device says when it has connected.
const (
	firstOwnID  = 0xFF00
	birthID     = firstOwnID
	subscribeID = firstOwnID + 1
)

// place gives a message with QoS 1 or 2 a packet id that is not in use.
func (s *session) place(m message) *flight {
	for {
		s.lastID = (s.lastID + 1) % firstOwnID
		if s.lastID != 0 && s.byID[s.lastID] == nil {
			break
		}
	}
	f := &flight{message: m, packetID: s.lastID}
	s.byID[f.packetID] = f
	s.order = append(s.order, f)
	s.open++
	return f
}

// sent notes that a flight's PUBLISH goes out, and says whether DUP has to be
// set: this session has seen it before [MQTT-3.3.1-1].
func (s *session) sent(f *flight) (dup bool) {
	dup = f.session == s.number
	f.session, f.onWire = s.number, true
	f.owed++
	f.unfinished++
	s.quota++
	return dup
}

// doubts counts the duplicates on this connection without a final answer.
func (s *session) doubts() int { return s.quota - s.onWire() }

// onWire counts the messages on this connection without a final answer.
func (s *session) onWire() (n int) {
	for _, f := range s.byID {
		if f.stage != settled && f.unfinished > 0 {
			n++
		}
	}
	return n
}

// released notes that the PUBREL of a flight goes out.
func (f *flight) released() { f.owed++ }

// outcome is what an answer means for a message.
type outcome byte

const (
	nothing outcome = iota // an answer to a duplicate
	stray                  // an answer to no question: the broker's mistake
	acked                  // PUBACK: done
	taken                  // PUBREC: PUBREL is due
	done                   // PUBCOMP: done
	denied                 // a reason code of failure: the message is in retries
)

// answer takes a PUBACK, PUBREC or PUBCOMP. The message is that of the flight
// it belongs to.
func (s *session) answer(p packet) (outcome, message) {
	f := s.byID[p.packetID]
	if f == nil || f.owed == 0 || (p.kind == typePuback) != (f.qos == 1) ||
		p.kind == typePubcomp && f.stage == publishing {
		return stray, message{}
	}
	f.owed--
	result := nothing
	if f.unfinished > 0 && (p.kind != typePubrec || p.refused()) { // it is final
		f.unfinished--
		s.quota--
	}
	switch {
	case p.kind == typePubcomp: // 0x92, packet id not found, ends it as well
		if f.stage == releasing {
			result = done
			s.settle(f)
		}
	case p.refused():
		f.refused = f.stage == publishing
	case p.kind == typePuback:
		if f.stage == publishing {
			result = acked
			s.unlist(f)
			s.settle(f)
		}
	default: // PUBREC: each is answered by a PUBREL [MQTT-4.3.3-4]
		if f.stage == publishing {
			result = taken
			s.received++
			s.unlist(f)
			f.stage, f.received, f.refused = releasing, s.received, false
		}
		s.releases = append(s.releases, f)
	}
	if f.owed == 0 && f.refused {
		result = denied
		s.unlist(f)
		s.settle(f)
		s.retries = append(s.retries, f.message)
	}
	if f.owed == 0 && f.stage == settled && !slices.Contains(s.releases, f) {
		delete(s.byID, f.packetID)
	}
	return result, f.message
}

func (s *session) settle(f *flight) {
	s.free(f)
	f.refused = false
}

func (s *session) free(f *flight) {
	if f.stage != settled {
		s.open--
	}
	f.stage = settled
}

func (s *session) unlist(f *flight) {
	if i := slices.Index(s.order, f); i >= 0 {
		s.order = slices.Delete(s.order, i, i+1)
	}
}
