package ingest

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A flush takes what is in out to the socket. As a rule that needs no wait and no
// other goroutine; what a socket does not take at once is left to a goroutine that
// lives for as long as that takes. A goroutine per connection that waits would cost
// more memory than this costs time.

// flushLater sees to it that what is in out will be sent. Called with mu held.
func (c *conn) flushLater() {
	if !c.flushing && !c.broken && len(c.out) > 0 {
		c.flushing = true
		go c.flush(nil)
	}
}

// flushNow sends what is in out, as much as the socket takes now, and sees to it
// that the rest will be sent. It does not wait.
func (c *conn) flushNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in.raw == nil { // TLS may wait in any write
		c.flushLater()
		return
	}
	if c.flushing || c.broken || len(c.out) == 0 {
		return
	}
	c.flushing = true
	b := c.take()
	c.mu.Unlock()
	n := c.writeSome(b)
	c.mu.Lock()
	if n < len(b) || len(c.out) > 0 {
		c.door.unsent.Add(-int64(n))
		go c.flush(b[n:])
		return
	}
	c.wrote(b, len(b), nil)
	c.flushing = false
	c.cond.Broadcast()
}

// flush sends b, which was taken out of out, and what is in out, until there is
// nothing left, and ends.
func (c *conn) flush(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.broken {
		if len(b) == 0 && len(c.out) > 0 {
			b = c.take()
		}
		if len(b) == 0 {
			break
		}
		c.mu.Unlock()
		err := c.write(b)
		c.mu.Lock()
		c.wrote(b, len(b), err)
		b = nil
	}
	c.door.unsent.Add(-int64(len(b)))
	c.flushing = false
	c.cond.Broadcast()
}

// take takes what is to be sent out of out. Called with mu held, by the one who
// flushes.
func (c *conn) take() []byte {
	b := c.out
	c.out, c.spare = c.spare[:0], nil
	return b
}

// wrote notes what has become of b, of which n bytes were still counted as unsent.
// Called with mu held.
func (c *conn) wrote(b []byte, n int, err error) {
	c.door.unsent.Add(-int64(n))
	if cap(b) <= keepBytes {
		c.spare = b
	}
	if err != nil {
		c.broken, c.stopping = true, true
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
	if c.hungry && !c.behind() {
		c.hungry = false
		c.door.out.wakeUp(c.sub)
	}
}

// write sends b, however long that takes, if only some of it gets through now
// and then. A client that is told its last words has less time.
func (c *conn) write(b []byte) error {
	for b = b[c.writeSome(b):]; len(b) > 0; {
		n := min(len(b), chunkBytes)
		c.mu.Lock()
		if !c.closed && !c.broken {
			_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		c.mu.Unlock()
		if _, err := c.nc.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// writeSome writes what the socket takes without waiting, and returns how much
// that is. What is wrong with the socket, the next write that waits will say.
func (c *conn) writeSome(b []byte) (n int) {
	if c.in.raw == nil {
		return 0
	}
	_ = c.in.raw.Control(func(fd uintptr) { // not Write, which looks at a deadline that may be long over
		for {
			m, err := unix.Write(int(fd), b)
			if err != unix.EINTR {
				n = max(m, 0)
				return
			}
		}
	})
	return n
}

// flushed at once, by the caller, are so many connections; a goroutine flushes more.
const fewConns = 4

// A flusher flushes connections: few of them at once, for to wake a goroutine takes
// longer, and many from a goroutine of its own, so that the log can begin its next
// group meanwhile.
type flusher struct {
	mu   sync.Mutex // guards what follows
	todo []*conn    // each once, see conn.due
	idle []*conn    // room for the next todo
	runs bool       // a goroutine runs flushAll
}

// flush sends what the connections are to be sent, and does not wait. It keeps
// nothing of conns.
func (f *flusher) flush(conns []*conn) {
	if len(conns) <= fewConns {
		for _, c := range conns {
			c.flushNow()
		}
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		if !c.due {
			c.due = true
			f.todo = append(f.todo, c)
		}
	}
	if !f.runs {
		f.runs = true
		go f.flushAll()
	}
}

// flushAll flushes connections until there are none to flush.
func (f *flusher) flushAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.todo) > 0 {
		todo := f.todo
		f.todo, f.idle = f.idle[:0], nil
		for _, c := range todo {
			c.due = false
		}
		f.mu.Unlock()
		for i, c := range todo {
			c.flushNow()
			todo[i] = nil
		}
		f.mu.Lock()
		f.idle = todo
	}
	f.runs = false
}
