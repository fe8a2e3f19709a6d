package peer

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
)

// An encoder appends fields.
type encoder struct{ b []byte }

func (e *encoder) u8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16) { e.b = binary.BigEndian.AppendUint16(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *encoder) id(v [16]byte) {
	e.b = append(e.b, v[:]...)
}

func (e *encoder) lsn(v tributary.LSN) { e.u64(uint64(v)) }

func (e *encoder) flags(all ...bool) {
	var v uint8
	for i, f := range all {
		if f {
			v |= 1 << i
		}
	}
	e.u8(v)
}

func (e *encoder) text(s string, limit int) {
	for len(s) > limit {
		s = s[:limit]
	}
	e.u16(uint16(len(s)))
	e.b = append(e.b, s...)
}

// A decoder takes fields from the front of b. After the first failure it takes
// zeros.
type decoder struct {
	b      []byte
	failed string
}

func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.fail("it is cut short")
	}
	if d.failed != "" {
		return make([]byte, min(n, 16))
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) fail(what string) {
	if d.failed == "" {
		d.failed = what
	}
}

// more says whether there are fields that an older version of the other side would
// not have said.
func (d *decoder) more() bool { return d.failed == "" && len(d.b) > 0 }

func (d *decoder) u8() uint8                      { return d.take(1)[0] }
func (d *decoder) u16() uint16                    { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) u64() uint64                    { return binary.BigEndian.Uint64(d.take(8)) }
func (d *decoder) lsn() tributary.LSN             { return tributary.LSN(d.u64()) }
func (d *decoder) id() (v [16]byte)               { copy(v[:], d.take(16)); return v }
func (d *decoder) ledger() (v tributary.LedgerID) { return tributary.LedgerID(d.id()) }

func (d *decoder) flags(all ...*bool) {
	v := d.u8()
	for i, f := range all {
		*f = v&(1<<i) != 0
	}
}

func (d *decoder) text(limit int) string {
	n := int(d.u16())
	if n > limit {
		d.fail("a text is too long")
		return ""
	}
	s := string(d.take(n))
	if d.failed != "" {
		return ""
	}
	if !utf8.ValidString(s) {
		d.fail("a text is not UTF-8")
	}
	return s
}

// sealed takes the rest: a group or a pack.
func (d *decoder) sealed() (group.Codec, []byte) {
	codec := group.Codec(d.u8())
	if codec > group.Pack {
		d.fail("a codec is not known")
	}
	return codec, d.take(len(d.b))
}

func (h *Hello) encode(e *encoder) {
	e.u16(h.Version)
	e.id(h.Node)
	e.u64(h.Boot)
	e.u64(h.Nonce)
	e.text(h.Site, maxName)
	e.text(h.Name, maxName)
}

func (h *Hello) decode(d *decoder) {
	h.Version, h.Node, h.Boot, h.Nonce = d.u16(), d.id(), d.u64(), d.u64()
	h.Site, h.Name = d.text(maxName), d.text(maxName)
}

func (r *RejectError) encode(e *encoder) {
	e.text(r.Reason, maxReason)
	e.u64(r.Boot)
	e.u64(r.Nonce)
}

func (r *RejectError) decode(d *decoder) {
	r.Reason = d.text(maxReason)
	if d.more() {
		r.Boot, r.Nonce = d.u64(), d.u64()
	}
}

func (s *Status) encode(e *encoder) {
	e.u64(s.SentMillis)
	e.id(s.Live)
	e.flags(s.Short, s.KafkaReached)
	e.u64(s.FreeBytes)
	held := s.Held[:min(len(s.Held), maxHeld)]
	e.u16(uint16(len(held)))
	for i := range held {
		h := &held[i]
		e.id(h.Ledger)
		e.lsn(h.Base)
		e.lsn(h.Durable)
		e.u64(h.Chain)
		e.lsn(h.Position)
		e.flags(h.Forwarding, h.Holding)
	}
	nodes := s.Nodes[:min(len(s.Nodes), maxNodes)]
	e.u16(uint16(len(nodes)))
	for i := range nodes {
		e.id(nodes[i].Node)
		e.u64(nodes[i].Version)
		e.u8(nodes[i].State)
	}
}

