package ingest

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary/ingest/packet"
)

var (
	errPanicked       = errors.New("a packet made this node panic")
	errPacketTooLarge = &packet.Error{Code: packet.CodePacketTooLarge, What: "the packet is larger than this node takes"}
	errNoConnect      = &packet.Error{Code: packet.CodeProtocolError, What: "the first packet is not a CONNECT [MQTT-3.1.0-1]"}
	errTwoConnects    = &packet.Error{Code: packet.CodeProtocolError, Packet: "CONNECT", What: "is the second one [MQTT-3.1.0-2]"}
	errUnknownAlias   = &packet.Error{Code: packet.CodeTopicAlias, Packet: "PUBLISH", What: "the topic alias was never set up, or is above the maximum"}
)

// topicAliasMaximum is how many topic aliases a client may set up (MQTT 5,
// 3.2.2.3.8).
const topicAliasMaximum = 32

// EstablishConnection serves MQTT on nc until the connection ends, and closes
// it. It may be called for as long as Run runs; when Run ends, so does it.
func (d *Door) EstablishConnection(nc net.Conn) {
	c := newConn(d, nc)
	if !d.admit(c) {
		_ = nc.Close()
		return
	}
	defer d.serving.Done()
	c.connectBy = time.Now().Add(d.patienceWith(nc))
	_ = nc.SetDeadline(c.connectBy)
	err := d.serve(c)
	c.in.release()
	if c.expiry != nil {
		c.expiry.Stop()
	}
	d.leave(c, err)
	close(c.stopped)
	code := c.finish(err)
	d.forget(c)
	if code != 0 {
		d.opt.Logger.Info("closed a connection", "client", c.id, "remote", nc.RemoteAddr().String(),
			"reason", fmt.Sprintf("0x%02x", code), "error", err)
	}
}

// serve reads the connection to its end. A packet that makes us panic ends this
// connection and nothing else (S1).
func (d *Door) serve(c *conn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.stat.panics.Add(1)
			d.opt.Logger.Error("a packet made this node panic; its connection is closed, nothing else is touched",
				"client", c.id, "panic", p, "stack", string(debug.Stack()))
			c.stop(packet.CodeUnspecified)
			err = errPanicked
		}
	}()
	defer func() { _ = d.appendTaken(c) }() // what came before the end counts
	if err := c.shakeHands(); err != nil {
		return err
	}
	frame, err := c.read()
	if err != nil {
		return err
	}
	if err := d.connect(c, frame); err != nil {
		return err
	}
	for {
		frame, err := c.read()
		if err != nil {
			return err
		}
		if err := d.take(c, frame); err != nil {
			return err
		}
	}
}

// take deals with one packet. An error ends the connection.
func (d *Door) take(c *conn, frame []byte) error {
	switch frame[0] >> 4 {
	case packet.TypePublish:
		return d.takePublish(c, frame)
	case packet.TypePuback, packet.TypePubrec, packet.TypePubrel, packet.TypePubcomp:
		ack, err := packet.ParseAck(frame, c.version)
		if err != nil {
			return err
		}
		return d.takeAck(c, ack)
	}
	if !d.appendTaken(c) {
		return errStopped
	}
	if len(frame) == 2 && frame[0] == packet.TypePingreq<<4 {
		c.send(packet.TypePingresp<<4, 0)
		return nil
	}
	pk, err := packet.Parse(frame, c.version)
	if err != nil {
		return err
	}
	switch pk.FixedHeader.Type {
	case packet.TypeSubscribe:
		return d.subscribe(c, pk)
	case packet.TypeUnsubscribe:
		return d.unsubscribe(c, pk)
	case packet.TypeDisconnect:
		return d.disconnect(c, pk)
	case packet.TypeAuth:
		return &packet.Error{Code: packet.CodeProtocolError, Packet: "AUTH", What: "no authentication method was agreed [MQTT-4.12.0-6]"}
	default:
		return errTwoConnects
	}
}

// takePublish takes a PUBLISH to the log.
func (d *Door) takePublish(c *conn, frame []byte) error {
	var p packet.Publish
	if err := p.Parse(frame, c.version); err != nil {
		return err
	}
	m := message{topic: p.Topic, payload: p.Payload, pid: p.PacketID, qos: p.QoS, retain: p.Retain, dup: p.Dup}
	if p.Alias != 0 && !c.resolveAlias(&m, p.Alias) {
		return errUnknownAlias
	}
	if !d.pass(c, len(frame)) {
		return errStopped
	}
	if p.HasProperties() {
		props, err := p.Properties()
		if err != nil {
			return err
		}
		m.props = &props
	}
	if !d.publish(c, &m) {
		return errStopped
	}
	return nil
}

// resolveAlias sets up a topic alias, or puts the topic in its place. It returns
// false for one that was not set up, or is too high.
func (c *conn) resolveAlias(m *message, alias uint16) bool {
	if alias > topicAliasMaximum {
		return false
	}
	if len(m.topic) > 0 {
		if c.aliases == nil {
			c.aliases = make([][]byte, topicAliasMaximum)
		}
		c.aliases[alias-1] = append(c.aliases[alias-1][:0], m.topic...)
		return true
	}
	if c.aliases == nil {
		return false
	}
	m.topic = c.aliases[alias-1]
	return len(m.topic) > 0
}

// takeAck deals with the answers to what the client was sent, and with PUBREL.
func (d *Door) takeAck(c *conn, ack packet.Ack) error {
	switch ack.Type {
	case packet.TypePubrel:
		if !d.pubrel(c, ack.PacketID) {
			return errStopped
		}
		return nil
	case packet.TypePuback:
		c.sub.Puback(ack.PacketID)
	case packet.TypePubcomp:
		c.sub.Pubcomp(ack.PacketID)
	case packet.TypePubrec:
		if !d.appendTaken(c) {
			return errStopped
		}
		return d.pubrec(c, ack)
	}
	d.out.wakeUp(c.sub)
	return nil
}

// pubrec answers a PUBREC with PUBREL, once the log knows of it where the
// session outlives the connection: after that the message is never sent again.
func (d *Door) pubrec(c *conn, ack packet.Ack) error {
	failed := ack.Code >= 0x80
	known, event := c.sub.Pubrec(ack.PacketID, failed)
	switch {
	case failed:
		d.out.wakeUp(c.sub)
	case !known:
		c.send(packet.AppendAck(nil, packet.TypePubrel, ack.PacketID, packet.CodeUnknownPacketID, c.version)...)
	case event == nil:
		c.send(packet.AppendAck(nil, packet.TypePubrel, ack.PacketID, 0, c.version)...)
	default:
		if err := d.note(c, event, tag(kindReceived, ack.PacketID, 0)); err != nil {
			c.stop(d.failure(err)) // the client comes back, and is sent the message again
			return errStopped
		}
	}
	return nil
}

// disconnect ends a connection at the client's wish: MQTT 5, 3.14.
func (d *Door) disconnect(c *conn, pk *packets.Packet) error {
	if pk.Properties.SessionExpiryIntervalFlag {
		if !c.lasting && pk.Properties.SessionExpiryInterval > 0 {
			return &packet.Error{Code: packet.CodeProtocolError, Packet: "DISCONNECT", What: "the session expiry was 0 in CONNECT and cannot be raised [MQTT-3.14.2-2]"}
		}
		c.setExpiry(pk.Properties.SessionExpiryInterval)
	}
	if pk.ReasonCode != packet.CodeDisconnectWithWill {
		c.will = nil
	}
	c.recent.forget() // who leaves in good order sends nothing again
	return errLeft
}
