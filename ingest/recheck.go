package ingest

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
)

// recheckFor is how long after a Recheck newcomers are asked twice: those who began
// their handshake under the old rules may come to their CONNECT under the new ones.
// It is longer than handshake, CONNECT and the queue for a password check may take.
const recheckFor = time.Minute

// Recheck disconnects the clients whom the guard would not let in again, by the
// rules that it has now, and returns how many that were. MQTT 5 clients are told
// 0x98 (administrative action); the wills of all are sent, where the rules still
// give it. All other connections stay as they are. It may be called by anybody, at
// any time, after the rules have changed.
func (d *Door) Recheck() (withdrawn int) {
	d.rechecked.Store(time.Now().UnixNano()) // first: who is not found below finds this
	d.mu.Lock()
	all := make([]*conn, 0, len(d.conns))
	for c := range d.conns {
		all = append(all, c)
	}
	d.mu.Unlock()
	for _, c := range all {
		c.mu.Lock()
		identity := c.identity
		c.mu.Unlock()
		if identity != nil && !d.stands(c, identity) {
			withdrawn++
			c.stop(packet.CodeAdministrative)
		}
	}
	return withdrawn
}

// identified takes down who a client is. It returns false when the rules have
// changed meanwhile, and the client would not be let in by the new ones.
func (d *Door) identified(c *conn, identity *auth.Identity) bool {
	c.mu.Lock()
	c.identity = identity
	c.mu.Unlock()
	last := d.rechecked.Load()
	return last == 0 || time.Now().UnixNano()-last > int64(recheckFor) || d.stands(c, identity)
}

// stands asks the guard whether a client would be let in again.
func (d *Door) stands(c *conn, identity *auth.Identity) bool {
	err := d.opt.Guard.Stands(identity, connectionState(c.nc))
	if err == nil {
		return true
	}
	d.stat.withdrawn.Add(1)
	d.opt.Logger.Info("a client that was let in would not be any more; its connection is closed",
		"client", c.id, "user", identity.User, "remote", c.nc.RemoteAddr().String(), "reason", err)
	return false
}

// connectionState returns what the TLS handshake of a connection has come to, or
// nil without TLS. The handshake is over.
func connectionState(nc net.Conn) *tls.ConnectionState {
	t, ok := nc.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	state := t.ConnectionState()
	return &state
}
