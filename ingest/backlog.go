package ingest

import (
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/ingest/session"
	"github.com/tributary-edge/tributary/log/record"
)

// maxFound is how many retained messages are looked up at once for a client that
// is to get them.
const maxFound = 1024

// A backlog is the retained messages that a new subscription is still to get, in
// the order of their topics. There may be 100,000, so that neither a client's
// queue nor its socket takes all at once, and a list of them for each client
// would be too much as well.
type backlog struct {
	filter string
	qos    byte
	ids    []uint32
	last   string          // the topic of the last one found
	found  []*record.Entry // next ones
	ended  bool            // there are none beyond those found
}

// giveRetained sees to it that a new subscription gets the retained messages
// that it means: MQTT 5, 3.3.1.3 and 3.8.3.1.
func (o *delivery) giveRetained(c *conn, g *granted) {
	if _, _, shared := packet.ShareOf(g.Filter); shared || g.RetainHandling == 2 || g.RetainHandling == 1 && g.existed {
		return
	}
	b := backlog{filter: g.Filter, qos: g.QoS}
	if g.ID != 0 {
		b.ids = []uint32{g.ID}
	}
	c.sub.serving.Lock()
	defer c.sub.serving.Unlock()
	if c.sub.conn.Load() != c {
		return
	}
	for i := range c.retained {
		if c.retained[i].filter == b.filter {
			c.retained[i] = b // it starts again
			return
		}
	}
	c.retained = append(c.retained, b)
	o.wakeUp(c.sub)
}

// feedRetained sends c a retained message, or offers it to the session of c if
// nothing waits there. It returns false when there is none, or not now. Called
// with serving held.
func (o *delivery) feedRetained(c *conn) bool {
	if len(c.retained) == 0 {
		return false
	}
	if queued, inflight := c.sub.Waiting(); queued > 0 || inflight >= min(session.MinQueued, o.door.opt.Sessions.MaxQueued) {
		return false // what is acknowledged wakes us up
	}
	b := &c.retained[0]
	e := o.nextRetained(b)
	if e == nil {
		if c.retained = c.retained[1:]; len(c.retained) == 0 {
			c.retained = nil
		}
		return true
	}
	m := outgoing{entry: e, retain: true}
	if !m.open(time.Now()) || !o.door.opt.Guard.Allows(c.user, c.id, auth.Read, m.topic()) {
		return true
	}
	if min(b.qos, m.qos) > 0 {
		o.offerCopy(c.sub, e, min(b.qos, m.qos), b.ids)
		return true
	}
	out := m.out(0, true, b.ids)
	o.write(c, &out)
	return true
}

// nextRetained returns the next message of a backlog, or nil. One that has been
// replaced meanwhile is left out: the subscription has got the new one.
func (o *delivery) nextRetained(b *backlog) *record.Entry {
	for {
		if len(b.found) == 0 {
			if b.ended {
				return nil
			}
			o.kept.find(b)
			continue
		}
		e := b.found[0]
		b.found = b.found[1:]
		if o.kept.holds(e) {
			return e
		}
	}
}

// find looks up the next messages of a backlog.
func (r *retained) find(b *backlog) {
	b.found, b.ended = nil, true
	r.all.Match(b.filter, func(name string, e *record.Entry) bool {
		if name <= b.last && b.last != "" {
			return true
		}
		if len(b.found) == maxFound {
			b.ended = false
			return false
		}
		b.found = append(b.found, e)
		return true
	})
	if n := len(b.found); n > 0 {
		b.last = string(b.found[n-1].Header(headerTopic))
	}
}

// holds says whether e is still the retained message of its topic.
func (r *retained) holds(e *record.Entry) bool {
	now, ok := r.all.Get(unsafeString(e.Header(headerTopic)))
	return ok && now == e
}

// offerRetained puts the QoS 1 and 2 messages that c has not come to into its
// session, as many as that takes. Called with serving held.
func (o *delivery) offerRetained(c *conn) {
	for i := range c.retained {
		b := &c.retained[i]
		for e := o.nextRetained(b); e != nil; e = o.nextRetained(b) {
			m := outgoing{entry: e, retain: true}
			if m.open(time.Now()) && min(b.qos, m.qos) > 0 {
				o.offerCopy(c.sub, e, min(b.qos, m.qos), b.ids)
			}
		}
	}
}

// offerCopy puts a retained message into a session. Its number is none of the
// log; it tells the copies of a session apart, also when another process gave
// them.
func (o *delivery) offerCopy(s *subscriber, e *record.Entry, qos byte, ids []uint32) {
	lsn := tributary.LSN(time.Now().UnixNano())
	for {
		last := o.copies.Load()
		lsn = max(lsn, tributary.LSN(last)+1)
		if o.copies.CompareAndSwap(last, uint64(lsn)) {
			break
		}
	}
	dropped := s.Offer(session.Message{LSN: lsn, Copy: e, QoS: qos, Retain: true, IDs: ids})
	o.door.stat.queueLost.Add(uint64(dropped))
}
