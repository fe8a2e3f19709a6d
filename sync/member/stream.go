package member

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

var errTooMany = errors.New("too many connections")

// A stream is a connection with limits, that counts.
type stream struct {
	net.Conn

	t     *transport
	host  netip.Addr // who opened it; zero if this node did
	left  int        // bytes that may yet be read
	close sync.Once
}

// track counts a connection among those that are open, or says why it cannot be.
func (t *transport) track(raw net.Conn, accepted bool) (*stream, error) {
	c := &stream{Conn: raw, t: t, left: maxStreamBytes}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !accepted {
		select {
		case <-t.hungUp:
			return nil, errHungUp
		default:
		}
		t.conns[c] = struct{}{}
		return c, nil
	}
	from, err := netip.ParseAddrPort(raw.RemoteAddr().String())
	if err != nil {
		return nil, err
	}
	c.host = from.Addr().Unmap()
	total := 0
	for _, n := range t.hosts {
		total += n
	}
	if total >= maxStreams || t.hosts[c.host] >= maxStreamsPerHost {
		return nil, errTooMany
	}
	t.hosts[c.host]++
	t.conns[c] = struct{}{}
	return c, nil
}

// Read implements net.Conn.
func (c *stream) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errors.New("it says more than a whole site would")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	c.t.bytes.received.Add(uint64(n))
	return n, err
}

// Write implements net.Conn.
func (c *stream) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.t.bytes.sent.Add(uint64(n))
	return n, err
}

// Close implements net.Conn.
func (c *stream) Close() error {
	c.close.Do(func() {
		c.t.mu.Lock()
		defer c.t.mu.Unlock()
		delete(c.t.conns, c)
		if !c.host.IsValid() {
			return
		}
		if c.t.hosts[c.host]--; c.t.hosts[c.host] == 0 {
			delete(c.t.hosts, c.host)
		}
	})
	return c.Conn.Close()
}
