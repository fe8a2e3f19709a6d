// Package group is what one flush of the disk makes durable: a group of
// records of one ledger, as bytes.
//
// A group has three layers, all big-endian; docs/format/log.md draws them byte
// by byte:
//
//	frame   48 bytes  where and how this copy is stored. Differs between copies.
//	header  96 bytes  what it is: ledger, LSNs, chain, times. The same in every copy.
//	body              runs of records in Kafka's encoding. The same in every copy.
//
// A frame may store the body with zstd, or many groups of a ledger as one pack
// (pack.go): header and body of each come out byte for byte as they were, so
// that checksum and chain still prove them.
//
// A group names the streams of its runs itself, so that it can be read with
// nothing but its own bytes. The package is pure and trusts no byte it decodes.
package group

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
)

// Sizes, in bytes.
const (
	PageBytes   = 4096 // of the device; see Align
	FrameBytes  = 48
	HeaderBytes = 96
	MaxBody     = 8 << 20 // no body is larger, stored or raw
)

// Version is the format version this code writes and reads.
const Version = 2

const (
	frameMagic  = 0x54524246 // "TRBF"
	headerMagic = 0x54524247 // "TRBG"

	flagTrusted = 1 << 1
	frameCopy   = 1 << 0
)

// A Codec says how a frame stores what it holds.
type Codec uint8

// The codecs.
const (
	Raw  Codec = iota // one group: header, body
	Zstd              // one group: header, body compressed with zstd
	Pack              // many groups of one ledger: see pack.go
)

// A CorruptError says that bytes are not what they should be, and which.
type CorruptError struct{ Reason string }

// Error implements error.
func (e *CorruptError) Error() string { return "corrupt group: " + e.Reason }

func corrupt(format string, args ...any) error {
	return &CorruptError{Reason: fmt.Sprintf(format, args...)}
}

// A VersionError says that another version of Tributary wrote this. Nothing is
// damaged.
type VersionError struct{ Version uint16 }

// Error implements error.
func (e *VersionError) Error() string {
	if e.Version < Version {
		return fmt.Sprintf("the log has format version %d, of a development version, and this program reads %d: "+
			"run the program that wrote it until Kafka has everything, then start with an empty data directory; nothing was changed", e.Version, Version)
	}
	return fmt.Sprintf("the log has format version %d and this program reads %d: run the newer program that wrote it; nothing was changed", e.Version, Version)
}

// A Frame ties a group, or a pack of them, to its place. Salt is the segment's
// secret: bytes that a device chose, or that an earlier use of the segment left
// behind, cannot pass for a group. Commit grows by one with every flush of the
// node, over restarts too; a commit writes the frames Index = 0..Of-1.
type Frame struct {
	Segment uint64
	Salt    uint64
	Commit  uint64
	Index   uint16
	Of      uint16
	Bytes   int // stored behind the frame
	Codec   Codec
	Copy    bool // another node writes the ledger

	crc uint32 // of those bytes
}

// After returns the commit that the frame following f in the log belongs to.
func (f *Frame) After() uint64 {
	if f.Index+1 < f.Of {
		return f.Commit
	}
	return f.Commit + 1
}

// PaddedBytes returns how much of a segment a frame takes that stores n bytes.
func PaddedBytes(n int) int { return (FrameBytes + n + Align - 1) / Align * Align }

// Put gives f the place of another frame, and writes it into the first FrameBytes
// of dst.
func (f *Frame) Put(place Frame, dst []byte) {
	f.Segment, f.Salt, f.Commit, f.Index, f.Of = place.Segment, place.Salt, place.Commit, place.Index, place.Of
	f.Encode(dst)
}

// Encode writes f into the first FrameBytes of dst.
func (f *Frame) Encode(dst []byte) {
	be := binary.BigEndian
	be.PutUint32(dst[0:], frameMagic)
	be.PutUint64(dst[8:], f.Segment)
	be.PutUint64(dst[16:], f.Salt)
	be.PutUint64(dst[24:], f.Commit)
	be.PutUint16(dst[32:], f.Index)
	be.PutUint16(dst[34:], f.Of)
	be.PutUint32(dst[36:], uint32(f.Bytes))
	be.PutUint32(dst[40:], f.crc)
	be.PutUint32(dst[44:], uint32(f.Codec)<<24)
	if f.Copy {
		dst[45] = frameCopy
	}
	be.PutUint32(dst[4:], Checksum(dst[8:FrameBytes]))
}

