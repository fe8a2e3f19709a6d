package packet

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Parse checks and decodes a packet that a client may send; frame should be
// exactly one. For a CONNECT version is ignored, and ProtocolVersion of the
// packet has it. Whatever is wrong is an *Error. The packet is a copy: it
// stays good when frame is overwritten, and is the caller's.
//
// Topic filters of SUBSCRIBE and UNSUBSCRIBE that are none are kept in the
// packet, see FilterValid. In a will mochi's struct cannot tell a Message
// Expiry Interval of 0 from none. PUBLISH and its acknowledgements can be
// parsed here, too, but have their own, cheaper way.
func Parse(frame []byte, version byte) (*packets.Packet, error) {
	if len(frame) > 0 && frame[0]>>4 == TypeConnect {
		version = 0 // it is not known yet
	}
	r := open(frame, version)
	if r.err != nil {
		return nil, r.notOpened(frame)
	}
	kind, head := frame[0]>>4, len(frame)-len(r.b)
	switch kind {
	case TypeConnect:
		version = r.connect(frame[:head])
	case TypePublish:
		if err := new(Publish).Parse(frame, version); err != nil {
			return nil, err
		}
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		if _, err := ParseAck(frame, version); err != nil {
			return nil, err
		}
	case TypeSubscribe:
		r.subscribe(version)
	case TypeUnsubscribe:
		r.unsubscribe(version)
	case TypePingreq:
		r.end()
	case TypeDisconnect:
		r.disconnect(version)
	case TypeAuth:
		r.auth(version)
	default:
		r.fail(CodeProtocolError, "only a server sends this [4.13]")
	}
	if err := r.result(kind); err != nil {
		return nil, err
	}
	return decode(frame, head, version)
}

// disconnect checks a DISCONNECT. From the reason code on all may be missing:
// MQTT 5, 3.14.2.1 and 3.14.2.2.1.
func (r *reader) disconnect(version byte) {
	if version == version5 && len(r.b) > 0 {
		if !disconnectCode(r.byte("reason code")) {
			r.fail(CodeProtocolError, "the reason code is none that a client sends [MQTT-3.14.2-1]")
		}
		if len(r.b) > 0 {
			r.properties(TypeDisconnect)
		}
	}
	r.end()
}

// disconnectCode says whether a client may give this reason: MQTT 5, 3.14.2.1.
func disconnectCode(code byte) bool {
	switch code {
	case CodeSuccess, CodeDisconnectWithWill, CodeUnspecified, CodeMalformed, CodeProtocolError, CodeImplementation,
		CodeTopicName, CodeReceiveMaximum, CodeTopicAlias, CodePacketTooLarge, CodeMessageRate, CodeQuotaExceeded,
		CodeAdministrative, CodePayloadFormat:
		return true
	default:
		return false
	}
}

// auth checks an AUTH. The short form, of no bytes, means success, which only
// a server can say: MQTT 5, 3.15.2.1.
func (r *reader) auth(version byte) {
	if version != version5 {
		r.fail(CodeProtocolError, "MQTT 3 has no such packet [3.1.1: 2.2.1]")
		return
	}
	code := byte(CodeSuccess)
	if len(r.b) > 0 {
		code = r.byte("reason code")
	}
	if code != CodeContinueAuthentication && code != CodeReauthenticate {
		r.fail(CodeProtocolError, "the reason code is none that a client sends [MQTT-3.15.2-1]")
	}
	r.authProperties(r.properties(TypeAuth), true)
	r.end()
}

// decode lets mochi decode a frame that was checked.
//
// It decodes a copy, because the strings it makes are parts of what it is
// given. Three things are not left to it. Its fixed header refuses DUP on
// SUBSCRIBE, which MQTT 3.1 has. It looks at the reason code of a DISCONNECT
// only when something follows, and so takes 0x04, "with will", for a normal
// end when the packet is as short as it may be. And its Validate functions
// are not called, which refuse among others a will without a payload.
func decode(frame []byte, head int, version byte) (pk *packets.Packet, err error) {
	kind := frame[0] >> 4
	defer func() {
		if fault := recover(); fault != nil { // S1
			pk, err = nil, &Error{CodeImplementation, names[kind], fmt.Sprintf("the decoder has failed: %v", fault)}
		}
	}()
	body := bytes.Clone(frame[head:])
	pk = &packets.Packet{ProtocolVersion: version}
	pk.FixedHeader = packets.FixedHeader{
		Type:      kind,
		Remaining: len(body),
		Qos:       frame[0] & flagQoS >> 1,
		Retain:    frame[0]&flagRetain != 0,
		Dup:       frame[0]&flagDup != 0,
	}
	switch kind {
	case TypeConnect:
		err = pk.ConnectDecode(body)
	case TypePublish:
		err = pk.PublishDecode(body)
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		err = pk.PubackDecode(body) // all four are the same
	case TypeSubscribe:
		err = pk.SubscribeDecode(body)
	case TypeUnsubscribe:
		err = pk.UnsubscribeDecode(body)
	case TypeDisconnect:
		if len(body) == 1 {
			pk.ReasonCode = body[0]
		} else {
			err = pk.DisconnectDecode(body)
		}
	case TypeAuth:
		err = pk.AuthDecode(body)
	}
	if err != nil {
		return nil, refused(kind, err)
	}
	return pk, nil
}

// decodeProperties lets mochi decode the properties of a PUBLISH that were
// checked, with their length before them. They are part of what is returned.
func decodeProperties(b []byte) (p packets.Properties, err error) {
	defer func() {
		if fault := recover(); fault != nil { // S1
			err = &Error{CodeImplementation, names[TypePublish], fmt.Sprintf("the decoder has failed: %v", fault)}
		}
	}()
	if _, err := p.Decode(packets.Publish, bytes.NewBuffer(b)); err != nil {
		return packets.Properties{}, refused(TypePublish, err)
	}
	p.TopicAlias, p.TopicAliasFlag = 0, false
	return p, nil
}

// refused returns an error of mochi as one of ours. After the check there
// should be none.
func refused(kind byte, err error) *Error {
	e := &Error{CodeMalformed, names[kind], "the decoder refuses it: " + err.Error()}
	var code packets.Code
	if errors.As(err, &code) && code.Code >= CodeUnspecified {
		e.Code = code.Code
	}
	return e
}
