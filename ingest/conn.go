package ingest

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary/log/record"
)

const (
	maxUnsentBytes = 1 << 20  // what a client may leave unread before something is dropped
	keepBytes      = 16 << 10 // a send buffer larger than this is not kept
	chunkBytes     = 64 << 10 // what must get through within writeTimeout
	writeTimeout   = 30 * time.Second
	lingerTimeout  = time.Second // for the peer to take our last words

	maxConnectBytes = 64 << 10 // a CONNECT, from somebody not known yet
)

var (
	errStopped    = errors.New("connection stopped by this node")
	errSlowReader = errors.New("the client does not read what it is sent")
	errNoConnect  = errors.New("the first packet is not a CONNECT of acceptable size")
)

// A conn is a device's connection. The engine reads from it and writes to it
// as to any net.Conn, with three differences: Write never blocks, Close only
// asks the reader to stop, and the first packet must be a CONNECT of a modest
// size. The goroutine in serve, which is also the reader, is the only one
// that closes the socket.
type conn struct {
	net.Conn
	door    *Door
	max     int           // the window: messages in flight
	stopped chan struct{} // closed when the reader has stopped: nothing is appended for this connection any more

	// Set from the CONNECT by the reader, before it appends anything.
	cl        *mqtt.Client
	id, user  string
	idBytes   []byte
	v5        bool
	lasting   bool // the session outlives the connection
	resumed   bool // it went on where an earlier connection left off
	keepAlive time.Duration
	willProps *packets.Properties // nil: MQTT 3.1.1, or no will

	// Touched by the reader alone.
	greeting   greeting
	atBoundary bool      // the engine is about to read a new packet
	deadline   time.Time // the read deadline that is set
	rec        record.Record
	pidBytes   [2]byte
	scratch    []byte
	routes     map[string]*routed
	aliases    []string // topic by alias, index alias-1
	left       bool     // the engine went through its end of a connection

	// Touched by Committed alone.
	acks     []byte
	answered int // records of this connection that are no longer pending
	freed    int // places in the v5 window that are free again
	dirty    bool

	mu       sync.Mutex // guards what follows
	cond     sync.Cond  // open, stopping, flushing have changed
	out      []byte     // to be sent
	spare    []byte     // the buffer that was sent last
	flushing bool       // a goroutine runs flush
	broken   bool       // a write has failed
	stopping bool       // the reader is to stop
	closed   bool       // nothing more is to be sent
	said     bool       // a DISCONNECT was sent
	code     byte       // why we stop, for the DISCONNECT; 0: not our doing
	open     int        // records appended and not committed
	quota    int        // v5: messages received and not fully acknowledged
	queued   int        // messages in the engine's queue for this client, about

	miscounted bool // queued was found to be too high
}

func newConn(d *Door, nc net.Conn) *conn {
	c := &conn{Conn: nc, door: d, max: d.opt.ReceiveMaximum, stopped: make(chan struct{})}
	c.cond.L = &c.mu
	return c
}

// Read is called by the engine, on the reader's goroutine.
func (c *conn) Read(p []byte) (int, error) {
	if c.atBoundary {
		c.atBoundary = false
		c.extendDeadline()
	}
	n, err := c.Conn.Read(p)
	if err != nil && c.isStopping() {
		return n, errStopped
	}
	if n > 0 && !c.greeting.done && !c.greeting.take(p[:n]) {
		return 0, errNoConnect
	}
	return n, err
}

// SetDeadline is called by the engine before each packet. Its own reckoning
// of the keep-alive overflows at 12 hours, and setting a deadline per packet
// is dear; so this notes only that a packet ends here, and Read does the rest
// when it has to wait.
func (c *conn) SetDeadline(time.Time) error {
	c.atBoundary = true
	return nil
}

// extendDeadline gives the client one and a half keep-alives from now to send
// a packet (MQTT 5, 3.1.2.10), and up to a sixteenth more, so that a busy
// connection does not set a deadline at each read. Before the CONNECT the
// deadline set at accept stays.
func (c *conn) extendDeadline() {
	if c.cl == nil {
		return
	}
	var until time.Time
	if c.keepAlive > 0 {
		patience := c.keepAlive + c.keepAlive/2
		until = time.Now().Add(patience)
		if !c.deadline.Before(until) {
			return
		}
		until = until.Add(patience / 16)
	} else if c.greeting.lifted {
		return
	}
	c.greeting.lifted = true
	c.deadline = until
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping { // or it would undo the deadline that wakes the reader
		_ = c.Conn.SetReadDeadline(until)
	}
}

