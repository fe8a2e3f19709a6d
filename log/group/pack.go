package group

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

const packMagic = 0x54524250 // "TRBP"

// PackBytes is how much a pack gathers before it is compressed. More helps the
// compression little, and to read one group is to read its pack.
const PackBytes = 512 << 10

const maxPackGroups = 1<<16 - 1

// A Packer makes packs of groups of one ledger that follow one another. Small
// groups that were padded to pages and compressed one by one become a fraction
// of their size. Not for concurrent use.
type Packer struct {
	head Header // of the pack that gathers; head.groups is 0 when there is none
	copy bool   // its ledger is a copy
	raw  []byte
	out  []byte
}

// maxPacked is the largest group that a pack takes, with its header. A pack that
// compresses to no less than it was must not be larger than a frame may be.
const maxPacked = MaxBody / 2

// Add puts g into the pack that gathers, and reports whether it did: a group
// that does not follow the one before, or finds no room, belongs in the next
// pack. It keeps nothing of g. An error, always a *CorruptError, says that g
// would not come out of the pack as it is: it must stay where it is.
func (p *Packer) Add(g *Group) (added bool, err error) {
	h := &p.head
	size := len(p.raw) + HeaderBytes + len(g.Body)
	switch {
	case HeaderBytes+len(g.Body) > maxPacked, g.Count == 0:
		return false, corrupt("a group of %d records in %d bytes cannot be packed", g.Count, len(g.Body))
	case h.groups == 0:
		*h = Header{Ledger: g.Ledger, Number: g.Number, Base: g.Base, PrevChain: g.PrevChain, Millis: g.Millis}
		p.raw, p.copy = p.raw[:0], g.Copy
	case size > PackBytes, h.groups == maxPackGroups,
		g.Ledger != h.Ledger, g.Number != h.Number+uint64(h.groups), g.Base != h.Next(), g.PrevChain != h.chain:
		return false, nil
	}
	at := len(p.raw)
	p.raw = append(p.raw, make([]byte, HeaderBytes)...)
	g.encode(p.raw[at:])
	if err := prove(&g.Header, p.raw[at:], g.Body); err != nil {
		p.raw = p.raw[:at]
		return false, err
	}
	p.raw = append(p.raw, g.Body...)
	h.groups++
	h.Count += g.Count
	h.chain, h.Millis = g.Chain(), max(h.Millis, g.Millis)
	return true, nil
}

// Seal returns the pack that gathered, ready for a segment, as Builder.Seal
// does, and begins a new one; padded is nil if there was none. The caller fills
// in where f lies.
func (p *Packer) Seal(enc *zstd.Encoder) (padded []byte, f Frame, h Header) {
	if p.head.groups == 0 {
		return nil, f, h
	}
	const start = FrameBytes + HeaderBytes
	if cap(p.out) < start {
		p.out = make([]byte, start, PackBytes/2)
	}
	h = p.head
	h.rawBytes = uint32(len(p.raw))
	out := enc.EncodeAll(p.raw, p.out[:start])
	h.encodePack(out[FrameBytes:])
	padded, f = enclose(out, Pack)
	f.Copy = p.copy
	p.out, p.head = padded, Header{}
	return padded, f, h
}

// encodePack writes the header of a pack into dst, which has HeaderBytes.
func (h *Header) encodePack(dst []byte) {
	h.encode(dst)
	be := binary.BigEndian
	be.PutUint32(dst[0:], packMagic)
	be.PutUint16(dst[10:], uint16(h.groups))
	be.PutUint64(dst[72:], h.chain)
}

// unpack takes the groups of a pack apart.
func unpack(f *Frame, h *Header, raw []byte) ([]Group, error) {
	if h.groups == 0 || h.groups > len(raw)/HeaderBytes {
		return nil, corrupt("%d groups do not fit %d bytes", h.groups, len(raw))
	}
	all := make([]Group, 0, h.groups)
	next, chain := h.Base, h.PrevChain
	for range h.groups {
		g, err := Peek(raw)
		if err != nil {
			return nil, corrupt("group %d of a pack: %v", len(all), err)
		}
		rest := raw[HeaderBytes:]
		if g.groups > 0 || g.Count == 0 || g.Ledger != h.Ledger || g.Number != h.Number+uint64(len(all)) ||
			g.Base != next || g.PrevChain != chain || uint64(g.rawBytes) > uint64(len(rest)) {
			return nil, corrupt("group %d of a pack does not follow the one before", len(all))
		}
		body := rest[:g.rawBytes:g.rawBytes]
		if err := prove(&g, raw, body); err != nil {
			return nil, err
		}
		all = append(all, Group{Header: g, Body: body, Copy: f.Copy})
		next, chain, raw = g.Next(), g.Chain(), rest[g.rawBytes:]
	}
	if len(raw) > 0 || next != h.Next() || chain != h.chain {
		return nil, corrupt("a pack ends at record %d, should end at %d", next, h.Next())
	}
	return all, nil
}
