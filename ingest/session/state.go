package session

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// stateVersion is what is written; older ones are read too.
const stateVersion = 3

// Dirty returns the states of the lasting sessions that have changed since the
// last call, by client id; nil stands for a session that has ended. The caller
// saves them in one transaction, together with a position of the log that is
// not beyond what Passed was last told before the call, and from which a later
// process replays. If that fails, it calls Redo. A state may be ahead of that
// position, never behind it.
func (st *Store) Dirty() map[string][]byte {
	st.changedMu.Lock()
	changed := st.changed
	st.changed = map[string]struct{}{}
	st.changedMu.Unlock()
	states := make(map[string][]byte, len(changed))
	for client := range changed {
		var state []byte
		if s := st.Get(client); s != nil {
			state = s.state()
		}
		states[client] = state
	}
	return states
}

// Redo makes the sessions that Dirty returned dirty again, because their states
// were not saved.
func (st *Store) Redo(dirty map[string][]byte) {
	for client := range dirty {
		st.mark(client)
	}
}

// state returns the state of a session, or nil if it is not to be remembered.
func (s *Session) state() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty = false
	if !s.remembered() {
		return nil
	}
	b := binary.AppendUvarint([]byte{stateVersion}, s.seq)
	b = binary.AppendUvarint(b, s.born)
	b = appendBytes(b, s.User)
	b = binary.BigEndian.AppendUint32(b, s.expiry)
	detached := int64(0)
	if !s.detached.IsZero() {
		detached = s.detached.UnixMilli()
	}
	b = binary.AppendVarint(b, detached)
	b = binary.AppendUvarint(b, uint64(len(s.subs)))
	for i := range s.subs {
		b = appendSubscription(b, &s.subs[i])
	}
	b = appendWill(b, s.will)
	b = binary.BigEndian.AppendUint16(b, s.next)

	e, last := encoder{}, s.store.settled(&s.last)
	e.reach(&last)
	e.b = binary.AppendUvarint(e.b, uint64(s.flight.len()))
	for i := range s.flight.len() {
		e.b = binary.BigEndian.AppendUint16(e.b, s.flight.at(i).id)
		e.item(s.flight.at(i))
	}
	e.b = binary.AppendUvarint(e.b, uint64(s.queue.len()))
	for i := range s.queue.len() {
		e.item(s.queue.at(i))
	}
	b = e.appendTo(b)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// Restore takes up a state that an earlier process got from Dirty, in place of
// whatever the store has of that client. It is called before Replay and Open. An
// error wraps ErrDamaged; then the client's session is what a replay of the
// whole log makes of it. A session beyond MaxSessions is restored too.
func (st *Store) Restore(client string, state []byte) error {
	s, err := st.parseState(client, state)
	if err != nil {
		return fmt.Errorf("state of the session of %q: %w", client, err)
	}
	st.raise(max(s.seq, s.born))
	st.mu.Lock()
	defer st.mu.Unlock()
	st.drop(client)
	st.sessions[client] = s
	return nil
}

func (st *Store) parseState(client string, state []byte) (*Session, error) {
	body := len(state) - 4
	if body < 1 || crc32.Checksum(state[:body], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(state[body:]) {
		return nil, fmt.Errorf("checksum: %w", ErrDamaged)
	}
	d := decoder{b: state[:body], store: st}
	version := d.byte()
	if version < 1 || version > stateVersion {
		return nil, fmt.Errorf("version %d: %w", version, ErrDamaged)
	}
	s := &Session{Client: client, store: st, lasting: true, traced: true}
	s.seq = d.sequence()
	s.restored, s.born, s.User, s.expiry = s.seq, d.sequence(), d.string(), d.uint32()
	if detached := d.varint(); detached != 0 {
		s.detached = time.UnixMilli(detached)
	}
	filters := map[string]bool{}
	for range d.count(3) { // a filter, flags and an id have at least so many bytes
		sub := d.subscription()
		filters[sub.Filter] = true
		s.subs = append(s.subs, sub)
	}
	s.will = d.will()
	s.next = d.uint16()
	d.table()
	s.last = d.reach(version)
	ids := map[uint16]bool{0: true}
	for range d.count(2 + minItem) {
		id := d.uint16()
		it := d.item()
		if ids[id] {
			d.fail()
		}
		ids[id], it.id, it.noted = true, id, true
		s.flight.push(it)
	}
	for range d.count(minItem) {
		it := d.item()
		if it.received {
			d.fail()
		}
		s.queue.push(it)
	}
	if d.bad || len(d.b) > 0 || s.next == 0 || s.seq < s.born || len(filters) != len(s.subs) || s.last.own.ledger == nil && s.last.own.lsn != 0 {
		return nil, ErrDamaged
	}
	return s, nil
}
