package ingest

import (
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
)

// A message is one PUBLISH, out of the stream, decoded and well-formed, its
// topic alias resolved. The slices are borrowed.
type message struct {
	topic   []byte
	payload []byte
	pid     uint16 // 0 for QoS 0
	qos     byte
	retain  bool
	dup     bool
	twice   bool                // it may be in another gateway's log, that nobody has any more
	props   *packets.Properties // of MQTT 5; nil: none
}

// Tickets. The owner of a message is the *routed of its topic and connection, that
// of other records the *conn that is to be answered, a cleanup, or the *Door for what
// needs no answer. The tag says what the record is:
//
//	bits 0-15   packet id
//	bits 16-18  kind
//	bit  19     local subscribers want it
//	bit  20     the log knows the packet id (QoS 2)
//	bit  21     it is to be retained
//	bits 32-63  which use of the packet id it is (QoS 2)
const (
	kindQuiet    = iota // QoS 0 or a will
	kindPuback          // QoS 1: PUBACK is due
	kindPubrec          // QoS 2: PUBREC is due
	kindRelease         // PUBREL: PUBCOMP is due
	kindCleanup         // the end of a session that had QoS 2 messages
	kindNoted           // a change of a session: no answer is due
	kindReceived        // a PUBREC of a subscriber: PUBREL is due
)

const (
	tagFan    = 1 << 19
	tagLogged = 1 << 20
	tagRetain = 1 << 21
)

func tag(kind int, pid uint16, seq uint32) uint64 {
	return uint64(pid) | uint64(kind)<<16 | uint64(seq)<<32
}

func tagKind(t uint64) int { return int(t >> 16 & 7) }

// A cleanup owns the ticket of the control record that ends a session.
type cleanup struct{ client string }

// publish takes a message up, for appendTaken to take it to the log: so the log's
// order is the order of arrival. It is called on the connection's reader, and may
// block. It returns false when the reader is to stop.
func (d *Door) publish(c *conn, m *message) bool {
	b := c.taking()
	b.received[m.qos]++
	b.bytes += uint64(len(m.payload))
	to := c.route(m.topic)
	if to.refused != 0 {
		return d.refuse(c, m.qos, m.pid, to.refused)
	}
	if m.retain && len(m.payload) > 0 && d.out.kept.fullFor(m.topic) {
		return d.refuse(c, m.qos, m.pid, packet.CodeQuotaExceeded)
	}
	switch m.qos {
	case 0:
		return d.publish0(c, m, to)
	case 1:
		return d.publish1(c, m, to)
	default:
		return d.publish2(c, m, to)
	}
}

func (d *Door) publish0(c *conn, m *message, to *routed) bool {
	b := d.place(c)
	if b == nil {
		return false
	}
	c.fill(&b.records[b.n], m, to, &b.values[b.n], false)
	b.add(tributary.Ticket{Owner: to, Tag: tag(kindQuiet, 0, 0) | retainFan(m)})
	return true
}

func (d *Door) publish1(c *conn, m *message, to *routed) bool {
	if m.dup && !d.appendTaken(c) {
		return false
	}
	b := d.place(c)
	if b == nil {
		return false
	}
	r := &b.records[b.n]
	c.fill(r, m, to, &b.values[b.n], true)
	p := d.recents.fingerprint(r)
	if m.dup {
		switch is, goesOn := d.again(c, p); {
		case !goesOn:
			return false
		case is:
			d.stat.resent.Add(1)
			c.send(packet.TypePuback<<4, 2, byte(m.pid>>8), byte(m.pid))
			return true
		}
	}
	b.prints[b.n] = p
	b.add(tributary.Ticket{Owner: to, Tag: tag(kindPuback, m.pid, 0) | retainFan(m)})
	return true
}

func (d *Door) publish2(c *conn, m *message, to *routed) bool {
	if c.hasKnown() {
		if done, goesOn := d.resent(c, m); done {
			return goesOn
		}
	}
	seq, was := d.q2.publish(c.id, m.pid, c.lasting, c)
	switch was {
	case q2Pending: // PUBREC comes when the first one is durable: what comes next must not be before it, if it will never be
		if !d.appendTaken(c) || !d.await(c) {
			return false
		}
		if !d.q2.knows(c.id, m.pid) {
			return d.publish2(c, m, to)
		}
		d.stat.resent.Add(1)
		return true
	case q2Durable:
		d.stat.resent.Add(1)
		if !d.appendTaken(c) || !d.hasCopies(c, m.pid) {
			return false
		}
		c.settle()
		c.send(packet.TypePubrec<<4, 2, byte(m.pid>>8), byte(m.pid))
		return true
	case q2OverWindow:
		_ = d.appendTaken(c) // what came before is no mistake
		d.stat.window.Add(1)
		c.stop(packet.CodeReceiveMaximum)
		return false
	case q2OverTotal:
		return d.refuse(c, m.qos, m.pid, packet.CodeQuotaExceeded)
	case q2None, q2Releasing:
	}
	t := tributary.Ticket{Owner: to, Tag: tag(kindPubrec, m.pid, seq) | retainFan(m)}
	b := d.place(c)
	if b == nil {
		d.withdrawOne(c, t.Tag)
		return false
	}
	if c.lasting {
		t.Tag |= tagLogged
	}
	c.fill(&b.records[b.n], m, to, &b.values[b.n], c.lasting)
	b.add(t)
	return true
}

