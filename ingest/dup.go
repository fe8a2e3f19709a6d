package ingest

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary/log/record"
)

// maxRemembered is how many QoS 1 messages are remembered of one session: more than
// devices have in flight, when a connection breaks before they get their PUBACKs.
const maxRemembered = 64

// A fingerprint tells a QoS 1 message from others with the same packet id.
type fingerprint struct {
	pid uint16
	sum uint32
}

// A sent is a QoS 1 message that was appended.
type sent struct {
	fingerprint

	conn uint32 // which connection of the session it came on
	seq  int64  // Door.appended, when it was
}

// A recent is what a session has sent last with QoS 1, in a ring. The reader of its
// connection is the only one that touches it; a new connection waits for the old
// one's reader.
type recent struct {
	ring  []sent
	at    int
	conn  uint32 // the present connection
	epoch uint64 // of recents when the ring was filled
	used  time.Time
}

// recents remember QoS 1 messages over the connections of a session. A client that
// did not get a PUBACK sends the message again when it is back, with DUP and its old
// packet id (MQTT 5, 4.4): it is acknowledged and not logged again. That is more
// than QoS 1 asks for, and must lose nothing, so a message counts as sent again only
// where it can be: behind a connection that broke, in the same session, or as long
// as it has no PUBACK yet. A client that has said DISCONNECT, or begins a new
// session, uses its packet ids anew.
//
// After a restart it is filled from the end of the log.
type recents struct {
	seed  maphash.Seed  // of fingerprints, which this process alone needs
	epoch atomic.Uint64 // moves when a group has failed: then nobody knows what is in the log

	mu  sync.Mutex // guards all
	all map[string]*recent
}

// maxRecents bounds the clients that are remembered, and so the memory. When there
// are more, those that have not come for long are forgotten.
const maxRecents = 50_000

func newRecents() *recents { return &recents{seed: maphash.MakeSeed(), all: map[string]*recent{}} }

// of returns what is remembered of a client that connects: nothing, if its session
// is a new one.
func (r *recents) of(client string, resumed bool, now time.Time) *recent {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.all[client]
	if one == nil {
		if len(r.all) >= maxRecents {
			r.prune(now)
		}
		one = &recent{}
		r.all[client] = one
	}
	if !resumed {
		one.forget()
	}
	r.renew(one)
	one.conn++
	one.used = now
	return one
}

// forgetAfter is how long a client is remembered when there are too many.
const forgetAfter = 10 * time.Minute

func (r *recents) prune(now time.Time) {
	for client, one := range r.all {
		if now.Sub(one.used) > forgetAfter {
			delete(r.all, client)
		}
	}
	for client := range r.all {
		if len(r.all) < maxRecents {
			return
		}
		delete(r.all, client)
	}
}

// fail makes all that is remembered void.
func (r *recents) fail() { r.epoch.Add(1) }

// valid says whether what one remembers counts.
func (r *recents) valid(one *recent) bool { return one.epoch == r.epoch.Load() }

// renew forgets what does not count any more.
func (r *recents) renew(one *recent) {
	if now := r.epoch.Load(); one.epoch != now {
		one.forget()
		one.epoch = now
	}
}

// add remembers a message that was appended just now.
func (r *recent) add(p fingerprint, seq int64) {
	s := sent{p, r.conn, seq}
	if len(r.ring) < maxRemembered {
		r.ring = append(r.ring, s)
		return
	}
	r.ring[r.at] = s
	r.at = (r.at + 1) % maxRemembered
}

func (r *recent) forget() { r.ring, r.at = nil, 0 }

// has says whether a message with DUP was appended before, and has no PUBACK that
// its client can have seen. All up to settled are acknowledged. Only the last
// message with the packet id counts: to use the id again, its client must have
// seen the PUBACK of those before (MQTT-2.2.1-3).
func (r *recent) has(p fingerprint, settled int64) bool {
	for i := range r.ring {
		s := &r.ring[(r.at+2*len(r.ring)-1-i)%len(r.ring)] // the newest first
		if s.pid == p.pid {
			return s.fingerprint == p && (s.conn != r.conn || s.seq > settled)
		}
	}
	return false
}

// fingerprint returns the fingerprint of a message: of all that its record has,
// but for its time. It is made of every QoS 1 message, and this is the quickest hash.
func (r *recents) fingerprint(m *record.Record) fingerprint {
	var p fingerprint
	var sum uint64
	mix := func(hash uint64) { sum = bits.RotateLeft64(sum, 23)*0x9e3779b97f4a7c15 ^ hash } // by place: b, a is not a, b
	for i := range m.Headers {
		h := &m.Headers[i]
		switch h.Key {
		case headerPacketID:
			p.pid = binary.BigEndian.Uint16(h.Value)
		case headerStamp: // each time another one
		case headerDeadReason: // depends on the routes, which may have changed
		case headerWritten: // a time
		default:
			mix(maphash.String(r.seed, h.Key))
			mix(maphash.Bytes(r.seed, h.Value))
		}
	}
	mix(maphash.Bytes(r.seed, m.Value))
	p.sum = uint32(sum >> 32)
	return p
}

// replay takes up a record of an earlier process.
func (r *recents) replay(e *record.Entry, now time.Time) {
	pid, qos := e.Header(headerPacketID), e.Header(headerQoS)
	if len(pid) != 2 || len(qos) != 1 || qos[0] != '1' {
		return
	}
	one := r.of(string(e.Header(headerClientID)), true, now)
	one.add(r.fingerprint(&e.Record), 0)
}

// again says whether a QoS 1 message with DUP is in the log already. If it is
// not durable yet, again waits until it is. It is called on the connection's
// reader, and goesOn is false when that is to stop.
func (d *Door) again(c *conn, p fingerprint) (is, goesOn bool) {
	if !c.recent.has(p, d.settled.Load()) || !d.recents.valid(c.recent) {
		return false, true
	}
	goesOn = d.await(c)
	return goesOn && d.recents.valid(c.recent), goesOn // or the group has failed meanwhile
}
