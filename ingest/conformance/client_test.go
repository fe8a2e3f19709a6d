//go:build conformance

package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// patience is how long a server may take for what it has to do at once.
const patience = 5 * time.Second

// A connect is what a CONNECT says. The zero value asks for a new session that
// ends with the connection, under a client identifier of its own.
type connect struct {
	id        string // "": one that nobody else has
	unnamed   bool   // the client identifier is empty
	resume    bool   // Clean Start, or Clean Session, is 0
	expiry    uint32 // MQTT 5: Session Expiry Interval, seconds
	keepAlive uint16 // seconds
	props     props
	will      *msg // with the Will Properties in its props
	user      *string
	password  *string
}

// A msg is a PUBLISH.
type msg struct {
	topic, payload string
	qos            byte
	retain, dup    bool
	id             uint16 // 0: the client's next
	props          props
}

// persistent is the CONNECT of a session that outlives its connections.
func persistent(id string) connect { return connect{id: id, resume: true, expiry: 3600} }

func (o connect) bytes(v byte) []byte {
	var flags byte
	if !o.resume {
		flags |= 2
	}
	payload := join(o.id)
	if w := o.will; w != nil {
		flags |= 4 | w.qos<<3
		if w.retain {
			flags |= 0x20
		}
		if v == 5 {
			payload = append(payload, join(w.props)...)
		}
		payload = append(payload, join(w.topic, w.payload)...)
	}
	if o.user != nil {
		flags |= 0x80
		payload = append(payload, join(*o.user)...)
	}
	if o.password != nil {
		flags |= 0x40
		payload = append(payload, join(*o.password)...)
	}
	if v != 5 {
		return pack(0x10, "MQTT", 4, flags, o.keepAlive, payload)
	}
	all := slices.Clone(o.props)
	if o.expiry > 0 {
		all = append(all, num(sessionExpiry, o.expiry))
	}
	return pack(0x10, "MQTT", 5, flags, o.keepAlive, all, payload)
}

func (m msg) bytes(v byte) []byte {
	first := byte(0x30) | m.qos<<1
	if m.retain {
		first |= 1
	}
	if m.dup {
		first |= 8
	}
	parts := []any{m.topic}
	if m.qos > 0 {
		parts = append(parts, m.id)
	}
	if v == 5 {
		parts = append(parts, m.props)
	}
	return pack(first, append(parts, []byte(m.payload))...)
}

// A client is one TCP connection to the server under test. Every packet it reads
// is checked: one that a client would have to refuse fails the case.
type client struct {
	s       *suite
	name    string
	conn    net.Conn
	in      *bufio.Reader
	limit   int // Maximum Packet Size of the CONNECT; 0 is none
	lastID  uint16
	held    []packet          // read by await while it waited for something else
	aliases map[uint32]string // what the server calls topics
	connack packet

	patience time.Duration
}

// dial opens a connection and sends nothing.
func (s *suite) dial() *client {
	s.dials++
	conn, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		s.fatalf("dial: %v", err)
	}
	s.open = append(s.open, conn)
	return &client{
		s: s, name: fmt.Sprintf("#%d", s.dials), conn: conn, in: bufio.NewReader(conn), aliases: map[uint32]string{}, patience: patience,
	}
}

// attempt sends a CONNECT and reads nothing.
func (s *suite) attempt(o connect) *client {
	if o.id == "" && !o.unnamed {
		o.id = s.id("")
	}
	c := s.dial()
	c.limit = int(o.props.number(maximumPacketSize))
	c.write(o.bytes(s.v))
	return c
}

// connect opens a connection that the server accepts.
func (s *suite) connect(o connect) *client {
	c := s.attempt(o)
	c.connack = c.expect(CONNACK)
	if c.connack.code != 0 {
		s.fatalf("%s was refused: %v", c.name, c.connack)
	}
	if s.v == 5 && c.connack.old {
		s.fatalf("the CONNACK has no property length")
	}
	return c
}

// newcomer is a connection with a new session of its own.
func (s *suite) newcomer() *client { return s.connect(connect{}) }

func (c *client) write(b []byte) {
	c.s.note("%s -> % x", c.name, b[:min(len(b), 60)])
	if err := c.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		c.s.fatalf("%s: %v", c.name, err)
	}
	// A server that has refused may close while more is being written; what it
	// said before is then still to be read.
	if _, err := c.conn.Write(b); err != nil {
		c.s.note("%s: %v", c.name, err)
	}
}

