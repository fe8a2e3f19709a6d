package sitetest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// A device publishes one message after the other, by MQTT 3.1.1, and sends each again
// until it is acknowledged, as firmware does.
type device struct {
	site *site
	name string
	qos  byte
	port *port
	home *host // where it connects; nil: to whoever is there
	rng  *rand.Rand
	rest time.Duration // between two messages, at most

	seq     int
	packet  uint16
	session bool // a broker has said that it knows the session
	conn    net.Conn
	at      *host
	in      *bufio.Reader
}

// A reading is one message of a device, and what is known of it.
type reading struct {
	device *device
	seq    int
	sent   []sending
	acked  time.Time // zero: not acknowledged
	claims claims
}

// A sending is one PUBLISH.
type sending struct {
	to *host
	at time.Time
}

func (r *reading) value() string { return fmt.Sprintf("%s %d", r.device.name, r.seq) }

const (
	connackPatience = 20 * time.Second
	ackPatience     = 30 * time.Second
)

// run publishes until ctx ends, and then until what was begun is acknowledged, or
// hard ends.
func (d *device) run(ctx, hard context.Context) {
	defer d.hangUp()
	d.seq = -1
	for ctx.Err() == nil {
		d.seq++
		r := &reading{device: d, seq: d.seq}
		d.site.oracle.begin(r)
		d.packet = d.packet%60000 + 1
		for hard.Err() == nil && !d.publish(hard, r) {
			if d.hangUp(); d.isStranded() {
				return
			}
			pause(hard, 100*time.Millisecond+time.Duration(d.rng.Int64N(int64(2*time.Second))))
		}
		pause(ctx, time.Duration(d.rng.Int64N(int64(d.rest)+1)))
	}
}

// isStranded says whether there will never again be a gateway for it.
func (d *device) isStranded() bool {
	d.site.mu.Lock()
	defer d.site.mu.Unlock()
	return d.home != nil && d.home.gone
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (d *device) hangUp() {
	if d.conn != nil {
		_ = d.conn.Close() // it may be gone
		d.conn = nil
	}
}

// publish sends one message and waits for its acknowledgement. It returns false if
// none came.
func (d *device) publish(ctx context.Context, r *reading) bool {
	if d.conn == nil && d.connect(ctx) != nil {
		return false
	}
	if !r.acked.IsZero() {
		return d.release() // the broker has it: it is not sent again (MQTT 3.1.1, 4.3.3)
	}
	first := byte(0x30) | d.qos<<1
	if len(r.sent) > 0 && d.session {
		first |= 8 // DUP
	}
	topic := "plant/" + d.name
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(body, topic...)
	body = binary.BigEndian.AppendUint16(body, d.packet)
	body = append(body, r.value()...)
	began := d.at.moment()
	r.sent = append(r.sent, sending{d.at, time.Now()})
	if d.send(first, body) != nil {
		return false
	}
	if d.qos == 1 {
		if d.expect(4, ackPatience) != nil {
			return false
		}
		d.site.oracle.acknowledged(r, d.at, began)
		return true
	}
	if d.expect(5, ackPatience) != nil {
		return false
	}
	d.site.oracle.acknowledged(r, d.at, began)
	return d.release()
}

// release sends PUBREL and waits for PUBCOMP.
func (d *device) release() bool {
	return d.send(0x62, binary.BigEndian.AppendUint16(nil, d.packet)) == nil && d.expect(7, ackPatience) == nil
}

// anyHost returns a host that is not gone for good.
func (s *site) anyHost(rng *rand.Rand) *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if h := s.hosts[rng.IntN(len(s.hosts))]; !h.gone {
			return h
		}
	}
}

// connect takes up the session at home, or at some node that is there.
func (d *device) connect(ctx context.Context) error {
	d.at = d.home
	if d.at == nil {
		d.at = d.site.anyHost(d.rng)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := d.port.DialContext(ctx, "tcp", d.at.address(mqttPort))
	if err != nil {
		return err
	}
	d.conn, d.in = c, bufio.NewReaderSize(c, 256)
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 60} // not clean, keep alive of a minute
	body = binary.BigEndian.AppendUint16(body, uint16(len(d.name)))
	if err := d.send(0x10, append(body, d.name...)); err != nil {
		return err
	}
	kind, answer, err := d.receive(connackPatience)
	switch {
	case err != nil:
		return err
	case kind>>4 != 2 || len(answer) != 2 || answer[1] != 0:
		return fmt.Errorf("CONNACK %x %x", kind, answer)
	}
	d.session = answer[0]&1 != 0
	return nil
}

func (d *device) send(first byte, body []byte) error {
	if len(body) > 127 {
		return errors.New("too long for this device")
	}
	_, err := d.conn.Write(append([]byte{first, byte(len(body))}, body...))
	return err
}

// expect waits for an acknowledgement of the message. Those of an earlier one are
// passed over.
func (d *device) expect(kind byte, patience time.Duration) error {
	for {
		first, body, err := d.receive(patience)
		if err != nil {
			return err
		}
		if first>>4 == kind && len(body) == 2 && binary.BigEndian.Uint16(body) == d.packet {
			return nil
		}
	}
}

func (d *device) receive(patience time.Duration) (first byte, body []byte, err error) {
	if err := d.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		return 0, nil, err
	}
	if head[1] > 127 {
		return 0, nil, errors.New("it says more than this device takes")
	}
	body = make([]byte, head[1])
	_, err = io.ReadFull(d.in, body)
	return head[0], body, err
}
