package ingest

import (
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/ingest/session"
)

// errOther says that the client id belongs to a connection of somebody else.
var errOther = &packet.Error{Code: packet.CodeNotAuthorized, Packet: "CONNECT", What: "the client id is in use by another user"}

// claim makes c the holder of its client's session. A connection that held it
// before is stopped, and claim waits until its reader has really stopped:
// what that had taken out of its socket is in the log, the rest never will
// be, and so the order of the device's messages is the order of its
// connections. Nobody takes over the connection of another user.
//
// A session that ends with its connection, but has a will, is in the log all the
// same: should this process end first, the next one publishes the will.
func (d *Door) claim(c *conn, clean bool, expiry uint32, hasWill bool) (present bool, err error) {
	d.mu.Lock()
	before := d.owners[c.id]
	if before != nil && before.user != c.user {
		d.mu.Unlock()
		return false, errOther
	}
	d.owners[c.id] = c
	d.mu.Unlock()
	if before != nil {
		before.stop(packet.CodeTakenOver)
		<-before.stopped
	}
	if err := d.handOff(c); err != nil {
		return false, err
	}
	s, present, dropped, err := d.sessions.Open(c.id, c.user, clean)
	if err != nil {
		return false, err
	}
	s.Attach(c.window) // from here on it does not expire
	d.endWillDelay(c.id, !present)
	if dropped != nil {
		d.unsubscribeAll(dropped)
		if err := d.noteIf(c, dropped.EndedEvent()); err != nil {
			d.opt.Logger.Warn("the end of a session could not be logged; it may be there again after a restart", "client", c.id, "error", err)
		}
	}
	c.sub = d.subscriberOf(s)
	c.lasting = expiry > 0
	s.SetExpiry(expiry, c.lasting || hasWill)
	if !clean && dropped == nil && !forgetQoS2 {
		d.adopt(c)
		present = present || d.q2.holds(c.id) // what the client has not released counts, if its session should be lost
	} else if err := d.endSession(c.id, c.epoch(), c.hasKnown()); err != nil {
		d.opt.Logger.Warn("a client asked for a clean start, which the log could not take down; it is refused, and nothing is lost",
			"client", c.id, "error", err)
		return false, err
	} else if c.arrived != nil {
		c.arrived.known = nil // they are of the session that is over
	}
	if err := d.noteIf(c, s.OpenedEvent()); err != nil {
		d.opt.Logger.Warn("a session could not be logged; it may be unknown after a restart", "client", c.id, "error", err)
	}
	return present, nil
}

// subscriberOf returns the delivery's view of a session.
func (d *Door) subscriberOf(s *session.Session) *subscriber {
	d.mu.Lock()
	defer d.mu.Unlock()
	sub := d.subs[s.Client]
	if sub == nil || sub.Session != s {
		sub = &subscriber{Session: s}
		d.subs[s.Client] = sub
	}
	return sub
}

// note appends a control record on the empty stream for c, whose reader calls
// it; settle waits until it is durable.
func (d *Door) note(c *conn, event []byte, t uint64) error {
	r := controlRecord(session.EventKey, event)
	c.enterNote()
	err := d.append(&r, tributary.Ticket{Owner: c, Tag: t})
	if err != nil {
		c.leaveNote()
	}
	return err
}

// noteIf is note for a change of a session, if it has to be noted.
func (d *Door) noteIf(c *conn, event []byte) error {
	if event == nil {
		return nil
	}
	return d.note(c, event, tag(kindNoted, 0, 0))
}

// leave is the end of a connection for its session. It is called on the
// connection's reader, which takes no messages any more.
func (d *Door) leave(c *conn, _ error) {
	defer d.release(c)
	c.endMove()
	if c.sub == nil {
		return
	}
	d.out.detach(c)
	if c.will != nil {
		d.sendOrDelay(c)
	}
	d.forgetWill(c)
	if c.lasting {
		return
	}
	d.sessions.Drop(c.id)
	d.end(c.sub.Session, c.epoch())
}

// end deals with a session that is over and no longer in the store. The epoch is that of
// its last connection, or 0.
func (d *Door) end(s *session.Session, epoch uint64) {
	d.unsubscribeAll(s)
	if event := s.EndedEvent(); event != nil {
		r := controlRecord(session.EventKey, event)
		if err := d.append(&r, tributary.Ticket{Owner: d, Tag: tag(kindNoted, 0, 0)}); err != nil {
			d.opt.Logger.Warn("the end of a session could not be logged; it may be there again after a restart", "client", s.Client, "error", err)
		}
	}
	if err := d.endSession(s.Client, epoch, false); err != nil {
		d.opt.Logger.Warn("the end of a session could not be logged; its QoS 2 packet ids may be known again after a restart",
			"client", s.Client, "error", err)
	}
}

// unsubscribeAll takes the subscriptions of a session that is over out of the
// tree. What it has left of shared ones goes to their other members.
func (d *Door) unsubscribeAll(s *session.Session) {
	d.mu.Lock()
	sub := d.subs[s.Client]
	if sub != nil && sub.Session == s {
		delete(d.subs, s.Client)
	}
	d.mu.Unlock()
	all := s.Subscriptions()
	if sub == nil || sub.Session != s || len(all) == 0 {
		return
	}
	d.behindAll(func() { // as they were made, or one could be made after this
		for i := range all {
			d.out.tree.Unsubscribe(sub, all[i].Filter)
		}
		if left := s.Left(); len(left) > 0 {
			d.out.passOn(all, left)
		}
	})
}

// sweep ends the sessions whose client has stayed away too long.
func (d *Door) sweep(now time.Time) {
	for _, s := range d.sessions.Expired(now) {
		d.mu.Lock()
		late := d.wills[s.Client]
		d.mu.Unlock()
		if late != nil { // MQTT 5, 3.1.3.2.2: the end of the session ends the delay
			d.endWillDelay(s.Client, true)
		}
		d.stat.expired.Add(1)
		d.end(s, 0)
	}
}

// noteSending appends what must be durable before s is sent. The delivery calls it.
func (d *Door) noteSending(s *sending) {
	r := controlRecord(session.EventKey, s.d.Event)
	err := d.out.place(false)
	if err == nil {
		err = d.append(&r, tributary.Ticket{Owner: s, Tag: tag(kindNoted, 0, 0)})
	}
	switch {
	case err != nil && s.d.Drop:
		d.out.do(func() { d.out.sent(s) }) // a full log must not stop subscribers; at worst a kill brings back what was dropped
	case err != nil:
		s.c.stop(d.failure(err)) // it is in flight, and is sent when the client is back
	}
}

// sent is called when what noteSending appended is durable, or has failed.
func (d *Door) sent(s *sending, err error) {
	if err != nil {
		s.c.stop(packet.CodeImplementation)
		return
	}
	d.out.do(func() { d.out.sent(s) })
}
