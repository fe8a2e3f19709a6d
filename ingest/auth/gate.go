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

// A gate lets few password checks run at once.
type gate struct {
	slots chan struct{}

	mu      sync.Mutex // guards what follows
	waiting int
	from    map[string]int // of waiting, by address
}

func newGate() *gate {
	return &gate{slots: make(chan struct{}, checksAtOnce), from: map[string]int{}}
}

// enter returns nil when a check may run; leave ends it.
func (g *gate) enter(ctx context.Context, remote string) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	if !g.queue(remote) {
		return refuse(Busy, "too many password checks wait already")
	}
	defer g.unqueue(remote)
	timer := time.NewTimer(longestWait)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return refuse(Busy, "waited %v for a password check", longestWait)
	case <-ctx.Done():
		return refuse(Busy, "the client or the server ended while a password check waited")
	}
}

func (g *gate) leave() { <-g.slots }

func (g *gate) queue(remote string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting >= maxWaiting || g.from[remote] >= maxWaitingFrom {
		return false
	}
	g.waiting++
	g.from[remote]++
	return true
}

func (g *gate) unqueue(remote string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if g.from[remote]--; g.from[remote] == 0 {
		delete(g.from, remote)
	}
}
