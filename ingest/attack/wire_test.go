//go:build attack

package attack

import (
	"encoding/binary"
	"fmt"
)

// pack makes a control packet of its first byte and its parts: an int is a byte,
// a uint16 two and a uint32 four, a string has its length before it, bytes are as
// they are.
func pack(first byte, parts ...any) []byte {
	body := join(parts...)
	return append(variable([]byte{first}, len(body)), body...)
}

func join(parts ...any) (b []byte) {
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			b = append(b, byte(part))
		case uint16:
			b = binary.BigEndian.AppendUint16(b, part)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, part)
		case string:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(part))), part...)
		case []byte:
			b = append(b, part...)
		default:
			panic(fmt.Sprintf("no such part: %T", part))
		}
	}
	return b
}

// props are the properties of an MQTT 5 packet, their length first; for 3.1.1
// there are none.
func props(version byte, parts ...any) []byte {
	if version < 5 {
		return nil
	}
	b := join(parts...)
	return append(variable(nil, len(b)), b...)
}

func variable(b []byte, n int) []byte {
	for n >= 0x80 {
		b, n = append(b, byte(n)|0x80), n>>7
	}
	return append(b, byte(n))
}

// A hello is a CONNECT.
type hello struct {
	id, user, password string
	version            byte // 0: 4, which is MQTT 3.1.1
	keepAliveSeconds   uint16
	keep               bool // the session
}

func (h hello) packet() []byte {
	if h.version == 0 {
		h.version = 4
	}
	flags := 2
	if h.keep {
		flags = 0
	}
	tail := join(h.id)
	if h.user != "" {
		flags |= 0x80
		tail = append(tail, join(h.user)...)
	}
	if h.password != "" {
		flags |= 0x40
		tail = append(tail, join(h.password)...)
	}
	return pack(0x10, "MQTT", int(h.version), flags, h.keepAliveSeconds, props(h.version), tail)
}

// publish makes a PUBLISH. For QoS 0 there is no packet id.
func publish(version, qos byte, id uint16, topic, payload string) []byte {
	var number []byte
	if qos > 0 {
		number = join(id)
	}
	return pack(0x30|qos<<1, topic, number, props(version), []byte(payload))
}

// A seed is a packet that a client may send, or a server, well-formed.
type seed struct {
	name    string
	version byte
	bytes   []byte
}

// seeds returns packets of every type, for one version.
func seeds(v byte) []seed {
	var all []seed
	add := func(name string, b []byte) { all = append(all, seed{name, v, b}) }
	willProps := props(v, 0x18, uint32(3), 0x01, 1, 0x02, uint32(60), 0x03, "text", 0x08, "answers", 0x09, "id", 0x26, "k", "v")
	add("CONNECT", hello{id: "sweep", version: v, keepAliveSeconds: 10}.packet())
	add("CONNECT will user", pack(0x10, "MQTT", int(v), 0xee, uint16(10),
		props(v, 0x11, uint32(5), 0x21, uint16(9), 0x27, uint32(9999), 0x22, uint16(3), 0x19, 1, 0x17, 0, 0x26, "k", "v"),
		"sweep", willProps, "will/topic", "gone", "user", "password"))
	add("CONNECT persistent", hello{id: "kept", version: v, keep: true}.packet())
	add("PUBLISH 0", publish(v, 0, 0, "t", "x"))
	add("PUBLISH 1", publish(v, 1, 1, "t/u", "x"))
	add("PUBLISH 2", publish(v, 2, 2, "t/u/v", "payload"))
	add("PUBLISH retained", pack(0x33, "r/t", uint16(3), props(v), []byte("kept")))
	add("PUBLISH full", pack(0x32, "t/full", uint16(4),
		props(v, 0x01, 1, 0x02, uint32(9), 0x03, "text/plain", 0x08, "answers", 0x09, "correlation", 0x23, uint16(1), 0x26, "name", "value"), []byte("payload")))
	add("PUBACK", pack(0x40, uint16(1)))
	add("PUBREC", pack(0x50, uint16(1)))
	add("PUBREL", pack(0x62, uint16(1)))
	add("PUBCOMP", pack(0x70, uint16(1)))
	add("SUBSCRIBE", pack(0x82, uint16(1), props(v), "a/+/#", 1))
	add("SUBSCRIBE three", pack(0x82, uint16(2), props(v, 0x0b, 7, 0x26, "k", "v"), "a/b", 0, "t/#", 2, "$share/g/t", 1))
	add("UNSUBSCRIBE", pack(0xa2, uint16(3), props(v), "a/+/#", "t/#"))
	add("PINGREQ", pack(0xc0))
	add("DISCONNECT", pack(0xe0))
	add("CONNACK", pack(0x20, 0, 0, props(v)))
	add("SUBACK", pack(0x90, uint16(1), props(v), 0))
	add("UNSUBACK", pack(0xb0, uint16(1), props(v)))
	add("PINGRESP", pack(0xd0))
	add("reserved 0", pack(0x00))
	add("AUTH", pack(0xf0))
	if v == 5 {
		for _, first := range []int{0x40, 0x50, 0x62, 0x70} {
			add(fmt.Sprintf("%#x with reason", first), pack(byte(first), uint16(1), 0x10, props(v, 0x1f, "reason", 0x26, "k", "v")))
		}
		add("DISCONNECT with reason", pack(0xe0, 4, props(v, 0x11, uint32(7), 0x1f, "bye", 0x26, "k", "v")))
		add("AUTH with method", pack(0xf0, 0x18, props(v, 0x15, "SCRAM", 0x16, "data", 0x1f, "why", 0x26, "k", "v")))
		add("CONNECT enhanced", pack(0x10, "MQTT", 5, 2, uint16(9), props(v, 0x15, "SCRAM", 0x16, "data"), "sweep"))
	}
	return all
}
