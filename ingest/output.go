package ingest

import (
	"net"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary/ingest/packet"
)

const (
	maxUnsentBytes = 1 << 20   // what a client may leave unread of answers: twice this ends the connection
	enoughUnsent   = 256 << 10 // with so much unread, no more QoS 1 or 2 messages are begun
	keepBytes      = 16 << 10  // a send buffer larger than this is not kept
	chunkBytes     = 64 << 10  // what must get through within writeTimeout
	writeTimeout   = 30 * time.Second
	lingerTimeout  = time.Second // for the peer to take our last words
	lingerBytes    = 1 << 20     // that the peer may send meanwhile
)

// What a client may leave unread before QoS 0 messages for it are dropped. The
// more all clients together leave, the less it is.
const (
	fewUnsentBytes  = 16 << 20 // of all: up to here each may leave muchPatience
	manyUnsentBytes = 64 << 20 // of all: up to here each may leave somePatience, and then littlePatience

	muchPatience   = 4 << 20
	somePatience   = 256 << 10
	littlePatience = 16 << 10
)

// patience returns how many bytes one client may leave unread now.
func (d *Door) patience() int {
	switch all := d.unsent.Load(); {
	case all < fewUnsentBytes:
		return muchPatience
	case all < manyUnsentBytes:
		return somePatience
	default:
		return littlePatience
	}
}

// put puts packets behind what is to be sent. Called with mu held.
func (c *conn) put(p []byte) {
	c.out = append(c.out, p...)
	c.door.unsent.Add(int64(len(p)))
}

// discard forgets what is to be sent. Called with mu held.
func (c *conn) discard() {
	c.door.unsent.Add(-int64(len(c.out)))
	c.out = nil
}

// send sends whole packets after everything that was to be sent before. It does
// not wait.
func (c *conn) send(p ...byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.broken {
		return
	}
	if len(c.out) > 2*maxUnsentBytes { // and not with p: one message may be larger than all that
		c.breakOff()
		return
	}
	c.put(p)
	c.flushLater()
}

// sendDroppable is send for QoS 0 messages, which go nowhere when the client has
// too much unread: then it returns false. Whoever calls it has them flushed.
func (c *conn) sendDroppable(p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.broken {
		return true // it has gone: nothing is dropped that anybody waits for
	}
	if len(c.out) > 0 && len(c.out)+len(p) > c.door.patience() {
		return false
	}
	c.put(p)
	return true
}

// roomy says whether another QoS 1 or 2 message may be begun. If not, the
// delivery hears when it may.
func (c *conn) roomy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hungry = c.behind() && !c.closed && !c.broken
	return !c.hungry
}

// behind says whether the client has so much unread that no more QoS 1 or 2
// messages are begun. Called with mu held.
func (c *conn) behind() bool { return len(c.out) > min(enoughUnsent, c.door.patience()) }

// deliver puts what Committed has gathered for this connection behind what is to
// be sent, for whoever calls it to have it flushed, and lets the reader go on if it
// waits for places.
func (c *conn) deliver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open -= c.answered
	c.noting -= c.noted
	c.quota = max(0, c.quota-c.freed) // never above the start value: MQTT 5, 4.9
	if len(c.acks) > 0 && !c.closed && !c.broken {
		if len(c.out) > 2*maxUnsentBytes {
			c.breakOff()
		} else {
			c.put(c.acks)
		}
	}
	c.acks, c.answered, c.freed, c.dirty = c.acks[:0], 0, 0, false
	c.noted = 0
	if cap(c.acks) > keepBytes {
		c.acks = nil
	}
	c.cond.Broadcast()
}

// breakOff gives up on a client that does not read. Called with mu held.
func (c *conn) breakOff() {
	c.door.stat.slowReader.Add(1)
	c.discard()
	c.broken, c.stopping = true, true
	_ = c.nc.SetDeadline(time.Unix(1, 0))
	c.cond.Broadcast()
}

// finish says the last words and closes the socket, after the reader has
// stopped because of err. Words are for MQTT 5 only: 3.1.1 has no DISCONNECT
// from the server. It returns why the connection ended, as a reason code, or 0.
func (c *conn) finish(err error) byte {
	code := c.lastWord(err)
	var props *packets.Properties
	if code == packet.CodeUseAnotherServer {
		props = &packets.Properties{ServerReference: c.door.opt.ServerReference}
	}
	c.mu.Lock()
	if code == packet.CodeShuttingDown || code == packet.CodeUseAnotherServer {
		c.awaitAnswers()
	}
	c.closed = true
	if code != 0 && c.v5 && !c.said && !c.broken {
		c.put(packet.AppendDisconnect(nil, code, props, uint32(c.maxPacket)))
		c.said = true
	}
	if !c.broken {
		_ = c.nc.SetWriteDeadline(time.Now().Add(lingerTimeout))
	}
	c.flushLater()
	for c.flushing {
		c.cond.Wait()
	}
	// Nothing is said to a client of 3.1.1 that was taken over, and it has moved on:
	// when ten thousand do, each place is needed at once.
	linger := !c.broken && c.version != 0 && (c.said || code != 0 && code != packet.CodeTakenOver)
	c.discard()
	c.spare = nil
	c.mu.Unlock()
	if linger {
		lingerOn(c.nc)
	}
	_ = c.nc.Close()
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
// unread bytes in it sends a reset, which would take the words with it. Who sends
// without end does not read them anyway.
func lingerOn(nc net.Conn) {
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(lingerTimeout))
	var sink [512]byte
	for taken := 0; taken < lingerBytes; {
		n, err := nc.Read(sink[:])
		if err != nil {
			return
		}
		taken += n
	}
}
