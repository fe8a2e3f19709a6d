// Package group is what one flush of the disk makes durable: a group of
// records of one ledger, as bytes.
//
// A group has three layers, all big-endian; docs/format/log.md draws them byte
// by byte:
//
//	frame   48 bytes  where this copy lies: segment, commit. Differs between copies.
//	header  96 bytes  what it is: ledger, LSNs, chain, times. The same in every copy.
//	body              runs of records in Kafka's encoding, perhaps zstd as a whole.
//
// A group names the streams of its runs itself, so that it can be read with
// nothing but its own bytes. The package is pure and trusts no byte it decodes.
package group

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tributary-edge/tributary"
)

// Sizes, in bytes.
const (
	PageBytes   = 4096 // a group starts on a page and fills its last one with zeros
	FrameBytes  = 48
	HeaderBytes = 96
	MaxBody     = 8 << 20 // no body is larger, stored or raw
)

// Version is the format version this code writes and reads.
const Version = 1

const (
	frameMagic  = 0x54524246 // "TRBF"
	headerMagic = 0x54524247 // "TRBG"

	flagZstd   = 1 << 0
	flagSynced = 1 << 1
)

// A CorruptError says that bytes are not what they should be, and which.
type CorruptError struct{ Reason string }

// Error implements error.
func (e *CorruptError) Error() string { return "corrupt group: " + e.Reason }

func corrupt(format string, args ...any) error {
	return &CorruptError{Reason: fmt.Sprintf(format, args...)}
}

// A Frame ties a group to its place. Salt is the segment's secret: bytes that
// a device chose, or that an earlier use of the segment left behind, cannot
// pass for a group. Commit grows by one with every flush of the node, over
// restarts too; a commit writes the frames Index = 0..Of-1.
type Frame struct {
	Segment uint64
	Salt    uint64
	Commit  uint64
	Index   uint16
	Of      uint16
	Bytes   int // of header and stored body together
}

// After returns the commit that the frame following f in the log belongs to.
func (f *Frame) After() uint64 {
	if f.Index+1 < f.Of {
		return f.Commit
	}
	return f.Commit + 1
}

// PaddedBytes returns how much of a segment a frame takes whose header and
// stored body have n bytes.
func PaddedBytes(n int) int { return (FrameBytes + n + PageBytes - 1) / PageBytes * PageBytes }

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
	be.PutUint64(dst[40:], 0)
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
	}
	return f, f.Index < f.Of && f.Bytes >= HeaderBytes && f.Bytes <= HeaderBytes+MaxBody
}

// A Header says what a group is; it is the same in every copy.
type Header struct {
	Ledger    tributary.LedgerID
	Number    uint64        // of the group in its ledger, from 0
	Base      tributary.LSN // of its first record
	Count     uint32        // of records, at least 1
	PrevChain uint64        // the ledger's chain at Base
	Millis    int64         // wall clock when it was sealed; never goes back in a ledger
	Uptime    int64         // milliseconds since the boot
	Boot      [16]byte      // the boot's random id
	Synced    bool          // the clock was synchronised

	zstd     bool
	stored   int
	rawBytes uint32
	crc      uint32
}

// Next returns the LSN after the group's last record.
func (h *Header) Next() tributary.LSN { return h.Base + tributary.LSN(h.Count) }

// Chain returns the ledger's chain at Next: a hash over the chain before, the
// place and the checksum, so that equal chains mean equal ledgers up to there.
func (h *Header) Chain() uint64 {
	var b [24]byte
	binary.BigEndian.PutUint64(b[0:], h.PrevChain)
	binary.BigEndian.PutUint64(b[8:], uint64(h.Base))
	binary.BigEndian.PutUint32(b[16:], h.Count)
	binary.BigEndian.PutUint32(b[20:], h.crc)
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint64(sum[:])
}

// finish writes h and the checksum over it and body into dst, which has
// HeaderBytes in front of where body stands.
func (h *Header) finish(dst, body []byte) {
	be := binary.BigEndian
	var flags uint16
	if h.zstd {
		flags |= flagZstd
	}
	if h.Synced {
		flags |= flagSynced
	}
	be.PutUint32(dst[0:], headerMagic)
	be.PutUint16(dst[8:], Version)
	be.PutUint16(dst[10:], flags)
	be.PutUint32(dst[12:], uint32(len(body)))
	be.PutUint32(dst[16:], h.rawBytes)
	be.PutUint32(dst[20:], h.Count)
	copy(dst[24:40], h.Ledger[:])
	be.PutUint64(dst[40:], h.Number)
	be.PutUint64(dst[48:], uint64(h.Base))
	be.PutUint64(dst[56:], h.PrevChain)
	be.PutUint64(dst[64:], uint64(h.Millis))
	be.PutUint64(dst[72:], uint64(h.Uptime))
	copy(dst[80:96], h.Boot[:])
	h.crc = crc32.Update(Checksum(dst[8:HeaderBytes]), castagnoli, body)
	be.PutUint32(dst[4:], h.crc)
}

// Decode checks the group in src, which is exactly its header and stored body,
// and returns its header. The only errors are *CorruptError and, for a group a
// newer version wrote, *VersionError.
func Decode(src []byte) (Header, error) {
	if len(src) >= HeaderBytes {
		// Before the version is believed: a damaged one is no newer program.
		if sum, crc := Checksum(src[8:]), binary.BigEndian.Uint32(src[4:]); sum != crc {
			return Header{}, corrupt("checksum is %08x, should be %08x", sum, crc)
		}
	}
	h, err := Peek(src)
	if err != nil {
		return Header{}, err
	}
	if h.stored != len(src)-HeaderBytes || h.Count == 0 || h.rawBytes > MaxBody {
		return Header{}, corrupt("sizes do not agree")
	}
	return h, nil
}

// Peek returns the header at the start of src without checking it against its
// checksum. The errors are those of Decode.
func Peek(src []byte) (Header, error) {
	if len(src) < HeaderBytes {
		return Header{}, corrupt("%d bytes are too few for a header", len(src))
	}
	be := binary.BigEndian
	if be.Uint32(src) != headerMagic {
		return Header{}, corrupt("no header")
	}
	if v := be.Uint16(src[8:]); v != Version {
		return Header{}, &VersionError{Version: v}
	}
	flags := be.Uint16(src[10:])
	h := Header{
		Number: be.Uint64(src[40:]), Base: tributary.LSN(be.Uint64(src[48:])), Count: be.Uint32(src[20:]),
		PrevChain: be.Uint64(src[56:]),
		Millis:    int64(be.Uint64(src[64:])),
		Uptime:    int64(be.Uint64(src[72:])),
		Synced:    flags&flagSynced != 0,
		zstd:      flags&flagZstd != 0, stored: int(be.Uint32(src[12:])), rawBytes: be.Uint32(src[16:]), crc: be.Uint32(src[4:]),
	}
	copy(h.Ledger[:], src[24:40])
	copy(h.Boot[:], src[80:96])
	return h, nil
}

// A VersionError says that a newer Tributary wrote this. Nothing is damaged.
type VersionError struct{ Version uint16 }

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("group has format version %d and this program reads %d: run the newer program that wrote it; nothing was changed", e.Version, Version)
}

// Checksum returns the CRC-32C of b.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

//nolint:gochecknoglobals // a table
var castagnoli = crc32.MakeTable(crc32.Castagnoli)
