package model

import "fmt"

// A ledgerNo stands for the random 128 bits that name a ledger: its place in
// world.ledgers. Nodes draw nothing from the order of the numbers.
type ledgerNo int

const (
	none   = ledgerNo(-1) // no ledger
	nobody = -1           // no device
)

func (l ledgerNo) String() string { return fmt.Sprintf("L%d", int(l)) }

// A ledger is what everybody may know of a ledger, and what only the checks
// may know of it.
type ledger struct {
	id     uint64    // the random bits, for ranks
	writer int       // the name of the node whose process appends to it
	truth  []*record // what was appended, whoever still has it: for the checks
}

type recordKind uint8

const (
	data recordKind = iota
	handoffMark
	commandAck // the device has acknowledged the command at Kafka offset seq
)

// A record is never changed once it is appended. The model has groups of one
// record, so each offset is a boundary.
type record struct {
	kind   recordKind
	device int
	seq    int   // the number of the publish in its device, or the offset of a command
	epoch  int64 // of the session
	deps   []dep // of a hand-off mark: what must be in Kafka before it
	chain  uint64

	uid        int64 // for the checks
	unverified bool  // appended in a session that was opened while some node did not answer
}

// A dep says that a ledger must be in Kafka up to end.
type dep struct {
	ledger ledgerNo
	end    int64
}

// A position says that everything below next is committed in Kafka.
type position struct {
	next  int64
	chain uint64
	found bool // false: nobody has ever written one
}

// A ledgerCopy is what one disk holds of a ledger: [base, end). The owner's
// is of the same kind as all others.
type ledgerCopy struct {
	ledger    ledgerNo
	base      int64
	baseChain uint64 // the chain below base
	records   []*record
	synced    int64 // the end of what the node takes for durable
	kept      int64 // the end of what a power cut leaves: less, where the disk lies
	bad       bool  // quarantined: it contradicts what is in Kafka
}

func (c *ledgerCopy) end() int64 { return c.base + int64(len(c.records)) }

func (c *ledgerCopy) at(o int64) *record { return c.records[o-c.base] }

// chainAt returns the hash over everything below o.
func (c *ledgerCopy) chainAt(o int64) uint64 {
	if o == c.base {
		return c.baseChain
	}
	return c.records[o-1-c.base].chain
}

// slice returns the records [from, to), for a message.
func (c *ledgerCopy) slice(from, to int64) []*record {
	return append([]*record(nil), c.records[from-c.base:to-c.base]...)
}

// restart makes c an empty copy that begins at o.
func (c *ledgerCopy) restart(o int64, chain uint64) {
	c.base, c.baseChain, c.records, c.synced, c.kept = o, chain, nil, o, o
}

// trim forgets what is below o.
func (c *ledgerCopy) trim(o int64) {
	o = min(o, c.synced)
	if o <= c.base {
		return
	}
	n := o - c.base
	c.baseChain = c.records[n-1].chain
	c.records = append([]*record(nil), c.records[n:]...)
	c.base = o
	c.kept = max(c.kept, o)
}

// cut forgets what is at o and above, where nothing of it was durable.
func (c *ledgerCopy) cut(o int64) {
	c.records = c.records[:o-c.base]
	c.synced, c.kept = min(c.synced, o), min(c.kept, o)
}

// mix is the model's hash.
func mix(h, v uint64) uint64 {
	h ^= v + 0x9e3779b97f4a7c15 + h<<6 + h>>2
	h *= 0xff51afd7ed558ccd
	return h ^ h>>33
}
