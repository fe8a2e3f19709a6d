package replica

import (
	"context"
	"sync"
	"time"
)

// A Pace bounds how many bytes of copies leave this node in a second. What devices
// wait for goes first. The zero Pace, and nil, have no bound. Its methods may be called from
// many goroutines at once.
type Pace struct {
	BytesPerSecond int64 // 0: no bound

	mu   sync.Mutex
	free time.Time // when all that was sent has had its time
}

// burst is how much time is given at once, after a pause.
const burst = 250 * time.Millisecond

// Urgent notes that so many bytes are sent, and returns when it is their turn, or
// with ctx's error.
func (p *Pace) Urgent(ctx context.Context, bytes int) error {
	wait := p.spend(bytes)
	if wait <= 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Delay returns how long what nobody waits for has to wait: until all that was sent
// has had its time.
func (p *Pace) Delay() time.Duration {
	if p == nil || p.BytesPerSecond <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, time.Until(p.free))
}

// Spent notes that so many bytes were sent after Delay said 0.
func (p *Pace) Spent(bytes int) { p.spend(bytes) }

// spend notes bytes, and returns how long they have to wait.
func (p *Pace) spend(bytes int) (wait time.Duration) {
	if p == nil || p.BytesPerSecond <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if early := now.Add(-burst); p.free.Before(early) {
		p.free = early
	}
	wait = p.free.Sub(now)
	p.free = p.free.Add(time.Duration(float64(bytes) / float64(p.BytesPerSecond) * float64(time.Second)))
	return wait
}

// part returns how much is sent at a time of what nobody waits for.
func (p *Pace) part() int {
	if p == nil || p.BytesPerSecond <= 0 {
		return batchBytes
	}
	return int(min(batchBytes, max(1, p.BytesPerSecond/4)))
}
