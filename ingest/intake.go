package ingest

import (
	"sync"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/log/record"
)

// intakeRecords is how many records of one connection go to the log together, at
// most.
const intakeRecords = 32

// An intake is what a reader has taken from its connection and not appended yet.
// What one read brings goes to the log together: one lock, one look at the window,
// and one at each counter, instead of one for each message. It holds slices of the
// reader's input, so it is appended before there is more of that, and before anything
// that must come behind it: see appendTaken.
type intake struct {
	n       int
	records [intakeRecords]record.Record
	tickets [intakeRecords]tributary.Ticket
	prints  [intakeRecords]fingerprint // of QoS 1
	values  [intakeRecords]values      // of headers
	control []byte                     // keys and values of control records

	received [3]uint64 // counts for the statistics
	bytes    uint64
}

// intakes are for readers that have taken something.
//
//nolint:gochecknoglobals // a pool is global by nature
var intakes = sync.Pool{New: func() any { return new(intake) }}

// taking returns the intake of c, for its reader.
func (c *conn) taking() *intake {
	if c.taken == nil {
		c.taken = intakes.Get().(*intake)
	}
	return c.taken
}

// place returns an intake with room for another record, at its index n. It may
// append what was taken before; nil means that the reader is to stop.
func (d *Door) place(c *conn) *intake {
	if c.taking().n == intakeRecords && !d.appendTaken(c) {
		return nil
	}
	return c.taking()
}

// add makes what was put into the place at n a part of the intake.
func (b *intake) add(t tributary.Ticket) {
	b.tickets[b.n] = t
	b.n++
}

// release puts the record of a PUBREL into the place at n.
func (b *intake) release(pid uint16, epoch uint64, client string) {
	at := len(b.control)
	b.control = append(b.control, keyRelease...)
	value := len(b.control)
	b.control = releaseValue(b.control, pid, epoch, client)
	r := &b.records[b.n]
	*r = record.Record{Key: b.control[at:value:value], Value: b.control[value:], Headers: r.Headers[:0], Alarm: true}
}

// appendTaken takes to the log what was taken from c, in order, and so what comes
// next comes behind it. It is called on the reader, and may block. It returns false
// when the reader is to stop; then none of what it has not appended will be.
func (d *Door) appendTaken(c *conn) bool {
	b := c.taken
	if b == nil {
		return true
	}
	c.taken = nil
	d.stat.took(b)
	ok := d.appendIntake(c, b)
	b.n, b.control = 0, b.control[:0]
	intakes.Put(b)
	return ok
}

func (d *Door) appendIntake(c *conn, b *intake) bool {
	for at := 0; at < b.n; {
		admitted := c.enter(b.tickets[at:b.n])
		if admitted == 0 {
			d.withdraw(c, b.tickets[at:b.n])
			return d.overWindow(c)
		}
		done, err := d.appendSome(c, b, at, at+admitted)
		if err == nil {
			at += done
			continue
		}
		c.leave(b.tickets[at+done : at+admitted])
		at += done
		if !d.notAppended(c, b.tickets[at].Tag, err) {
			d.withdraw(c, b.tickets[at+1:b.n])
			return false
		}
		at++
	}
	return true
}

// appendSome appends records of b that have places in the window, as far as the log
// takes them, and returns how many those are.
func (d *Door) appendSome(c *conn, b *intake, from, to int) (int, error) {
	n := int64(to - from)
	d.pending.Add(n)
	seq := d.appended.Add(n)
	if fan := d.wantFan(); fan != 0 {
		for i := from; i < to; i++ {
			b.tickets[i].Tag |= fan
		}
	}
	d.recents.renew(c.recent)
	ledger, done, err := d.opt.Log.AppendAll(c.ledger, b.records[from:to], b.tickets[from:to])
	c.ledger = ledger
	if rest := n - int64(done); rest > 0 {
		d.pending.Add(-rest)
		d.settle(rest)
	}
	if d.recents.valid(c.recent) { // or a group may have failed by now
		for i := from; i < from+done; i++ {
			if tagKind(b.tickets[i].Tag) == kindPuback {
				c.recent.add(b.prints[i], seq)
			}
		}
	}
	return done, err
}

// notAppended answers a record that the log has not taken. It returns false when
// the reader is to stop.
func (d *Door) notAppended(c *conn, t uint64, err error) bool {
	d.withdrawOne(c, t)
	code := d.failure(err)
	switch tagKind(t) {
	case kindRelease: // PUBCOMP has no code for it: the client must come back and release again
		c.stop(code)
		return false
	case kindPuback:
		return d.refuse(c, 1, uint16(t), code)
	case kindPubrec:
		return d.refuse(c, 2, uint16(t), code)
	default:
		return d.refuse(c, 0, 0, code)
	}
}

// withdraw undoes what was done for records that are not appended.
func (d *Door) withdraw(c *conn, tickets []tributary.Ticket) {
	for i := range tickets {
		d.withdrawOne(c, tickets[i].Tag)
	}
}

func (d *Door) withdrawOne(c *conn, t uint64) {
	pid, seq := uint16(t), uint32(t>>32)
	switch tagKind(t) {
	case kindPubrec:
		d.q2.unpublish(c.id, pid, seq)
	case kindRelease:
		d.q2.unrelease(c.id, pid, seq)
	}
}

// enter takes places in the window for QoS 1 and 2 messages, and returns for how
// many of the tickets, from the first on, it has them. If that is none, the reader is
// to stop: nothing is taken from a connection that is. While something is pending, what
// comes next goes to the same ledger, or nowhere: if that one ends, what is pending is
// sent again, and must not come behind it. Above the receive maximum, that is the client's mistake with MQTT 5
// (3.3.4); MQTT 3.1.1 has no such rule, so there enter waits.
func (c *conn) enter(tickets []tributary.Ticket) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return 0
	}
	if c.open == 0 {
		c.ledger = tributary.LedgerID{}
	}
	for ; n < len(tickets); n++ {
		k := tagKind(tickets[n].Tag)
		if k == kindPuback || k == kindPubrec {
			if !c.enterOne(n == 0) {
				return n
			}
		}
		if k != kindQuiet {
			c.open++
		}
	}
	return n
}

// enterOne takes one place, waiting for it if it may. Called with mu held.
func (c *conn) enterOne(wait bool) bool {
	if c.v5 {
		if c.quota >= c.max {
			if wait {
				c.setCode(packet.CodeReceiveMaximum)
			}
			return false
		}
		c.quota++
		return true
	}
	for wait && c.open-c.noting >= c.max && !c.stopping {
		c.cond.Wait()
	}
	return !c.stopping && c.open-c.noting < c.max
}

// leave gives back what enter took for records that were not appended.
func (c *conn) leave(tickets []tributary.Ticket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range tickets {
		k := tagKind(tickets[i].Tag)
		if k == kindPuback || k == kindPubrec {
			c.quota = max(0, c.quota-1)
		}
		if k != kindQuiet {
			c.open--
		}
	}
	c.cond.Broadcast()
}
