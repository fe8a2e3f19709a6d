package group

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// A Builder gathers the records of one group. Its buffers are reused from one
// group to the next. Not for concurrent use.
type Builder struct {
	base  tributary.LSN
	count int
	bytes int // of all runs, encoded; an upper bound of the raw body
	runs  map[runKey]*run
	order []*run // the runs that have records, in the order of their first
	last  *run   // the run of the latest record: the next is often of the same
	out   []byte // sealed group, with its frame in front
	tmp   []byte // what zstd made
}

type runKey struct {
	stream    string
	partition int32
}

type run struct {
	runKey

	offset  int64 // of its first record in the partition
	millis  int64 // of its first record
	count   int64
	first   uint32 // index of its first record in the group
	next    uint32 // index after its latest record
	gaps    []byte // for each record but the first: uvarint(index - next), if one is not 0
	gapped  bool
	records []byte
}

// runOverhead bounds what a run costs besides its name, gaps and records.
const runOverhead = 6 * binary.MaxVarintLen64

// Reset empties b for a group whose first record has the LSN base.
func (b *Builder) Reset(base tributary.LSN) {
	for _, r := range b.order {
		r.count, r.gaps, r.gapped, r.records = 0, r.gaps[:0], false, r.records[:0]
		if len(b.runs) > maxIdleRuns {
			delete(b.runs, r.runKey)
		}
	}
	if b.runs == nil {
		b.runs = map[runKey]*run{}
	}
	b.base, b.count, b.bytes, b.order, b.last = base, 0, 0, b.order[:0], nil
}

// maxIdleRuns bounds the buffers kept for streams that may never come again.
const maxIdleRuns = 64

// Count returns how many records were added since Reset.
func (b *Builder) Count() int { return b.count }

// Bytes returns an upper bound of header and raw body.
func (b *Builder) Bytes() int { return HeaderBytes + b.bytes }

// MaxBytes returns an upper bound of what Add(r) adds to Bytes.
func MaxBytes(r *record.Record) int {
	return record.MaxBytes(r) + binary.MaxVarintLen32 + runOverhead + len(r.Stream)
}

// Add appends r as the next record of the group, with the time millis; offset
// is its offset in its partition. It keeps nothing of r.
func (b *Builder) Add(r *record.Record, millis, offset int64) {
	u := b.last
	if u == nil || u.partition != r.Partition || u.stream != r.Stream {
		u = b.run(r)
		b.last = u
	}
	index := uint32(b.count)
	if u.count == 0 {
		u.offset, u.millis, u.first = offset, millis, index
		b.order = append(b.order, u)
		b.bytes += runOverhead + len(u.stream)
	} else {
		gap := uint64(index - u.next)
		before := len(u.gaps)
		u.gaps = binary.AppendUvarint(u.gaps, gap)
		u.gapped = u.gapped || gap != 0
		b.bytes += len(u.gaps) - before
	}
	before := len(u.records)
	u.records = record.Append(u.records, r, millis-u.millis, u.count)
	b.bytes += len(u.records) - before
	u.next = index + 1
	u.count++
	b.count++
}

func (b *Builder) run(r *record.Record) *run {
	key := runKey{r.Stream, r.Partition}
	u := b.runs[key]
	if u == nil {
		u = &run{runKey: key}
		b.runs[key] = u
	}
	return u
}

// Seal encodes the group. h has Ledger, Number, PrevChain, Millis and the clock
// set; Seal fills the rest, so that h.Chain() is valid afterwards. The result
// has FrameBytes of room in front for f, whose place the caller fills in, then
// header and body, then zeros up to a whole page; it is valid until the next
// Seal. With enc, the body is compressed if that saves at least a page.
func (b *Builder) Seal(h *Header, enc *zstd.Encoder) (padded []byte, f Frame) {
	h.Base, h.Count = b.base, uint32(b.count)
	const start = FrameBytes + HeaderBytes
	if cap(b.out) < start {
		b.out = make([]byte, start, 64<<10)
	}
	out, codec := b.out[:start], Raw
	for _, u := range b.order {
		out = u.append(out)
	}
	h.finish(out[FrameBytes:], out[start:])
	if enc != nil && len(out)-start >= PageBytes/2 {
		b.tmp = enc.EncodeAll(out[start:], b.tmp[:0])
		if PaddedBytes(HeaderBytes+len(b.tmp)) < PaddedBytes(len(out)-FrameBytes) {
			out, codec = append(out[:start], b.tmp...), Zstd
		}
	}
	b.out, f = enclose(out, codec)
	return b.out, f
}

// enclose makes the frame for what stands in out behind the room for it, and
// pads out to whole pages.
func enclose(out []byte, codec Codec) (padded []byte, f Frame) {
	f = Frame{Of: 1, Bytes: len(out) - FrameBytes, Codec: codec, crc: Checksum(out[FrameBytes:])}
	for len(out)%Align != 0 {
		out = append(out, zeros[:min(len(zeros), Align-len(out)%Align)]...)
	}
	return out, f
}

//nolint:gochecknoglobals // a constant
var zeros [512]byte

func (u *run) append(out []byte) []byte {
	out = binary.AppendUvarint(out, uint64(len(u.stream)))
	out = append(out, u.stream...)
	out = binary.AppendUvarint(out, uint64(uint32(u.partition)))
	out = binary.AppendUvarint(out, uint64(u.offset))
	out = binary.AppendVarint(out, u.millis)
	out = binary.AppendUvarint(out, uint64(u.count))
	out = binary.AppendUvarint(out, uint64(u.first))
	if u.gapped {
		out = binary.AppendUvarint(out, uint64(len(u.gaps)))
		out = append(out, u.gaps...)
	} else {
		out = append(out, 0)
	}
	out = binary.AppendUvarint(out, uint64(len(u.records)))
	return append(out, u.records...)
}