// DecodeFrame reads the frame at the start of src, which has at least
// FrameBytes. ok is false when there is none: zeros, a cut, other bytes.
func DecodeFrame(src []byte) (f Frame, ok bool) {
	be := binary.BigEndian
	if be.Uint32(src) != frameMagic || be.Uint32(src[4:]) != Checksum(src[8:FrameBytes]) {
		return Frame{}, false
	}
	f = Frame{
		Segment: be.Uint64(src[8:]),
		Salt:    be.Uint64(src[16:]),
		Commit:  be.Uint64(src[24:]),
		Index:   be.Uint16(src[32:]),
		Of:      be.Uint16(src[34:]),
		Bytes:   int(be.Uint32(src[36:])),
		Codec:   Codec(src[44]),
		Copy:    src[45]&frameCopy != 0,
		crc:     be.Uint32(src[40:]),
	}
	return f, f.Index < f.Of && f.Bytes >= HeaderBytes && f.Bytes <= HeaderBytes+MaxBody
}

// A Header says what a group is; it is the same in every copy. Of a pack it
// says what all of its groups are together.
type Header struct {
	Ledger    tributary.LedgerID
	Number    uint64        // of the group in its ledger, from 0; of a pack's first
	Base      tributary.LSN // of its first record
	Count     uint32        // of records, at least 1
	PrevChain uint64        // the ledger's chain at Base
	Millis    int64         // log time when it was sealed; never goes back in a log

	// By which clock its records were timed: what it took for the time of the boot
	// (ms since 1970), whether that is to be trusted, and which boot. Not of a pack.
	BootMillis int64
	Trusted    bool
	Boot       [16]byte

	rawBytes uint32
	crc      uint32
	groups   int    // of a pack: how many; else 0
	chain    uint64 // of a pack: the chain at Next
}

// Next returns the LSN after the last record.
func (h *Header) Next() tributary.LSN { return h.Base + tributary.LSN(h.Count) }

// Groups returns how many groups h is the header of: more than one only for a pack.
func (h *Header) Groups() int { return max(1, h.groups) }

// Chain returns the ledger's chain at Next: a hash over the chain before, the
// place and the checksum, so that equal chains mean equal ledgers up to there.
func (h *Header) Chain() uint64 {
	if h.groups > 0 {
		return h.chain
	}
	var b [24]byte
	binary.BigEndian.PutUint64(b[0:], h.PrevChain)
	binary.BigEndian.PutUint64(b[8:], uint64(h.Base))
	binary.BigEndian.PutUint32(b[16:], h.Count)
	binary.BigEndian.PutUint32(b[20:], h.crc)
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint64(sum[:])
}

// finish writes h, and the checksum over it and the raw body, into dst, which
// has HeaderBytes.
func (h *Header) finish(dst, body []byte) {
	h.rawBytes = uint32(len(body))
	h.encode(dst)
	h.crc = crc32.Update(Checksum(dst[8:HeaderBytes]), castagnoli, body)
	binary.BigEndian.PutUint32(dst[4:], h.crc)
}

// encode writes h into dst, which has HeaderBytes, with the checksum that it
// was read with or will get.
func (h *Header) encode(dst []byte) {
	be := binary.BigEndian
	clear(dst[:HeaderBytes])
	var flags uint16
	if h.Trusted {
		flags |= flagTrusted
	}
	be.PutUint32(dst[0:], headerMagic)
	be.PutUint32(dst[4:], h.crc)
	be.PutUint16(dst[8:], Version)
	be.PutUint16(dst[10:], flags)
	be.PutUint32(dst[12:], h.rawBytes)
	be.PutUint32(dst[16:], h.Count)
	copy(dst[24:40], h.Ledger[:])
	be.PutUint64(dst[40:], h.Number)
	be.PutUint64(dst[48:], uint64(h.Base))
	be.PutUint64(dst[56:], h.PrevChain)
	be.PutUint64(dst[64:], uint64(h.Millis))
	be.PutUint64(dst[72:], uint64(h.BootMillis))
	copy(dst[80:96], h.Boot[:])
}

