package ingest

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary/log/record"
)

// What is remembered of the QoS 1 messages of one client: so many as it may have
// had in flight, when its connection broke before it got their PUBACKs.
const (
	minRemembered = 8
	maxRemembered = 1024
)

// A fingerprint tells a message from others with the same packet id.
type fingerprint struct {
	pid uint16
	sum uint32
}

// A recent is what a client has sent last with QoS 1, in a ring. The reader of
// its connection is the only one that touches it; a new connection waits for the
// old one's reader.
type recent struct {
	prints []fingerprint
	at     int
	epoch  uint64 // of recents when prints was filled
	used   time.Time
}

// recents remember QoS 1 messages over connections. A client that did not get a
// PUBACK sends the message again, with DUP (MQTT 5, 4.4): it is acknowledged and
// not logged again. That is more than QoS 1 asks for, and what everybody hopes
// for. The standard allows DUP on nothing else, so a device that sets it on a new
// message with the packet id and the content of its last one loses that.
//
// After a restart it is filled from the end of the log.
type recents struct {
	mu    sync.Mutex // guards what follows
	all   map[string]*recent
	epoch uint64 // moves when a group has failed: then nobody knows what is in the log
}

// maxRecents bounds the clients that are remembered, and so the memory, which is
// some 150 bytes each as a rule. When there are more, those that are not connected
// and came first are forgotten, all but a few.
const maxRecents = 50_000

func newRecents() *recents { return &recents{all: map[string]*recent{}} }

// of returns what is remembered of a client.
func (r *recents) of(client string, now time.Time) *recent {
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
	if one.epoch != r.epoch {
		one.prints, one.at, one.epoch = nil, 0, r.epoch
	}
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
func (r *recents) fail() {
	r.mu.Lock()
	r.epoch++
	r.mu.Unlock()
}

// valid says whether what one remembers counts.
func (r *recents) valid(one *recent) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return one.epoch == r.epoch
}

// add remembers a message that was appended while so many were in flight.
func (r *recent) add(p fingerprint, inFlight int) {
	if n := len(r.prints); n < minRemembered || n < maxRemembered && inFlight > n {
		r.prints = append(r.prints, p)
		return
	}
	r.at %= len(r.prints)
	r.prints[r.at] = p
	r.at++
}

// has says whether the message was appended before.
func (r *recent) has(p fingerprint) bool {
	return slices.Contains(r.prints, p)
}

// printOf returns the fingerprint of a message.
func printOf(pid uint16, topic, payload []byte) fingerprint {
	table := crc32.MakeTable(crc32.Castagnoli)
	return fingerprint{pid, crc32.Update(crc32.Checksum(topic, table), table, payload)}
}

// replay takes up a record of an earlier process.
func (r *recents) replay(e *record.Entry, now time.Time) {
	pid, qos := e.Header(headerPacketID), e.Header(headerQoS)
	if len(pid) != 2 || len(qos) != 1 || qos[0] != '1' {
		return
	}
	one := r.of(string(e.Header(headerClientID)), now)
	one.add(printOf(binary.BigEndian.Uint16(pid), e.Header(headerTopic), e.Value), maxWindow)
}

// again says whether a QoS 1 message with DUP is in the log already. If it is
// not durable yet, again waits until it is. It is called on the connection's
// reader.
func (d *Door) again(c *conn, p fingerprint) bool {
	if !c.recent.has(p) || !d.recents.valid(c.recent) {
		return false
	}
	return d.await(c) && d.recents.valid(c.recent) // or the group has failed meanwhile
}
