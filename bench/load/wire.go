package load

import "encoding/binary"

// Control packet types, first byte (MQTT 3.1.1 section 2.2).
const (
	connect   = 0x10
	connack   = 0x20
	publish   = 0x30 // and the QoS, twice
	puback    = 0x40
	pubrec    = 0x50
	pubrel    = 0x62
	pubcomp   = 0x70
	subscribe = 0x82
	suback    = 0x90
	pingreq   = 0xc0
	pingresp  = 0xd0
	goodbye   = 0xe0
)

// connectPacket asks for a session of MQTT 3.1.1 that is kept when clean is
// false, with keep-alive off.
func connectPacket(clientID string, clean bool) []byte {
	body := appendString(nil, "MQTT")
	flags := byte(0)
	if clean {
		flags = 2
	}
	body = append(body, 4, flags, 0, 0)
	return packet(connect, appendString(body, clientID))
}

func subscribePacket(filter string, qos int) []byte {
	return packet(subscribe, append(appendString([]byte{0, 1}, filter), byte(qos)))
}

// publishPacket is a PUBLISH. The packet id counts for QoS 1 and 2.
func publishPacket(topic string, qos int, id uint16, payload []byte) []byte {
	body := appendString(nil, topic)
	if qos > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	return packet(publish|byte(qos)<<1, append(body, payload...))
}

func packet(header byte, body []byte) []byte {
	pkt := binary.AppendUvarint([]byte{header}, uint64(len(body))) // MQTT's variable byte integer is a uvarint
	return append(pkt, body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// next cuts the first packet off b, with its first byte in header. ok is false
// when b has less than a whole one.
func next(b []byte) (header byte, body, rest []byte, ok bool) {
	if len(b) >= 4 && b[1] == 2 { // an acknowledgement
		return b[0], b[2:4], b[4:], true
	}
	if len(b) < 2 {
		return 0, nil, b, false
	}
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || uint64(len(b)-1-n) < size {
		return 0, nil, b, false
	}
	end := 1 + n + int(size)
	return b[0], b[1+n : end], b[end:], true
}
