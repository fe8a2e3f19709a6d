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
	// The log times are of groups that this node has timed: both 0 when all are copies.
	MinMillis int64 // log time of the first group
	MaxMillis int64 // the highest log time of a group
	// Trusted says that the last group was timed by a clock to be trusted, so that
	// everything before it is really older than MaxMillis.
	Trusted bool
	Spans   []Span
	Clocks  []Clock
	Marks   []Mark
}

// A Clock says when a boot really was, in milliseconds since 1970: a group that
// was written after the clock had been synchronised knows it.
type Clock struct {
	Boot       [16]byte
	BootMillis int64
}

// NewSummary returns the summary of an empty segment.
func NewSummary() Summary { return Summary{End: HeaderBytes} }

// Clone returns a copy that shares nothing with s.
func (s *Summary) Clone() Summary {
	c := *s
	c.Spans, c.Clocks, c.Marks = slices.Clone(s.Spans), slices.Clone(s.Clocks), slices.Clone(s.Marks)
	return c
}

// Add takes into account the group or pack h that lies at s.End in a frame f.
func (s *Summary) Add(f *group.Frame, h *group.Header) {
	i := s.last(h.Ledger)
	if i < 0 || s.Spans[i].To != h.Base || s.Spans[i].ToChain != h.PrevChain {
		i = len(s.Spans) // the ledger's first group here, or one after a hole
		s.Spans = append(s.Spans, Span{Ledger: h.Ledger, From: h.Base, FromChain: h.PrevChain, Copy: f.Copy})
	}
	s.Spans[i].To, s.Spans[i].ToChain = h.Next(), h.Chain()
	if !s.marked(i) {
		s.Marks = append(s.Marks, Mark{LSN: h.Base, At: s.End, Span: i})
	}
	if s.FirstCommit == 0 {
		s.FirstCommit = f.Commit
	}
	s.LastCommit = f.Commit
	if !f.Copy {
		if s.MinMillis == 0 {
			s.MinMillis = h.Millis
		}
		s.MaxMillis, s.Trusted = max(s.MaxMillis, h.Millis), h.Trusted
	}
	if h.Trusted {
		s.Learn(Clock{h.Boot, h.BootMillis})
	}
	s.End += int64(group.PaddedBytes(f.Bytes))
}

// maxClocks is how many boots a segment remembers: the latest.
const maxClocks = 8

