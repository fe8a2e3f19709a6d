package device

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxPacketBytes limits what a device takes, unless its profile says otherwise:
// a longer message is skipped, any other longer packet is malformed.
const maxPacketBytes = 8 << 10

var errMalformed = errors.New("malformed packet")

// packet is what a device needs to know of a packet from the broker.
type packet struct {
	kind     byte   // its type, as in the fixed header
	packetID uint16 // of those that have one
	code     byte   // the reason code; 0 when there is none. SUBACK: that of its first filter
	connack  connack
	publish  delivery
}

// delivery is a PUBLISH to a device.
type delivery struct {
	topic, payload string
	qos            byte
	retained       bool
	tooLong        bool // longer than the device's buffer; the fields above are empty
}

// refused says whether the reason code is that of a failure (MQTT 5.0
// section 2.4).
func (p packet) refused() bool { return p.code >= 0x80 }

// connack is what the broker says about a connection. Without the properties
// of MQTT 5 its limits are the largest there are.
type connack struct {
	sessionPresent   bool
	receiveMaximum   uint16
	maximumQoS       byte
	keepAliveSeconds uint16 // 0: as the device wished
	topicAliases     uint16 // how many a device may set up
}

// readPacket reads the next packet. buf is used for its body and may be
// overwritten by the next call.
func readPacket(r *bufio.Reader, v version, buf []byte) (packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return packet{}, err
	}
	length, err := readLength(r)
	if err != nil {
		return packet{}, err
	}
	if length > len(buf) && first>>4 == typePublish {
		if _, err := r.Discard(length); err != nil {
			return packet{}, err
		}
		return packet{kind: typePublish, publish: delivery{tooLong: true}}, nil
	}
	if length > len(buf) {
		return packet{}, fmt.Errorf("%w: type %d with %d bytes", errMalformed, first>>4, length)
	}
	if _, err := io.ReadFull(r, buf[:length]); err != nil {
		return packet{}, err
	}
	return decode(v, first, buf[:length])
}

// readLength reads a variable byte integer of at most 4 bytes.
func readLength(r io.ByteReader) (int, error) {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int(b&0x7F) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: a length of more than 4 bytes", errMalformed)
}

// decode reads a packet from its first byte and its body, which may be
// anything. A type that a client does not expect is no error.
func decode(v version, first byte, body []byte) (packet, error) {
	p := packet{kind: first >> 4}
	switch p.kind {
	case typeConnack:
		return decodeConnack(v, body)
	case typePublish:
		return decodePublish(v, first, body)
	case typeSuback:
		return decodeSuback(v, body)
	case typePuback, typePubrec, typePubrel, typePubcomp:
		if len(body) < 2 {
			return p, fmt.Errorf("%w: an acknowledgement of %d bytes", errMalformed, len(body))
		}
		p.packetID = binary.BigEndian.Uint16(body)
		if v == v5 && len(body) > 2 {
			p.code = body[2]
		}
	case typeDisconnect:
		if len(body) > 0 {
			p.code = body[0]
		}
	}
	return p, nil
}

func decodePublish(v version, first byte, body []byte) (packet, error) {
	p := packet{kind: typePublish, publish: delivery{qos: first >> 1 & 3, retained: first&1 != 0}}
	bad := fmt.Errorf("%w: a PUBLISH of %d bytes", errMalformed, len(body))
	size := stringBytes(body)
	if size == 0 || size > len(body) || p.publish.qos > 2 {
		return p, bad
	}
	p.publish.topic = string(body[2:size])
	rest := body[size:]
	if p.publish.qos > 0 {
		if len(rest) < 2 {
			return p, bad
		}
		p.packetID = binary.BigEndian.Uint16(rest)
		rest = rest[2:]
	}
	if v == v5 {
		var ok bool
		if rest, ok = skipProperties(rest); !ok {
			return p, bad
		}
	}
	p.publish.payload = string(rest)
	return p, nil
}

func decodeSuback(v version, body []byte) (packet, error) {
	p := packet{kind: typeSuback}
	bad := fmt.Errorf("%w: a SUBACK of %d bytes", errMalformed, len(body))
	if len(body) < 3 {
		return p, bad
	}
	p.packetID = binary.BigEndian.Uint16(body)
	codes, ok := body[2:], true
	if v == v5 {
		codes, ok = skipProperties(codes)
	}
	if !ok || len(codes) == 0 {
		return p, bad
	}
	p.code = codes[0]
	return p, nil
}

// skipProperties returns what follows the properties that b begins with.
func skipProperties(b []byte) (rest []byte, ok bool) {
	length, n := binary.Uvarint(b)
	if n <= 0 || length > uint64(len(b)-n) {
		return nil, false
	}
	return b[n+int(length):], true
}

func decodeConnack(v version, body []byte) (packet, error) {
	p := packet{kind: typeConnack, connack: connack{receiveMaximum: 65535, maximumQoS: 2}}
	if len(body) < 2 || v == v311 && len(body) != 2 {
		return p, fmt.Errorf("%w: a CONNACK of %d bytes", errMalformed, len(body))
	}
	p.connack.sessionPresent = body[0]&1 != 0
	p.code = body[1]
	if v == v311 || len(body) == 2 { // a broker that does not speak MQTT 5 leaves the properties out
		return p, nil
	}
	length, n := binary.Uvarint(body[2:])
	if n <= 0 || length != uint64(len(body)-2-n) {
		return p, fmt.Errorf("%w: properties of a CONNACK", errMalformed)
	}
	for props := body[2+n:]; len(props) > 0; {
		size := propertyBytes(props)
		if size == 0 {
			return p, fmt.Errorf("%w: property 0x%02x of a CONNACK", errMalformed, props[0])
		}
		p.connack.set(props[0], props[1:size])
		props = props[size:]
	}
	return p, nil
}

func (c *connack) set(property byte, value []byte) {
	switch property {
	case propReceiveMaximum:
		c.receiveMaximum = max(1, binary.BigEndian.Uint16(value))
	case propMaximumQoS:
		c.maximumQoS = value[0]
	case propServerKeepAlive:
		c.keepAliveSeconds = binary.BigEndian.Uint16(value)
	case propTopicAliasMaximum:
		c.topicAliases = binary.BigEndian.Uint16(value)
	}
}

// propertyBytes returns the size of the property that props begins with, its
// identifier included, or 0 if it is unknown or cut off. (MQTT 5.0 section
// 2.2.2.2; those with a variable byte integer do not occur here.)
func propertyBytes(props []byte) int {
	size := 0
	switch props[0] {
	case 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A, 0x01:
		size = 1 + 1
	case 0x13, 0x21, 0x22, 0x23:
		size = 1 + 2
	case 0x11, 0x02, 0x18, 0x27:
		size = 1 + 4
	case 0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F:
		size = 1 + stringBytes(props[1:])
	case propUserProperty:
		key := stringBytes(props[1:])
		if key == 0 || 1+key > len(props) {
			return 0
		}
		value := stringBytes(props[1+key:])
		if value == 0 {
			return 0
		}
		size = 1 + key + value
	}
	if size <= 1 || size > len(props) {
		return 0
	}
	return size
}

// stringBytes returns the size of a string or binary with its length, or 0 if
// not even the length is there.
func stringBytes(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	return 2 + int(binary.BigEndian.Uint16(b))
}
