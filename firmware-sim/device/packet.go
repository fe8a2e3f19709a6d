package device

import "encoding/binary"

// A version is MQTT's protocol level.
type version byte

const (
	v311 version = 4
	v5   version = 5
)

// The versions a device can speak, as Options names them.
const (
	Version311 = "3.1.1"
	Version5   = "5"
)

// The packet types that a client meets (MQTT 5.0 section 2.1.2).
const (
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubrel     = 6
	typePubcomp    = 7
	typeSuback     = 9
	typePingresp   = 13
	typeDisconnect = 14
)

// Properties (MQTT 5.0 section 2.2.2.2).
const (
	propContentType       = 0x03
	propSessionExpiry     = 0x11
	propServerKeepAlive   = 0x13
	propReceiveMaximum    = 0x21
	propTopicAliasMaximum = 0x22
	propTopicAlias        = 0x23
	propMaximumQoS        = 0x24
	propUserProperty      = 0x26
	propMaximumPacketSize = 0x27
)

// A Property is an MQTT 5 user property.
type Property struct {
	Key, Value string
}

// connect is the content of a CONNECT.
type connect struct {
	version            version
	clientID           string
	username, password string // no username: neither is sent
	clean              bool   // Clean Session, Clean Start
	keepAliveSeconds   uint16
	expirySeconds      uint32  // MQTT 5: how long the session outlives the connection
	maxPacketBytes     uint32  // MQTT 5: the longest packet the device takes; 0: any
	will               publish // no topic: no will
}

// encode returns the packet (MQTT 5.0 section 3.1, 3.1.1 section 3.1).
func (c connect) encode() []byte {
	body := appendString(make([]byte, 0, 128), "MQTT")
	var flags byte
	if c.clean {
		flags |= 1 << 1
	}
	if c.username != "" {
		flags |= 1<<7 | 1<<6
	}
	if c.will.topic != "" {
		flags |= 1<<2 | c.will.qos<<3
		if c.will.retain {
			flags |= 1 << 5
		}
	}
	body = append(body, byte(c.version), flags)
	body = binary.BigEndian.AppendUint16(body, c.keepAliveSeconds)
	if c.version == v5 {
		body = appendProperties(body, c.properties())
	}
	body = appendString(body, c.clientID)
	if c.will.topic != "" {
		if c.version == v5 {
			body = appendProperties(body, nil)
		}
		body = appendString(body, c.will.topic)
		body = appendString(body, string(c.will.payload))
	}
	if c.username != "" {
		body = appendString(body, c.username)
		body = appendString(body, c.password)
	}
	packet := binary.AppendUvarint([]byte{1 << 4}, uint64(len(body))) // MQTT's variable byte integer is a uvarint
	return append(packet, body...)
}

// properties returns those that do not have their default.
func (c connect) properties() (props []byte) {
	if c.expirySeconds != 0 {
		props = binary.BigEndian.AppendUint32(append(props, propSessionExpiry), c.expirySeconds)
	}
	if c.maxPacketBytes != 0 {
		props = binary.BigEndian.AppendUint32(append(props, propMaximumPacketSize), c.maxPacketBytes)
	}
	return props
}

// subscribe is the content of a SUBSCRIBE to one filter.
type subscribe struct {
	version  version
	packetID uint16
	filter   string
	qos      byte
}

// append appends the packet (MQTT 5.0 section 3.8).
func (s subscribe) append(dst []byte) []byte {
	body := binary.BigEndian.AppendUint16(make([]byte, 0, 64), s.packetID)
	if s.version == v5 {
		body = appendProperties(body, nil)
	}
	body = append(appendString(body, s.filter), s.qos)
	dst = binary.AppendUvarint(append(dst, 8<<4|2), uint64(len(body)))
	return append(dst, body...)
}

// publish is the content of a PUBLISH; props is nil in 3.1.1, and otherwise
// holds the properties with their length.
type publish struct {
	topic    string
	qos      byte
	dup      bool
	retain   bool
	packetID uint16
	props    []byte
	payload  []byte
}

// append appends the packet (MQTT 5.0 section 3.3).
func (p publish) append(dst []byte) []byte {
	first := byte(3<<4) | p.qos<<1
	if p.dup {
		first |= 1 << 3
	}
	if p.retain {
		first |= 1
	}
	length := 2 + len(p.topic) + len(p.props) + len(p.payload)
	if p.qos > 0 {
		length += 2
	}
	dst = append(dst, first)
	dst = binary.AppendUvarint(dst, uint64(length))
	dst = appendString(dst, p.topic)
	if p.qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.packetID)
	}
	dst = append(dst, p.props...)
	return append(dst, p.payload...)
}

// publishProperties returns the properties of a PUBLISH with their length; a
// topic alias of 0 is none.
func publishProperties(contentType string, user []Property, topicAlias uint16) []byte {
	var props []byte
	if topicAlias > 0 {
		props = binary.BigEndian.AppendUint16(append(props, propTopicAlias), topicAlias)
	}
	if contentType != "" {
		props = appendString(append(props, propContentType), contentType)
	}
	for _, u := range user {
		props = appendString(append(props, propUserProperty), u.Key)
		props = appendString(props, u.Value)
	}
	return appendProperties(nil, props)
}

// appendProperties appends properties with their length before them.
func appendProperties(dst, props []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(props))), props...)
}

// appendPubrel appends a PUBREL, whose flags are 0b0010 (MQTT 5.0 section 3.6.1).
func appendPubrel(dst []byte, packetID uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, typePubrel<<4|2, 2), packetID)
}

// appendAck appends a PUBACK, PUBREC or PUBCOMP that says yes.
func appendAck(dst []byte, kind byte, packetID uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, kind<<4, 2), packetID)
}

func appendPingreq(dst []byte) []byte { return append(dst, 12<<4, 0) }

// appendDisconnect appends a DISCONNECT: in MQTT 5 without a reason code, which
// is a normal one.
func appendDisconnect(dst []byte) []byte { return append(dst, typeDisconnect<<4, 0) }

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}