// take returns the next packet, or an error when the connection ends before limit.
func (c *client) take(limit time.Duration) (packet, error) {
	if len(c.held) > 0 {
		p := c.held[0]
		c.held = c.held[1:]
		return p, nil
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return packet{}, err
	}
	first, err := c.in.ReadByte()
	if err != nil {
		return packet{}, err
	}
	p := packet{kind: kind(first >> 4), flags: first & 15}
	var length []byte
	for len(length) < 4 && (len(length) == 0 || length[len(length)-1] > 127) {
		b, err := c.in.ReadByte()
		if err != nil {
			return p, fmt.Errorf("in the middle of a %v: %w", p.kind, err)
		}
		length = append(length, b)
	}
	r := reader{b: length}
	p.body = make([]byte, min(r.variable(), 1<<24)) // nothing here is nearly as large
	if _, err := io.ReadFull(c.in, p.body); err != nil {
		return p, fmt.Errorf("in the middle of a %v: %w", p.kind, err)
	}
	p.size = 1 + len(length) + len(p.body)
	if r.err == nil {
		r.err = parse(&p, c.s.v)
	}
	if r.err == nil && c.limit > 0 && p.size > c.limit {
		r.err = fmt.Errorf("%d bytes; the client takes %d", p.size, c.limit)
	}
	c.s.note("%s <- %v", c.name, p)
	if r.err != nil {
		c.s.fatalf("%s got a bad %v: %v", c.name, p.kind, r.err)
	}
	c.resolve(&p)
	return p, nil
}

// resolve puts the topic into a PUBLISH that has an alias for it.
func (c *client) resolve(p *packet) {
	if p.kind != PUBLISH || !p.props.has(topicAlias) {
		return
	}
	alias := p.props.number(topicAlias)
	if p.topic == "" {
		p.topic = c.aliases[alias]
	}
	c.aliases[alias] = p.topic
}

// read returns the next packet.
func (c *client) read() packet {
	p, err := c.take(c.patience)
	if err != nil {
		c.s.fatalf("%s waits for a packet: %v", c.name, err)
	}
	return p
}

// expect returns the next packet, which has to be of this kind.
func (c *client) expect(k kind) packet {
	p, err := c.take(c.patience)
	if err != nil {
		c.s.fatalf("%s waits for %v: %v", c.name, k, err)
	}
	if p.kind != k {
		c.s.fatalf("%s got %v instead of %v", c.name, p, k)
	}
	return p
}

// await returns the next packet of this kind; what comes before it can be read
// afterwards.
func (c *client) await(k kind) packet {
	var before []packet
	for {
		p, err := c.take(c.patience)
		if err != nil {
			c.s.fatalf("%s waits for %v: %v", c.name, k, err)
		}
		if p.kind == k {
			c.held = append(before, c.held...)
			return p
		}
		before = append(before, p)
	}
}

// message returns the next packet, which has to be a PUBLISH with this payload.
func (c *client) message(payload string) packet {
	p := c.expect(PUBLISH)
	if p.payload != payload {
		c.s.fatalf("%s got payload %.60q instead of %.60q", c.name, p.payload, payload)
	}
	return p
}

// acknowledge does what the QoS of a received message asks for, to its end.
func (c *client) acknowledge(p packet) {
	switch p.qos() {
	case 1:
		c.write(pack(0x40, p.id))
	case 2:
		c.write(pack(0x50, p.id))
		if rel := c.await(PUBREL); rel.id != p.id || rel.code != 0 {
			c.s.fatalf("%s: %v for id %d", c.name, rel, p.id)
		}
		c.write(pack(0x70, p.id))
	}
}

func (c *client) nextID() uint16 {
	c.lastID++
	return c.lastID
}

// send sends a PUBLISH and returns its packet identifier.
func (c *client) send(m msg) uint16 {
	if m.id == 0 && m.qos > 0 {
		m.id = c.nextID()
	}
	c.write(m.bytes(c.s.v))
	return m.id
}

// publish sends a message, and returns when the server has taken it: the first
// acknowledgement, which is not one of an error; for QoS 0 a PINGRESP.
func (c *client) publish(m msg) packet {
	ack := c.offer(m)
	if ack.code >= 0x80 {
		c.s.fatalf("%s: the server refuses a message: %v", c.name, ack)
	}
	return ack
}

// offer is publish for a message that may be refused.
func (c *client) offer(m msg) packet {
	id := c.send(m)
	var ack packet
	switch m.qos {
	case 0:
		c.write(pack(0xC0))
		return c.await(PINGRESP)
	case 1:
		ack = c.await(PUBACK)
	default:
		if ack = c.await(PUBREC); ack.code < 0x80 {
			c.write(pack(0x62, ack.id))
			if comp := c.await(PUBCOMP); comp.id != id || comp.code != 0 {
				c.s.fatalf("%s: %v for id %d", c.name, comp, id)
			}
		}
	}
	if ack.id != id {
		c.s.fatalf("%s: %v for id %d", c.name, ack, id)
	}
	return ack
}

// subscribe asks for a subscription with these options, for MQTT 3.1.1 the QoS,
// and returns the code of the SUBACK.
func (c *client) subscribe(filter string, options byte, ps ...prop) byte {
	id := c.nextID()
	if c.s.v == 5 {
		c.write(pack(0x82, id, props(ps), filter, options))
	} else {
		c.write(pack(0x82, id, filter, options))
	}
	ack := c.await(SUBACK)
	if ack.id != id || len(ack.codes) != 1 {
		c.s.fatalf("%s: %v for one filter under id %d", c.name, ack, id)
	}
	return ack.codes[0]
}

