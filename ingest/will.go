package ingest

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/ingest/session"
	"github.com/tributary-edge/tributary/log/record"
)

// A will is what is published for a client that goes without saying so.
type will struct {
	message

	delay uint32 // seconds
	c     *conn
	timer *time.Timer
}

// rememberWill takes a will up, and notes it in the log, so that it is published
// even if this process ends first.
func (d *Door) rememberWill(c *conn, pk *packets.Packet) {
	if !pk.Connect.WillFlag {
		d.unshareWill(c.id, true)
		return
	}
	w := &will{c: c, message: message{
		topic: []byte(pk.Connect.WillTopic), payload: pk.Connect.WillPayload, qos: pk.Connect.WillQos, retain: pk.Connect.WillRetain,
	}}
	if c.v5 {
		w.props, w.delay = &pk.Connect.WillProperties, pk.Connect.WillProperties.WillDelayInterval
	}
	c.will = w
	c.sub.SetWill(&session.Will{
		Topic: pk.Connect.WillTopic, Payload: w.payload, QoS: w.qos, Retain: w.retain, DelaySeconds: w.delay, Properties: encodeWill(w.props),
	})
	if err := d.noteIf(c, c.sub.WillEvent()); err != nil {
		d.opt.Logger.Warn("a will could not be logged; it is published unless this node stops before", "client", c.id, "error", err)
	}
	d.shareWill(c, w)
}

// forgetWill lets the log know that a will is settled.
func (d *Door) forgetWill(c *conn) {
	if c.sub.Will() != nil && !d.delayed(c.id) {
		d.settleWill(c)
	}
}

// settleWill notes that the will of c was sent, or need not be: a later process
// must not send it.
func (d *Door) settleWill(c *conn) {
	c.sub.SetWill(nil)
	d.noteQuietly(c.sub.WillEvent())
	d.unshareWill(c.id, false)
}

// noteQuietly notes what only matters if this process ends soon.
func (d *Door) noteQuietly(event []byte) {
	if event != nil {
		r := controlRecord(session.EventKey, event)
		_ = d.append(&r, tributary.Ticket{Owner: d, Tag: tag(kindNoted, 0, 0)})
	}
}

func (d *Door) delayed(client string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wills[client] != nil
}

// sendOrDelay takes a will to the log, now or after its delay, which ends with the
// session at the latest: MQTT 5, 3.1.3.2.2. It is called on the connection's
// reader, which takes no messages any more.
func (d *Door) sendOrDelay(c *conn) {
	w := c.will
	if !c.lasting || w.delay == 0 {
		d.sendWill(w)
		return
	}
	d.delayWill(w)
}

// delayWill publishes a will after its delay. Who takes it out of Door.wills
// sends it, or does not.
func (d *Door) delayWill(w *will) {
	client := w.c.id
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wills[client] = w
	w.timer = time.AfterFunc(time.Duration(w.delay)*time.Second, func() {
		if d.takeWill(client, w) {
			d.sendWill(w)
			d.settleWill(w.c)
		}
	})
}

// takeWill takes a will that waits; it returns false when another has.
func (d *Door) takeWill(client string, w *will) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wills[client] != w {
		return false
	}
	delete(d.wills, client)
	return true
}

// endWillDelay is called when a client is back: its will is not sent, unless
// this is another session, so that the old one is over.
func (d *Door) endWillDelay(client string, over bool) {
	d.mu.Lock()
	w := d.wills[client]
	d.mu.Unlock()
	if w == nil || !d.takeWill(client, w) {
		return
	}
	w.timer.Stop()
	if over {
		d.sendWill(w)
	}
	d.settleWill(w.c)
}

// sendDelayedWills sends all wills that still wait, at the end of the process.
func (d *Door) sendDelayedWills() {
	d.mu.Lock()
	all := make([]*will, 0, len(d.wills))
	for _, w := range d.wills {
		all = append(all, w)
	}
	d.mu.Unlock()
	for _, w := range all {
		if d.takeWill(w.c.id, w) {
			w.timer.Stop()
			d.sendWill(w)
			d.settleWill(w.c)
		}
	}
}

func (d *Door) sendWill(w *will) {
	c := w.c
	to := c.route(w.topic)
	if to.refused != 0 {
		d.stat.refused(0)
		return
	}
	if w.retain && len(w.payload) > 0 && d.out.kept.fullFor(w.topic) {
		w.retain = false // those who are here now get it all the same
		d.stat.refused(packet.CodeQuotaExceeded)
	}
	var r record.Record
	c.fill(&r, &w.message, to, &values{}, false)
	t := tributary.Ticket{Owner: d, Tag: tag(kindQuiet, 0, 0) | d.wantFan() | retainFan(&w.message)}
	if err := d.append(&r, t); err != nil {
		d.stat.refused(d.failure(err))
		d.opt.Logger.Warn("a will message is lost: the log did not take it", "client", c.id, "error", err)
	}
}

// The properties of a will in the checkpoint are those that its PUBLISH has.
func encodeWill(p *packets.Properties) []byte {
	if p == nil {
		return nil
	}
	return packet.AppendProperties(nil, p)
}

func decodeWill(b []byte) *packets.Properties {
	if len(b) == 0 {
		return nil
	}
	var p packets.Properties
	if _, err := p.Decode(packets.Publish, bytes.NewBuffer(append(binary.AppendUvarint(nil, uint64(len(b))), b...))); err != nil {
		return nil // the will goes without them
	}
	return &p
}