// Close asks the reader to stop. The engine calls it whenever it is done with
// the client.
func (c *conn) Close() error {
	c.stop(0)
	return nil
}

// stop makes the reader stop, and lets it know the reason code that the
// client is to be told; 0 is for an end that is not of our making. The first
// reason counts. It may be called by anybody, at any time, and does not wait.
func (c *conn) stop(code byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setCode(code)
	if c.stopping {
		return
	}
	c.stopping = true
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	c.cond.Broadcast()
}

// setCode notes why the connection ends, if that is not known yet. Called
// with mu held.
func (c *conn) setCode(code byte) {
	if c.code == 0 {
		c.code = code
	}
}

func (c *conn) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

// enter takes a place for one more QoS 1 or 2 message. Above the receive
// maximum it returns false for MQTT 5, where that is the client's mistake
// (3.3.4); MQTT 3.1.1 has no such rule, so there it waits, and the reader
// with it, and returns false only when the connection is to stop.
func (c *conn) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.v5 {
		if c.quota >= c.max {
			c.setCode(codeReceiveMaximum)
			return false
		}
		c.quota++
	} else {
		for c.open >= c.max && !c.stopping {
			c.cond.Wait()
		}
		if c.stopping {
			return false
		}
	}
	c.open++
	return true
}

// enterControl is enter for a control record, which takes no place.
func (c *conn) enterControl() {
	c.mu.Lock()
	c.open++
	c.mu.Unlock()
}

// leave gives back what enter took, for a record that was not appended.
func (c *conn) leave(places int) {
	c.mu.Lock()
	c.open--
	c.quota = max(0, c.quota-places)
	c.mu.Unlock()
}

// free gives back a place in the v5 window.
func (c *conn) free() {
	c.mu.Lock()
	c.quota = max(0, c.quota-1) // never above the start value: MQTT 5, 4.9
	c.mu.Unlock()
}

// settle waits until everything this connection appended is committed, so
// that an answer sent now does not overtake one that is due earlier
// (MQTT 5, 4.6). It returns early when the connection is to stop.
func (c *conn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open > 0 && !c.stopping {
		c.cond.Wait()
	}
}

// reply sends p after everything that was to be sent before.
func (c *conn) reply(p ...byte) { _, _ = c.Write(p) }

// deliver sends what Committed has gathered for this connection in one write,
// and lets the reader go on if it waits for places.
func (c *conn) deliver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open -= c.answered
	c.quota = max(0, c.quota-c.freed) // never above the start value: MQTT 5, 4.9
	if len(c.acks) > 0 && !c.closed {
		if len(c.out)+len(c.acks) > maxUnsentBytes {
			c.breakOff()
		} else {
			c.out = append(c.out, c.acks...)
			c.flushLater()
		}
	}
	c.acks, c.answered, c.freed, c.dirty = c.acks[:0], 0, 0, false
	c.cond.Broadcast()
}

// Write takes whole MQTT packets and returns before they are sent: the engine
// holds the client's lock meanwhile, and so would stop everybody who wants to
// send to a client that does not read. What such a client leaves unread is
// bounded: first it loses QoS 0 messages, then the connection.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.broken {
		return 0, net.ErrClosed
	}
	if len(c.out) > 0 && len(c.out)+len(p) > maxUnsentBytes {
		kept, lost := withoutQoS0(p)
		c.door.stat.fanoutLost.Add(uint64(lost))
		if len(kept) > 0 {
			c.breakOff()
			return 0, errSlowReader
		}
		return len(p), nil
	}
	c.out = append(c.out, p...)
	c.flushLater()
	return len(p), nil
}

// breakOff gives up on a client that does not read. Called with mu held.
func (c *conn) breakOff() {
	c.door.stat.slowReader.Add(1)
	c.out, c.broken, c.stopping = nil, true, true
	_ = c.Conn.SetDeadline(time.Unix(1, 0))
	c.cond.Broadcast()
}

// flushLater sees to it that what is in out will be sent. Called with mu held.
func (c *conn) flushLater() {
	if !c.flushing && !c.broken && len(c.out) > 0 {
		c.flushing = true
		go c.flush()
	}
}

