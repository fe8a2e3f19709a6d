package device

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// script is a broker that does, on each connection, what a test says.
type script struct {
	t     *testing.T
	peers chan *peer
}

// peer is the broker's end of one connection.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	v    version
}

// heard is a packet from a device.
type heard struct {
	kind     byte
	dup      bool
	qos      byte
	packetID uint16
	seq      uint64
	clean    bool
}

func newScript(t *testing.T) *script {
	t.Helper()
	return &script{t: t, peers: make(chan *peer)}
}

// dial is Options.Dial; accept gets the other end.
func (s *script) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case s.peers <- &peer{t: s.t, conn: theirs, r: bufio.NewReader(theirs)}:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// accept takes the next connection and answers its CONNECT.
func (s *script) accept(present bool, properties ...byte) (*peer, heard) {
	s.t.Helper()
	p := <-s.peers
	hello := p.next()
	if hello.kind != 1 {
		s.t.Errorf("a connection begins with packet type %d", hello.kind)
	}
	flag := byte(0)
	if present {
		flag = 1
	}
	if p.v == v5 {
		p.write(append([]byte{0x20, byte(3 + len(properties)), flag, 0, byte(len(properties))}, properties...)...)
	} else {
		p.write(0x20, 2, flag, 0)
	}
	return p, hello
}

// discard is the short connection that throws an old session away.
func (s *script) discard() {
	s.t.Helper()
	p, hello := s.accept(false)
	if !hello.clean {
		s.t.Error("the connection that discards is not clean")
	}
	p.expect(heard{kind: typeDisconnect})
	p.close()
}

func (p *peer) close() { _ = p.conn.Close() }

func (p *peer) write(b ...byte) {
	if _, err := p.conn.Write(b); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Errorf("write to device: %v", err)
	}
}

// ack sends a PUBACK, PUBREC or PUBCOMP, with a reason code if it is not 0.
func (p *peer) ack(kind byte, packetID uint16, code byte) {
	b := binary.BigEndian.AppendUint16([]byte{kind << 4, 2}, packetID)
	if code != 0 {
		b[1]++
		b = append(b, code)
	}
	p.write(b...)
}

// next returns the next packet; its kind is 0 when the connection is over.
func (p *peer) next() heard {
	first, err := p.r.ReadByte()
	if err != nil {
		return heard{}
	}
	length, err := readLength(p.r)
	if err != nil {
		return heard{}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(p.r, body); err != nil {
		return heard{}
	}
	h := heard{kind: first >> 4}
	switch h.kind {
	case 1:
		p.v = version(body[6])
		h.clean = body[7]&2 != 0
	case 3:
		h.dup, h.qos = first&8 != 0, first>>1&3
		rest := body[2+int(binary.BigEndian.Uint16(body)):]
		if h.qos > 0 {
			h.packetID = binary.BigEndian.Uint16(rest)
			rest = rest[2:]
		}
		if p.v == v5 {
			n, size := binary.Uvarint(rest)
			rest = rest[size+int(n):]
		}
		_, h.seq, _ = Identify(rest)
	case 6:
		h.packetID = binary.BigEndian.Uint16(body)
	}
	return h
}

// expect fails the test unless exactly these packets come next.
func (p *peer) expect(want ...heard) {
	p.t.Helper()
	for _, w := range want {
		if got := p.next(); got != w {
			p.t.Errorf("the device sent %+v; want %+v", got, w)
		}
	}
}

// notes is a Recorder in memory.
type notes struct {
	mu     sync.Mutex
	events []Event
	state  State
	fail   error // of Flush
}

func (n *notes) Record(_ string, e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
}

func (n *notes) Flush() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fail
}

func (n *notes) Resume(string) State { return n.state }

func (n *notes) count(kind Kind) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.events {
		if e.Kind == kind {
			count++
		}
	}
	return count
}
