package device

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"
)

// ioTimeout is how long a broker may take to answer CONNECT, or to take bytes
// from a socket, before the device gives up the connection.
const ioTimeout = 10 * time.Second

// A link is one accepted connection. Its methods are for one goroutine.
type link struct {
	conn    net.Conn
	connack connack
	answers chan packet   // closed by the reader when nothing more will come
	done    chan struct{} // closed when the reader is gone
	err     error         // why the reader stopped; valid after answers is closed
}

// A refusalError is a CONNACK or DISCONNECT with a reason code.
type refusalError struct {
	kind, code byte
}

func (e *refusalError) Error() string {
	if e.kind == typeConnack {
		return fmt.Sprintf("the broker refused the connection with reason code 0x%02x", e.code)
	}
	return fmt.Sprintf("the broker disconnected with reason code 0x%02x", e.code)
}

// dial opens a connection and waits for CONNACK. ctx bounds no more than that.
// backlog is how many answers may wait until the device looks at them, and
// bufferBytes the longest that it can take.
func dial(ctx context.Context, open func(context.Context) (net.Conn, error), hello connect, backlog, bufferBytes int) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	conn, err := open(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r := bufio.NewReaderSize(conn, 4<<10)
	buf := make([]byte, bufferBytes)
	p, err := shake(conn, r, hello, buf)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	l := &link{conn: conn, connack: p.connack, answers: make(chan packet, backlog), done: make(chan struct{})}
	go l.read(r, hello.version, buf)
	return l, nil
}

func shake(conn net.Conn, r *bufio.Reader, hello connect, buf []byte) (packet, error) {
	if _, err := conn.Write(hello.encode()); err != nil {
		return packet{}, err
	}
	p, err := readPacket(r, hello.version, buf)
	switch {
	case err != nil:
		return p, fmt.Errorf("wait for CONNACK: %w", err)
	case p.kind != typeConnack:
		return p, fmt.Errorf("%w: type %d instead of CONNACK", errMalformed, p.kind)
	case p.code != 0:
		return p, &refusalError{typeConnack, p.code}
	}
	return p, nil
}

// read passes on what the broker sends until the connection ends.
func (l *link) read(r *bufio.Reader, v version, buf []byte) {
	defer close(l.done)
	defer close(l.answers)
	for {
		p, err := readPacket(r, v, buf)
		if err == nil && p.kind == typeDisconnect {
			err = &refusalError{typeDisconnect, p.code}
		}
		if err != nil {
			l.err = err
			return
		}
		l.answers <- p
	}
}

// write hands b to the socket.
func (l *link) write(b []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(ioTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(b)
	return err
}

// close ends the connection and waits for the reader. With reset the peer sees
// a RST where the network has such a thing, and bytes under way are lost.
func (l *link) close(reset bool) {
	if tcp, ok := l.conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = l.conn.Close()
	l.drain()
}

// abandon stops reading and returns the socket, open: the broker believes that
// it still has a device.
func (l *link) abandon() net.Conn {
	_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	l.drain()
	return l.conn
}

// goodbye ends the connection the polite way: DISCONNECT, and then the broker
// closes. It waits for that for a moment, so that the next connection finds
// this one over.
func (l *link) goodbye() {
	if l.write(appendDisconnect(nil)) == nil {
		_ = l.conn.SetReadDeadline(time.Now().Add(time.Second))
		l.drain()
	}
	l.close(false)
}

func (l *link) drain() {
	for range l.answers {
	}
	<-l.done
}
