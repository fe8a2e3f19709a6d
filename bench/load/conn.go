package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// A conn is one MQTT connection. It belongs to one goroutine at a time.
type conn struct {
	id  string
	net net.Conn
	r   *bufio.Reader
	w   *bufio.Writer

	packets [][]byte // PUBLISH packets to send in turn; the packet id is at idAt
	idAt    int
	next    int

	acked   int64 // while measuring
	latency Histogram
}

// variants is how many different payloads a connection sends in turn.
const variants = 64

func dial(ctx context.Context, addr, id string, clean bool) (*conn, error) {
	var d net.Dialer
	n, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{id: id, net: n, r: bufio.NewReaderSize(n, 16<<10), w: bufio.NewWriterSize(n, 32<<10)}
	if err := c.exchange(connectPacket(id, clean), connack); err != nil {
		_ = n.Close()
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return c, nil
}

// exchange sends one packet and reads its answer, whose last byte says whether
// it was granted.
func (c *conn) exchange(pkt []byte, answer byte) error {
	_ = c.net.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.net.Write(pkt); err != nil {
		return err
	}
	header, body, err := readPacket(c.r)
	if err != nil {
		return err
	}
	if header != answer || len(body) == 0 || body[len(body)-1] >= 0x80 || header == connack && body[len(body)-1] != 0 {
		return fmt.Errorf("answer %#x % x", header, body)
	}
	return c.net.SetDeadline(time.Time{})
}

// prepare makes the packets that publish sends.
func (c *conn) prepare(rng *rand.Rand, topic string, size int) {
	for range variants {
		pkt, idAt := publishPacket(topic, payload(rng, size))
		c.packets, c.idAt = append(c.packets, pkt), idAt
	}
}

// publish keeps the fleet's window full until it drains or its budget is
// spent, and returns when everything sent has been acknowledged.
func (c *conn) publish(f *Fleet, deadline time.Time) error {
	_ = c.net.SetDeadline(deadline)
	sent := make([]time.Time, f.shape.Window+1) // by packet id; zero when free
	open := 0
	send := func(id int) error {
		if f.phase.Load() == draining || f.budget.Add(-1) < 0 {
			return nil
		}
		pkt := c.packets[c.next%len(c.packets)]
		c.next++
		binary.BigEndian.PutUint16(pkt[c.idAt:], uint16(id))
		sent[id] = time.Now()
		open++
		_, err := c.w.Write(pkt)
		return err
	}
	for id := 1; id <= f.shape.Window; id++ {
		if err := send(id); err != nil {
			return fmt.Errorf("%s: %w", c.id, err)
		}
	}
	for open > 0 {
		if c.r.Buffered() < 4 { // nothing more to read without waiting
			if err := c.w.Flush(); err != nil {
				return fmt.Errorf("%s: %w", c.id, err)
			}
		}
		id, err := c.readAck()
		if err != nil {
			return fmt.Errorf("%s: %d messages not acknowledged: %w", c.id, open, err)
		}
		if id >= len(sent) || sent[id].IsZero() {
			return fmt.Errorf("%s: PUBACK for packet id %d, which is not open", c.id, id)
		}
		if f.phase.Load() == measuring {
			c.acked++
			c.latency.Add(time.Since(sent[id]))
		}
		sent[id] = time.Time{}
		open--
		if err := send(id); err != nil {
			return fmt.Errorf("%s: %w", c.id, err)
		}
	}
	return nil
}

func (c *conn) readAck() (id int, err error) {
	header, body, err := readPacket(c.r)
	if err != nil {
		return 0, err
	}
	if header != puback || len(body) != 2 {
		return 0, fmt.Errorf("got packet %#x % x instead of a PUBACK", header, body)
	}
	return int(binary.BigEndian.Uint16(body)), nil
}

// Ping connects once and leaves.
func Ping(ctx context.Context, addr string) error {
	c, err := dial(ctx, addr, "bench-ping", true)
	if err != nil {
		return err
	}
	_, err = c.net.Write([]byte{0xe0, 0})
	_ = c.net.Close()
	return err
}

// KeepSubscription leaves behind a session that subscribes to filter with
// QoS 1 and is not connected, so that a broker which stores only what somebody
// waits for has a reason to.
func KeepSubscription(ctx context.Context, addr, filter string) error {
	c, err := dial(ctx, addr, "bench-kept", false)
	if err != nil {
		return err
	}
	defer func() { _ = c.net.Close() }()
	if err := c.exchange(subscribePacket(filter), suback); err != nil {
		return fmt.Errorf("subscribe to %s: %w", filter, err)
	}
	_, err = c.net.Write([]byte{0xe0, 0})
	return err
}