// listen subscribes, and the server has to grant the QoS.
func (c *client) listen(filter string, qos byte) *client {
	if code := c.subscribe(filter, qos); code != qos {
		c.s.fatalf("%s: SUBACK 0x%02x for QoS %d of %q", c.name, code, qos, filter)
	}
	return c
}

// unsubscribe returns the UNSUBACK for one filter.
func (c *client) unsubscribe(filters ...string) packet {
	id := c.nextID()
	parts := []any{id}
	if c.s.v == 5 {
		parts = append(parts, props{})
	}
	for _, f := range filters {
		parts = append(parts, f)
	}
	c.write(pack(0xA2, parts...))
	ack := c.await(UNSUBACK)
	if ack.id != id {
		c.s.fatalf("%s: %v for id %d", c.name, ack, id)
	}
	return ack
}

// ping shows that nothing is on its way but a PINGRESP.
func (c *client) ping() {
	c.write(pack(0xC0))
	c.expect(PINGRESP)
}

// collect returns everything that comes before messages which this client now
// sends to itself: what was to be delivered to it when collect was called. The
// messages have QoS 0, so that they pass a window that is full. There are two,
// because the first may overtake others: the order of topics and of QoS levels among
// each other is left open. The second is sent when the first has come.
func (c *client) collect() (all []packet) {
	fence := c.s.topic("fence")
	c.listen(fence, 0)
	for range 2 {
		c.send(msg{topic: fence, payload: "fence"})
		p := c.read()
		for p.kind != PUBLISH || p.topic != fence {
			all = append(all, p)
			p = c.read()
		}
	}
	return all
}

// settle waits until the server is through with what the client has published,
// for QoS 0, which has no acknowledgement: a PINGRESP may overtake the message on its
// way to subscribers and to what is retained.
func (c *client) settle() { c.silent() }

// silent fails the case if anything is on its way to the client.
func (c *client) silent() {
	if all := c.collect(); len(all) > 0 {
		c.s.fatalf("%s got %v; nothing was to come", c.name, all[0])
	}
}

// payloads are those of the messages among packets.
func payloads(all []packet) (list []string) {
	for _, p := range all {
		if p.kind == PUBLISH {
			list = append(list, p.payload)
		}
	}
	return list
}

// violation is a packet that ends a connection: a SUBSCRIBE with flags that it may
// not have.
var violation = []byte{0x80, 0x06, 0, 1, 0, 1, 'a', 0}

// violate makes the server end the connection.
func (c *client) violate() { c.write(violation) }

// disconnect ends the connection as a client should, and returns when the server
// has closed it.
func (c *client) disconnect() {
	c.write(pack(0xE0))
	c.ended()
}

// drop ends the connection as a lost network does: no DISCONNECT. The server has
// seen the end when a CONNECT for the same client has been answered, or a will has
// come.
func (c *client) drop() { _ = c.conn.Close() }

// ended reads until the server has closed the connection, and returns what came
// before.
func (c *client) ended() (all []packet) {
	end := time.Now().Add(c.patience)
	for {
		p, err := c.take(time.Until(end))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.s.fatalf("%s: the server does not close the connection", c.name)
		}
		if err != nil {
			return all
		}
		all = append(all, p)
	}
}

// closed fails the case unless the server closes the connection. In MQTT 5 it may
// say DISCONNECT before it, with one of these reason codes, or any of an error if
// none are given; it may say nothing else.
func (c *client) closed(codes ...byte) {
	all := c.ended()
	if len(all) == 0 {
		return
	}
	p := all[0]
	if len(all) > 1 || p.kind != DISCONNECT {
		c.s.fatalf("%s got %v before the end of the connection", c.name, all)
	}
	if p.code < 0x80 || len(codes) > 0 && !slices.Contains(codes, p.code) {
		c.s.fatalf("%s: DISCONNECT with 0x%02x, not one of %x", c.name, p.code, codes)
	}
}

// refused fails the case unless the server refuses a CONNECT: it closes the
// connection, before which it may say CONNACK with one of these codes. None given
// means, in MQTT 5, any of an error, and in MQTT 3.1.1 that there is no CONNACK.
func (c *client) refused(codes ...byte) {
	all := c.ended()
	if len(all) == 0 {
		return
	}
	p := all[0]
	if len(all) > 1 || p.kind != CONNACK || p.present || p.code == 0 {
		c.s.fatalf("%s got %v instead of a refusal", c.name, all)
	}
	if (c.s.v != 5 || len(codes) > 0) && !slices.Contains(codes, p.code) {
		c.s.fatalf("%s: CONNACK with 0x%02x, not one of %x", c.name, p.code, codes)
	}
}
