package auth

import (
	"context"
	"sync"
	"time"
)

const (
	checksAtOnce   = 2                // argon2id takes 19 MiB and a core for each
	maxWaiting     = 128              // more would not be served in longestWait on a slow machine
	maxWaitingFrom = maxWaiting / 4   // one address cannot keep all others out
	longestWait    = 10 * time.Second // then the client has given up as well
)

// Checks are the password checks that run and wait. Each takes memory, and time in
// which whoever tries passwords is not to be in the way of others; the processor is
// for the gate to give.
type checks struct {
	slots chan struct{}

	mu      sync.Mutex // guards what follows
	waiting int
	from    map[string]int // of waiting, by address
}

func newChecks() *checks {
	return &checks{slots: make(chan struct{}, checksAtOnce), from: map[string]int{}}
}

// enter returns nil when a check may run; leave ends it.
func (c *checks) enter(ctx context.Context, remote string) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	if !c.queue(remote) {
		return refuse(Busy, "too many password checks wait already")
	}
	defer c.unqueue(remote)
	timer := time.NewTimer(longestWait)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return refuse(Busy, "waited %v for a password check", longestWait)
	case <-ctx.Done():
		return refuse(Busy, "the client or the server ended while a password check waited")
	}
}

func (c *checks) leave() { <-c.slots }

func (c *checks) queue(remote string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting >= maxWaiting || c.from[remote] >= maxWaitingFrom {
		return false
	}
	c.waiting++
	c.from[remote]++
	return true
}

func (c *checks) unqueue(remote string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting--
	if c.from[remote]--; c.from[remote] == 0 {
		delete(c.from, remote)
	}
}
