package load

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// Control packet types, first byte (MQTT 3.1.1 section 2.2).
const (
	connack   = 0x20
	publishQ1 = 0x32
	puback    = 0x40
	suback    = 0x90
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
	return packet(0x10, appendString(body, clientID))
}

// subscribePacket subscribes to filter with QoS 1.
func subscribePacket(filter string) []byte {
	return packet(0x82, append(appendString([]byte{0, 1}, filter), 1))
}

// publishPacket is a PUBLISH of QoS 1 without its packet id, which belongs at
// the returned position.
func publishPacket(topic string, payload []byte) (pkt []byte, idAt int) {
	body := appendString(nil, topic)
	idAt = len(body)
	body = append(append(body, 0, 0), payload...)
	pkt = packet(publishQ1, body)
	return pkt, idAt + len(pkt) - len(body)
}

func packet(header byte, body []byte) []byte {
	pkt := binary.AppendUvarint([]byte{header}, uint64(len(body))) // MQTT's variable byte integer is a uvarint
	return append(pkt, body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// readPacket returns the next packet's first byte and its body, which is
// borrowed from r until the next read.
func readPacket(r *bufio.Reader) (header byte, body []byte, err error) {
	if header, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	if size > uint64(r.Size()) {
		return 0, nil, fmt.Errorf("packet %#x of %d bytes; only short ones are expected", header, size)
	}
	if body, err = r.Peek(int(size)); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	_, err = r.Discard(int(size))
	return header, body, err
}
