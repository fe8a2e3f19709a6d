package sitetest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// A pipe is one direction of a connection.
type pipe struct {
	n        *network
	link     *link
	back     *link
	cond     sync.Cond
	timer    *time.Timer // wakes the reader
	segments []segment
	bytes    int
	last     time.Time // when the latest segment arrives
	frozen   time.Time // nothing arrives before
	ended    bool      // the sender has closed
	deaf     bool      // the receiver has closed
	refused  time.Time // the sender hears of that; zero: it has sent nothing since
	lost     bool      // a machine has lost its power: nothing comes any more
	reset    bool      // and when it was there again, it knew nothing of this
	until    time.Time // the reader's deadline
	by       time.Time // the writer's deadline
}

type segment struct {
	data []byte
	at   time.Time
}

func (n *network) pipe(from, to string) *pipe {
	p := &pipe{n: n, link: n.link(from, to), back: n.link(to, from)}
	p.cond.L = &n.mu
	p.link.pipes[p] = struct{}{}
	return p
}

// wait waits for a change, but not beyond a time, if it is one.
func (p *pipe) wait(until time.Time) {
	switch {
	case until.IsZero():
	case p.timer == nil:
		p.timer = time.AfterFunc(time.Until(until), p.wake)
	default:
		p.timer.Reset(time.Until(until))
	}
	p.cond.Wait()
}

func (p *pipe) wake() {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	p.cond.Broadcast()
}

func over(deadline, now time.Time) bool { return !deadline.IsZero() && !deadline.After(now) }

func (p *pipe) read(c *conn, b []byte) (int, error) {
	for {
		now := time.Now()
		var next time.Time
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case over(p.until, now):
			return 0, os.ErrDeadlineExceeded
		case p.reset:
			return 0, syscall.ECONNRESET
		case p.link.cut || p.lost:
		case len(p.segments) > 0:
			if next = latest(p.segments[0].at, p.frozen); !next.After(now) {
				return p.take(b), nil
			}
		case p.ended:
			if next = latest(p.last, p.frozen); !next.After(now) {
				return 0, io.EOF
			}
		}
		if next.IsZero() || !p.until.IsZero() && p.until.Before(next) {
			next = p.until
		}
		p.wait(next)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (p *pipe) take(b []byte) int {
	n := copy(b, p.segments[0].data)
	if n < len(p.segments[0].data) {
		p.segments[0].data = p.segments[0].data[n:]
	} else {
		p.segments = p.segments[1:]
	}
	p.bytes -= n
	return n
}

// write never waits: whoever does, in a bubble, with a mutex that another goroutine
// wants, stops the time. Too much that nobody reads is as good as a deadline that is
// over.
func (p *pipe) write(c *conn, b []byte) (int, error) {
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case over(p.by, time.Now()), p.bytes > mostUnread:
		return 0, os.ErrDeadlineExceeded
	case p.reset, p.deaf && !p.back.cut && over(p.refused, time.Now()):
		return 0, syscall.EPIPE
	case p.deaf && p.refused.IsZero(): // it is told so in answer to this
		p.refused = time.Now().Add(p.link.delay + p.back.delay)
		return len(b), nil
	case p.lost, p.deaf:
		return len(b), nil
	}
	p.arrive()
	p.segments = append(p.segments, segment{append([]byte(nil), b...), p.last})
	p.bytes += len(b)
	p.cond.Broadcast()
	return len(b), nil
}

// arrive sets when what is sent now arrives.
func (p *pipe) arrive() {
	d := p.link.delay
	if p.link.jitter > 0 {
		d += time.Duration(p.n.rng.Int64N(int64(p.link.jitter)))
	}
	p.last = latest(p.last, time.Now().Add(d))
}

// A conn is one end of a connection.
type conn struct {
	p             *port
	in, out       *pipe
	local, remote netip.AddrPort
	closed        bool
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.in.read(c, b)
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.out.write(c, b)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.close()
	return nil
}

func (c *conn) close() {
	if c.closed {
		return
	}
	c.closed = true
	delete(c.p.conns, c)
	c.out.ended, c.in.deaf = true, true
	c.out.arrive()
	c.out.release()
	c.in.release()
}

// vanish is what a power cut does: the other end hears nothing.
func (c *conn) vanish() {
	c.closed = true
	delete(c.p.conns, c)
	c.out.lost, c.in.lost = true, true
	c.in.cond.Broadcast()
	c.out.cond.Broadcast()
}

// release frees what nobody needs when both ends are closed.
func (p *pipe) release() {
	if p.ended && p.deaf {
		delete(p.link.pipes, p)
	}
	p.cond.Broadcast()
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t) // it never fails
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.in.until = t
	c.in.cond.Broadcast()
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.out.by = t
	c.out.cond.Broadcast()
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }
