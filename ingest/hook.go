package ingest

import (
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// topicAliasMaximum is how many topic aliases a client may set up (MQTT 5,
// 3.2.2.3.8).
const topicAliasMaximum = 32

// A hook is how the Door sits in the engine. It takes every PUBLISH and
// PUBREL out of the engine's hands as soon as it is decoded. It must stay the
// only hook: the engine asks all of them and takes any one's yes for a yes.
type hook struct {
	mqtt.HookBase
	door *Door
}

// ID names the hook to the engine.
func (h *hook) ID() string { return "tributary" }

// Provides tells the engine which of the methods below to call.
func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck,
		mqtt.OnSessionEstablish, mqtt.OnDisconnect, mqtt.OnClientExpired,
		mqtt.OnPacketRead, mqtt.OnPacketEncode,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribe, mqtt.OnWill:
		return true
	}
	return false
}

// OnConnectAuthenticate lets everybody in: the node sees to it that a Door
// without authentication listens where it was told to.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck is asked about each filter of a subscription, and about each
// message that the engine is about to put into a client's queue, by the one
// who puts it there. It is the place to make that one wait for room.
func (h *hook) OnACLCheck(cl *mqtt.Client, _ string, _ bool) bool {
	if c, ok := cl.Net.Conn.(*conn); ok && !cl.Closed() {
		c.queueOne()
	}
	return true
}

// OnSubscribed takes back what OnACLCheck counted for filters.
func (h *hook) OnSubscribed(cl *mqtt.Client, _ packets.Packet, codes []byte) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}
	for _, code := range codes {
		if code <= packets.CodeGrantedQos2.Code {
			c.unqueueOne()
		}
	}
}

// OnConnect takes down who connects, before authentication, and refuses what
// we cannot do.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return packets.ErrServerUnavailable
	}
	c.id, c.idBytes, c.user = cl.ID, []byte(cl.ID), string(pk.Connect.Username)
	c.v5 = cl.Properties.ProtocolVersion == 5
	c.lasting = !pk.Connect.Clean
	if c.v5 {
		c.lasting = pk.Properties.SessionExpiryInterval > 0
	}
	c.keepAlive = time.Duration(pk.Connect.Keepalive) * time.Second
	c.cl = cl
	if pk.Connect.WillFlag && c.v5 {
		c.willProps = &pk.Connect.WillProperties
	}
	// The engine drops messages to slow subscribers after it has given their
	// topic an alias, and goes on to use the alias. So: none.
	cl.Properties.Props.TopicAliasMaximum = 0

	var refusal packets.Code
	switch {
	case c.v5 && pk.Properties.AuthenticationMethod != "":
		refusal = packets.ErrBadAuthenticationMethod // MQTT 5, 4.12
	case pk.Connect.WillFlag && (strings.ContainsAny(pk.Connect.WillTopic, "+#") || pk.Connect.WillTopic == "" || h.door.topicCode(pk.Connect.WillTopic) != 0):
		refusal = packets.ErrTopicNameInvalid
	case h.door.tooManySessions(c.id):
		refusal = packets.ErrServerBusy
	default:
		return nil
	}
	_ = h.door.srv.SendConnack(cl, refusal, false, nil)
	return refusal
}

// OnSessionEstablish comes after authentication and before CONNACK.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, pk packets.Packet) {
	if c, ok := cl.Net.Conn.(*conn); ok {
		h.door.claim(c, pk.Connect.Clean)
	}
}

// OnDisconnect comes when the engine is done with a connection.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, expire bool) {
	if c, ok := cl.Net.Conn.(*conn); ok {
		h.door.disconnected(c, expire)
	}
}

// OnClientExpired comes when a session is over that had no connection. The
// engine forgets to take its subscriptions out of the topic tree.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	h.door.srv.UnsubscribeClient(cl)
	h.door.expired(cl.ID)
}

// OnPacketRead comes for each packet, decoded, on the connection's reader.
// ErrRejectPacket makes the reader stop. What is dealt with is replaced by the
// acknowledgement of a packet id that is never in use, to which the engine
// does nothing.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk, nil
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		if pk.PublishValidate(topicAliasMaximum) != packets.CodeSuccess {
			return pk, nil // the engine looks again, and ends the connection with the right code
		}
		m := message{
			topic: pk.TopicName, payload: pk.Payload,
			pid: pk.PacketID, qos: pk.FixedHeader.Qos, retain: pk.FixedHeader.Retain,
		}
		var props *packets.Properties
		if c.v5 {
			props = &pk.Properties
			if pk.Properties.TopicAliasFlag && !c.resolveAlias(&m, pk.Properties.TopicAlias) {
				c.stop(codeTopicAlias)
				return pk, packets.ErrRejectPacket
			}
		}
		ok = h.door.publish(c, &m, props)
	case packets.Pubrel:
		ok = h.door.pubrel(c, pk.PacketID)
	default:
		return pk, nil
	}
	if !ok {
		return pk, packets.ErrRejectPacket
	}
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: pk.ProtocolVersion}, nil
}

// resolveAlias sets up a topic alias, or puts the topic in its place. alias is
// 1 to topicAliasMaximum. It returns false for one that was not set up.
func (c *conn) resolveAlias(m *message, alias uint16) bool {
	if m.topic != "" {
		if c.aliases == nil {
			c.aliases = make([]string, topicAliasMaximum)
		}
		if c.aliases[alias-1] != m.topic {
			c.aliases[alias-1] = strings.Clone(m.topic)
		}
		return true
	}
	if c.aliases == nil {
		return false
	}
	m.topic = c.aliases[alias-1]
	return m.topic != ""
}

// OnPacketEncode completes what the engine sends.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		if pk.ReasonCode == 0 {
			pk.SessionPresent = pk.SessionPresent || c.resumed
			pk.Properties.TopicAliasMaximum = topicAliasMaximum
			pk.Properties.MaximumPacketSize = uint32(h.door.opt.MaxPacketBytes)
			break
		}
		c.sayLast()
		if cl.Properties.ProtocolVersion != 5 && pk.ReasonCode >= 0x80 {
			pk.ReasonCode = connackV3(pk.ReasonCode)
		}
	case packets.Publish:
		c.unqueueOne()
	case packets.Disconnect:
		c.sayLast()
	}
	return pk
}

// sayLast notes that the engine says why the connection ends.
func (c *conn) sayLast() {
	c.mu.Lock()
	c.said = true
	c.mu.Unlock()
}

// OnSubscribe makes a filter with too many levels one that the engine refuses
// as invalid, and grants QoS 0 at most (MQTT 5, 3.9.3): the engine's own QoS 1
// and 2 delivery loses and reorders messages under load, so that granting it
// would be a promise nobody keeps.
func (h *hook) OnSubscribe(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	for i := range pk.Filters {
		if strings.Count(pk.Filters[i].Filter, "/") >= h.door.opt.MaxTopicLevels {
			pk.Filters[i].Filter = ""
		}
		pk.Filters[i].Qos = 0
	}
	return pk
}

// OnUnsubscribe does the same.
func (h *hook) OnUnsubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	return h.OnSubscribe(cl, pk)
}

// OnWill takes a will over, and leaves the engine one that goes to nobody.
func (h *hook) OnWill(cl *mqtt.Client, w mqtt.Will) (mqtt.Will, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return w, nil
	}
	h.door.will(c, &w)
	cl.Properties.Will.WillDelayInterval = 0 // the engine would queue even that one
	w.TopicName, w.Retain = "", false
	return w, nil
}
