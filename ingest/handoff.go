package ingest

import (
	"context"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/log/mark"
)

// A Handoff makes sure that a client is at no other gateway any more, and finds out
// what those have of it.
type Handoff interface {
	// Take is called for each client that has connected, after its authentication and
	// before its CONNACK, by many connections at once. When it returns, nobody else
	// takes anything of the client any more, and the log has what must be there before
	// anything of it. An error refuses the client, which comes again.
	Take(ctx context.Context, client string) (Arrival, error)
}

// An Arrival is what other gateways have of a client that has connected.
type Arrival struct {
	Epoch    uint64       // of the session: its records carry it, if it is not 0
	Flags    mark.Flags   // that all of them carry
	Doubtful bool         // a gateway did not answer: a QoS 2 message that is sent again may be there twice
	Known    []mark.Known // QoS 2 messages that others, or earlier processes, took, and the client has not released
	Gone     []mark.Gone  // packet ids that this gateway took, and that were released, or used anew, at another one
	// Decide says whether a Known message is to be taken again, because nobody has it any
	// more; if not, it is safe. It waits until that is known, or returns ctx's error.
	Decide func(ctx context.Context, k *mark.Known) (again bool, err error)
}

// An arrived is the hand-off of a connection.
type arrived struct {
	Arrival

	ctx    context.Context //nolint:containedctx // ends when the connection is to stop
	cancel context.CancelFunc
	known  map[uint16]mark.Known // that the client has not sent again
	count  uint64                // records of this session
}

var errNoHandoff = &packet.Error{Code: packet.CodeServerBusy, Packet: "CONNECT", What: "the other gateways of the site could not be asked"}

// handOff gets the client of c from the gateway where it was, if this one is not
// alone. It is called on the connection's reader.
func (d *Door) handOff(c *conn) error {
	if d.opt.Handoff == nil {
		return nil
	}
	a := &arrived{}
	a.ctx, a.cancel = context.WithCancel(d.ctx)
	c.mu.Lock()
	c.moving = a.cancel
	stopping := c.stopping
	c.mu.Unlock()
	if stopping {
		return errStopped
	}
	var err error
	if a.Arrival, err = d.opt.Handoff.Take(a.ctx, c.id); err != nil {
		if a.ctx.Err() != nil {
			return errStopped
		}
		d.opt.Logger.Info("a client has to come again", "client", c.id, "reason", err)
		return errNoHandoff
	}
	for _, k := range a.Known {
		if a.known == nil {
			a.known = map[uint16]mark.Known{}
		}
		a.known[k.PacketID] = k
	}
	c.arrived = a
	return nil
}

// endMove frees what handOff has begun.
func (c *conn) endMove() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moving != nil {
		c.moving()
	}
}

// epoch returns the epoch of the session, or 0.
func (c *conn) epoch() uint64 {
	if c.arrived == nil {
		return 0
	}
	return c.arrived.Epoch
}

// adopt takes up the packet ids that the client has not released: those of this
// gateway that were released elsewhere end, and those of others begin.
func (d *Door) adopt(c *conn) {
	if c.arrived == nil {
		return
	}
	for _, g := range c.arrived.Gone {
		if !d.q2.lose(c.id, g.PacketID) {
			continue
		}
		// Not with the epoch of this session: what a later one took under the id is not over.
		r := controlRecord(keyRelease, releaseValue(nil, g.PacketID, g.Epoch, c.id))
		if err := d.append(&r, tributary.Ticket{Owner: d, Tag: tag(kindNoted, 0, 0)}); err != nil {
			d.opt.Logger.Warn("the end of a QoS 2 packet id could not be logged; it may be known again after a restart", "client", c.id, "error", err)
		}
	}
	for id, k := range c.arrived.known {
		if !k.Here { // what this gateway took it knows
			d.q2.adopt(c.id, id)
		}
	}
}

// hasKnown says whether other gateways have packet ids of the client.
func (c *conn) hasKnown() bool { return c.arrived != nil && len(c.arrived.known) > 0 }

// resent deals with a QoS 2 message under a packet id that another gateway took. done is
// false if it is to be taken: it is another message, or nobody has it any more. Until
// that is decided the session handles nothing newer (R47).
func (d *Door) resent(c *conn, m *message) (done, goesOn bool) {
	a := c.arrived
	k, is := a.known[m.pid]
	if !is || k.Here {
		return false, true
	}
	delete(a.known, m.pid)
	again := true
	if !d.appendTaken(c) { // what came before does not wait for the answer
		return true, false
	}
	if m.dup && k.Sum == mark.Sum(m.topic, m.payload) {
		var err error
		if again, err = a.Decide(a.ctx, &k); err != nil {
			return true, false
		}
		m.twice = again
	}
	if again {
		d.q2.lose(c.id, m.pid)
		return false, true
	}
	d.stat.resent.Add(1)
	c.settle()
	c.send(packet.TypePubrec<<4, 2, byte(m.pid>>8), byte(m.pid))
	return true, true
}

// hasCopies waits until a message may be acknowledged that is sent again and is in the log
// here, if it was taken before this process: nobody has counted its copies (R11). It
// returns false when the reader is to stop.
func (d *Door) hasCopies(c *conn, pid uint16) bool {
	if !c.hasKnown() {
		return true
	}
	k := c.arrived.known[pid]
	if !k.Here {
		return true
	}
	if _, err := c.arrived.Decide(c.arrived.ctx, &k); err != nil {
		return false
	}
	delete(c.arrived.known, pid)
	return true
}

// stampOf appends the stamp of the next record of the session to b; nil: it has none.
func (c *conn) stampOf(m *message, b []byte) []byte {
	a := c.arrived
	if a == nil || a.Epoch == 0 {
		return nil
	}
	a.count++
	s := mark.Stamp{Flags: a.Flags, Epoch: a.Epoch, N: a.count}
	if m.twice || m.qos == 2 && m.dup && a.Doubtful {
		s.Flags |= mark.TwicePossible
	}
	return s.Append(b)
}

// Yield ends the connections of clients that another gateway lets in. It returns nil
// when nothing more is taken from them, or else ctx's error. It may be called at any
// time.
func (d *Door) Yield(ctx context.Context, clients []string) error {
	var all []*conn
	d.mu.Lock()
	for _, id := range clients {
		if c := d.owners[id]; c != nil {
			all = append(all, c)
		}
	}
	d.mu.Unlock()
	for _, c := range all {
		c.stop(packet.CodeTakenOver)
	}
	for _, c := range all {
		select {
		case <-c.stopped:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
