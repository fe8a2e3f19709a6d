package ingest

import "sync"

// barriers are what waits until everything is durable that was appended before.
type barriers struct {
	mu   sync.Mutex // guards wait; nothing that waits for a lock of the door is called under it
	wait []barrier  // ascending
}

type barrier struct {
	target int64 // of Door.settled
	pass   func()
}

// behindAll has the delivery call f behind all messages that were appended before.
func (d *Door) behindAll(f func()) { d.onceSettled(func() { d.out.do(f) }) }

// onceSettled calls pass, which does not wait, when everything is durable, or has
// failed, that was appended before.
func (d *Door) onceSettled(pass func()) {
	d.barriers.mu.Lock()
	defer d.barriers.mu.Unlock()
	target := d.appended.Load()
	if len(d.barriers.wait) == 0 && d.settled.Load() >= target { // else settle is on its way here, and those who came first are first
		pass()
		return
	}
	d.barriers.wait = append(d.barriers.wait, barrier{target, pass})
}

// await returns true when everything is durable, or has failed, that was appended
// before by anybody, and false at once when the connection is to stop. It is for
// the reader of c.
func (d *Door) await(c *conn) bool {
	c.enterNote()
	d.onceSettled(c.leaveNote)
	return c.settle()
}

// settle counts records that are durable and handed to the delivery, or never will
// be, and lets pass what waited for them. Records settle in their order.
func (d *Door) settle(n int64) {
	now := d.settled.Add(n)
	d.barriers.mu.Lock()
	defer d.barriers.mu.Unlock()
	for len(d.barriers.wait) > 0 && d.barriers.wait[0].target <= now {
		d.barriers.wait[0].pass()
		d.barriers.wait = d.barriers.wait[1:]
	}
}
