package ingest

import (
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/tributary-edge/tributary"
)

// sessionsPerClient bounds the sessions that are kept for clients that are
// away: so many times Options.MaxClients in all. Client ids cost nothing, and
// a session is memory.
const sessionsPerClient = 4

// tooManySessions says whether a client must be refused because the node keeps
// as many sessions as it may, and none for this one.
func (d *Door) tooManySessions(client string) bool {
	if d.srv.Clients.Len() < sessionsPerClient*d.opt.MaxClients {
		return false
	}
	_, known := d.srv.Clients.Get(client)
	if !known {
		d.stat.tooMany.Add(1)
	}
	return !known
}

// claim makes c the holder of its client's session. A connection that held it
// before is stopped, and claim waits until its reader has really stopped:
// what that had taken out of its socket is in the log, the rest never will
// be, and so the order of the device's messages is the order of its
// connections.
func (d *Door) claim(c *conn, clean bool) {
	d.mu.Lock()
	before := d.owners[c.id]
	d.owners[c.id] = c
	d.mu.Unlock()
	if before != nil {
		before.stop(codeTakenOver)
		<-before.stopped
	}
	d.endWillDelay(c.id, clean)
	if !clean && !forgetQoS2 {
		c.resumed = d.q2.holds(c.id)
		return
	}
	if err := d.endSession(c.id); err != nil {
		d.opt.Logger.Warn("a client asked for a clean start, which the log could not take down; it is refused, and nothing is lost",
			"client", c.id, "error", err)
		d.stat.refused(d.failure(err))
		c.stop(d.failure(err))
	}
}

// disconnected is told that the engine is done with a connection, and whether
// the session is over with it.
func (d *Door) disconnected(c *conn, over bool) {
	c.left = true
	if !over {
		return
	}
	if err := d.endSession(c.id); err != nil {
		d.opt.Logger.Warn("the end of a session could not be logged; its QoS 2 packet ids may be known again after a restart",
			"client", c.id, "error", err)
	}
}

// expired is told that a session without a connection is over.
func (d *Door) expired(client string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owners[client] != nil {
		return // somebody came back just now
	}
	if err := d.endSession(client); err != nil {
		d.opt.Logger.Warn("the end of a session could not be logged; its QoS 2 packet ids may be known again after a restart",
			"client", client, "error", err)
	}
}

// exorcise does for a connection what the engine does at its end, when the
// engine did not get there: it has panicked, or given up half way.
func (d *Door) exorcise(c *conn) {
	cl := c.cl
	if cl == nil {
		return
	}
	if held, ok := d.srv.Clients.Get(c.id); !ok || held != cl {
		return
	}
	if atomic.LoadUint32(&cl.Properties.Will.Flag) == 1 {
		w := cl.Properties.Will
		d.will(c, &w)
	}
	cl.Stop(errStopped)
	over := !c.lasting
	d.disconnected(c, over)
	if over {
		cl.ClearInflights()
		d.srv.UnsubscribeClient(cl)
		d.srv.Clients.Delete(c.id)
	}
}

// A delayedWill waits for its client to stay away long enough (MQTT 5,
// 3.1.3.2.2). Who takes it out of Door.wills, sends it or not.
type delayedWill struct {
	c     *conn
	m     message
	timer *time.Timer
}

// will takes a will to the log, now or after its delay, which ends with the
// session at the latest. It is called on the connection's reader, which takes
// no messages any more.
func (d *Door) will(c *conn, w *mqtt.Will) {
	m := message{topic: w.TopicName, payload: w.Payload, qos: w.Qos, retain: w.Retain}
	var delay uint32
	if c.v5 {
		delay = min(w.WillDelayInterval, c.cl.Properties.Props.SessionExpiryInterval)
	}
	if delay == 0 {
		d.sendWill(c, &m)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	late := &delayedWill{c: c, m: m}
	d.wills[c.id] = late
	late.timer = time.AfterFunc(time.Duration(delay)*time.Second, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.wills[c.id] == late {
			delete(d.wills, c.id)
			d.sendWill(c, &late.m)
		}
	})
}

// endWillDelay is called when a client is back: its will is not sent, unless
// this is another session, so that the old one is over.
func (d *Door) endWillDelay(client string, over bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	late := d.wills[client]
	if late == nil {
		return
	}
	delete(d.wills, client)
	late.timer.Stop()
	if over {
		d.sendWill(late.c, &late.m)
	}
}

// sendDelayedWills sends all wills that still wait, at the end of the process.
func (d *Door) sendDelayedWills() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for client, late := range d.wills {
		delete(d.wills, client)
		late.timer.Stop()
		d.sendWill(late.c, &late.m)
	}
}

func (d *Door) sendWill(c *conn, m *message) {
	t := tributary.Ticket{Owner: d, Tag: tag(kindQuiet, 0, 0) | d.wantFan(m.retain)}
	if err := d.append(c.fill(m, c.willProps, false), t); err != nil {
		d.stat.refused(d.failure(err))
		d.opt.Logger.Warn("a will message is lost: the log did not take it", "client", c.id, "error", err)
	}
}
