package model

import (
	"slices"
	"time"
)

// A device publishes, keeps a window of unacknowledged messages, sends them
// all again in order when it connects, and walks from node to node. What it
// leaves behind is half open: the old node may still read what is on its way.
type device struct {
	w      *world
	id     int
	at     int  // the node it is connected to
	pinned bool // by a script: it does not choose another node by itself

	next     int   // the next publish
	inflight []int // not acknowledged, in order
	acked    []ack
	conn     *conn
	conns    int
	ready    bool          // CONNACK has come
	progress time.Duration // when something last came
	orphan   time.Duration // since when the node has forgotten it; 0: it has not

	commands []int // as they came
}

// A conn is a TCP connection: each direction keeps its order.
type conn struct {
	id       int
	device   int
	node     *node
	run      int // of the node's process, once that has read something
	up, down time.Duration
}

const deviceTimeout = 1500 * ms

func (d *device) toNode(c *conn, do func(n *node)) {
	w := d.w
	arrives := max(c.up, w.now+w.between(1*ms, 5*ms))
	if w.faulty && w.chance(w.Rates.Spike/2) {
		arrives += w.between(50*ms, 800*ms)
	}
	c.up = arrives
	w.after(arrives-w.now, func() {
		n := c.node
		if !n.up {
			return
		}
		if c.run == 0 {
			c.run = n.run
		}
		if c.run == n.run {
			do(n)
		}
	})
}

func (n *node) toDevice(c *conn, do func(d *device)) {
	w := n.w
	arrives := max(c.down, w.now+w.between(1*ms, 5*ms))
	c.down = arrives
	w.after(arrives-w.now, func() {
		if d := w.devices[c.device]; d.conn == c {
			do(d)
		}
	})
}

func (d *device) connect(to int) {
	w := d.w
	d.conns++
	d.at, d.ready, d.progress = to, false, w.now
	c := &conn{id: d.conns, device: d.id, node: w.nodes[to]}
	d.conn = c
	w.counts.Connects++
	d.toNode(c, func(n *node) { n.hearConnect(c) })
}

// other chooses a node; moved says that it must not be the present one.
func (d *device) other(moved bool) int {
	w := d.w
	if d.pinned {
		return d.at
	}
	for range 20 {
		i := w.rng.IntN(len(w.nodes))
		if !moved || i != d.at || len(w.nodes) == 1 {
			return i
		}
	}
	return d.at
}

// loop is what a device does every now and then.
func (d *device) loop() {
	w := d.w
	defer w.after(w.between(10*ms, 60*ms), d.loop)
	switch {
	case d.conn == nil:
		d.connect(d.other(false))
		return
	case w.faulty && !d.pinned && w.chance(w.Rates.Move/30):
		w.counts.Moves++
		d.connect(d.other(true))
		return
	case !d.ready || len(d.inflight) > 0:
		if w.now-d.progress > deviceTimeout {
			w.counts.Timeouts++
			d.connect(d.other(w.chance(0.6)))
			return
		}
	default:
		d.progress = w.now
	}
	if !d.ready || d.forgotten() {
		return
	}
	if w.faulty && len(d.inflight) < w.Window {
		seq := d.next
		d.next++
		d.inflight = append(d.inflight, seq)
		d.publish(seq)
	}
}

// forgotten says whether the keep-alive has run out, and then connects anew.
func (d *device) forgotten() bool {
	w, c := d.w, d.conn
	if s := c.node.sessionOf(d.id); c.node.up && c.run == c.node.run && s != nil && s.conn == c {
		d.orphan = 0
		return false
	}
	if d.orphan == 0 {
		d.orphan = w.now
	}
	if w.now-d.orphan <= deviceTimeout {
		return false
	}
	d.orphan = 0
	d.connect(d.other(w.chance(0.6)))
	return true
}

func (d *device) publish(seq int) {
	c := d.conn
	d.toNode(c, func(n *node) { n.hearPublish(c, seq) })
}

// hearConnack sends again whatever was not acknowledged, in order.
func (d *device) hearConnack() {
	d.ready, d.progress = true, d.w.now
	d.w.counts.Resends += len(d.inflight)
	for _, seq := range d.inflight {
		d.publish(seq)
	}
}

func (d *device) hearAck(a ack) {
	d.progress = d.w.now
	if i := slices.Index(d.inflight, a.seq); i >= 0 { // else it has had an acknowledgement of this message
		d.inflight = append(d.inflight[:i:i], d.inflight[i+1:]...)
		d.acked = append(d.acked, a)
	}
}

func (d *device) hearCommand(offset int) {
	d.commands = append(d.commands, offset)
	c := d.conn
	d.toNode(c, func(n *node) {
		if s := n.sessionOf(d.id); s != nil && s.conn == c {
			n.commandAcked(s, offset)
		}
	})
}
