package packet

import (
	"encoding/binary"

	"github.com/mochi-mqtt/server/v2/packets"
)

// An Out is a PUBLISH to a client. Nothing of it is kept.
type Out struct {
	Topic           []byte
	Payload         []byte
	PacketID        uint16 // for QoS 1 and 2
	QoS             byte
	Dup             bool
	Retain          bool
	Properties      []byte   // from AppendProperties; many Outs may share it
	SubscriptionIDs []uint32 // each from 1 to 268,435,455
}

// Size returns how many bytes AppendPublish would append; to be compared with
// the client's Maximum Packet Size, and never more than MaxBytes for a packet
// that can be sent.
func (o *Out) Size(version byte) int {
	n := o.remaining(version)
	return 1 + lengthBytes(n) + n
}

// remaining returns the remaining length.
func (o *Out) remaining(version byte) int {
	n := 2 + len(o.Topic) + len(o.Payload)
	if o.QoS > 0 {
		n += 2
	}
	if version == version5 {
		p := o.propertyBytes()
		n += lengthBytes(p) + p
	}
	return n
}

// propertyBytes returns the property length.
func (o *Out) propertyBytes() int {
	n := len(o.Properties)
	for _, id := range o.SubscriptionIDs {
		n += 1 + lengthBytes(int(id))
	}
	return n
}

// AppendPublish appends a PUBLISH to dst and returns it; nothing is allocated
// when dst has room. Properties and subscription identifiers are written in
// version 5 alone. A message that fits into no packet is not appended: one of
// more than MaxBytes, or with a topic of more than 65,535.
func AppendPublish(dst []byte, o *Out, version byte) []byte {
	n := o.remaining(version)
	if n > maxRemaining || len(o.Topic) > maxText {
		return dst
	}
	first := byte(TypePublish<<4) | o.QoS<<1
	if o.Dup {
		first |= flagDup
	}
	if o.Retain {
		first |= flagRetain
	}
	dst = appendLength(append(dst, first), n)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(o.Topic)))
	dst = append(dst, o.Topic...)
	if o.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, o.PacketID)
	}
	if version == version5 {
		dst = appendLength(dst, o.propertyBytes())
		dst = append(dst, o.Properties...)
		for _, id := range o.SubscriptionIDs {
			dst = appendLength(append(dst, propSubscriptionID), int(id))
		}
	}
	return append(dst, o.Payload...)
}

// AppendProperties appends those properties of a PUBLISH that are for its
// subscribers, without their length: all but the alias and the subscription
// identifiers. User properties keep their order (MQTT-3.3.2-18). mochi's
// encoder is not used because it leaves out the response topic and the
// correlation data (MQTT-3.3.2-15, -16). p is as it was decoded: a text of
// more than 65,535 bytes, which no packet can have had, would be cut.
func AppendProperties(dst []byte, p *packets.Properties) []byte {
	if p.PayloadFormatFlag {
		dst = append(dst, propPayloadFormat, p.PayloadFormat)
	}
	if p.MessageExpiryInterval > 0 {
		dst = binary.BigEndian.AppendUint32(append(dst, propExpiry), p.MessageExpiryInterval)
	}
	if p.ContentType != "" {
		dst = appendText(append(dst, propContentType), p.ContentType)
	}
	if p.ResponseTopic != "" {
		dst = appendText(append(dst, propResponseTopic), p.ResponseTopic)
	}
	if p.CorrelationData != nil {
		dst = appendText(append(dst, propCorrelationData), p.CorrelationData)
	}
	for _, u := range p.User {
		dst = appendText(append(dst, propUser), u.Key)
		dst = appendText(dst, u.Val)
	}
	return dst
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP, as kind says, to dst
// and returns it. The code is written in version 5 alone, and when it is not 0.
func AppendAck(dst []byte, kind byte, id uint16, code, version byte) []byte {
	first := kind << 4
	if kind == TypePubrel {
		first |= flagQoS1
	}
	if version == version5 && code != CodeSuccess {
		return append(dst, first, 3, byte(id>>8), byte(id), code)
	}
	return append(dst, first, 2, byte(id>>8), byte(id))
}

// AppendPingresp appends a PINGRESP to dst and returns it.
func AppendPingresp(dst []byte) []byte { return append(dst, TypePingresp<<4, 0) }

func appendText[T string | []byte](dst []byte, s T) []byte {
	s = s[:min(len(s), maxText)]
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// appendLength appends a variable byte integer, which is what Go calls a
// uvarint, of at most four bytes.
func appendLength(dst []byte, n int) []byte {
	return binary.AppendUvarint(dst, uint64(n))
}

// lengthBytes returns the size of n as a variable byte integer.
func lengthBytes(n int) int {
	size := 1
	for n >= 1<<7 {
		n >>= 7
		size++
	}
	return size
}
