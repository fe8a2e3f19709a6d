package ingest

import (
	"crypto/x509"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tributary-edge/tributary/ingest/packet"
)

// spareConnections may be open beyond MaxClients, so that a client too many can
// be told so in its CONNACK.
const spareConnections = 64

// reservedFiles is how many file descriptors are left for the log, for Kafka, and
// for those who ask how the node is: however many connect, these go on.
const reservedFiles = 64

// limitConnections finds out how many connections may be open at once. When this
// process may not have file descriptors enough for Options.MaxClients, it says so.
func (d *Door) limitConnections() {
	d.maxConnections = d.opt.MaxClients + spareConnections
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur > uint64(d.maxConnections+reservedFiles) {
		return
	}
	d.maxConnections = max(1, int(files.Cur)-reservedFiles)
	if d.maxConnections < d.opt.MaxClients {
		d.opt.Logger.Warn("this process may not have enough open files for max_clients; raise LimitNOFILE of its service",
			"open_files", files.Cur, "max_clients", d.opt.MaxClients, "clients", d.maxConnections)
	}
}

// Limits are the bounds that may change while the door is open. Each is what the field
// of its name in Options is, and zero means no limit; of the last two it means what
// was in force before.
type Limits struct {
	MaxPerAddress                           int
	MaxMessagesPerSecond, MaxBytesPerSecond int
	MaxSlowed                               time.Duration
	MaxRetained, MaxRetainedBytes           int
}

// SetLimits puts other limits in force. Connections and retained messages that are
// there stay, even if there are more than the new ones let in. It may be called by
// anybody, at any time.
func (d *Door) SetLimits(l Limits) {
	d.limits.Store(&l)
	if l.MaxRetained > 0 {
		d.out.kept.max.Store(int64(l.MaxRetained))
	}
	if l.MaxRetainedBytes > 0 {
		d.out.kept.maxBytes.Store(int64(l.MaxRetainedBytes))
	}
}

// takeSocket counts a connection that was accepted, and says whether there was room
// for it. Whoever accepts asks before anything else is done: those who serve may
// be slower than those who knock.
func (d *Door) takeSocket() bool {
	if d.sockets.Add(1) <= int64(d.maxConnections) {
		return true
	}
	d.stat.tooMany.Add(1)
	return false
}

// admit registers a new connection, unless the door is closing or there are
// too many.
func (d *Door) admit(c *conn) bool {
	host, most := hostOf(c.nc.RemoteAddr()), d.limits.Load().MaxPerAddress
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		return false
	}
	if len(d.conns) >= d.maxConnections || most > 0 && d.hosts[host] >= most {
		d.stat.tooMany.Add(1)
		return false
	}
	d.conns[c] = struct{}{}
	d.stat.maxConnections.Store(max(d.stat.maxConnections.Load(), int64(len(d.conns))))
	c.host = host // counted whether there is a limit or not: there may be one later
	d.hosts[host]++
	d.serving.Add(1)
	d.stat.accepted.Add(1)
	return true
}

// tooMany says whether a client must be refused because as many are connected as
// may be.
func (d *Door) tooMany(client string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.owners) >= d.opt.MaxClients && d.owners[client] == nil
}

// release gives up the session that the connection holds, if it does.
func (d *Door) release(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owners[c.id] == c {
		delete(d.owners, c.id)
	}
}

func (d *Door) forget(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	if c.host == "" {
		return
	}
	if d.hosts[c.host]--; d.hosts[c.host] == 0 {
		delete(d.hosts, c.host)
	}
}

// A bucket holds what a client may still send: it fills with time, up to one
// second's worth.
type bucket struct {
	messages, bytes float64
	at              time.Time
	slowed          time.Time // since when it has been empty; zero: it is not
}

// pass makes a client wait that sends more than it may: we do not read on, and
// so its own sending stops in time. It returns false when the connection is to
// stop meanwhile, or has been slowed for too long.
func (d *Door) pass(c *conn, bytes int) bool {
	most := d.limits.Load()
	perSecond, bytesPerSecond := float64(most.MaxMessagesPerSecond), float64(most.MaxBytesPerSecond)
	if perSecond == 0 && bytesPerSecond == 0 {
		return true
	}
	b, now := &c.rate, time.Now()
	if b.at.IsZero() {
		b.messages, b.bytes = perSecond, bytesPerSecond
	} else {
		passed := now.Sub(b.at).Seconds()
		b.messages, b.bytes = min(perSecond, b.messages+passed*perSecond), min(bytesPerSecond, b.bytes+passed*bytesPerSecond)
	}
	b.at = now
	var wait float64 // seconds
	if perSecond > 0 {
		b.messages--
		wait = max(wait, -b.messages/perSecond)
	}
	if bytesPerSecond > 0 {
		b.bytes -= float64(bytes)
		wait = max(wait, -b.bytes/bytesPerSecond)
	}
	if wait <= 0 {
		b.slowed = time.Time{}
		return true
	}
	if b.slowed.IsZero() {
		b.slowed = now
	}
	if limit := most.MaxSlowed; limit > 0 && now.Sub(b.slowed) > limit {
		d.stat.tooFast.Add(1)
		c.stop(packet.CodeMessageRate)
		return false
	}
	d.stat.slowed.Add(1)
	return d.appendTaken(c) && c.pause(time.Duration(wait*float64(time.Second)))
}

// pause waits, and returns false at once when the connection is to stop.
func (c *conn) pause(long time.Duration) bool {
	over := false
	t := time.AfterFunc(long, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		over = true
		c.cond.Broadcast()
	})
	defer t.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !over && !c.stopping {
		c.cond.Wait()
	}
	return !c.stopping
}

// hostOf returns an address without its port.
func hostOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// leafOf returns the client's verified certificate, if it has shown one.
func leafOf(nc net.Conn) *x509.Certificate {
	if cs := connectionState(nc); cs != nil && len(cs.VerifiedChains) > 0 {
		return cs.VerifiedChains[0][0]
	}
	return nil
}

// topicCode returns the reason not to take a topic, or 0. Topics that start
// with $ are the server's own (MQTT 5, 4.7.2).
func (d *Door) topicCode(name []byte) byte {
	switch {
	case name[0] == '$':
		return packet.CodeNotAuthorized
	case levels(name) > d.opt.MaxTopicLevels:
		return packet.CodeTopicName
	default:
		return 0
	}
}

func levels(name []byte) int {
	n := 1
	for _, b := range name {
		if b == '/' {
			n++
		}
	}
	return n
}
