package uplink

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Link is the way to Kafka of a node: it counts what goes over it, with TLS and the
// requests' own bytes and without those of TCP, and can bound what is sent in a second.
// The zero Link counts. Its methods may be called from many goroutines at once.
type Link struct {
	BytesPerSecond int // that are sent; 0: no bound. It does not change

	sent, received atomic.Uint64

	mu   sync.Mutex
	free time.Time // when all that was sent has had its time
}

// LeastBandwidth is what BytesPerSecond must be at least: with less, the smallest
// transaction would take longer than Kafka waits for it.
const LeastBandwidth = 16 << 10

// linkBurst is how much time is given at once, after a pause.
const linkBurst = 250 * time.Millisecond

// Bytes returns how many were sent to Kafka and received from it.
func (l *Link) Bytes() (sent, received uint64) { return l.sent.Load(), l.received.Load() }

// most returns how large a load may be: what can be sent well within the 5 s that a
// broker's connection may stand still.
func (l *Link) most(batchBytes int) int {
	if l == nil || l.BytesPerSecond == 0 {
		return batchBytes
	}
	return max(minRoom, min(batchBytes, 2*l.BytesPerSecond))
}

// dial has all connections go over the link.
func (l *Link) dial(under dialFunc) dialFunc {
	if l == nil {
		return under
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := under(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &linked{Conn: c, link: l, changed: make(chan struct{}, 1), closed: make(chan struct{})}, nil
	}
}

// turn notes bytes, and returns how long they have to wait.
func (l *Link) turn(bytes int) time.Duration {
	if l.BytesPerSecond == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if early := now.Add(-linkBurst); l.free.Before(early) {
		l.free = early
	}
	wait := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(float64(bytes) / float64(l.BytesPerSecond) * float64(time.Second)))
	return wait
}

// part is how much is sent at a time: connections take turns.
func (l *Link) part(n int) int {
	if l.BytesPerSecond == 0 {
		return n
	}
	return min(n, max(1<<10, l.BytesPerSecond/16))
}

// linked is a connection over a link.
type linked struct {
	net.Conn

	link     *Link
	deadline atomic.Pointer[time.Time] // of writes
	once     sync.Once
	changed  chan struct{} // one slot: the deadline has
	closed   chan struct{}
}

// Read implements net.Conn.
func (c *linked) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.link.received.Add(uint64(max(0, n)))
	return n, err
}

// Write implements net.Conn. It waits until it is the turn of each part.
func (c *linked) Write(b []byte) (n int, err error) {
	for n < len(b) {
		part := b[n:][:c.link.part(len(b)-n)]
		if err := c.wait(c.link.turn(len(part))); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(part)
		n += m
		c.link.sent.Add(uint64(max(0, m)))
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// wait returns nil after so long, or an error when the connection is closed or its
// deadline would pass.
func (c *linked) wait(long time.Duration) error {
	if long <= 0 {
		return nil
	}
	end := time.Now().Add(long)
	turn := time.NewTimer(long)
	defer turn.Stop()
	for {
		if d := c.deadline.Load(); d != nil && !d.IsZero() && d.Before(end) {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-turn.C:
			return nil
		case <-c.changed:
		case <-c.closed:
			return net.ErrClosed
		}
	}
}

// bound notes the deadline of writes.
func (c *linked) bound(t time.Time) {
	c.deadline.Store(&t)
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// SetDeadline implements net.Conn.
func (c *linked) SetDeadline(t time.Time) error {
	c.bound(t)
	return c.Conn.SetDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *linked) SetWriteDeadline(t time.Time) error {
	c.bound(t)
	return c.Conn.SetWriteDeadline(t)
}

// Close implements net.Conn.
func (c *linked) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