func (s *Status) decode(d *decoder) {
	s.SentMillis, s.Live = d.u64(), d.ledger()
	d.flags(&s.Short, &s.KafkaReached)
	s.FreeBytes = d.u64()
	n := int(d.u16())
	if n > maxHeld {
		d.fail("too many ledgers")
	}
	for range n {
		if d.failed != "" {
			return
		}
		h := Held{Ledger: d.ledger(), Base: d.lsn(), Durable: d.lsn(), Chain: d.u64(), Position: d.lsn()}
		d.flags(&h.Forwarding, &h.Holding)
		s.Held = append(s.Held, h)
	}
	if !d.more() {
		return
	}
	if n = int(d.u16()); n > maxNodes {
		d.fail("too many nodes")
	}
	for range n {
		if d.failed != "" {
			return
		}
		s.Nodes = append(s.Nodes, Standing{Node: d.id(), Version: d.u64(), State: d.u8()})
	}
}

func (a *Append) encode(e *encoder) {
	e.id(a.Ledger)
	e.lsn(a.Position)
	e.lsn(a.LAC)
	e.u8(uint8(a.Codec))
	e.b = append(e.b, a.Sealed...)
}

func (a *Append) decode(d *decoder) {
	a.Ledger, a.Position, a.LAC = d.ledger(), d.lsn(), d.lsn()
	a.Codec, a.Sealed = d.sealed()
}

func (a *Ack) encode(e *encoder) {
	e.id(a.Ledger)
	e.lsn(a.Base)
	e.lsn(a.Durable)
	e.u64(a.Chain)
}

func (a *Ack) decode(d *decoder) {
	a.Ledger, a.Base, a.Durable, a.Chain = d.ledger(), d.lsn(), d.lsn(), d.u64()
}

func (n *Nack) encode(e *encoder) {
	e.id(n.Ledger)
	e.u8(uint8(n.Reason))
	e.lsn(n.End)
	e.u64(n.Chain)
}

func (n *Nack) decode(d *decoder) {
	n.Ledger, n.Reason, n.End, n.Chain = d.ledger(), Reason(d.u8()), d.lsn(), d.u64()
	if n.Reason < Gap || n.Reason > Failed {
		d.fail("a reason is not known")
	}
}

func (p *Pull) encode(e *encoder) {
	e.id(p.Ledger)
	e.lsn(p.From)
	e.lsn(p.To)
}

func (p *Pull) decode(d *decoder) {
	p.Ledger, p.From = d.ledger(), d.lsn()
	if d.more() {
		p.To = d.lsn()
	}
}

func (p *Pulled) encode(e *encoder) {
	e.id(p.Ledger)
	e.u8(uint8(p.Codec))
	e.b = append(e.b, p.Sealed...)
}

func (p *Pulled) decode(d *decoder) {
	p.Ledger = d.ledger()
	p.Codec, p.Sealed = d.sealed()
}

func (m *End) encode(e *encoder) {
	e.id(m.Ledger)
	e.lsn(m.Position)
}

func (m *End) decode(d *decoder) { m.Ledger, m.Position = d.ledger(), d.lsn() }

func (m *Echo) encode(e *encoder) {
	e.u64(m.SentMillis)
	e.u64(m.SlackMillis)
	e.flags(m.Refuses)
	e.u8(m.Copies)
}

func (m *Echo) decode(d *decoder) {
	m.SentMillis = d.u64()
	if d.more() {
		m.SlackMillis = d.u64()
		d.flags(&m.Refuses)
		m.Copies = d.u8()
	}
}
