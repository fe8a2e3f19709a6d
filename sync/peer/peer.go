// Package peer is the wire between two nodes of a site: who may speak on it, and
// what they say.
//
// Every node dials every other one, so that two nodes have two connections. On
// the one that it dialed a node speaks of its own accord (Status, Append, Pull);
// the other side only answers. Everything may be said twice: the answers say what
// is so now, and a connection that breaks is dialed again. TLS with certificates
// of the site's own authority says who is there. docs/format/peer.md has the
// bytes.
package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
)

// Version is the version of the protocol. Two nodes speak the lower of theirs.
// With version 2 came hand-off: a node that speaks 1 does not know Close and
// Collect, and nobody says them to it.
const Version = 2

const (
	helloTimeout = 10 * time.Second // for TLS and both Hellos together
	silence      = 15 * time.Second // without a word the other side is gone: each second there is a Status, and an Echo
	writeTimeout = 15 * time.Second
	bufferBytes  = 64 << 10
)

// A Conn is a connection to one peer that has said who it is. Many goroutines may
// send, and one may receive meanwhile.
type Conn struct {
	net  net.Conn
	in   *bufio.Reader
	peer Hello
	buf  []byte

	mu   sync.Mutex // guards what follows
	out  *bufio.Writer
	send []byte
}

// Dial connects to a peer and exchanges Hellos. conf has the certificate of this
// node and the authority of the site: see Site.Config. A node that is not of the
// site, or not the one that was expected, is an error; any node is, if want is
// zero.
func Dial(ctx context.Context, address string, conf *tls.Config, self Hello, want tributary.NodeID) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return Client(ctx, raw, conf, self, want)
}

// Client is Dial on a connection that is there. It closes raw if it fails.
func Client(ctx context.Context, raw net.Conn, conf *tls.Config, self Hello, want tributary.NodeID) (*Conn, error) {
	c, err := greet(ctx, tls.Client(raw, conf), self, true)
	if err == nil && want != (tributary.NodeID{}) && c.peer.Node != want {
		err = fmt.Errorf("%s is node %v, not %v", raw.RemoteAddr(), c.peer.Node, want)
	}
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

// Accept exchanges Hellos with a peer that has dialed this node. It closes raw if
// it fails. accept is asked whether the peer may speak; it may be nil. If its error is
// a *RejectError, the peer is told that. raw may be
// a *tls.Conn of the server's side, with or without its handshake: then conf is
// not used, and what matters is that the certificate of the peer was verified.
func Accept(ctx context.Context, raw net.Conn, conf *tls.Config, self Hello, accept func(*Hello) error) (*Conn, error) {
	t, is := raw.(*tls.Conn)
	if !is {
		t = tls.Server(raw, conf)
	}
	c, err := greet(ctx, t, self, false)
	if err == nil && accept != nil {
		if err = accept(&c.peer); err != nil {
			var reject *RejectError
			if !errors.As(err, &reject) {
				reject = &RejectError{Reason: err.Error()}
			}
			_ = c.Send(reject) // it is closed either way
			_ = c.Flush()
		}
	}
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

// greet does TLS and exchanges Hellos: who dialed speaks first.
func greet(ctx context.Context, t *tls.Conn, self Hello, dialed bool) (*Conn, error) {
	deadline := time.Now().Add(helloTimeout)
	if err := t.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	c := &Conn{net: t, in: bufio.NewReaderSize(t, bufferBytes), out: bufio.NewWriterSize(t, bufferBytes)}
	self.Version = Version
	say := func() error {
		return errors.Join(c.write(&self), c.out.Flush())
	}
	if dialed {
		if err := say(); err != nil {
			return nil, fmt.Errorf("say hello: %w", err)
		}
	}
	if err := c.hear(t, self); err != nil {
		return nil, err
	}
	if !dialed {
		if err := say(); err != nil {
			return nil, fmt.Errorf("say hello: %w", err)
		}
	}
	return c, t.SetDeadline(time.Time{})
}

// hear reads the Hello of the other side and compares it with its certificate.
func (c *Conn) hear(t *tls.Conn, self Hello) error {
	m, err := c.read(maxHello, func() error { return nil }) // one deadline for all
	if err != nil {
		return fmt.Errorf("wait for hello: %w", err)
	}
	switch m := m.(type) {
	case *Hello:
		c.peer = *m
	case *RejectError:
		return m
	default:
		return fmt.Errorf("the peer says %T, not hello", m)
	}
	id, err := nodeOf(t.ConnectionState())
	switch {
	case err != nil:
		return err
	case id != c.peer.Node:
		return fmt.Errorf("the peer says that it is node %v, and its certificate is of %v", c.peer.Node, id)
	case c.peer.Site != self.Site:
		return fmt.Errorf("the peer is of site %q, this node of %q", c.peer.Site, self.Site)
	case c.peer.Version < 1:
		return fmt.Errorf("the peer speaks version %d of the protocol", c.peer.Version)
	}
	return nil
}

// Peer returns what the other side has said of itself.
func (c *Conn) Peer() *Hello { return &c.peer }

// Close closes the connection: those who send or receive get an error.
func (c *Conn) Close() error { return c.net.Close() }

// Send sends m, perhaps not before Flush. It keeps nothing of m. After an error
// the connection is of no use.
func (c *Conn) Send(m Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send = Encode(c.send[:0], m)
	for rest := c.send; len(rest) > 0; {
		part := rest[:min(len(rest), bufferBytes)]
		rest = rest[len(part):]
		if err := c.net.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := c.out.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// Flush sends what Send has kept back.
func (c *Conn) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.net.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return c.out.Flush()
}

// Receive returns the next message, or io.EOF when the other side has closed the
// connection between two messages. What it returns is valid until the next
// Receive. A peer that is silent for 15 seconds is an error; so is a *RejectError,
// which is its own. After an error the connection is of no use.
func (c *Conn) Receive() (Message, error) {
	m, err := c.read(maxMessage, func() error { return c.net.SetReadDeadline(time.Now().Add(silence)) })
	if r, rejected := m.(*RejectError); rejected && err == nil {
		return nil, r
	}
	return m, err
}

func (c *Conn) write(m Message) error {
	c.send = Encode(c.send[:0], m)
	_, err := c.out.Write(c.send)
	return err
}

// read reads a message of at most limit bytes. goesOn is called before each part of it
// is waited for: a long message takes its time on a slow link.
func (c *Conn) read(limit int, goesOn func() error) (Message, error) {
	var head [headBytes]byte
	if err := goesOn(); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return nil, err
	}
	n, err := length(head[:], limit)
	if err != nil {
		return nil, err
	}
	c.buf = c.buf[:0]
	for len(c.buf) < n {
		part := min(n-len(c.buf), bufferBytes)
		c.buf = slices.Grow(c.buf, part)
		if err := goesOn(); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c.in, c.buf[len(c.buf):len(c.buf)+part]); err != nil {
			return nil, unexpected(err)
		}
		c.buf = c.buf[:len(c.buf)+part]
	}
	return Decode(head[4], c.buf)
}

// unexpected makes of an end in the middle of a message what it is.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
