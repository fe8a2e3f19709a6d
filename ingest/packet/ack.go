package packet

// An Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP.
type Ack struct {
	Type     byte
	PacketID uint16
	Code     byte // CodeSuccess when the packet has none
}

// ParseAck decodes a frame that should be exactly one PUBACK, PUBREC, PUBREL or
// PUBCOMP. It allocates nothing, except for the *Error that it returns for a
// frame that is not well-formed. A reason string and user properties are
// checked, and passed over.
func ParseAck(frame []byte, version byte) (Ack, error) {
	r := open(frame, version)
	if r.err != nil {
		return Ack{}, r.notOpened(frame)
	}
	a := Ack{Type: frame[0] >> 4}
	if a.Type < TypePuback || a.Type > TypePubcomp {
		r.fail(CodeProtocolError, "an acknowledgement was expected")
	}
	a.PacketID = r.packetID()
	if version == version5 && len(r.b) > 0 {
		a.Code = r.byte("reason code")
		if !ackCode(a.Type, a.Code) {
			r.fail(CodeProtocolError, "the reason code is none of this packet's [2.4]")
		}
		if len(r.b) > 0 { // without it the property length is 0: 3.4.2.2.1
			r.properties(a.Type)
		}
	}
	r.end()
	if err := r.result(a.Type); err != nil {
		return Ack{}, err
	}
	return a, nil
}

// ackCode says whether a reason code may be in a packet of this type: MQTT
// 3.4.2-1, 3.5.2-1, 3.6.2-1, 3.7.2-1. "No matching subscribers", which only a
// server has a use for, is let through.
func ackCode(kind, code byte) bool {
	if kind == TypePubrel || kind == TypePubcomp {
		return code == CodeSuccess || code == CodeUnknownPacketID
	}
	switch code {
	case CodeSuccess, CodeNoMatchingSubscribers, CodeUnspecified, CodeImplementation, CodeNotAuthorized,
		CodeTopicName, CodePacketIDInUse, CodeQuotaExceeded, CodePayloadFormat:
		return true
	default:
		return false
	}
}
