package ingest

import (
	"sync/atomic"

	"github.com/tributary-edge/tributary/ingest/packet"
)

// Stats are counts since New, but for Connections. Arrays are indexed by QoS.
type Stats struct {
	Connections    int64 // open now
	Subscribers    int64 // subscriptions held now
	Sessions       int64 // held now, those of connected clients included
	Retained       int64 // retained messages held now
	MaxConnections int64 // that were ever open at once

	Accepted     uint64    // connections let in
	Received     [3]uint64 // PUBLISH packets
	Bytes        uint64    // of their payloads
	Logged       [3]uint64 // messages that became durable
	Resent       uint64    // QoS 2 messages sent again, acknowledged again and not logged again
	DeadLettered uint64    // of those logged, how many had no route
	FannedOut    uint64    // messages that local subscribers wanted
	Sent         uint64    // PUBLISH packets to subscribers, those of QoS 1 and 2 that are sent again included
	Expired      uint64    // sessions that ended because their client stayed away

	Refused Refusals
}

// Refusals count what was not taken, by reason.
type Refusals struct {
	Full        uint64 // messages: the log, or the table of QoS 2 packet ids, has no room
	Failed      uint64 // messages: the log has failed
	Topic       uint64 // messages: the topic starts with $, or has too many levels
	Window      uint64 // connections closed: more in flight, or not released, than the receive maximum
	TooMany     uint64 // connections closed: as many are open, or sessions kept, as may be
	Accepts     uint64 // errors of accept, which are tried again
	Panics      uint64 // connections closed: a packet made this node panic
	SlowReader  uint64 // connections closed: the client does not read what it is sent
	FanoutLost  uint64 // QoS 0 messages not delivered to a slow subscriber
	FanoutError uint64 // stretches of the log that could not be read back for subscribers
	QueueLost   uint64 // QoS 1 and 2 messages that a subscriber's full queue, or the log, no longer had
	Denied      uint64 // connections refused: not who they say, or not allowed
	Filters     uint64 // subscriptions refused
	Slowed      uint64 // times that a client had to wait because it sent too fast
	TooFast     uint64 // connections closed: it sent too fast for too long
	Withdrawn   uint64 // connections closed: after a reload the client would not be let in again
}

type counters struct {
	accepted, bytes, resent, deadLettered, fannedOut, sent, expired atomic.Uint64
	received, logged                                                [3]atomic.Uint64

	full, failed, topic, window, tooMany, accepts atomic.Uint64
	panics, slowReader, fanoutLost, fanoutError   atomic.Uint64
	queueLost, unauthorized, filters, slowed      atomic.Uint64
	tooFast, withdrawn                            atomic.Uint64
	maxConnections                                atomic.Int64
}

// refused counts a message that is answered with the reason code.
func (c *counters) refused(code byte) {
	switch code {
	case packet.CodeQuotaExceeded:
		c.full.Add(1)
	case packet.CodeImplementation:
		c.failed.Add(1)
	default:
		c.topic.Add(1)
	}
}

// took counts what was taken from a connection.
func (c *counters) took(b *intake) {
	for qos, n := range b.received {
		if n > 0 {
			c.received[qos].Add(n)
		}
	}
	c.bytes.Add(b.bytes)
	b.received, b.bytes = [3]uint64{}, 0
}

// Stats returns the counts. It may be called at any time.
func (d *Door) Stats() Stats {
	d.mu.Lock()
	open := len(d.conns)
	d.mu.Unlock()
	c := &d.stat
	s := Stats{
		Connections:    int64(open),
		Subscribers:    int64(d.out.tree.Len()),
		Sessions:       int64(d.sessions.Len()),
		Retained:       int64(d.out.kept.all.Len()),
		MaxConnections: c.maxConnections.Load(),
		Sent:           c.sent.Load(),
		Expired:        c.expired.Load(),
		Accepted:       c.accepted.Load(),
		Bytes:          c.bytes.Load(),
		Resent:         c.resent.Load(),
		DeadLettered:   c.deadLettered.Load(),
		FannedOut:      c.fannedOut.Load(),
		Refused: Refusals{
			Full: c.full.Load(), Failed: c.failed.Load(), Topic: c.topic.Load(),
			Window: c.window.Load(), TooMany: c.tooMany.Load(), Accepts: c.accepts.Load(),
			Panics: c.panics.Load(), SlowReader: c.slowReader.Load(),
			FanoutLost: c.fanoutLost.Load(), FanoutError: c.fanoutError.Load(), QueueLost: c.queueLost.Load(),
			Denied: c.unauthorized.Load(), Filters: c.filters.Load(), Slowed: c.slowed.Load(),
			TooFast: c.tooFast.Load(), Withdrawn: c.withdrawn.Load(),
		},
	}
	for q := range s.Received {
		s.Received[q], s.Logged[q] = c.received[q].Load(), c.logged[q].Load()
	}
	return s
}
