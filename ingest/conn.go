package ingest

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/gate"
	"github.com/tributary-edge/tributary/ingest/packet"
)

var (
	errStopped = errors.New("connection stopped by this node")
	errLeft    = errors.New("the client said DISCONNECT")
)

// A conn is a device's connection. One goroutine, the reader, serves it: it
// reads, and is the only one that closes the socket. Anybody may send, without
// waiting, or stop it.
type conn struct {
	nc      net.Conn
	door    *Door
	in      *input
	max     int           // the window: messages in flight to us
	stopped chan struct{} // closed when the reader has stopped: nothing is appended for this connection any more

	// Set from the CONNECT by the reader, before it appends anything.
	id, user  string // user: who it is, "" without authentication
	claimed   string // the user name that it gave, for routes
	idBytes   []byte
	version   byte // MQTT 3.1: 3, 3.1.1: 4, 5: 5; 0 before the CONNECT
	v5        bool
	lasting   bool // the session outlives the connection
	keepAlive time.Duration
	window    int // messages in flight to the client
	maxPacket int // bytes, of what the client takes; 0: no limit
	sub       *subscriber
	arrived   *arrived // nil: this node is alone
	will      *will
	host      string      // counted in Door.hosts
	expiry    *time.Timer // ends the connection with the token or certificate that it came with; nil: none

	// Touched by the reader alone.
	connectBy time.Time          // the deadline before the CONNECT
	deadline  time.Time          // the read deadline that is set after it
	patient   bool               // the deadline for the CONNECT was replaced, by that or by none
	taken     *intake            // nil: nothing that is not appended
	ledger    tributary.LedgerID // where what is pending is; zero: nothing is
	routes    map[string]*routed
	latest    *routed  // of the last message
	aliases   [][]byte // topic by alias, index alias-1
	rate      bucket
	recent    *recent // QoS 1 messages
	told      bool    // the log has a line about what this client may not do

	// Touched by the delivery alone.
	batch   []byte // QoS 0 messages to be handed over
	batched int

	retained []backlog // what new subscriptions are still to get; guarded by sub.serving

	// Touched by Committed alone.
	acks     []byte
	answered int // records of this connection that are no longer pending
	noted    int // of these, what was noted of its session
	freed    int // places in the v5 window that are free again
	dirty    bool

	due bool // to be flushed; guarded by Door.flusher

	mu       sync.Mutex     // guards what follows
	moving   func()         // ends the wait for other gateways; nil: there was none
	identity *auth.Identity // who the guard said it is; nil: not known yet
	cond     sync.Cond      // open, stopping, flushing have changed
	out      []byte         // to be sent
	spare    []byte         // the buffer that was sent last
	flushing bool           // a goroutine runs flush
	hungry   bool           // the delivery waits until out has been sent
	broken   bool           // a write has failed
	stopping bool           // the reader is to stop
	closed   bool           // nothing more is to be sent
	said     bool           // a DISCONNECT, or a CONNACK that refuses, was sent
	code     byte           // why we stop, for the DISCONNECT; 0: not our doing
	open     int            // records appended and not committed, and subscriptions under way
	noting   int            // of these, how many are about the session
	quota    int            // v5: messages received and not fully acknowledged
}

func newConn(d *Door, nc net.Conn) *conn {
	c := &conn{nc: nc, door: d, max: d.opt.ReceiveMaximum, stopped: make(chan struct{})}
	c.in = newInput(nc, d.room, func() (gate.Place, error) { return c.awaitPlace(gate.Connect) })
	c.cond.L = &c.mu
	return c
}

// read returns the next packet, good until the next call.
func (c *conn) read() ([]byte, error) {
	for {
		frame, err := c.in.next()
		if frame != nil || err != nil {
			return frame, err
		}
		if !c.door.appendTaken(c) {
			return nil, errStopped
		}
		if c.in.boundary() {
			c.extendDeadline()
		}
		if err := c.in.fill(); err != nil {
			if c.isStopping() {
				return nil, errStopped
			}
			return nil, err
		}
	}
}

// extendDeadline gives the client one and a half keep-alives from now to send
// a packet (MQTT 5, 3.1.2.10), and up to a sixteenth more, so that a busy
// connection does not set a deadline at each read. Before the CONNECT the
// deadline set at accept stays.
func (c *conn) extendDeadline() {
	if c.version == 0 {
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
	} else if c.patient {
		return
	}
	c.deadline, c.patient = until, true
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping { // or it would undo the deadline that wakes the reader
		_ = c.nc.SetReadDeadline(until)
	}
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
	if c.moving != nil {
		c.moving()
	}
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
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

// enterNote is enter for a record about the session.
func (c *conn) enterNote() {
	c.mu.Lock()
	c.open++
	c.noting++
	c.mu.Unlock()
}

// leaveNote gives back what enterNote took.
func (c *conn) leaveNote() {
	c.mu.Lock()
	c.open--
	c.noting--
	c.cond.Broadcast()
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
// (MQTT 5, 4.6). It returns false, and early, when the connection is to stop.
func (c *conn) settle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open > 0 && !c.stopping {
		c.cond.Wait()
	}
	return !c.stopping
}

// lastWord returns the reason code for the DISCONNECT, or 0 when the client
// needs none: it has gone by itself.
func (c *conn) lastWord(err error) byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var refused *packet.Error
	switch {
	case c.code != 0:
		return c.code
	case errors.Is(err, os.ErrDeadlineExceeded):
		return packet.CodeKeepAlive
	case errors.As(err, &refused):
		return refused.Code
	default:
		return 0
	}
}