// Learn notes when a boot was. What is noted last of a boot counts.
func (s *Summary) Learn(c Clock) {
	for i := range s.Clocks {
		if s.Clocks[i].Boot == c.Boot {
			s.Clocks[i] = c
			return
		}
	}
	if len(s.Clocks) == maxClocks {
		s.Clocks = append(s.Clocks[:0], s.Clocks[1:]...)
	}
	s.Clocks = append(s.Clocks, c)
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

// Seek returns a position at or before the group of span i that holds lsn.
func (s *Summary) Seek(i int, lsn tributary.LSN) int64 {
	at := int64(HeaderBytes)
	for _, m := range s.Marks {
		if m.Span == i && m.LSN <= lsn {
			at = m.At
		}
	}
	return at
}

// Footer layout: fixed part, then the spans, the clocks, the marks.
const (
	footerFixed = 80
	spanBytes   = 48
	clockBytes  = 24
	markBytes   = 16
	copyBytes   = 48 // at the end of the footer: a bit for each span

	flagTrusted = 1 << 0
	flagCopies  = 1 << 1 // there are such bits; or else no span is a copy
)

// maxSpans is how many spans find room in a footer.
const maxSpans = (FooterBytes - footerFixed - maxClocks*clockBytes - copyBytes) / spanBytes

// encode returns the footer, FooterBytes long, of a summary with at most
// maxSpans. Marks that find no room are left out, which only makes a search
// longer.
func (s *Summary) encode(seg *Segment) []byte {
	room := FooterBytes - footerFixed - len(s.Spans)*spanBytes - len(s.Clocks)*clockBytes - copyBytes
	marks := s.Marks[:min(len(s.Marks), room/markBytes)]
	b := make([]byte, FooterBytes)
	be := binary.BigEndian
	be.PutUint32(b[0:], footerMagic)
	be.PutUint16(b[8:], Version)
	flags := uint16(flagCopies)
	if s.Trusted {
		flags |= flagTrusted
	}
	be.PutUint16(b[10:], flags)
	be.PutUint64(b[16:], seg.Seq)
	be.PutUint64(b[24:], seg.Salt)
	be.PutUint64(b[32:], s.FirstCommit)
	be.PutUint64(b[40:], s.LastCommit)
	be.PutUint64(b[48:], uint64(s.MinMillis))
	be.PutUint64(b[56:], uint64(s.MaxMillis))
	be.PutUint32(b[64:], uint32(s.End))
	be.PutUint16(b[68:], uint16(len(s.Spans)))
	be.PutUint16(b[70:], uint16(len(marks)))
	be.PutUint16(b[72:], uint16(len(s.Clocks)))
	at := footerFixed
	copies := b[FooterBytes-copyBytes:]
	for i, p := range s.Spans {
		if p.Copy {
			copies[i/8] |= 1 << (i % 8)
		}
		copy(b[at:], p.Ledger[:])
		be.PutUint64(b[at+16:], uint64(p.From))
		be.PutUint64(b[at+24:], uint64(p.To))
		be.PutUint64(b[at+32:], p.FromChain)
		be.PutUint64(b[at+40:], p.ToChain)
		at += spanBytes
	}
	for _, c := range s.Clocks {
		copy(b[at:], c.Boot[:])
		be.PutUint64(b[at+16:], uint64(c.BootMillis))
		at += clockBytes
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
		Trusted: be.Uint16(b[10:])&flagTrusted != 0,
	}
	spans, marks, clocks := int(be.Uint16(b[68:])), int(be.Uint16(b[70:])), int(be.Uint16(b[72:]))
	if s.End < HeaderBytes || s.End > seg.End() || spans > maxSpans || clocks > maxClocks || footerFixed+spans*spanBytes+clocks*clockBytes+marks*markBytes > FooterBytes {
		return Summary{}, false
	}
	var copies [copyBytes]byte
	if be.Uint16(b[10:])&flagCopies != 0 {
		copy(copies[:], b[FooterBytes-copyBytes:])
	}
	at := footerFixed
	for i := range spans {
		p := Span{
			From: tributary.LSN(be.Uint64(b[at+16:])), To: tributary.LSN(be.Uint64(b[at+24:])),
			FromChain: be.Uint64(b[at+32:]), ToChain: be.Uint64(b[at+40:]),
			Copy: copies[i/8]&(1<<(i%8)) != 0,
		}
		copy(p.Ledger[:], b[at:])
		s.Spans = append(s.Spans, p)
		at += spanBytes
	}
	for range clocks {
		c := Clock{BootMillis: int64(be.Uint64(b[at+16:]))}
		copy(c.Boot[:], b[at:])
		s.Clocks = append(s.Clocks, c)
		at += clockBytes
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
	if len(sum.Spans) <= maxSpans {
		if _, err := s.File.WriteAt(sum.encode(s), s.End()); err != nil {
			return fmt.Errorf("write segment footer: %w", err)
		}
	}
	if err := s.File.Sync(); err != nil {
		return fmt.Errorf("sync segment footer: %w", err)
	}
	return nil
}

// Footer returns the summary that Seal wrote; ok is false if there is none. The
// errors are ErrUnreadable, then nobody knows whether there is one, and those of
// the system.
func (s *Segment) Footer() (sum Summary, ok bool, err error) {
	b := make([]byte, FooterBytes)
	if err := s.read(b, s.End()); err != nil {
		return Summary{}, false, err
	}
	sum, ok = decodeFooter(b, s)
	return sum, ok, nil
}
