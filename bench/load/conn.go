package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// A conn is one MQTT connection. It belongs to one goroutine at a time.
type conn struct {
	id   string
	sock *socket
	rw   io.ReadWriter // sock, or TLS over it
	tls  bool
	rest []byte // received: the beginning of a packet

	// Messages that are sent in turn, made in advance: frameBytes each, the k-th
	// with the packet id k%window+1, so that as many as have room in the window
	// leave in one write, from where they are. The first of them follow again
	// after the last for the same reason. With QoS 0, what is sent is a window of
	// them with a PINGREQ behind it.
	frames     []byte
	frameBytes int
	ring, at   int // messages in turn, and the next of them

	qos   int
	sent  []time.Duration // by packet id - 1, on the clock of the fleet; 0: free
	open  int
	reply []byte // PUBRELs to send with the next messages
}

// variants is how many different payloads a connection sends in turn, at least.
const variants = 32

// dial opens the nth connection to a broker.
func dial(ctx context.Context, b Broker, id string, nth int, clean bool) (*conn, error) {
	s, err := dialSocket(b.Addr, nth)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", b.Addr, err)
	}
	c := &conn{id: id, sock: s, rw: s}
	if b.Roots != nil {
		c.tls = true
		c.rw, err = secure(ctx, s, b.Roots)
	}
	if err == nil {
		err = c.exchange(connectPacket(id, clean), connack)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to %s: %w", b.Addr, err), s.Close())
	}
	return c, nil
}

// exchange sends one packet and waits for its answer, whose last byte says
// whether it was granted.
func (c *conn) exchange(pkt []byte, answer byte) error {
	if _, err := c.rw.Write(pkt); err != nil {
		return err
	}
	var got [256]byte
	for n := 0; n < len(got); {
		m, err := c.rw.Read(got[n:])
		if err != nil {
			return err
		}
		n += m
		header, body, rest, ok := next(got[:n])
		if !ok {
			continue
		}
		if header != answer || len(body) == 0 || body[len(body)-1] >= 0x80 || header == connack && body[len(body)-1] != 0 {
			return fmt.Errorf("answer %#x % x", header, body)
		}
		c.rest = append(c.rest, rest...)
		return nil
	}
	return errors.New("the answer is too long")
}

// prepare makes the messages that are to be sent.
func (c *conn) prepare(rng *rand.Rand, topic string, s Shape) {
	c.qos, c.sent = s.QoS, make([]time.Duration, s.Window)
	c.ring = (variants + s.Window - 1) / s.Window * s.Window
	for k := range c.ring {
		frame := publishPacket(topic, s.QoS, uint16(k%s.Window+1), payload(rng, s.Size))
		c.frames, c.frameBytes = append(c.frames, frame...), len(frame)
	}
	c.frames = append(c.frames, c.frames[:s.Window*c.frameBytes]...)
}

// send fills the window, as far as the budget of the fleet allows.
func (c *conn) send(f *Fleet) error {
	if c.qos == 0 {
		return c.sendFenced(f)
	}
	n, window := 0, len(c.sent)
	for i := c.at % window; n < window && f.budget > 0 && c.sent[i] == 0; n++ {
		c.sent[i] = f.now
		f.budget--
		if i++; i == window {
			i = 0
		}
	}
	msgs := c.frames[c.at*c.frameBytes : (c.at+n)*c.frameBytes]
	if len(c.reply) > 0 {
		msgs = append(c.reply, msgs...)
		c.reply = msgs[:0]
	}
	if len(msgs) == 0 {
		return nil
	}
	c.open += n
	f.open += n
	c.at = (c.at + n) % c.ring
	_, err := c.rw.Write(msgs)
	return err
}

// sendFenced sends a whole window of QoS 0 and asks for an answer, when
// everything sent before has been answered.
func (c *conn) sendFenced(f *Fleet) error {
	n := len(c.sent)
	if n == 0 || c.open > 0 || f.budget < int64(n) {
		return nil
	}
	f.budget -= int64(n)
	c.sent[0], c.open = f.now, n
	f.open += n
	c.reply = append(append(c.reply[:0], c.frames[c.at*c.frameBytes:(c.at+n)*c.frameBytes]...), pingreq, 0)
	c.at = (c.at + n) % c.ring
	_, err := c.rw.Write(c.reply)
	return err
}

// receive reads and deals with all that has arrived.
func (c *conn) receive(f *Fleet) error {
	for {
		n := copy(f.buf, c.rest)
		m, err := c.rw.Read(f.buf[n:])
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%d messages not acknowledged: %w", c.open, err)
		}
		f.now = time.Since(f.begun)
		rest, err := c.take(f, f.buf[:n+m])
		if err != nil {
			return err
		}
		if len(rest) == len(f.buf) {
			return errors.New("a packet is longer than any that was asked for")
		}
		c.rest = append(c.rest[:0], rest...)
		if !c.tls && n+m < len(f.buf) { // the socket is empty: epoll says when it no longer is
			return nil
		}
	}
}

// take deals with the packets in b and returns what is left of it.
func (c *conn) take(f *Fleet, b []byte) ([]byte, error) {
	for {
		header, body, rest, ok := next(b)
		if !ok {
			return b, nil
		}
		b = rest
		switch {
		case header&0xf0 == publish:
			if f.measuring {
				f.result.Delivered++
			}
		case header == pingresp && c.qos == 0:
			f.count(c.sent[0], c.open)
			f.open -= c.open
			c.open = 0
		case header == pubrec && c.qos == 2 && len(body) == 2:
			c.reply = append(c.reply, pubrel, 2, body[0], body[1])
		case header == puback && c.qos == 1 && len(body) == 2, header == pubcomp && c.qos == 2 && len(body) == 2:
			id := int(binary.BigEndian.Uint16(body))
			if id == 0 || id > len(c.sent) || c.sent[id-1] == 0 {
				return nil, fmt.Errorf("packet %#x for packet id %d, which is not open", header, id)
			}
			f.count(c.sent[id-1], 1)
			c.sent[id-1] = 0
			c.open--
			f.open--
		default:
			return nil, fmt.Errorf("unexpected packet %#x % x", header, body[:min(len(body), 16)])
		}
	}
}

// Ping connects once and leaves.
func Ping(ctx context.Context, b Broker) error {
	c, err := dial(ctx, b, "bench-ping", 0, true)
	if err != nil {
		return err
	}
	return c.leave()
}

func (c *conn) leave() error {
	_, err := c.rw.Write([]byte{goodbye, 0})
	return errors.Join(err, c.sock.Close())
}

// KeepSubscription leaves behind a session that subscribes to filter with
// QoS 1 and is not connected, so that a broker which stores only what somebody
// waits for has a reason to.
func KeepSubscription(ctx context.Context, b Broker, filter string) error {
	c, err := dial(ctx, b, "bench-kept", 0, false)
	if err != nil {
		return err
	}
	if err := c.exchange(subscribePacket(filter, 1), suback); err != nil {
		return errors.Join(fmt.Errorf("subscribe to %s: %w", filter, err), c.sock.Close())
	}
	return c.leave()
}
