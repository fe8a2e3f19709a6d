package ingest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary/ingest/packet"
)

// A client speaks MQTT in plain bytes.
type client struct {
	t   *testing.T
	nc  net.Conn
	v5  bool
	in  chan []byte // packets received; closed when the connection ends
	out chan []byte
}

// A session says how a client connects.
type dialled struct {
	id        string
	v5        bool
	resume    bool   // clean session / clean start off
	expiry    uint32 // v5: session expiry interval
	keepAlive uint16
	will      string // topic
	willDelay uint32 // v5
	receive   uint16 // v5: receive maximum
	user      string
}

// speak makes a client out of a socket.
func speak(t *testing.T, nc net.Conn) *client {
	t.Helper()
	c := &client{t: t, nc: nc, in: make(chan []byte, 1<<16), out: make(chan []byte, 1<<16)}
	go func() {
		defer close(c.in)
		r := bufio.NewReader(nc)
		for {
			p, err := readPacket(r)
			if err != nil {
				return
			}
			c.in <- p
		}
	}()
	go func() {
		for p := range c.out {
			if _, err := nc.Write(p); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = nc.Close(); close(c.out) })
	return c
}

// pipe connects a client to the door without a network.
func pipe(t *testing.T, d *Door) *client {
	t.Helper()
	near, far := net.Pipe()
	go d.EstablishConnection(far)
	return speak(t, near)
}

// dial connects a client to the door by TCP.
func dial(t *testing.T, d *Door) *client {
	t.Helper()
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	return speak(t, nc)
}

func readPacket(r *bufio.Reader) ([]byte, error) {
	head, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	p := []byte{head}
	for {
		b, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		if p = append(p, b); b < 0x80 {
			break
		}
	}
	body := len(p)
	p = append(p, make([]byte, wholePacket(p)-body)...)
	_, err = io.ReadFull(r, p[body:])
	return p, err
}

func (c *client) send(p ...byte) { c.out <- p }

// next returns the next packet, or nil when the connection has ended.
func (c *client) next() []byte {
	c.t.Helper()
	select {
	case p := <-c.in:
		return p
	case <-time.After(10 * time.Second):
		c.t.Fatal("no packet within 10 s")
		return nil
	}
}

func (c *client) want(p ...byte) {
	c.t.Helper()
	if got := c.next(); !bytes.Equal(got, p) {
		c.t.Fatalf("got packet % x, want % x", got, p)
	}
}

// wantEnd checks that the connection ends, without another packet.
func (c *client) wantEnd() {
	c.t.Helper()
	if got := c.next(); got != nil {
		c.t.Fatalf("got packet % x, want the end of the connection", got)
	}
}

// wantNothing checks, inside a synctest bubble, that nothing was sent.
func (c *client) wantNothing() {
	c.t.Helper()
	synctest.Wait()
	select {
	case p := <-c.in:
		c.t.Fatalf("got packet % x, want none now", p)
	default:
	}
}

// connect sends CONNECT and returns the CONNACK.
func (c *client) connect(s dialled) []byte {
	c.t.Helper()
	c.v5 = s.v5
	c.send(connectPacket(s)...)
	ack := c.next()
	if len(ack) < 4 || ack[0] != 0x20 {
		c.t.Fatalf("got % x, want a CONNACK", ack)
	}
	return ack
}

// enter is connect, and the answer must be yes.
func (c *client) enter(s dialled) *client {
	c.t.Helper()
	if ack := c.connect(s); ack[3] != 0 {
		c.t.Fatalf("CONNACK % x, want success", ack)
	}
	return c
}

func (c *client) publish(qos byte, pid uint16, topic, payload string, props ...byte) {
	c.send(publishPacket(c.v5, qos<<1, pid, topic, payload, props...)...)
}

func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func frame(head byte, body []byte) []byte {
	p := []byte{head}
	return append(binary.AppendUvarint(p, uint64(len(body))), body...)
}

func connectPacket(s dialled) []byte {
	b := text(nil, "MQTT")
	flags := byte(2)
	if s.resume {
		flags = 0
	}
	if s.will != "" {
		flags |= 4 | 1<<3 // will QoS 1
	}
	if s.user != "" {
		flags |= 1 << 7
	}
	if s.v5 {
		b = append(b, 5, flags)
	} else {
		b = append(b, 4, flags)
	}
	b = binary.BigEndian.AppendUint16(b, s.keepAlive)
	if s.v5 {
		props := binary.BigEndian.AppendUint32([]byte{0x11}, s.expiry)
		if s.receive > 0 {
			props = binary.BigEndian.AppendUint16(append(props, 0x21), s.receive)
		}
		b = append(append(b, byte(len(props))), props...)
	}
	b = text(b, s.id)
	if s.will != "" {
		if s.v5 {
			b = append(b, 5, 0x18)
			b = binary.BigEndian.AppendUint32(b, s.willDelay)
		}
		b = text(text(b, s.will), "gone")
	}
	if s.user != "" {
		b = text(b, s.user)
	}
	return frame(0x10, b)
}

