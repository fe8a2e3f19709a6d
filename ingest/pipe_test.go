package ingest

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A pipeEnd is one end of a connection with buffers, as TCP has them: net.Pipe
// has none, so that each write there waits for its reads, and cannot be
// counted.
type pipeEnd struct {
	net.Addr
	in, out *stream
	writes  atomic.Int64
}

// A stream is one direction.
type stream struct {
	mu       sync.Mutex
	cond     sync.Cond
	b        []byte
	limit    int // writes block beyond it, but for the first
	ended    bool
	deadline bool // the read deadline has passed
	late     bool // the write deadline has passed
}

func bufferedPipe() (a, b *pipeEnd) {
	there, back := &stream{limit: 1 << 30}, &stream{limit: 1 << 30}
	there.cond.L, back.cond.L = &there.mu, &back.mu
	return &pipeEnd{in: back, out: there}, &pipeEnd{in: there, out: back}
}

func (e *pipeEnd) Read(p []byte) (int, error) {
	s := e.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.deadline:
			return 0, os.ErrDeadlineExceeded
		case len(s.b) > 0:
			n := copy(p, s.b)
			s.b = s.b[n:]
			s.cond.Broadcast()
			return n, nil
		case s.ended:
			return 0, net.ErrClosed
		}
		s.cond.Wait()
	}
}

func (e *pipeEnd) Write(p []byte) (int, error) {
	s := e.out
	s.mu.Lock()
	defer s.mu.Unlock()
	e.writes.Add(1)
	for len(s.b) > 0 && len(s.b)+len(p) > s.limit && !s.ended && !s.late {
		s.cond.Wait()
	}
	switch {
	case s.ended:
		return 0, net.ErrClosed
	case s.late:
		return 0, os.ErrDeadlineExceeded
	}
	s.b = append(s.b, p...)
	s.cond.Broadcast()
	return len(p), nil
}

func (e *pipeEnd) Close() error {
	for _, s := range []*stream{e.in, e.out} {
		s.mu.Lock()
		s.ended = true
		s.cond.Broadcast()
		s.mu.Unlock()
	}
	return nil
}

// SetReadDeadline knows the deadlines "now" and "never".
func (e *pipeEnd) SetReadDeadline(t time.Time) error {
	set(e.in, &e.in.deadline, t)
	return nil
}

// SetWriteDeadline does, too.
func (e *pipeEnd) SetWriteDeadline(t time.Time) error {
	set(e.out, &e.out.late, t)
	return nil
}

func (e *pipeEnd) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func set(s *stream, flag *bool, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*flag = !t.IsZero() && t.Before(time.Now())
	s.cond.Broadcast()
}

func (e *pipeEnd) LocalAddr() net.Addr  { return e }
func (e *pipeEnd) RemoteAddr() net.Addr { return e }
func (e *pipeEnd) Network() string      { return "pipe" }
func (e *pipeEnd) String() string       { return "pipe" }
