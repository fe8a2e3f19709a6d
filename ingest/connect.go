package ingest

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/ingest/session"
)

// neverExpires is the session expiry interval of MQTT 5 that means: never.
const neverExpires = 0xffffffff

// connect takes the first packet of a connection, and answers it. An error ends
// the connection.
func (d *Door) connect(c *conn, frame []byte) error {
	if frame[0]>>4 != packet.TypeConnect {
		return errNoConnect
	}
	pk, err := packet.Parse(frame, 0)
	if err != nil {
		if refused, ok := errors.AsType[*packet.Error](err); ok {
			d.refuseBadConnect(c, frame, refused.Code)
		}
		return err
	}
	c.introduce(pk)
	if code := d.examine(c, pk); code != 0 {
		c.refuse(code)
		return &packet.Error{Code: code, Packet: "CONNECT", What: "refused"}
	}
	c.in.endTurn()
	if code := d.authenticate(c, pk); code != 0 {
		d.stat.unauthorized.Add(1)
		c.refuse(code)
		return &packet.Error{Code: code, Packet: "CONNECT", What: "refused"}
	}
	return d.establish(c, pk)
}

// refuseBadConnect answers a CONNECT that is not as it should be, where the
// client can understand the answer: MQTT 5, 3.1.4; in 3.1.1 only two mistakes
// have a code (3.2.2.3).
func (d *Door) refuseBadConnect(c *conn, frame []byte, code byte) {
	c.version = packet.ConnectVersion(frame)
	c.v5 = c.version == 5
	switch {
	case c.v5, code == packet.CodeClientID:
	case code == packet.CodeUnsupportedProtocol:
		c.version = 4
	default:
		return
	}
	c.refuse(code)
}

// introduce takes down what a CONNECT says.
func (c *conn) introduce(pk *packets.Packet) {
	c.version = pk.ProtocolVersion
	c.v5 = c.version == 5
	c.id, c.claimed = pk.Connect.ClientIdentifier, string(pk.Connect.Username)
	c.keepAlive = time.Duration(pk.Connect.Keepalive) * time.Second
	c.window = maxWindow
	if c.v5 {
		if n := int(pk.Properties.ReceiveMaximum); n > 0 {
			c.window = min(n, maxWindow)
		}
		c.maxPacket = int(pk.Properties.MaximumPacketSize)
	}
}

// maxWindow is how many QoS 1 and 2 messages are in flight to a client that has
// not asked for fewer.
const maxWindow = 256

// examine returns why a client cannot be let in, or 0.
func (d *Door) examine(c *conn, pk *packets.Packet) byte {
	will := &pk.Connect
	switch {
	case c.v5 && pk.Properties.AuthenticationMethod != "":
		return packet.CodeBadAuthMethod // MQTT 5, 4.12
	case len(c.id) > maxClientIDBytes:
		return packet.CodeClientID
	case will.WillFlag && d.topicCode([]byte(will.WillTopic)) != 0:
		return packet.CodeTopicName
	case d.tooMany(c.id):
		d.stat.tooMany.Add(1)
		return packet.CodeServerBusy
	}
	return 0
}

// maxClientIDBytes bounds a client id, which is in each of its records.
const maxClientIDBytes = 1024

// authenticate asks the guard who this is. It returns why not, or 0.
func (d *Door) authenticate(c *conn, pk *packets.Packet) byte {
	who := auth.Credentials{
		ClientID: c.id, Username: c.claimed, HasUsername: pk.Connect.UsernameFlag, Password: pk.Connect.Password,
		Remote: hostOf(c.nc.RemoteAddr()), Certificate: leafOf(c.nc),
	}
	identity, err := d.opt.Guard.Authenticate(d.ctx, &who)
	if err != nil {
		d.opt.Logger.Info("refused a client", "client", c.id, "user", c.claimed, "remote", c.nc.RemoteAddr().String(), "reason", err)
		if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
			return refusal.Code
		}
		return packet.CodeNotAuthorized
	}
	if !d.identified(c, &identity) {
		return packet.CodeNotAuthorized
	}
	if c.user = identity.User; c.user != "" {
		c.claimed = c.user // what a certificate or a token says comes first
	}
	if !identity.Expires.IsZero() {
		c.expiry = time.AfterFunc(time.Until(identity.Expires), func() { c.stop(packet.CodeNotAuthorized) })
	}
	if will := &pk.Connect; will.WillFlag && !d.opt.Guard.Allows(c.user, c.id, auth.Write, will.WillTopic) {
		c.tellDenied("leave a will on", will.WillTopic)
		return packet.CodeNotAuthorized
	}
	return 0
}

// refuse sends a CONNACK that says no.
func (c *conn) refuse(code byte) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packet.TypeConnack}, ProtocolVersion: c.version, ReasonCode: code}
	if !c.v5 {
		pk.ReasonCode = connackV3(code)
	}
	c.send(packet.AppendConnack(nil, &pk)...)
	c.mu.Lock()
	c.said = true
	c.mu.Unlock()
}

// establish gives the client its session, and sends CONNACK.
func (d *Door) establish(c *conn, pk *packets.Packet) error {
	answer := packets.Packet{FixedHeader: packets.FixedHeader{Type: packet.TypeConnack}, ProtocolVersion: c.version}
	if c.id == "" {
		c.id = "auto-" + rand.Text()
		if c.v5 {
			answer.Properties.AssignedClientID = c.id
		}
	}
	c.idBytes = []byte(c.id)
	expiry := uint32(0)
	switch {
	case c.v5:
		expiry = pk.Properties.SessionExpiryInterval
	case !pk.Connect.Clean:
		expiry = d.opt.SessionExpirySeconds
	}
	present, err := d.claim(c, pk.Connect.Clean, expiry, pk.Connect.WillFlag)
	if err != nil {
		code := d.failure(err)
		if refused, ok := errors.AsType[*packet.Error](err); ok {
			code = refused.Code
		} else if errors.Is(err, session.ErrTooMany) {
			code = packet.CodeServerBusy
		}
		if !errors.Is(err, errStopped) {
			d.stat.refused(code)
			c.refuse(code)
		}
		return err
	}
	c.recent = d.recents.of(c.id, present, time.Now())
	d.rememberWill(c, pk)
	c.in.max, c.in.known = d.opt.MaxPacketBytes, true
	if c.isStopping() {
		return errStopped // somebody else has the session by now
	}
	answer.SessionPresent = present && c.version >= 4
	if c.v5 {
		answer.Properties.TopicAliasMaximum = topicAliasMaximum
		answer.Properties.MaximumPacketSize = uint32(d.opt.MaxPacketBytes)
		answer.Properties.ReceiveMaximum = uint16(d.opt.ReceiveMaximum)
	}
	c.send(packet.AppendConnack(nil, &answer)...)
	d.out.attach(c)
	return nil
}

// setExpiry changes how long the session outlives the connection.
func (c *conn) setExpiry(seconds uint32) {
	c.lasting = seconds > 0
	c.sub.SetExpiry(seconds, c.lasting)
	if event := c.sub.OpenedEvent(); event != nil {
		_ = c.door.note(c, event, tag(kindNoted, 0, 0)) // the client is leaving: at worst the session stays longer
	}
}
