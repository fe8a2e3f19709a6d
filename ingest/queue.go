package ingest

import "time"

// The engine has a queue per subscriber, which a goroutine of its own empties
// into conn.Write. It drops what does not fit; a burst would lose messages to
// subscribers that read as fast as they can. So who fills the queue waits for
// room, which is a matter of scheduling, because conn.Write never blocks.
const (
	engineQueue   = 128
	queueRoom     = engineQueue - 28 // a little less: retained messages come from another goroutine
	queuePatience = 200 * time.Millisecond
)

// queueOne counts a message that the engine is about to queue, and waits for
// room first. The engine does not queue all it asks about, so the count may
// be too high, for a subscriber with unanswered QoS 1 or 2 messages; therefore
// the wait ends, and is not repeated until the engine takes a message out.
func (c *conn) queueOne() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queued++
	if c.queued < queueRoom || c.miscounted {
		return
	}
	t := time.AfterFunc(queuePatience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.queued, c.miscounted = 0, true
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
	c.queued, c.miscounted = max(0, c.queued-1), false
	if c.queued == queueRoom-1 {
		c.cond.Broadcast()
	}
}
