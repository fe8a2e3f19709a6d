package session

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/topic"
	"github.com/tributary-edge/tributary/log/record"
)

// A client is a device, and what the node does for its connection.
type client struct {
	w         *world
	id        string
	s         *Session
	connected bool
	lasting   bool
	window    int
	open      int      // publishes on this connection that are not acknowledged
	out       []packet // to the client
	in        []packet // from the client
	filters   map[string]byte
	dropped   int // messages of this session, replays counted again

	// overflowed says that messages were dropped while others, older ones, were in
	// flight. A replay does not know which were in flight, and drops those: then
	// what is lost is not what was lost, but there is no more of it, and it is counted.
	// What was dropped never comes behind what is newer.
	overflowed bool

	promised map[string]bool   // what it must get in this session
	got      map[string]bool   // what it has got in this session
	once     map[string]bool   // of that, what was QoS 2
	held     map[uint16]string // packet ids of QoS 2 that are not released
	noted    map[string]bool   // of these the PUBREC is durable
	latest   map[course]int    // how far in a log it has got
}

// A course is what comes in order: by QoS, what this node or another one has written.
type course struct {
	qos   byte
	other tributary.LedgerID
}

type packet struct {
	Delivery
	puback, pubrec, pubcomp bool
	event                   int // is durable before the packet is sent
}

// fresh makes it a client that knows of no session.
func (c *client) fresh() {
	c.promised, c.got, c.once, c.held = map[string]bool{}, map[string]bool{}, map[string]bool{}, map[uint16]string{}
	c.filters, c.dropped, c.overflowed = map[string]byte{}, 0, false
	c.latest, c.noted = map[course]int{}, map[string]bool{}
}

// lose is what a broken connection does.
func (c *client) lose() {
	c.connected, c.out, c.in, c.open = false, nil, nil, 0
	if !c.lasting {
		c.fresh()
	}
}

