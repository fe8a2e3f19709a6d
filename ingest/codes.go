package ingest

import (
	"errors"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Packet types: MQTT 5, 2.1.2.
const (
	typeConnect    = 1
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubcomp    = 7
	typeDisconnect = 14
)

// Reason codes: MQTT 5, 2.4.
const (
	codeMalformed       = 0x81
	codeProtocolError   = 0x82
	codeImplementation  = 0x83 // "implementation specific error": the log has failed
	codeNotAuthorized   = 0x87
	codeShuttingDown    = 0x8b
	codeBadAuthMethod   = 0x8c
	codeKeepAlive       = 0x8d
	codeTakenOver       = 0x8e
	codeTopicName       = 0x90
	codeUnknownPacketID = 0x92
	codeReceiveMaximum  = 0x93
	codeTopicAlias      = 0x94
	codeQuotaExceeded   = 0x97 // the log is full
)

// codeOf returns the reason code in an error of the engine, or 0.
// ErrRejectPacket is our own way to stop the engine, and says nothing.
func codeOf(err error) byte {
	var code packets.Code
	if errors.As(err, &code) && code.Code >= 0x80 && code != packets.ErrRejectPacket {
		return code.Code
	}
	return 0
}

// connackV3 returns the CONNACK return code of MQTT 3.1.1 (3.2.2.3) for a
// reason code: the engine knows only some of them.
func connackV3(code byte) byte {
	switch code {
	case 0x80, 0x85: // an empty client id with a session to keep; a bad client id
		return 2
	case 0x81, 0x82, 0x84: // protocol name or version
		return 1
	case 0x86:
		return 4
	case 0x87:
		return 5
	default:
		return 3 // unavailable
	}
}
