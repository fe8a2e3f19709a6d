package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// An appender is the log.
type appender interface {
	Append(*record.Record, tributary.Ticket) (tributary.LSN, error)
}

// A server has one goroutine per connection, the committer, and one that
// writes acknowledgements while the next group is being flushed.
type server struct {
	log    appender
	groups chan []*conn // with acknowledgements to write

	dirty []*conn // of the group that the committer tells of
}

type conn struct {
	server *server
	net    net.Conn
	rec    record.Record

	gathers bool // the committer has it among the dirty

	mu   sync.Mutex
	acks []byte // guarded by mu

	writing sync.Mutex // held while acknowledgements are taken and written, to keep their order
	spare   []byte     // guarded by writing
}

var qosValue = [3][]byte{{'0'}, {'1'}, {'2'}}

// committed gathers acknowledgements: D1. A ticket's tag is the packet that
// acknowledges, and the packet id.
func (s *server) committed(_ tributary.LedgerID, _ tributary.LSN, tickets []tributary.Ticket, err error) {
	if err != nil {
		return // nobody is told anything, and the bench stops
	}
	var locked *conn // neighbours in a group are often of one connection
	for i := range tickets {
		c, acked := tickets[i].Owner.(*conn)
		if !acked {
			continue
		}
		if c != locked {
			if locked != nil {
				locked.mu.Unlock()
			}
			locked = c
			c.mu.Lock()
		}
		if !c.gathers {
			c.gathers = true
			s.dirty = append(s.dirty, c)
		}
		tag := tickets[i].Tag
		c.acks = append(c.acks, byte(tag>>16), 2, byte(tag>>8), byte(tag))
	}
	if locked != nil {
		locked.mu.Unlock()
	}
	for _, c := range s.dirty {
		c.gathers = false
	}
	if len(s.dirty) == 1 { // nobody else waits: waking a goroutine would take longer
		s.dirty[0].flush()
		s.dirty = s.dirty[:0]
	} else if len(s.dirty) > 0 {
		s.groups <- s.dirty
		s.dirty = make([]*conn, 0, cap(s.dirty))
	}
}

// answer writes what was gathered, group after group.
func (s *server) answer() {
	for group := range s.groups {
		for _, c := range group {
			c.flush()
		}
	}
}

func (c *conn) flush() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	acks := c.acks
	c.acks = c.spare[:0]
	c.mu.Unlock()
	c.spare = acks
	if len(acks) > 0 {
		_, _ = c.net.Write(acks) // a client that has gone needs none
	}
}

// maxPacket is the longest packet that is taken.
const maxPacket = 32 << 10

// read takes packets until the client leaves.
func (c *conn) read() error {
	buf := make([]byte, maxPacket)
	n := 0
	for {
		m, err := c.net.Read(buf[n:])
		if err != nil {
			if errors.Is(err, io.EOF) || n == 0 {
				return nil
			}
			return err
		}
		n += m
		at := 0
		for n-at >= 2 {
			size, w := binary.Uvarint(buf[at+1 : n]) // MQTT's variable byte integer is a uvarint
			if w < 0 || size > maxPacket-4 {
				return fmt.Errorf("a packet of %d bytes", size)
			}
			end := at + 1 + w + int(size)
			if w == 0 || end > n {
				break
			}
			if err := c.take(buf[at], buf[at+1+w:end]); err != nil {
				return err
			}
			at = end
		}
		n = copy(buf, buf[at:n])
	}
}

// take deals with one packet of MQTT 3.1.1.
func (c *conn) take(header byte, body []byte) (err error) {
	switch {
	case header&0xf0 == 0x30 && len(body) >= 2:
		return c.publish(int(header>>1&3), body)
	case header == 0x62 && len(body) == 2: // PUBREL: PUBCOMP when the release is durable
		release := record.Record{Key: []byte("release"), Value: body}
		_, err = c.server.log.Append(&release, tributary.Ticket{Owner: c, Tag: 0x70<<16 | uint64(binary.BigEndian.Uint16(body))})
	case header == 0x10 && len(body) >= 12: // CONNECT: flags and keep-alive do not matter
		id := append([]byte(nil), body[12:]...)
		c.rec = record.Record{Stream: "bench", Key: id, Headers: []record.Header{
			{Key: "mqtt.topic"}, {Key: "mqtt.client_id", Value: id}, {Key: "mqtt.qos"},
		}}
		_, err = c.net.Write([]byte{0x20, 2, 0, 0})
	case header == 0xc0: // PINGREQ
		_, err = c.net.Write([]byte{0xd0, 0})
	case header == 0xe0: // DISCONNECT
	default:
		err = fmt.Errorf("packet %#x of %d bytes", header, len(body))
	}
	return err
}

func (c *conn) publish(qos int, body []byte) error {
	end := 2 + int(binary.BigEndian.Uint16(body))
	value := end + min(qos, 1)*2
	if qos > 2 || value > len(body) || len(c.rec.Headers) == 0 {
		return errors.New("a PUBLISH that is none")
	}
	var t tributary.Ticket
	if qos > 0 {
		ack := [3]uint64{1: 0x40, 2: 0x50}[qos]
		t = tributary.Ticket{Owner: c, Tag: ack<<16 | uint64(binary.BigEndian.Uint16(body[end:]))}
	}
	c.rec.Headers[0].Value, c.rec.Headers[2].Value = body[2:end], qosValue[qos]
	c.rec.Value = body[value:]
	_, err := c.server.log.Append(&c.rec, t)
	return err
}
