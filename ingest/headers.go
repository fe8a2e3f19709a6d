package ingest

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
)

// Headers of a record that was an MQTT message. The names are fixed for ever.
// Those that start with "_" are never forwarded.
const (
	headerTopic           = "mqtt.topic"
	headerClientID        = "mqtt.client_id"
	headerQoS             = "mqtt.qos"              // "0", "1" or "2"
	headerRetain          = "mqtt.retain"           // "1"; absent when not set
	headerContentType     = "content-type"          // as the next five: MQTT 5, absent when not given
	headerResponseTopic   = "mqtt.response_topic"   // text
	headerCorrelationData = "mqtt.correlation_data" // bytes
	headerExpiry          = "mqtt.expiry_s"         // seconds from the record's time, decimal
	headerPayloadFormat   = "mqtt.payload_format"   // "0" or "1"
	headerDeadReason      = "tributary.dead.reason" // why a dead letter is one
	headerStamp           = mark.StampKey           // which record of which session of the device it is, where there are other gateways
	headerPacketID        = "_pid"                  // QoS 1, and QoS 2 where the session outlives the connection: 2 bytes, big endian
)

// userPrefix stands before the name of a user property that would otherwise
// pass for one of ours.
const userPrefix = "user."

// IsQoS2 says whether a record was a message of QoS 2.
func IsQoS2(r *record.Record) bool { return string(r.Header(headerQoS)) == "2" }

var qosValue = [3][]byte{{'0'}, {'1'}, {'2'}}

// A routed is what a connection remembers of a topic, so that messages on the
// same topic share the bytes.
type routed struct {
	Destination

	conn       *conn
	topic      []byte
	deadReason []byte // nil: it has a route
	refused    byte   // why the client may not publish to it, by the rules of that generation; 0: it may
	generation uint64
}

// What a connection remembers is bounded: topics, and their bytes.
const (
	maxRememberedTopics     = 64
	maxRememberedTopicBytes = 256
)

// Reroute has the Router asked again for every topic: it gives other answers from now
// on. It may be called by anybody, at any time.
func (d *Door) Reroute() { d.reroutes.Add(1) }

// route asks the router where the topic goes, once per topic as a rule.
func (c *conn) route(name []byte) *routed {
	generation := c.door.opt.Guard.Generation() + c.door.reroutes.Load() // both only grow: it is another one when either is
	if r := c.latest; r != nil && r.generation == generation && bytes.Equal(r.topic, name) {
		return r
	}
	r := c.routes[string(name)]
	if r == nil || r.generation != generation {
		r = c.findRoute(string(name), generation)
	}
	c.latest = r
	return r
}

func (c *conn) findRoute(topic string, generation uint64) *routed {
	r := &routed{conn: c, topic: []byte(topic), generation: generation}
	if r.refused = c.door.topicCode(r.topic); r.refused != 0 {
		return r
	}
	if !c.door.opt.Guard.Allows(c.user, c.id, auth.Write, topic) {
		r.refused = packet.CodeNotAuthorized
		c.tellDenied("publish to", topic)
	}
	var err error
	r.Destination, err = c.door.opt.Router.Route(topic, c.id, c.claimed)
	switch {
	case err != nil:
		r.Stream, r.Key, r.deadReason = c.door.opt.DeadLetter, []byte(c.id), []byte(err.Error())
	case r.Stream == "":
		r.Key = nil // the keys of the empty stream are those of control records
	}
	if len(topic) <= maxRememberedTopicBytes {
		if c.routes == nil || len(c.routes) >= maxRememberedTopics {
			c.routes = map[string]*routed{}
		}
		c.routes[topic] = r
	}
	return r
}

// tellDenied says what the client may not do, once for each connection: whoever
// looks for the reason wants a line, and a client that tries again and again must not
// fill the log.
func (c *conn) tellDenied(what, topic string) {
	if c.told {
		return
	}
	c.told = true
	c.door.opt.Logger.Warn("the access rules deny a client a topic; the next denials of this connection are not told", "wants_to", what, "client", c.id, "user", c.user, "topic", topic)
}

