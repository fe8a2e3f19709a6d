// Package packet cuts a byte stream into MQTT packets, refuses what is not
// well-formed, and writes what a server says.
//
// It speaks MQTT 3.1, 3.1.1 and 5, which are the versions 3, 4 and 5 here, by
// the protocol level in CONNECT. What it knows is the form of one packet: that
// an alias was never set, or that a packet comes at the wrong moment, is for
// the caller to see. Statement numbers are those of MQTT 5 where nothing else
// is said.
//
// PUBLISH and its acknowledgements have a decoder that allocates nothing; they
// are nearly all that a busy node reads. All other packets are checked here and
// then decoded by mochi's codec, which must not see a packet that is not
// well-formed: it panics on some (S1).
package packet

import "fmt"

// Packet types: MQTT 5, 2.1.2.
const (
	TypeConnect     = 1
	TypeConnack     = 2
	TypePublish     = 3
	TypePuback      = 4
	TypePubrec      = 5
	TypePubrel      = 6
	TypePubcomp     = 7
	TypeSubscribe   = 8
	TypeSuback      = 9
	TypeUnsubscribe = 10
	TypeUnsuback    = 11
	TypePingreq     = 12
	TypePingresp    = 13
	TypeDisconnect  = 14
	TypeAuth        = 15
)

// typeWill stands for the will in a CONNECT, where properties are concerned.
// No packet has the type 0.
const typeWill = 0

// names of the packet types, as the standard writes them.
var names = [16]string{
	"packet of type 0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// Versions: the protocol level in CONNECT.
const (
	version31  = 3
	version311 = 4
	version5   = 5
)

// MaxBytes is the size of the largest packet there can be, fixed header
// included: MQTT 5, 1.5.5.
const MaxBytes = 5 + maxRemaining

const (
	maxRemaining = 1<<28 - 1
	maxText      = 1<<16 - 1
)

// Reason codes: MQTT 5, 2.4.
const (
	CodeSuccess                     = 0x00 // also "granted QoS 0" and "normal disconnection"
	CodeGrantedQoS1                 = 0x01
	CodeGrantedQoS2                 = 0x02
	CodeDisconnectWithWill          = 0x04 // from a client
	CodeNoMatchingSubscribers       = 0x10
	CodeNoSubscription              = 0x11
	CodeContinueAuthentication      = 0x18
	CodeReauthenticate              = 0x19 // from a client
	CodeUnspecified                 = 0x80
	CodeMalformed                   = 0x81
	CodeProtocolError               = 0x82
	CodeImplementation              = 0x83 // "implementation specific error": our own fault
	CodeUnsupportedProtocol         = 0x84
	CodeClientID                    = 0x85
	CodeBadUserOrPassword           = 0x86
	CodeNotAuthorized               = 0x87
	CodeServerUnavailable           = 0x88
	CodeServerBusy                  = 0x89
	CodeBanned                      = 0x8a
	CodeShuttingDown                = 0x8b
	CodeBadAuthMethod               = 0x8c
	CodeKeepAlive                   = 0x8d
	CodeTakenOver                   = 0x8e
	CodeTopicFilter                 = 0x8f
	CodeTopicName                   = 0x90
	CodePacketIDInUse               = 0x91
	CodeUnknownPacketID             = 0x92
	CodeReceiveMaximum              = 0x93
	CodeTopicAlias                  = 0x94
	CodePacketTooLarge              = 0x95
	CodeMessageRate                 = 0x96
	CodeQuotaExceeded               = 0x97
	CodeAdministrative              = 0x98
	CodePayloadFormat               = 0x99
	CodeRetainNotSupported          = 0x9a
	CodeQoSNotSupported             = 0x9b
	CodeUseAnotherServer            = 0x9c
	CodeServerMoved                 = 0x9d
	CodeSharedNotSupported          = 0x9e
	CodeConnectionRate              = 0x9f
	CodeMaximumConnectTime          = 0xa0
	CodeSubscriptionIDsNotSupported = 0xa1
	CodeWildcardsNotSupported       = 0xa2
)

// An Error says what is wrong with a packet. After one the connection has to
// end: what follows in the stream cannot be trusted to be where it seems.
type Error struct {
	Code   byte   // the reason code for the client; MQTT 3 has no way to tell it, but for some in CONNACK
	Packet string // the packet's type, as the standard writes it
	What   string // what is wrong, with the number of the statement where there is one
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Packet, e.What) }
