package packet

import (
	"bytes"

	"github.com/mochi-mqtt/server/v2/packets"
)

// AppendConnack appends a CONNACK to dst and returns it: SessionPresent,
// ReasonCode and Properties of pk, in its ProtocolVersion. ReasonCode is one
// of MQTT 5 in any version, and translated here. A refusal has no session
// (MQTT-3.2.2-6), and MQTT 3.1 none to speak of. pk.Mods.MaxSize is the
// client's Maximum Packet Size.
func AppendConnack(dst []byte, pk *packets.Packet) []byte {
	out := packets.Packet{
		ProtocolVersion: pk.ProtocolVersion,
		Properties:      pk.Properties,
		Mods:            pk.Mods,
		ReasonCode:      pk.ReasonCode,
	}
	if pk.ProtocolVersion != version5 {
		out.ReasonCode = connackCode3(pk.ReasonCode)
	}
	out.SessionPresent = pk.SessionPresent && pk.ReasonCode == CodeSuccess && pk.ProtocolVersion != version31
	return encode(dst, TypeConnack, &out, (*packets.Packet).ConnackEncode)
}

// connackCode3 returns the return code of MQTT 3.1.1 (3.2.2.3) for a reason
// code, "unavailable" where it has none. The codes of 3.1.1 are themselves.
func connackCode3(code byte) byte {
	switch code {
	case CodeUnsupportedProtocol:
		return 1
	case CodeClientID:
		return 2
	case CodeBadUserOrPassword:
		return 4
	case CodeNotAuthorized, CodeBanned, CodeBadAuthMethod:
		return 5
	}
	if code >= CodeUnspecified {
		return 3
	}
	return code
}

// AppendSuback appends a SUBACK to dst and returns it: PacketID, ReasonCodes
// and Properties of pk, in its ProtocolVersion. The reason codes are those of
// MQTT 5; in MQTT 3 a refusal is 0x80.
func AppendSuback(dst []byte, pk *packets.Packet) []byte {
	out := packets.Packet{
		ProtocolVersion: pk.ProtocolVersion,
		PacketID:        pk.PacketID,
		ReasonCodes:     pk.ReasonCodes,
		Properties:      pk.Properties,
		Mods:            pk.Mods,
	}
	if pk.ProtocolVersion != version5 {
		out.ReasonCodes = bytes.Clone(pk.ReasonCodes)
		for i, code := range out.ReasonCodes {
			out.ReasonCodes[i] = min(code, CodeUnspecified)
		}
	}
	return encode(dst, TypeSuback, &out, (*packets.Packet).SubackEncode)
}

// AppendUnsuback appends an UNSUBACK to dst and returns it: PacketID, and in
// version 5 ReasonCodes and Properties of pk.
func AppendUnsuback(dst []byte, pk *packets.Packet) []byte {
	out := packets.Packet{
		ProtocolVersion: pk.ProtocolVersion,
		PacketID:        pk.PacketID,
		ReasonCodes:     pk.ReasonCodes,
		Properties:      pk.Properties,
		Mods:            pk.Mods,
	}
	return encode(dst, TypeUnsuback, &out, (*packets.Packet).UnsubackEncode)
}

// AppendDisconnect appends a DISCONNECT to dst and returns it; MQTT 3 has none
// from a server. props may be nil. They are left out when the packet would
// have more than maxBytes, which is the client's Maximum Packet Size, or 0 for
// no limit. The property length is always there, because not every client
// knows that it may be missing.
func AppendDisconnect(dst []byte, code byte, props *packets.Properties, maxBytes uint32) []byte {
	out := packets.Packet{ProtocolVersion: version5, ReasonCode: code}
	if props != nil {
		out.Properties = *props
	}
	p := encode(dst, TypeDisconnect, &out, (*packets.Packet).DisconnectEncode)
	if props == nil || maxBytes == 0 || uint64(len(p)-len(dst)) <= uint64(maxBytes) {
		return p
	}
	return append(dst, TypeDisconnect<<4, 2, code, 0)
}

// encode lets mochi encode a packet behind dst. Its encoders of these packets
// return no errors.
func encode(dst []byte, kind byte, pk *packets.Packet, by func(*packets.Packet, *bytes.Buffer) error) []byte {
	pk.FixedHeader.Type = kind
	b := bytes.NewBuffer(dst)
	if by(pk, b) != nil {
		return dst
	}
	return b.Bytes()
}
