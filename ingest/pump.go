package ingest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/ingest/session"
)

// pumpTurn is how many packets one client is sent before it is another's turn:
// as many as its window can have.
const pumpTurn = maxWindow

// A subscriber is a session as the delivery sees it.
type subscriber struct {
	*session.Session

	conn  atomic.Pointer[conn] // who serves it; nil: nobody
	woken atomic.Bool          // it is on the list of those to be pumped

	// serving is held by whoever changes conn, and by the delivery from when it
	// takes something out of the session until it has given it to conn. Or what it
	// takes for a new connection could go to the old one, and be waited for until
	// there is a third.
	serving sync.Mutex

	// held is what was taken out of the session and waits for something to be
	// durable, and what was taken behind that. Guarded by serving.
	held []*sending

	planted []string // the filters that the tree has, before Run
}

// attach makes c the one who serves its session. CONNACK was sent.
func (o *delivery) attach(c *conn) {
	s := c.sub
	s.serving.Lock()
	s.conn.Store(c)
	s.serving.Unlock()
	o.wakeUp(s)
}

// detach makes c one that serves its session no more. What the session is still
// to get of retained messages waits in it for the next connection.
func (o *delivery) detach(c *conn) {
	s := c.sub
	s.serving.Lock()
	defer s.serving.Unlock()
	s.conn.CompareAndSwap(c, nil)
	if c.lasting {
		o.offerRetained(c)
	}
	c.retained, s.held = nil, nil
	s.Detach(time.Now())
}

// wakeUp asks for a subscriber to be sent what it can be sent now.
func (o *delivery) wakeUp(s *subscriber) {
	if s == nil || s.woken.Swap(true) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.woken = append(o.woken, s)
	signal(o.wake)
}

// pump sends a subscriber what its window allows, and not too much at a time.
func (o *delivery) pump(s *subscriber) {
	s.serving.Lock()
	defer s.serving.Unlock()
	c := s.conn.Load()
	if c == nil {
		return
	}
	for range pumpTurn {
		if !c.roomy() {
			return
		}
		d, ok := s.Take()
		switch {
		case ok && d.Event != nil:
			o.hold(&sending{s: s, c: c, d: d})
		case ok && len(s.held) > 0 && s.held[0].c == c: // it must not overtake
			s.held = append(s.held, &sending{s: s, c: c, d: d, durable: true})
		case ok:
			o.transmit(s, c, &d)
		case !o.feedRetained(c):
			return
		}
	}
	o.wakeUp(s)
}

// A sending is a QoS 2 message for a session that outlives its connection, for the
// log must know its packet id before the client does; or what was dropped from
// the queue of one; or a message behind either.
type sending struct {
	s *subscriber
	c *conn
	d session.Delivery

	durable bool // the log knows of it, or need not; guarded by s.serving
}

// hold keeps a delivery back until the log knows of it. Called with serving
// held.
func (o *delivery) hold(d *sending) {
	if len(d.s.held) > 0 && d.s.held[0].c != d.c {
		d.s.held = nil // of an earlier connection: the session gives it out again
	}
	d.s.held = append(d.s.held, d)
	o.door.noteSending(d)
}

// sent sends what no longer has to wait, now that the log knows of d. A connection
// that is to stop is sent nothing: the log may not have taken the id of an earlier
// message, which comes first on the next connection.
func (o *delivery) sent(d *sending) {
	s := d.s
	s.serving.Lock()
	defer s.serving.Unlock()
	d.durable = true
	s.Noted(&d.d)
	for len(s.held) > 0 && s.held[0].durable {
		first := s.held[0]
		s.held = s.held[1:]
		if s.conn.Load() == first.c && !first.c.isStopping() {
			o.transmit(s, first.c, &first.d)
		}
	}
	if len(s.held) == 0 {
		s.held = nil
	}
}

// transmit sends a QoS 1 or 2 message. One that cannot be sent any more counts
// as if it had been acknowledged.
func (o *delivery) transmit(s *subscriber, c *conn, d *session.Delivery) {
	switch {
	case d.Drop:
		return
	case d.Release:
		c.send(packet.AppendAck(nil, packet.TypePubrel, d.PacketID, 0, c.version)...)
		return
	}
	m := outgoing{ledger: d.Ledger, entry: d.Copy}
	var err error
	if m.entry == nil {
		m.entry, err = o.pages.entry(o.ctx, d.Ledger, d.LSN)
	}
	if err != nil {
		if o.ctx.Err() != nil {
			return
		}
		o.door.stat.queueLost.Add(1)
		o.abandon(s, d)
		return
	}
	if !m.open(time.Now()) && !d.Dup || !o.door.opt.Guard.Allows(s.User, s.Client, auth.Read, m.topic()) {
		o.abandon(s, d)
		return
	}
	out := m.out(d.QoS, d.Retain, d.IDs)
	out.PacketID, out.Dup = d.PacketID, d.Dup
	if !o.write(c, &out) {
		o.abandon(s, d)
	}
}

// write sends a message. It returns false for one that is larger than the client
// takes.
func (o *delivery) write(c *conn, out *packet.Out) bool {
	if c.maxPacket > 0 && out.Size(c.version) > c.maxPacket {
		return false
	}
	o.frames.scratch = packet.AppendPublish(o.frames.scratch[:0], out, c.version)
	o.door.stat.sent.Add(1)
	c.send(o.frames.scratch...)
	return true
}

// abandon ends the delivery of a message that is not sent any more.
func (o *delivery) abandon(s *subscriber, d *session.Delivery) {
	s.Discard(d.PacketID)
	o.wakeUp(s)
}