func publishPacket(v5 bool, flags byte, pid uint16, topic, payload string, props ...byte) []byte {
	b := text(nil, topic)
	if flags&6 != 0 {
		b = binary.BigEndian.AppendUint16(b, pid)
	}
	if v5 {
		b = append(binary.AppendUvarint(b, uint64(len(props))), props...)
	}
	return frame(0x30|flags, append(b, payload...))
}

func subscribePacket(v5 bool, pid uint16, filter string, options byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, pid)
	if v5 {
		b = append(b, 0)
	}
	return frame(0x82, append(text(b, filter), options))
}

// subscribe subscribes and takes the SUBACK, with the QoS of options granted.
func (c *client) subscribe(filter string, options byte, id ...byte) *client {
	c.t.Helper()
	b := []byte{0, 77}
	switch {
	case c.v5 && len(id) > 0:
		b = append(b, 2, 0x0b, id[0])
	case c.v5:
		b = append(b, 0)
	}
	c.send(frame(0x82, append(text(b, filter), options))...)
	if c.v5 {
		c.want(0x90, 4, 0, 77, 0, options&3)
	} else {
		c.want(0x90, 3, 0, 77, options&3)
	}
	return c
}

// vanish ends the connection without a word, and waits, in a bubble, until the
// door has noticed.
func (c *client) vanish() {
	synctest.Wait()
	_ = c.nc.Close()
	synctest.Wait()
}

// A delivered is a PUBLISH that a client got.
type delivered struct {
	topic, payload string
	qos            byte
	dup, retain    bool
	pid            uint16
	ids            []int
	expiry         uint32
}

func parseDelivered(t *testing.T, p []byte, v5 bool) delivered {
	t.Helper()
	if len(p) < 2 || p[0]>>4 != 3 {
		t.Fatalf("got % x, want a PUBLISH", p)
	}
	head, _, _ := packet.Header(p)
	pk := packets.Packet{ProtocolVersion: 4, FixedHeader: packets.FixedHeader{Type: 3, Qos: p[0] >> 1 & 3}}
	if v5 {
		pk.ProtocolVersion = 5
	}
	if err := pk.PublishDecode(p[head:]); err != nil {
		t.Fatalf("PUBLISH % x: %v", p, err)
	}
	return delivered{
		topic: pk.TopicName, payload: string(pk.Payload), qos: p[0] >> 1 & 3, dup: p[0]&8 != 0, retain: p[0]&1 != 0,
		pid: pk.PacketID, ids: pk.Properties.SubscriptionIdentifier, expiry: pk.Properties.MessageExpiryInterval,
	}
}

// message returns the next packet, which must be a PUBLISH.
func (c *client) message() delivered {
	c.t.Helper()
	return parseDelivered(c.t, c.next(), c.v5)
}

// wantMessage checks what the next message is, whatever its packet id, and
// returns that.
func (c *client) wantMessage(want delivered) uint16 {
	c.t.Helper()
	got := c.message()
	pid := got.pid
	if got.pid = want.pid; !reflect.DeepEqual(got, want) {
		c.t.Fatalf("got message %+v, want %+v", got, want)
	}
	return pid
}

// ack sends PUBACK, PUBREC, PUBREL or PUBCOMP.
func (c *client) ack(kind byte, pid uint16) {
	head := kind << 4
	if kind == packet.TypePubrel {
		head |= 2
	}
	c.send(head, 2, byte(pid>>8), byte(pid))
}

// user returns a user property.
func user(key, value string) []byte { return text(text([]byte{0x26}, key), value) }

// bubble runs f in a synctest bubble with a running Door.
func bubble(t *testing.T, change func(*Options), f func(t *testing.T, d *Door, l *fakeLog)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLog()
		d := newTestDoor(t, l, change)
		runDoor(t, d)
		f(t, d, l)
	})
}

// versions runs f for both versions of MQTT.
func versions(t *testing.T, f func(t *testing.T, v5 bool)) {
	t.Helper()
	for _, v5 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v5=%t", v5), func(t *testing.T) { f(t, v5) })
	}
}

// wholePacket returns the size of the packet that p starts with.
func wholePacket(p []byte) int {
	_, size, _ := packet.Header(p)
	return size
}
