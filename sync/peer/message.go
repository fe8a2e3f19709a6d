package peer

import (
	"encoding/binary"
	"fmt"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
)

// A Message is one of the types below.
type Message interface {
	kind() byte
	encode(*encoder)
	decode(*decoder)
}

// The kinds of messages.
const (
	kindHello byte = 1 + iota
	kindReject
	kindStatus
	kindAppend
	kindAck
	kindNack
	kindPull
	kindPulled
	kindEnd
	kindEcho
	kindClose
	kindClosed
	kindCollect
	kindCollected
)

const (
	headBytes  = 5
	maxHello   = 4 << 10
	maxMessage = group.HeaderBytes + group.MaxBody + 1<<10
	maxName    = 255
	maxHeld    = 4096 // ledgers in one Status
	maxNodes   = 64   // nodes in one Status
	maxReason  = 1 << 10
)

// A Hello is the first message in each direction.
type Hello struct {
	Version uint16
	Site    string
	Node    tributary.NodeID
	Boot    uint64 // counts the starts of the node
	Nonce   uint64 // drawn at this start, and never stored: two of one node and boot are a clone (R3)
	Name    string // for people
}

// A RejectError is the message Reject, which ends a connection: the peer may not speak, and Reason says why to a
// person. It is also the error of whoever is told so.
type RejectError struct {
	Reason string
	// Of the process that is known by the peer's node id, and is later than it: the
	// peer must become another node (R3). Both 0: there is another reason.
	Boot, Nonce uint64
}

// Error implements error.
func (r *RejectError) Error() string { return "the peer has refused this node: " + r.Reason }

// A Status says how a node is. It is sent each second, and when something has
// changed that others wait for.
type Status struct {
	SentMillis   uint64 // by the sender's own clock, which only it reads again: see Echo
	Live         tributary.LedgerID
	Short        bool // the node acknowledges without the copies that it should have (R12)
	KafkaReached bool // it has reached Kafka of late
	FreeBytes    uint64
	Held         []Held
	Nodes        []Standing // of the site, as far as the sender knows
}

// A Standing is what a node is to the site: see roster.Standing.
type Standing struct {
	Node    tributary.NodeID
	Version uint64
	State   uint8
}

// Held is what a node holds of one ledger, and what it knows of it.
type Held struct {
	Ledger     tributary.LedgerID
	Base       tributary.LSN // of the oldest record
	Durable    tributary.LSN // below: on its disk
	Chain      uint64        // at Durable
	Position   tributary.LSN // below: in Kafka, as far as it knows
	Forwarding bool          // it is forwarding the ledger now (R26)
	Holding    bool          // and waits at the mark of a hand-off (R45)
}

// An Append is more of a ledger that the sender wants the receiver to keep a
// copy of. The answer is an Ack when it is durable there, or a Nack.
type Append struct {
	Ledger   tributary.LedgerID
	Position tributary.LSN // below: in Kafka
	LAC      tributary.LSN // below: acknowledged to devices
	Codec    group.Codec
	Sealed   []byte // see group.Prove
}

// An Ack says what the sender has durably of a ledger.
type Ack struct {
	Ledger  tributary.LedgerID
	Base    tributary.LSN
	Durable tributary.LSN
	Chain   uint64 // at Durable
}

// A Nack says that an Append was not taken, and where the sender's copy ends.
type Nack struct {
	Ledger tributary.LedgerID
	Reason Reason
	End    tributary.LSN
	Chain  uint64
}

// A Reason is why an Append was not taken.
type Reason uint8

// The reasons.
const (
	Gap      Reason = 1 + iota // it does not begin where the copy ends
	Diverged                   // the copy has another history (R16)
	Full                       // there is no room for copies (R34)
	Failed                     // the disk of the receiver has failed
)

// A Pull asks for what the receiver has of a ledger from a record on. The answer
// is some Pulled and an End.
type Pull struct {
	Ledger tributary.LedgerID
	From   tributary.LSN
	To     tributary.LSN // only what is below is wanted; 0: all there is
}

// A Pulled is a part of a ledger that was asked for.
type Pulled struct {
	Ledger tributary.LedgerID
	Codec  group.Codec
	Sealed []byte
}

// An End says that the sender has no more of a ledger that was asked for, at
// present.
type End struct {
	Ledger   tributary.LedgerID
	Position tributary.LSN
}

// An Echo is the answer to a Status. It also says for how long after that the
// sender cannot acknowledge anything with too few copies (R44).
type Echo struct {
	SentMillis  uint64
	SlackMillis uint64 // 0: it may at any moment, or has
	Refuses     bool   // it never does
	Copies      uint8  // how many peers must have a record
}

func (*Hello) kind() byte       { return kindHello }
func (*RejectError) kind() byte { return kindReject }
func (*Status) kind() byte      { return kindStatus }
func (*Append) kind() byte      { return kindAppend }
func (*Ack) kind() byte         { return kindAck }
func (*Nack) kind() byte        { return kindNack }
func (*Pull) kind() byte        { return kindPull }
func (*Pulled) kind() byte      { return kindPulled }
func (*End) kind() byte         { return kindEnd }
func (*Echo) kind() byte        { return kindEcho }
func (*Close) kind() byte       { return kindClose }
func (*Closed) kind() byte      { return kindClosed }
func (*Collect) kind() byte     { return kindCollect }
func (*Collected) kind() byte   { return kindCollected }

// Encode appends m, as it goes over the wire, to dst.
func Encode(dst []byte, m Message) []byte {
	start := len(dst)
	e := encoder{append(dst, 0, 0, 0, 0, m.kind())}
	m.encode(&e)
	binary.BigEndian.PutUint32(e.b[start:], uint32(len(e.b)-start-headBytes))
	return e.b
}

// length returns how many bytes of a message follow its head.
func length(head []byte, limit int) (int, error) {
	n := binary.BigEndian.Uint32(head)
	if uint64(n) > uint64(limit) {
		return 0, fmt.Errorf("a message of %d bytes is larger than %d", n, limit)
	}
	return int(n), nil
}

// Decode reads the message of a kind from b, all of which it must be. What it
// returns points into b. Bytes behind the known fields of a message are those of
// a newer version, and are not looked at.
func Decode(kind byte, b []byte) (Message, error) {
	var m Message
	switch kind {
	case kindHello:
		m = &Hello{}
	case kindReject:
		m = &RejectError{}
	case kindStatus:
		m = &Status{}
	case kindAppend:
		m = &Append{}
	case kindAck:
		m = &Ack{}
	case kindNack:
		m = &Nack{}
	case kindPull:
		m = &Pull{}
	case kindPulled:
		m = &Pulled{}
	case kindEnd:
		m = &End{}
	case kindEcho:
		m = &Echo{}
	case kindClose:
		m = &Close{}
	case kindClosed:
		m = &Closed{}
	case kindCollect:
		m = &Collect{}
	case kindCollected:
		m = &Collected{}
	default:
		return nil, fmt.Errorf("a message of kind %d, which this program does not know", kind)
	}
	d := decoder{b: b}
	m.decode(&d)
	if d.failed != "" {
		return nil, fmt.Errorf("%T of %d bytes: %s", m, len(b), d.failed)
	}
	return m, nil
}
