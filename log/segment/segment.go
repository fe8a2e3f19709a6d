// Package segment is one file of the log: groups, one after another, in a file
// of fixed size whose blocks were all written before.
//
// A file that only ever overwrites costs one device flush and whole pages per
// commit; a file that grows costs two flushes and several times the bytes.
// Segments are therefore zero-filled once and then recycled: a new header with
// a new number and a new salt turns whatever the file held into rubbish.
package segment

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
)

// Sizes, in bytes. Groups lie in [HeaderBytes, size - FooterBytes).
const (
	HeaderBytes = group.PageBytes
	FooterBytes = 4 * group.PageBytes
	MinBytes    = 4 << 20
)

// Version is the format version of header and footer.
const Version = 1

const (
	headerMagic = 0x54524253 // "TRBS"
	footerMagic = 0x54524254 // "TRBT"
)

// A Segment is an open segment file. Its fields do not change.
type Segment struct {
	File  disk.File
	Seq   uint64 // its number in the log; also its name
	Salt  uint64 // see group.Frame
	Bytes int64  // its size
}

// Name returns the file name of the segment with that number.
func Name(seq uint64) string { return fmt.Sprintf("%016x.seg", seq) }

// ParseName reads what Name wrote.
func ParseName(name string) (seq uint64, ok bool) {
	if n, err := fmt.Sscanf(name, "%016x.seg", &seq); n != 1 || err != nil || Name(seq) != name {
		return 0, false
	}
	return seq, true
}

// Fill writes zeros over the first bytes of f and makes them durable, so that
// later writes neither change its size nor allocate blocks.
func Fill(f disk.File, bytes int64) error {
	zeros := make([]byte, 256<<10)
	for at := int64(0); at < bytes; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), bytes-at)], at); err != nil {
			return fmt.Errorf("zero-fill segment: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync new segment: %w", err)
	}
	return nil
}

// Start makes f, whose bytes were all written before, the empty segment seq.
// When it returns nil the new header is durable and nothing that f held before
// can be taken for a group again.
func Start(f disk.File, seq uint64, bytes int64) (*Segment, error) {
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails
	s := &Segment{File: f, Seq: seq, Salt: binary.BigEndian.Uint64(salt[:]), Bytes: bytes}
	page := make([]byte, HeaderBytes)
	be := binary.BigEndian
	be.PutUint32(page[0:], headerMagic)
	be.PutUint16(page[8:], Version)
	be.PutUint64(page[16:], s.Seq)
	be.PutUint64(page[24:], s.Salt)
	be.PutUint64(page[32:], uint64(bytes))
	be.PutUint32(page[4:], group.Checksum(page[8:]))
	if _, err := f.WriteAt(page, 0); err != nil {
		return nil, fmt.Errorf("write segment header: %w", err)
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("sync segment header: %w", err)
	}
	return s, nil
}

// ErrNoHeader says that a file does not start with the header of the segment
// it is named after: it was about to be recycled, or its first page is damaged.
var ErrNoHeader = errors.New("no segment header")

// Open reads the header of f. It returns ErrNoHeader, or a *group.VersionError
// if a newer Tributary wrote it.
func Open(f disk.File, seq uint64) (*Segment, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of segment: %w", err)
	}
	if size < HeaderBytes+FooterBytes {
		return nil, ErrNoHeader
	}
	page := make([]byte, HeaderBytes)
	if _, err := f.ReadAt(page, 0); err != nil {
		return nil, fmt.Errorf("read segment header: %w", err)
	}
	be := binary.BigEndian
	if be.Uint32(page) != headerMagic || be.Uint32(page[4:]) != group.Checksum(page[8:]) {
		return nil, ErrNoHeader
	}
	if v := be.Uint16(page[8:]); v != Version {
		return nil, &group.VersionError{Version: v}
	}
	if be.Uint64(page[16:]) != seq {
		return nil, ErrNoHeader
	}
	return &Segment{File: f, Seq: seq, Salt: be.Uint64(page[24:]), Bytes: size}, nil
}

