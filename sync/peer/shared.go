package peer

// What all nodes of a site are to know alike, retained messages, is told at once by who
// writes it, and compared now and then. This package does not look into it.

// The kinds of these messages, which came with version 2.
const (
	kindHashes byte = 32 + iota
	kindShared
)

const (
	maxHashes = 1 << 12
	maxShared = 1 << 16 // items in one message
)

// A Hashes says what the sender knows, in short. With All it asks for what is not the
// same at the receiver: the answer is a Shared. Without, there is no answer: who has
// another sum asks.
type Hashes struct {
	Sum uint64
	All []uint64
}

// A Shared is what the sender knows.
type Shared struct {
	Items [][]byte
	More  bool // there is more that differs: the answer to a Hashes has room for so much
}

func (*Hashes) kind() byte { return kindHashes }
func (*Shared) kind() byte { return kindShared }

func (m *Hashes) encode(e *encoder) {
	e.u64(m.Sum)
	all := m.All[:min(len(m.All), maxHashes)]
	e.u16(uint16(len(all)))
	for _, h := range all {
		e.u64(h)
	}
}

func (m *Hashes) decode(d *decoder) {
	m.Sum = d.u64()
	n := int(d.u16())
	if n > maxHashes {
		d.fail("too many hashes")
	}
	for range n {
		if d.failed != "" {
			return
		}
		m.All = append(m.All, d.u64())
	}
}

func (m *Shared) encode(e *encoder) {
	e.flags(m.More)
	items := m.Items[:min(len(m.Items), maxShared)]
	e.u32(uint32(len(items)))
	for _, item := range items {
		e.u32(uint32(len(item)))
		e.b = append(e.b, item...)
	}
}

func (m *Shared) decode(d *decoder) {
	d.flags(&m.More)
	n := d.u32()
	if n > maxShared {
		d.fail("too many items")
	}
	for range n {
		size := d.u32()
		if d.failed != "" {
			return
		}
		if uint64(size) > uint64(len(d.b)) {
			d.fail("it is cut short")
			return
		}
		m.Items = append(m.Items, d.take(int(size)))
	}
}

func (e *encoder) u32(v uint32) {
	e.u16(uint16(v >> 16))
	e.u16(uint16(v))
}

func (d *decoder) u32() uint32 { return uint32(d.u16())<<16 | uint32(d.u16()) }