// flush sends what is in out until there is nothing left, and ends. It lives
// for one write as a rule; a goroutine per connection that waits would cost
// more memory than this costs time.
func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && !c.broken {
		b := c.out
		c.out, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		err := c.send(b)
		c.mu.Lock()
		if cap(b) <= keepBytes {
			c.spare = b
		}
		if err != nil {
			c.broken, c.stopping = true, true
			_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
		}
	}
	c.flushing = false
	c.cond.Broadcast()
}

func (c *conn) send(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), chunkBytes)
		c.mu.Lock()
		if !c.closed && !c.broken {
			_ = c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		c.mu.Unlock()
		if _, err := c.Conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// withoutQoS0 returns the packets of p that are not QoS 0 PUBLISH packets,
// and how many of those there were. p holds whole packets.
func withoutQoS0(p []byte) (kept []byte, lost int) {
	for len(p) > 0 {
		size := frameBytes(p)
		if size == 0 || size > len(p) {
			return append(kept, p...), lost
		}
		if p[0]>>4 == typePublish && p[0]>>1&3 == 0 {
			lost++
		} else {
			kept = append(kept, p[:size]...)
		}
		p = p[size:]
	}
	return kept, lost
}

// frameBytes returns the size of the packet that p starts with, header
// included, or 0 when the header is not all there or malformed.
func frameBytes(p []byte) int {
	n := 0
	for i := 1; i < len(p) && i <= 4; i++ {
		n |= int(p[i]&0x7f) << (7 * (i - 1))
		if p[i] < 0x80 {
			return i + 1 + n
		}
	}
	return 0
}

// A greeting looks at the first bytes of a connection, before the engine
// allocates what they announce.
type greeting struct {
	head   [5]byte
	n      int
	done   bool
	lifted bool // the deadline for the CONNECT is replaced by the keep-alive
}

// take looks at the next bytes. It returns false when they are not the start
// of a CONNECT of acceptable size.
func (g *greeting) take(p []byte) bool {
	g.n += copy(g.head[g.n:], p)
	if g.head[0] != typeConnect<<4 {
		return false
	}
	size := frameBytes(g.head[:g.n])
	g.done = size > 0
	return size <= maxConnectBytes && (g.done || g.n < len(g.head))
}

// finish says the last words and closes the socket, after the reader has
// stopped because of err. Words are for MQTT 5 only: 3.1.1 has no DISCONNECT
// from the server. It returns why the connection ended, as a reason code, or 0.
func (c *conn) finish(err error) byte {
	code := c.lastWord(err)
	c.mu.Lock()
	if code == codeShuttingDown {
		c.awaitAnswers()
	}
	c.closed = true
	if code != 0 && c.v5 && !c.said && c.cl != nil {
		c.out = append(c.out, typeDisconnect<<4, 2, code, 0)
		c.said = true
	}
	if !c.broken {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(lingerTimeout))
	}
	c.flushLater()
	for c.flushing {
		c.cond.Wait()
	}
	linger := !c.broken && c.cl != nil && (c.said || code != 0)
	c.out, c.spare = nil, nil
	c.mu.Unlock()
	if linger {
		lingerOn(c.Conn)
	}
	_ = c.Conn.Close()
	return code
}

// awaitAnswers waits for what is still pending to be committed, but not for
// ever. Called with mu held.
func (c *conn) awaitAnswers() {
	late := false
	t := time.AfterFunc(c.door.opt.DrainTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.cond.Broadcast()
	})
	defer t.Stop()
	for c.open > 0 && !late && !c.broken {
		c.cond.Wait()
	}
}

// lingerOn reads on for a moment after the last words. Closing a socket with
// unread bytes in it sends a reset, which would take the words with it.
func lingerOn(nc net.Conn) {
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(lingerTimeout))
	var sink [512]byte
	for {
		if _, err := nc.Read(sink[:]); err != nil {
			return
		}
	}
}

// lastWord returns the reason code for the DISCONNECT, or 0 when the client
// needs none: it has gone by itself.
func (c *conn) lastWord(err error) byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.code != 0:
		return c.code
	case errors.Is(err, os.ErrDeadlineExceeded):
		return codeKeepAlive
	default:
		return codeOf(err)
	}
}