// values are what headers of a record point to that are of this record alone.
type values struct {
	pid     [2]byte
	stamp   [mark.StampBytes]byte
	written [8]byte
}

// fill makes r the record of a message, without a time: the log's clock says. It
// uses the array of r.Headers again, and v for as long as the record is needed.
func (c *conn) fill(r *record.Record, m *message, to *routed, v *values, logsPacketID bool) {
	h := append(r.Headers[:0],
		record.Header{Key: headerTopic, Value: to.topic},
		record.Header{Key: headerClientID, Value: c.idBytes},
		record.Header{Key: headerQoS, Value: qosValue[m.qos]})
	if m.retain {
		h = append(h, record.Header{Key: headerRetain, Value: qosValue[1]})
		if w := c.door.out.kept.stamps; w != nil {
			binary.BigEndian.PutUint64(v.written[:], w.clock.now())
			h = append(h, record.Header{Key: headerWritten, Value: v.written[:]})
		}
	}
	if stamp := c.stampOf(m, v.stamp[:0]); stamp != nil {
		h = append(h, record.Header{Key: headerStamp, Value: stamp})
	}
	if logsPacketID {
		binary.BigEndian.PutUint16(v.pid[:], m.pid)
		h = append(h, record.Header{Key: headerPacketID, Value: v.pid[:]})
	}
	if to.deadReason != nil {
		h = append(h, record.Header{Key: headerDeadReason, Value: to.deadReason})
		c.door.stat.deadLettered.Add(1)
	}
	if m.props != nil {
		h = appendProperties(h, m.props)
	}
	*r = record.Record{
		Stream:  to.Stream,
		Key:     to.Key,
		Value:   m.payload,
		Headers: h,
		Urgent:  to.Urgent,
		Alarm:   to.Alarm,
	}
}

// appendProperties adds what MQTT 5 sends along with a message.
func appendProperties(h []record.Header, p *packets.Properties) []record.Header {
	if p.ContentType != "" {
		h = append(h, record.Header{Key: headerContentType, Value: []byte(p.ContentType)})
	}
	if p.ResponseTopic != "" {
		h = append(h, record.Header{Key: headerResponseTopic, Value: []byte(p.ResponseTopic)})
	}
	if len(p.CorrelationData) > 0 {
		h = append(h, record.Header{Key: headerCorrelationData, Value: p.CorrelationData})
	}
	if p.MessageExpiryInterval > 0 {
		h = append(h, record.Header{Key: headerExpiry, Value: strconv.AppendUint(nil, uint64(p.MessageExpiryInterval), 10)})
	}
	if p.PayloadFormatFlag {
		h = append(h, record.Header{Key: headerPayloadFormat, Value: strconv.AppendUint(nil, uint64(p.PayloadFormat), 10)})
	}
	for _, u := range p.User {
		h = append(h, record.Header{Key: userToHeader(u.Key), Value: []byte(u.Val)})
	}
	return h
}

// userToHeader returns the header name for a user property: the name as it
// is, unless a device could use it to pass for us, or to hide a header from
// Kafka.
func userToHeader(name string) string {
	if isReserved(name) {
		return userPrefix + name
	}
	return name
}

// headerToUser undoes userToHeader.
func headerToUser(name string) string {
	if isReserved(name) {
		return strings.TrimPrefix(name, userPrefix)
	}
	return name
}

// isReserved says whether a name is one of ours, or one of ours behind any
// number of user prefixes.
func isReserved(name string) bool {
	for strings.HasPrefix(name, userPrefix) {
		name = name[len(userPrefix):]
	}
	return name == headerContentType || strings.HasPrefix(name, "_") ||
		strings.HasPrefix(name, "mqtt.") || strings.HasPrefix(name, "tributary.")
}
