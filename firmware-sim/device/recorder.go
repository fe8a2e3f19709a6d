package device

// A Kind says what happened to a message, or to the device that holds it.
type Kind byte

// The kinds of Event.
const (
	// NewSession: the broker holds no state of an earlier session; Event.Session
	// is the number of the one that begins. What was published but not yet
	// acknowledged will be sent again, as new; what waited for PUBCOMP is over.
	NewSession Kind = iota + 1
	// Sent: a PUBLISH is about to be handed to a socket, for the first time or
	// again. Seq, QoS, PacketID, Session and Millis say which.
	Sent
	// Acked: the broker took responsibility for Seq, by PUBACK or PUBREC.
	Acked
	// Released: PUBCOMP came, so the packet id of Seq is free.
	Released
	// Refused: the broker answered Seq with a reason code of 0x80 or more. The
	// device keeps the message, and sends it later under another packet id.
	Refused
	// Forgotten: the device lost its memory, and with it every message that was
	// not acknowledged, and its session.
	Forgotten
)

// An Event is one line of a device's history.
type Event struct {
	Kind     Kind
	Seq      uint64
	QoS      byte
	PacketID uint16 // 0 with QoS 0
	Session  uint64 // counts the sessions of the device, from 1
	Millis   int64  // Unix time in the payload, by the device's own clock
}

// A Flight is a message the device is not done with.
type Flight struct {
	Seq      uint64
	QoS      byte
	PacketID uint16
	Session  uint64 // the last one it was sent in
	Millis   int64
	Acked    bool // PUBREC came: PUBREL and PUBCOMP are still to be exchanged
	Refused  bool // it is to be sent again under another packet id
}

// A State is what a device must know to go on where it stopped.
type State struct {
	LastSeq uint64
	Session uint64 // 0: it never had one
	// Discard says that the broker may hold a session the device knows nothing
	// about, which has to be thrown away before the next one begins.
	Discard bool
	// Flights are in the order in which they were first sent, those that have
	// been acknowledged in the order of their PUBRECs.
	Flights []Flight
}

// A Recorder keeps the history of a fleet. Its methods may be called by many
// devices at once; the events of one device come in order.
type Recorder interface {
	// Record notes an event. It need not be safe before Flush.
	Record(device string, e Event)
	// Flush returns nil once every event recorded before the call would survive
	// the end of this process. Devices call it before they write to a socket.
	Flush() error
	// Resume returns the state in which the recorded history left a device.
	Resume(device string) State
}

// forgetful is the Recorder of a fleet that has none.
type forgetful struct{}

func (forgetful) Record(string, Event) {}
func (forgetful) Flush() error         { return nil }
func (forgetful) Resume(string) State  { return State{Discard: true} }
