package ingest

import (
	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/ingest/session"
)

// Committed is what the log calls, once per group and in the order of ledgers
// and LSNs, from one goroutine: tickets[i] belongs to the record base+i of the
// ledger, and all of them are now durable, or, when err is not nil, none of them
// is known to be.
// It keeps nothing of tickets and does not wait for any socket.
//
// Here is where acknowledgements come from (D1): those of one connection
// leave in one write, in the order of their messages.
func (d *Door) Committed(ledger tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
	var ours int64
	var fan uint64
	var logged [3]uint64
	if err != nil {
		d.recents.fail()
		d.failed.Store(true) // before any packet id of the group is free again
	}
	for i := range tickets {
		t := &tickets[i]
		switch owner := t.Owner.(type) {
		case *routed:
			if tagKind(t.Tag) != kindQuiet {
				d.settleOne(owner.conn, t.Tag, err)
			}
		case *conn:
			d.settleOne(owner, t.Tag, err)
		case cleanup:
			if err == nil {
				d.q2.cleaned(owner.client)
			}
		case *sending:
			d.sent(owner, err)
		case *Door:
		default:
			continue // a record of somebody else
		}
		ours++
		fan |= t.Tag
		if k := tagKind(t.Tag); k <= kindPubrec {
			logged[k]++
		}
	}
	if err == nil {
		next := base + tributary.LSN(len(tickets))
		if fan&tagFan != 0 {
			d.heard = hear(d.heard[:0], tickets)
			d.out.want(ledger, base, next, d.heard) // before advance: a snapshot must not be ahead of the delivery
		}
		d.q2.advance(ledger, next)
		for qos, n := range logged {
			d.stat.logged[qos].Add(n)
		}
	}
	for _, c := range d.dirty {
		c.deliver()
	}
	d.flusher.flush(d.dirty)
	clear(d.dirty)
	d.dirty = d.dirty[:0]
	d.settle(ours)
	d.pending.Add(-ours)
	select {
	case d.committed <- struct{}{}:
	default:
	}
}

// settleOne notes that a record of c is no longer pending.
func (d *Door) settleOne(c *conn, t uint64, err error) {
	d.touch(c)
	c.answered++
	if k := tagKind(t); k == kindNoted || k == kindReceived {
		c.noted++
	}
	if err != nil {
		d.giveUp(c, t)
	} else {
		d.answer(c, t)
	}
}

// touch puts a connection on the list of those to deliver to.
func (d *Door) touch(c *conn) {
	if !c.dirty {
		c.dirty = true
		d.dirty = append(d.dirty, c)
	}
}

// answer gathers the acknowledgement of a durable record.
func (d *Door) answer(c *conn, t uint64) {
	pid, seq := uint16(t), uint32(t>>32)
	switch tagKind(t) {
	case kindPuback:
		c.acks = append(c.acks, packet.TypePuback<<4, 2, byte(pid>>8), byte(pid))
		c.freed++
	case kindPubrec:
		if to := d.q2.published(c.id, pid, seq, t&tagLogged != 0); to != nil {
			d.touch(to)
			to.acks = append(to.acks, packet.TypePubrec<<4, 2, byte(pid>>8), byte(pid))
		}
	case kindReceived:
		c.sub.Noted(&session.Delivery{PacketID: pid, Release: true})
		c.acks = packet.AppendAck(c.acks, packet.TypePubrel, pid, 0, c.version)
	case kindRelease:
		to := d.q2.released(c.id, pid, seq)
		if to == nil {
			to = c
		}
		d.touch(to)
		to.acks = append(to.acks, packet.TypePubcomp<<4, 2, byte(pid>>8), byte(pid))
		to.freed++
	}
}

// giveUp deals with a record of a group that failed: it may or may not be
// found when the log is recovered (D2). A QoS 1 client is told so, where
// MQTT 5 lets us. QoS 2 would be sent anew after a refusal, so there, and in
// 3.1.1, the connection ends: the client sends the same again, to a log that
// knows what it has.
func (d *Door) giveUp(c *conn, t uint64) {
	pid, seq := uint16(t), uint32(t>>32)
	if tagKind(t) < kindNoted {
		d.stat.failed.Add(1)
	}
	switch tagKind(t) {
	case kindPuback:
		if c.v5 {
			c.acks = append(c.acks, packet.TypePuback<<4, 3, byte(pid>>8), byte(pid), packet.CodeImplementation)
			c.freed++
			return
		}
	case kindPubrec:
		d.q2.unpublish(c.id, pid, seq)
	case kindRelease:
		d.q2.unrelease(c.id, pid, seq)
	}
	c.stop(packet.CodeImplementation)
}