// End returns where the room for groups ends.
func (s *Segment) End() int64 { return s.Bytes - FooterBytes }

// ErrNoGroup says that no frame of this segment starts where one was looked for.
var ErrNoGroup = errors.New("no group here")

// ReadGroup reads the frame at position at and its group into buf, which grows
// as needed, and checks both. The errors are ErrNoGroup, *group.CorruptError
// (with the frame still valid), *group.VersionError, or one of the disk.
func (s *Segment) ReadGroup(at int64, buf []byte) (group.Frame, group.Header, []byte, error) {
	f, buf, err := s.ReadFrame(at, buf)
	if err != nil {
		return f, group.Header{}, buf, err
	}
	if cap(buf) < f.Bytes {
		buf = make([]byte, f.Bytes)
	}
	buf = buf[:f.Bytes]
	if _, err := s.File.ReadAt(buf, at+group.FrameBytes); err != nil {
		return f, group.Header{}, buf, fmt.Errorf("read group: %w", err)
	}
	h, err := group.Decode(buf)
	return f, h, buf, err
}

// ReadFrame reads the frame at position at; see ReadGroup.
func (s *Segment) ReadFrame(at int64, buf []byte) (group.Frame, []byte, error) {
	if at+group.PageBytes > s.End() {
		return group.Frame{}, buf, ErrNoGroup
	}
	if cap(buf) < group.FrameBytes {
		buf = make([]byte, group.PageBytes)
	}
	buf = buf[:group.FrameBytes]
	if _, err := s.File.ReadAt(buf, at); err != nil {
		return group.Frame{}, buf, fmt.Errorf("read frame: %w", err)
	}
	f, ok := group.DecodeFrame(buf)
	if !ok || f.Segment != s.Seq || f.Salt != s.Salt || at+int64(group.PaddedBytes(f.Bytes)) > s.End() {
		return group.Frame{}, buf, ErrNoGroup
	}
	return f, buf, nil
}

// ReadHeader reads the header of the group in the frame at position at, without
// the body and therefore unchecked: good for finding a group, not for using it.
func (s *Segment) ReadHeader(at int64, buf []byte) (group.Header, error) {
	if cap(buf) < group.HeaderBytes {
		buf = make([]byte, group.HeaderBytes)
	}
	buf = buf[:group.HeaderBytes]
	if _, err := s.File.ReadAt(buf, at+group.FrameBytes); err != nil {
		return group.Header{}, fmt.Errorf("read group header: %w", err)
	}
	return group.Peek(buf)
}

// A Span is a run of groups that a segment holds of one ledger: the records
// [From, To), without a hole. A ledger has a second span only after a hole.
type Span struct {
	Ledger    tributary.LedgerID
	From, To  tributary.LSN
	FromChain uint64 // the ledger's chain at From
	ToChain   uint64 // and at To
}

// Salvage opens a segment whose header is damaged by means of its groups, whose
// frames name the segment and its salt. It returns nil, without an error, if
// there is none: then the file holds nothing.
func Salvage(f disk.File, seq uint64) (*Segment, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of segment: %w", err)
	}
	s := &Segment{File: f, Seq: seq, Bytes: size}
	buf := make([]byte, group.FrameBytes)
	for at := int64(HeaderBytes); at+group.PageBytes <= s.End(); at += group.PageBytes {
		if _, err := f.ReadAt(buf, at); err != nil {
			return nil, fmt.Errorf("read frame: %w", err)
		}
		frame, ok := group.DecodeFrame(buf)
		if !ok || frame.Segment != seq {
			continue
		}
		s.Salt = frame.Salt
		if _, _, _, err := s.ReadGroup(at, nil); err == nil { // a frame without its group proves nothing
			return s, nil
		}
	}
	return nil, nil //nolint:nilnil // nothing is there
}
