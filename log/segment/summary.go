package segment

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
)

// A Mark is one entry of the sparse index: a group that starts with record LSN
// of Spans[Span] lies at position At.
type Mark struct {
	LSN  tributary.LSN
	At   int64
	Span int
}

// MarkEvery is how far apart the marks of a segment are, in bytes, at least.
const MarkEvery = 128 << 10

// A Summary says what a segment holds, without its groups.
type Summary struct {
	End         int64  // where the last group ends
	FirstCommit uint64 // the commits whose frames it has, both 0 when it is empty
	LastCommit  uint64
	MinMillis   int64 // wall clock of the first group
	MaxMillis   int64 // the highest wall clock of a group
	Spans       []Span
	Marks       []Mark
}

// NewSummary returns the summary of an empty segment.
func NewSummary() Summary { return Summary{End: HeaderBytes} }

// Add takes into account the group h that lies at s.End in a frame f.
func (s *Summary) Add(f group.Frame, h *group.Header) {
	i := s.last(h.Ledger)
	if i < 0 || s.Spans[i].To != h.Base || s.Spans[i].ToChain != h.PrevChain {
		i = len(s.Spans) // the ledger's first group here, or one after a hole
		s.Spans = append(s.Spans, Span{Ledger: h.Ledger, From: h.Base, FromChain: h.PrevChain})
	}
	s.Spans[i].To, s.Spans[i].ToChain = h.Next(), h.Chain()
	if !s.marked(i) {
		s.Marks = append(s.Marks, Mark{LSN: h.Base, At: s.End, Span: i})
	}
	if s.FirstCommit == 0 {
		s.FirstCommit, s.MinMillis = f.Commit, h.Millis
	}
	s.LastCommit, s.MaxMillis = f.Commit, max(s.MaxMillis, h.Millis)
	s.End += int64(group.PaddedBytes(f.Bytes))
}

// marked says whether span i has a mark close enough to s.End.
func (s *Summary) marked(i int) bool {
	for _, m := range slices.Backward(s.Marks) {
		if m.Span == i {
			return s.End-m.At < MarkEvery
		}
	}
	return false
}

// last returns the index of the last span of a ledger, or -1.
func (s *Summary) last(id tributary.LedgerID) int {
	for i, p := range slices.Backward(s.Spans) {
		if p.Ledger == id {
			return i
		}
	}
	return -1
}

// Seek returns a position at or before the group of ledger id that holds lsn.
func (s *Summary) Seek(id tributary.LedgerID, lsn tributary.LSN) int64 {
	at := int64(HeaderBytes)
	for _, m := range s.Marks {
		if s.Spans[m.Span].Ledger == id && m.LSN <= lsn {
			at = m.At
		}
	}
	return at
}

// Footer layout: fixed part, then the spans, then the marks.
const (
	footerFixed = 72
	spanBytes   = 48
	markBytes   = 16
)

// maxSpans is how many spans find room in a footer.
const maxSpans = (FooterBytes - footerFixed) / spanBytes

// encode returns the footer, FooterBytes long, of a summary with at most
// maxSpans. Marks that find no room are left out, which only makes a search
// longer.
func (s *Summary) encode(seg *Segment) []byte {
	marks := s.Marks[:min(len(s.Marks), (FooterBytes-footerFixed-len(s.Spans)*spanBytes)/markBytes)]
	b := make([]byte, FooterBytes)
	be := binary.BigEndian
	be.PutUint32(b[0:], footerMagic)
	be.PutUint16(b[8:], Version)
	be.PutUint64(b[16:], seg.Seq)
	be.PutUint64(b[24:], seg.Salt)
	be.PutUint64(b[32:], s.FirstCommit)
	be.PutUint64(b[40:], s.LastCommit)
	be.PutUint64(b[48:], uint64(s.MinMillis))
	be.PutUint64(b[56:], uint64(s.MaxMillis))
	be.PutUint32(b[64:], uint32(s.End))
	be.PutUint16(b[68:], uint16(len(s.Spans)))
	be.PutUint16(b[70:], uint16(len(marks)))
	at := footerFixed
	for _, p := range s.Spans {
		copy(b[at:], p.Ledger[:])
		be.PutUint64(b[at+16:], uint64(p.From))
		be.PutUint64(b[at+24:], uint64(p.To))
		be.PutUint64(b[at+32:], p.FromChain)
		be.PutUint64(b[at+40:], p.ToChain)
		at += spanBytes
	}
	for _, m := range marks {
		be.PutUint64(b[at:], uint64(m.LSN))
		be.PutUint64(b[at+8:], uint64(m.At)<<16|uint64(m.Span))
		at += markBytes
	}
	be.PutUint32(b[4:], group.Checksum(b[8:]))
	return b
}

// decodeFooter reads what encode wrote; ok is false for anything else.
func decodeFooter(b []byte, seg *Segment) (s Summary, ok bool) {
	be := binary.BigEndian
	if len(b) != FooterBytes || be.Uint32(b) != footerMagic || be.Uint32(b[4:]) != group.Checksum(b[8:]) ||
		be.Uint16(b[8:]) != Version || be.Uint64(b[16:]) != seg.Seq || be.Uint64(b[24:]) != seg.Salt {
		return Summary{}, false
	}
	s = Summary{
		End: int64(be.Uint32(b[64:])), FirstCommit: be.Uint64(b[32:]), LastCommit: be.Uint64(b[40:]),
		MinMillis: int64(be.Uint64(b[48:])), MaxMillis: int64(be.Uint64(b[56:])),
	}
	spans, marks := int(be.Uint16(b[68:])), int(be.Uint16(b[70:]))
	if s.End < HeaderBytes || s.End > seg.End() || footerFixed+spans*spanBytes+marks*markBytes > FooterBytes {
		return Summary{}, false
	}
	at := footerFixed
	for range spans {
		p := Span{
			From: tributary.LSN(be.Uint64(b[at+16:])), To: tributary.LSN(be.Uint64(b[at+24:])),
			FromChain: be.Uint64(b[at+32:]), ToChain: be.Uint64(b[at+40:]),
		}
		copy(p.Ledger[:], b[at:])
		s.Spans = append(s.Spans, p)
		at += spanBytes
	}
	for range marks {
		word := be.Uint64(b[at+8:])
		m := Mark{LSN: tributary.LSN(be.Uint64(b[at:])), At: int64(word >> 16), Span: int(word & 0xffff)}
		if m.Span >= spans || m.At < HeaderBytes || m.At >= s.End {
			return Summary{}, false
		}
		s.Marks = append(s.Marks, m)
		at += markBytes
	}
	return s, true
}

// Seal writes the footer and makes it durable: from now on the segment need not
// be scanned at a start. A segment with so much damage that its spans find no
// room there stays without, and is scanned every time.
func (s *Segment) Seal(sum *Summary) error {
	if len(sum.Spans) > maxSpans {
		return nil
	}
	if _, err := s.File.WriteAt(sum.encode(s), s.End()); err != nil {
		return fmt.Errorf("write segment footer: %w", err)
	}
	if err := s.File.Sync(); err != nil {
		return fmt.Errorf("sync segment footer: %w", err)
	}
	return nil
}

// Footer returns the summary that Seal wrote; ok is false if there is none.
func (s *Segment) Footer() (sum Summary, ok bool, err error) {
	b := make([]byte, FooterBytes)
	if _, err := s.File.ReadAt(b, s.End()); err != nil {
		return Summary{}, false, fmt.Errorf("read segment footer: %w", err)
	}
	sum, ok = decodeFooter(b, s)
	return sum, ok, nil
}
