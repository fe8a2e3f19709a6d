package peer

import "github.com/tributary-edge/tributary"

// What two nodes say of devices that change from one to the other (R40 to R42).
// Many devices are in one message: a node that comes back, or goes, sends all of
// its devices to the others at once.

// Bounds of these messages.
const (
	MaxClients  = 256  // in one Close or Collect
	MaxMembers  = 1024 // named in one Collect
	MaxLedgers  = maxHeld
	MaxEnds     = 1<<16 - 1
	MaxIDs      = 1 << 15
	maxClientID = 1024
)

// A Device is a client that is at the sender now.
type Device struct {
	ID    string
	Epoch uint64 // of its session there
}

// A Close is the first round of a hand-off: the receiver closes the connections
// that these clients have to it, takes nothing more from them, and answers Closed.
type Close struct {
	Try     uint64 // which question this is; the answer has it
	Clients []Device
}

// A Closed is the answer to a Close, for its clients in their order.
type Closed struct {
	Try    uint64
	Epochs []uint64 // the highest that the sender knows of each
	Held   []bool   // not closed: it has a session with this epoch, which is higher than, or as high as, what Close said
}

// A Process is one life of a node.
type Process struct {
	Node  tributary.NodeID
	Nonce uint64
}

// A Collect is the second round: the receiver closes what older processes than
// these have under way to it, does what Close asks for, makes all that it holds
// durable, looks how far the clients are in it, and answers Collected.
type Collect struct {
	Try       uint64
	Processes []Process
	Clients   []Device
}

// A Collected is the answer to a Collect. Clients and ledgers are named by their
// places in that, and in Ledgers.
type Collected struct {
	Try     uint64
	Partial bool // it may not know all packet ids that it should
	Epochs  []uint64
	Held    []bool
	Ledgers []Looked
	Ends    []ClientEnd
	IDs     []PacketID
}

// Looked is what the sender has looked at of a ledger that it holds.
type Looked struct {
	Ledger   tributary.LedgerID
	From, To tributary.LSN // of what it looked at; To is the end of what it holds durably
	All      bool          // it has not looked at all: any client may be in it, up to To
}

// A ClientEnd says that the last record of a client that may not be in Kafka yet is
// in a ledger, and where.
type ClientEnd struct {
	Client, Ledger uint16
	End            tributary.LSN // behind the record
}

// A PacketID is what a ledger says last of a packet id of QoS 2. With ID 0 it is
// said of all ids of the client, and Released.
type PacketID struct {
	Client, Ledger uint16
	ID             uint16
	Released       bool
	LSN            tributary.LSN
	Epoch          uint64 // of the session
	Sum            uint64 // of the message: see mark.Sum
}

func (e *encoder) clients(all []Device) {
	all = all[:min(len(all), MaxClients)]
	e.u16(uint16(len(all)))
	for i := range all {
		e.text(all[i].ID, maxClientID)
		e.u64(all[i].Epoch)
	}
}

func (d *decoder) clients() (all []Device) {
	for range d.count(MaxClients, 10) {
		all = append(all, Device{d.text(maxClientID), d.u64()})
	}
	return all
}

// count takes a number of things, of at least so many bytes each. It returns 0 if
// there are more than limit, or than there is room for.
func (d *decoder) count(limit, bytes int) int {
	n := int(d.u16())
	if n > limit || n*bytes > len(d.b) {
		d.fail("too many")
		return 0
	}
	return n
}

func (e *encoder) known(epochs []uint64, held []bool) {
	e.u16(uint16(len(epochs)))
	for i := range epochs {
		e.u64(epochs[i])
		e.flags(held[i])
	}
}

func (d *decoder) known() (epochs []uint64, held []bool) {
	for range d.count(MaxClients, 9) {
		var is bool
		epochs = append(epochs, d.u64())
		d.flags(&is)
		held = append(held, is)
	}
	return epochs, held
}

func (m *Close) encode(e *encoder) {
	e.u64(m.Try)
	e.clients(m.Clients)
}

func (m *Close) decode(d *decoder) { m.Try, m.Clients = d.u64(), d.clients() }

func (m *Closed) encode(e *encoder) {
	e.u64(m.Try)
	e.known(m.Epochs, m.Held)
}

func (m *Closed) decode(d *decoder) {
	m.Try = d.u64()
	m.Epochs, m.Held = d.known()
}

func (m *Collect) encode(e *encoder) {
	e.u64(m.Try)
	e.u16(uint16(len(m.Processes)))
	for i := range m.Processes {
		e.id(m.Processes[i].Node)
		e.u64(m.Processes[i].Nonce)
	}
	e.clients(m.Clients)
}

func (m *Collect) decode(d *decoder) {
	m.Try = d.u64()
	for range d.count(MaxMembers, 24) {
		m.Processes = append(m.Processes, Process{d.id(), d.u64()})
	}
	m.Clients = d.clients()
}

func (m *Collected) encode(e *encoder) {
	e.u64(m.Try)
	e.flags(m.Partial)
	e.known(m.Epochs, m.Held)
	e.u16(uint16(len(m.Ledgers)))
	for i := range m.Ledgers {
		l := &m.Ledgers[i]
		e.id(l.Ledger)
		e.lsn(l.From)
		e.lsn(l.To)
		e.flags(l.All)
	}
	e.u16(uint16(len(m.Ends)))
	for i := range m.Ends {
		e.u16(m.Ends[i].Client)
		e.u16(m.Ends[i].Ledger)
		e.lsn(m.Ends[i].End)
	}
	e.u16(uint16(len(m.IDs)))
	for i := range m.IDs {
		p := &m.IDs[i]
		e.u16(p.Client)
		e.u16(p.Ledger)
		e.u16(p.ID)
		e.flags(p.Released)
		e.lsn(p.LSN)
		e.u64(p.Epoch)
		e.u64(p.Sum)
	}
}

func (m *Collected) decode(d *decoder) {
	m.Try = d.u64()
	d.flags(&m.Partial)
	m.Epochs, m.Held = d.known()
	for range d.count(maxHeld, 33) {
		l := Looked{Ledger: d.ledger(), From: d.lsn(), To: d.lsn()}
		d.flags(&l.All)
		m.Ledgers = append(m.Ledgers, l)
	}
	for range d.count(MaxEnds, 12) {
		m.Ends = append(m.Ends, ClientEnd{d.u16(), d.u16(), d.lsn()})
	}
	for range d.count(MaxIDs, 31) {
		p := PacketID{Client: d.u16(), Ledger: d.u16(), ID: d.u16()}
		d.flags(&p.Released)
		p.LSN, p.Epoch, p.Sum = d.lsn(), d.u64(), d.u64()
		m.IDs = append(m.IDs, p)
	}
	for i := range m.Ends {
		d.names(m.Ends[i].Client, m.Ends[i].Ledger, m)
	}
	for i := range m.IDs {
		d.names(m.IDs[i].Client, m.IDs[i].Ledger, m)
	}
}

// names fails if a client or a ledger is named that is not there.
func (d *decoder) names(client, ledger uint16, m *Collected) {
	if int(client) >= len(m.Epochs) || int(ledger) >= len(m.Ledgers) {
		d.fail("a place that is not there")
	}
}
