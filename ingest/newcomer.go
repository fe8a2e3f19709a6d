package ingest

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tributary-edge/tributary/ingest/gate"
)

// patienceWith returns how long a newcomer has for its CONNECT. A small device takes
// seconds for a TLS handshake.
func (d *Door) patienceWith(nc net.Conn) time.Duration {
	if _, secure := nc.(*tls.Conn); secure {
		return handshakes * d.opt.ConnectTimeout
	}
	return d.opt.ConnectTimeout
}

// handshakes is how many times longer a newcomer has that comes with TLS.
const handshakes = 3

// awaitPlace waits until the gate has a place. The time that this takes is not the
// client's: it has so much longer for its CONNECT.
func (c *conn) awaitPlace(w gate.Work) (gate.Place, error) {
	start := time.Now()
	place, err := c.door.opt.Gate.Enter(c.door.ctx, w, hostOf(c.nc.RemoteAddr()))
	waited := time.Since(start)
	if err != nil || waited < time.Millisecond {
		return place, err
	}
	c.connectBy = c.connectBy.Add(waited)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping { // or it would undo the deadline that wakes the reader
		_ = c.nc.SetDeadline(c.connectBy)
	}
	return place, nil
}

// shakeHands makes the TLS handshake, if there is to be one.
func (c *conn) shakeHands() error {
	secure, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	if n, ok := secure.NetConn().(*newcomer); ok {
		n.of = c
		defer n.admit()
	}
	return secure.Handshake() //nolint:noctx // a deadline ends it; to watch a context costs a goroutine
}

// A newcomer is the socket below TLS. During the handshake whoever reads from it
// has a place at the gate between two reads, and none while it waits for the
// client, or writes to it: TLS writes last before it waits.
type newcomer struct {
	net.Conn

	of    *conn // nil: the handshake is over, or has not begun
	begun bool
	place gate.Place
}

// admit ends the part of the gate.
func (n *newcomer) admit() {
	n.place.Leave()
	n.of = nil
}

func (n *newcomer) Read(p []byte) (int, error) {
	if n.of == nil {
		return n.Conn.Read(p)
	}
	n.place.Leave()
	size, err := n.Conn.Read(p)
	if err != nil {
		return size, err
	}
	work := gate.Finish
	if !n.begun {
		n.begun, work = true, gate.Handshake
	}
	if n.place, err = n.of.awaitPlace(work); err != nil {
		return 0, err
	}
	if hasLeft(n.Conn) { // it was tired of waiting: nothing more is done for it
		return 0, io.EOF
	}
	return size, nil
}

func (n *newcomer) Write(p []byte) (int, error) {
	n.place.Leave()
	return n.Conn.Write(p)
}

// hasLeft says whether the other side has closed the connection. What it has sent
// before can still be read.
func hasLeft(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	left := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		left = n == 0 && err == nil || err != nil && err != unix.EAGAIN && err != unix.EINTR
	})
	return left || err != nil
}