func (c *client) toggle() {
	w := c.w
	if c.connected {
		c.s.Detach(w.now)
		if !c.lasting {
			w.st.Drop(c.id)
		}
		c.lose()
		return
	}
	s, present, old, err := w.st.Open(c.id, "user", w.rng.IntN(10) == 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if old != nil {
		w.event(old.EndedEvent())
	}
	if !present {
		c.fresh()
		c.lasting = w.rng.IntN(4) > 0
	}
	expiry := []uint32{Never, 3600, 3}[w.rng.IntN(3)]
	s.SetExpiry(expiry, c.lasting)
	w.event(s.OpenedEvent())
	s.SetWill([]*Will{nil, {Topic: fmt.Sprint("will ", len(w.log))}}[w.rng.IntN(2)])
	w.event(s.WillEvent())
	c.s, c.connected, c.window = s, true, 1+w.rng.IntN(6)
	if w.rng.IntN(2) == 0 {
		s.next, s.clear = 1+uint16(w.rng.IntN(8)), 0 // as if 65,535 ids had gone by
	}
	s.Attach(c.window)
}

// subscribe subscribes or unsubscribes, at a moment when all is delivered, so
// that it is known what is promised.
func (c *client) subscribe() {
	if !c.connected {
		return
	}
	w := c.w
	w.durable = len(w.log)
	w.deliver(w.durable)
	filter := fmt.Sprint("t", w.rng.IntN(3))
	if _, has := c.filters[filter]; has && w.rng.IntN(2) == 0 {
		delete(c.filters, filter)
		if !c.s.Unsubscribe(filter) {
			w.t.Errorf("%s: had not subscribed to %s", c.id, filter)
		}
		w.event(c.s.UnsubscribedEvent(filter))
		return
	}
	sub := topic.Subscription{Filter: filter, QoS: 1 + byte(w.rng.IntN(2)), ID: uint32(w.rng.IntN(3))}
	if _, err := c.s.Subscribe(sub); err != nil {
		w.t.Fatal(err)
	}
	w.event(c.s.SubscribedEvent(sub))
	w.deliver(w.durable)
	c.filters[filter] = sub.QoS
}

// retained offers a retained message: a copy.
func (c *client) retained() {
	if !c.connected {
		return
	}
	c.w.copies++
	n := c.s.Offer(Message{
		Ledger: c.w.ledgers[0], LSN: tributary.LSN(1e6 + c.w.copies), QoS: 1 + byte(c.w.rng.IntN(2)), Retain: true,
		Copy: &record.Entry{Offset: c.w.copies, Record: record.Record{Value: []byte("v")}},
	})
	c.dropped += n
}

// pump takes what is due.
func (c *client) pump(n int) {
	if !c.connected {
		return
	}
	for range n {
		d, ok := c.s.Take()
		if !ok {
			return
		}
		if d.QoS == 2 && (d.Event != nil && !c.lasting || d.Event == nil && c.lasting && !d.Dup && !d.Release) {
			c.w.t.Errorf("%s: lasting %v, event % x of %+v", c.id, c.lasting, d.Event, d)
		}
		c.out = append(c.out, packet{Delivery: d, event: c.event(d.Event)})
	}
}

func (c *client) event(event []byte) int {
	if event == nil {
		return -1
	}
	return c.w.append("", event)
}

// receive lets the client have what was sent, in its order.
func (c *client) receive(n int) {
	for ; n > 0 && len(c.out) > 0 && c.out[0].event < c.w.durable; n-- {
		p := c.out[0]
		c.out = c.out[1:]
		if p.Event != nil {
			c.s.Noted(&p.Delivery)
		}
		if p.Drop {
			continue
		}
		if p.Release {
			if what, holds := c.held[p.PacketID]; holds && c.lasting {
				c.noted[what] = true
			}
			delete(c.held, p.PacketID)
			c.in = append(c.in, packet{Delivery: p.Delivery, pubcomp: true})
			continue
		}
		c.publish(p)
		c.open++
		if c.open > c.window {
			c.w.t.Errorf("%s: %d messages in a window of %d", c.id, c.open, c.window)
		}
	}
}

func (c *client) publish(p packet) {
	t := c.w.t
	what := fmt.Sprint(p.Ledger, "@", p.LSN, p.Copy != nil)
	if (p.Copy != nil) != p.Retain || p.Copy != nil && (string(p.Copy.Value) != "v" || p.Copy.Offset != int64(p.LSN-1e6)) {
		t.Errorf("%s: a copy that is none: %+v", c.id, p.Delivery)
	}
	held, holds := c.held[p.PacketID]
	switch {
	case p.QoS == 1:
		c.in = append(c.in, packet{Delivery: p.Delivery, puback: true})
	case holds && (held != what || !p.Dup):
		t.Errorf("%s: %s with the id of %s, DUP %v: the client would drop it", c.id, what, held, p.Dup)
	case !holds && c.once[what]:
		t.Errorf("%s: %s of QoS 2 came twice", c.id, what)
	case p.QoS == 2:
		c.held[p.PacketID], c.once[what] = what, true
		fallthrough
	default:
		c.in = append(c.in, packet{Delivery: p.Delivery, pubrec: true})
	}
	if holds && p.QoS == 1 {
		t.Errorf("%s: %s of QoS 1 has an id that is in use", c.id, what)
	}
	of, place := c.w.find(p.Message)
	early := of.other != (tributary.LedgerID{}) && c.w.crashes > 0 // docs/format/session.md: what a replay cannot know
	if p.Copy == nil && !c.promised[what] && !early {
		t.Errorf("%s: %s was published before it had subscribed, or after", c.id, what)
	}
	if p.Copy == nil && !c.got[what] {
		if place <= c.latest[of] {
			t.Errorf("%s: %s of QoS %d is out of order", c.id, what, p.QoS)
		}
		c.latest[of] = place
	}
	c.got[what] = true
}

// find returns where in which log a message is.
func (w *world) find(m Message) (course, int) {
	for _, o := range w.others {
		if o.id == m.Ledger {
			return course{m.QoS, o.id}, 1 + int(m.LSN)
		}
	}
	return course{qos: m.QoS}, 1 + slices.IndexFunc(w.log, func(e logged) bool { return e.ledger == m.Ledger && e.lsn == m.LSN })
}

// acknowledge gives the node what the client has answered.
func (c *client) acknowledge(n int) {
	for ; n > 0 && len(c.in) > 0; n-- {
		p := c.in[0]
		c.in = c.in[1:]
		known := true
		var event []byte
		switch {
		case p.puback:
			known = c.s.Puback(p.PacketID)
			c.open--
		case p.pubrec:
			known, event = c.s.Pubrec(p.PacketID, false)
			c.out = append(c.out, packet{Delivery: Delivery{PacketID: p.PacketID, Release: true, Event: event}, event: c.event(event)})
		case p.pubcomp:
			known = c.s.Pubcomp(p.PacketID)
			c.open = max(c.open-1, 0) // it may be of an earlier connection's
		}
		if !known {
			c.w.t.Errorf("%s: the node does not know %+v", c.id, p)
		}
	}
}

// missing looks for promised messages that did not come.
func (c *client) missing() {
	var lost []string
	for what := range c.promised {
		if !c.got[what] {
			lost = append(lost, what)
		}
	}
	if len(lost) > c.dropped {
		slices.SortFunc(lost, cmp.Compare)
		c.w.t.Errorf("%s: %d promised, %d dropped, %d missing: %v", c.id, len(c.promised), c.dropped, len(lost), lost)
	}
}
