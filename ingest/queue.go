package ingest

import "time"

// The engine has a queue per subscriber, which a goroutine of its own empties
// into conn.Write. It drops what does not fit; a burst would lose messages to
// subscribers that read as fast as they can. So who fills the queue waits for
// room, which is a matter of scheduling, because conn.Write never blocks.
const (
	engineQueue   = 128
	queueRoom     = engineQueue - 28 // a little less: retained messages come from another goroutine
	queuePatience = 20 * time.Millisecond
)

// queueOne counts a message that the engine is about to queue, and waits for
// room first. The engine does not queue all it asks about, so the count may
// be too high; therefore the wait is short, and after it the queue counts as
// empty.
func (c *conn) queueOne() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queued++
	if c.queued < queueRoom {
		return
	}
	t := time.AfterFunc(queuePatience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.queued = 0
		c.cond.Broadcast()
	})
	defer t.Stop()
	for c.queued >= queueRoom && !c.stopping {
		c.cond.Wait()
	}
}

// unqueueOne counts a message that the engine has taken out of the queue.
func (c *conn) unqueueOne() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queued = max(0, c.queued-1)
	if c.queued == queueRoom-1 {
		c.cond.Broadcast()
	}
}