// pubrel takes a PUBREL: like publish, for the second half of QoS 2.
func (d *Door) pubrel(c *conn, pid uint16) bool {
	seq, logged, was := d.q2.release(c.id, pid, c)
	switch {
	case was == q2None: // released before; MQTT 5, 3.7.2.1
		if c.v5 {
			c.send(packet.TypePubcomp<<4, 3, byte(pid>>8), byte(pid), packet.CodeUnknownPacketID)
		} else {
			c.send(packet.TypePubcomp<<4, 2, byte(pid>>8), byte(pid))
		}
		return true
	case was == q2Pending: // before its PUBREC: MQTT 5, 4.3.3
		_ = d.appendTaken(c)
		c.stop(packet.CodeProtocolError)
		return false
	case was == q2Releasing: // PUBCOMP comes when the first one is durable
		return true
	case !logged:
		c.free()
		c.send(packet.TypePubcomp<<4, 2, byte(pid>>8), byte(pid))
		return true
	}
	t := tributary.Ticket{Owner: c, Tag: tag(kindRelease, pid, seq)}
	b := d.place(c)
	if b == nil {
		d.withdrawOne(c, t.Tag)
		return false
	}
	b.release(pid, c.epoch(), c.id)
	b.add(t)
	return true
}

// endSession forgets the QoS 2 state of a client, and lets the log know; the epoch is
// that of its session, or 0, and known says that other gateways have such state. An
// error means that the log could not be told, so that a later process would
// take up the state again: the client must not start a session then.
func (d *Door) endSession(client string, epoch uint64, known bool) error {
	if !d.q2.drop(client) && !known {
		return nil
	}
	end := mark.Ending{Epoch: epoch, Client: client}
	r := controlRecord(keyClean, end.Append(nil))
	return d.append(&r, tributary.Ticket{Owner: cleanup{client}, Tag: tag(kindCleanup, 0, 0)})
}

// append puts a record into the log, and counts it as pending.
func (d *Door) append(r *record.Record, t tributary.Ticket) error {
	d.pending.Add(1)
	d.appended.Add(1)
	if _, err := d.opt.Log.Append(r, t); err != nil {
		d.pending.Add(-1)
		d.settle(1)
		return err
	}
	return nil
}

// failure returns the reason code for an error of the log.
func (d *Door) failure(err error) byte {
	if d.opt.IsFull(err) {
		return packet.CodeQuotaExceeded
	}
	return packet.CodeImplementation
}

// overWindow ends a connection with too much in flight, if that is why enter
// refused.
func (d *Door) overWindow(c *conn) bool {
	if c.v5 && !c.isStopping() {
		d.stat.window.Add(1)
	}
	return false
}

// refuse answers a message that was not logged. MQTT 5 has reason codes for
// it. In 3.1.1 an acknowledgement is the only answer, and it would be a lie:
// so the connection ends (3.3.5), and the device sends again. QoS 0 has no
// answer: the message is gone, and counted.
//
// A PUBREC with a reason code ends the exchange: the client uses the packet id
// for its next message. That must not happen while the log may hold the id, or
// the next message would be taken for this one, acknowledged and lost. So
// QoS 2 is refused that way only for want of room, and not after a group has
// failed; else its connection ends, too, and the client keeps the message.
func (d *Door) refuse(c *conn, qos byte, pid uint16, code byte) bool {
	d.stat.refused(code)
	if qos == 0 {
		return true
	}
	if !d.appendTaken(c) { // what came before is answered before
		return false
	}
	if !c.v5 || qos == 2 && (code != packet.CodeQuotaExceeded || d.failed.Load()) {
		c.stop(code)
		return false
	}
	c.settle()
	ack := byte(packet.TypePuback << 4)
	if qos == 2 {
		ack = packet.TypePubrec << 4
	}
	c.send(ack, 3, byte(pid>>8), byte(pid), code)
	return true
}

// wantFan returns tagFan when a local subscriber might want a message.
func (d *Door) wantFan() uint64 {
	if d.out.tree.Len() != 0 {
		return tagFan
	}
	return 0
}

// retainFan returns tagFan and tagRetain when a later subscriber might want a
// message, because it is to be retained.
func retainFan(m *message) uint64 {
	if m.retain {
		return tagFan | tagRetain
	}
	return 0
}

// controlRecord returns a record of the log's own, on the empty stream, without
// a time: the log's clock says. It may use the room for alarms: a device whose
// exchange or session cannot end in a full log could not come back to send its
// alarm. That room cannot be used up so, because each of them ends what an
// accepted message began.
func controlRecord(key string, value []byte) record.Record {
	return record.Record{Key: []byte(key), Value: value, Alarm: true}
}

func releaseValue(b []byte, pid uint16, epoch uint64, client string) []byte {
	end := mark.Ending{PacketID: pid, Epoch: epoch, Client: client}
	return end.Append(b)
}