// Decode checks what is stored behind the frame f, which is exactly src, and
// returns its header. It finds every change of a byte since it was written; what
// the bytes mean is checked by Open. The only errors are *CorruptError and, for
// what another version wrote, *VersionError.
func Decode(f *Frame, src []byte) (Header, error) {
	if sum := Checksum(src); sum != f.crc { // before the version is believed: a damaged one is no newer program
		return Header{}, corrupt("checksum is %08x, should be %08x", sum, f.crc)
	}
	h, err := Peek(src)
	if err != nil {
		return Header{}, err
	}
	if h.Count == 0 || h.rawBytes > MaxBody || (h.groups > 0) != (f.Codec == Pack) || f.Codec > Pack ||
		f.Codec == Raw && int(h.rawBytes) != len(src)-HeaderBytes {
		return Header{}, corrupt("sizes do not agree")
	}
	return h, nil
}

// Peek returns the header at the start of src without checking it against a
// checksum. The errors are those of Decode.
func Peek(src []byte) (Header, error) {
	if len(src) < HeaderBytes {
		return Header{}, corrupt("%d bytes are too few for a header", len(src))
	}
	be := binary.BigEndian
	magic := be.Uint32(src)
	if magic != headerMagic && magic != packMagic {
		return Header{}, corrupt("no header")
	}
	if v := be.Uint16(src[8:]); v != Version {
		return Header{}, &VersionError{Version: v}
	}
	h := Header{
		Number: be.Uint64(src[40:]), Base: tributary.LSN(be.Uint64(src[48:])), Count: be.Uint32(src[16:]),
		PrevChain: be.Uint64(src[56:]),
		Millis:    int64(be.Uint64(src[64:])),
		rawBytes:  be.Uint32(src[12:]),
	}
	copy(h.Ledger[:], src[24:40])
	if magic == packMagic {
		h.groups, h.chain = int(be.Uint16(src[10:])), be.Uint64(src[72:])
		if h.groups == 0 {
			return Header{}, corrupt("a pack of no groups")
		}
		return h, nil
	}
	h.crc = be.Uint32(src[4:])
	h.BootMillis, h.Trusted = int64(be.Uint64(src[72:])), be.Uint16(src[10:])&flagTrusted != 0
	copy(h.Boot[:], src[80:96])
	return h, nil
}

// A Group is one group as it was sealed: its header and its raw body.
type Group struct {
	Header

	Body []byte
	Copy bool // its frame says so; no part of the group
}

// Open returns the groups that are stored in src, which Decode accepted with the
// header h, in order. Each is checked against the checksum that it was sealed
// with. Bodies point into src, or into memory of their own, never into a buffer
// that is reused. dec may be shared. The error is a *CorruptError.
func Open(f *Frame, h *Header, src []byte, dec *zstd.Decoder) ([]Group, error) {
	body := src[HeaderBytes:]
	if f.Codec != Raw {
		raw, err := dec.DecodeAll(body, make([]byte, 0, h.rawBytes))
		if err != nil {
			return nil, corrupt("zstd: %v", err)
		}
		body = raw
	}
	if uint64(len(body)) != uint64(h.rawBytes) {
		return nil, corrupt("body has %d bytes, should have %d", len(body), h.rawBytes)
	}
	if f.Codec == Pack {
		return unpack(f, h, body)
	}
	if err := prove(h, src[:HeaderBytes], body); err != nil {
		return nil, err
	}
	return []Group{{Header: *h, Body: body, Copy: f.Copy}}, nil
}

// prove checks a group against the checksum in its header.
func prove(h *Header, header, body []byte) error {
	if sum := crc32.Update(Checksum(header[8:HeaderBytes]), castagnoli, body); sum != h.crc {
		return corrupt("checksum of the group is %08x, should be %08x", sum, h.crc)
	}
	return nil
}

// Checksum returns the CRC-32C of b.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

//nolint:gochecknoglobals // a table
var castagnoli = crc32.MakeTable(crc32.Castagnoli)
