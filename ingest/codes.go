package ingest

import "github.com/tributary-edge/tributary/ingest/packet"

// connackV3 returns the CONNACK return code of MQTT 3.1.1 (3.2.2.3) for a
// reason code.
func connackV3(code byte) byte {
	switch code {
	case packet.CodeUnspecified, packet.CodeClientID: // an empty client id with a session to keep; a bad client id
		return 2
	case packet.CodeMalformed, packet.CodeProtocolError, packet.CodeUnsupportedProtocol:
		return 1
	case packet.CodeBadUserOrPassword:
		return 4
	case packet.CodeNotAuthorized, packet.CodeBadAuthMethod:
		return 5
	default:
		return 3 // unavailable
	}
}
