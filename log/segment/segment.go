// Package segment is one file of the log: groups, one after another, in a file
// of fixed size whose blocks were all written before.
//
// A file that only ever overwrites costs one device flush and whole pages per
// commit; a file that grows costs two flushes and several times the bytes.
// Segments are therefore zero-filled once and then recycled: a new header with
// a new number and a new salt turns whatever the file held into rubbish.
//
// There are two kinds. The committer fills a segment commit by commit. A packed
// segment is made of whole older ones, and appears complete or not at all.
package segment

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"

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
const Version = group.Version

const (
	headerMagic = 0x54524253 // "TRBS"
	footerMagic = 0x54524254 // "TRBT"
)

// A Segment is an open segment file. Its fields do not change.
type Segment struct {
	File  disk.File
	Seq   uint64  // its number in the log; also in its name
	Salt  uint64  // see group.Frame
	Bytes int64   // its size, as its header says
	Short int64   // how much shorter the file is; 0, unless it was damaged
	Pack  *Extent // not nil: it is packed
}

// An Extent is what the header of a packed segment says of its content.
type Extent struct {
	FirstCommit, LastCommit uint64 // of the segments that it was made of
	End                     int64  // where its frames end; 0: not known, the header is damaged
}

// Name returns the file name of the segment with that number. A packed segment
// has the number of the first plain one that it was made of, and comes after it.
func Name(seq uint64, packed bool) string {
	if packed {
		return fmt.Sprintf("%016x.zseg", seq)
	}
	return fmt.Sprintf("%016x.seg", seq)
}

// ParseName reads what Name wrote.
func ParseName(name string) (seq uint64, packed, ok bool) {
	if n, err := fmt.Sscanf(name, "%016x", &seq); n != 1 || err != nil {
		return 0, false, false
	}
	packed = name == Name(seq, true)
	return seq, packed, seq < numbers && (packed || name == Name(seq, false))
}

// numbers is more than a disk can bear. A file with a higher one is none of ours:
// where numbers begin again, the order of the segments is no longer theirs.
const numbers = 1 << 40

// Fill writes zeros over the first bytes of f and makes them durable, so that
// later writes neither change its size nor allocate blocks.
func Fill(f disk.File, bytes int64) error {
	zeros := make([]byte, min(256<<10, bytes))
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
	s := prepare(f, seq, bytes)
	return s, s.writeHeader()
}

// StartPacked makes f, which is an empty segment with another number, one that
// Finish has yet to complete. Until then the file holds nothing.
func StartPacked(f disk.File, seq uint64, bytes int64) (*Segment, error) {
	s := prepare(f, seq, bytes)
	if _, err := f.WriteAt(make([]byte, HeaderBytes), 0); err != nil {
		return nil, fmt.Errorf("write segment header: %w", err)
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("sync segment header: %w", err)
	}
	return s, nil
}

// Finish writes the footer of a packed segment and then its header, and makes
// it all durable.
func (s *Segment) Finish(sum *Summary) error {
	s.Pack = &Extent{FirstCommit: sum.FirstCommit, LastCommit: sum.LastCommit, End: sum.End}
	if err := s.Seal(sum); err != nil { // the frames too are durable before a header speaks of them
		return err
	}
	return s.writeHeader()
}

func prepare(f disk.File, seq uint64, bytes int64) *Segment {
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails
	return &Segment{File: f, Seq: seq, Salt: binary.BigEndian.Uint64(salt[:]), Bytes: bytes}
}

const flagPacked = 1

func (s *Segment) writeHeader() error {
	page := make([]byte, HeaderBytes)
	be := binary.BigEndian
	be.PutUint32(page[0:], headerMagic)
	be.PutUint16(page[8:], Version)
	be.PutUint64(page[16:], s.Seq)
	be.PutUint64(page[24:], s.Salt)
	be.PutUint64(page[32:], uint64(s.Bytes))
	if s.Pack != nil {
		be.PutUint16(page[10:], flagPacked)
		be.PutUint64(page[40:], s.Pack.FirstCommit)
		be.PutUint64(page[48:], s.Pack.LastCommit)
		be.PutUint64(page[56:], uint64(s.Pack.End))
	}
	be.PutUint32(page[4:], group.Checksum(page[8:]))
	if _, err := s.File.WriteAt(page, 0); err != nil {
		return fmt.Errorf("write segment header: %w", err)
	}
	if err := s.File.Sync(); err != nil {
		return fmt.Errorf("sync segment header: %w", err)
	}
	return nil
}

// ErrNoHeader says that a file does not start with the header of the segment
// it is named after: it was about to be recycled, or its first page is damaged.
var ErrNoHeader = errors.New("no segment header")

// Open reads the header of f. It returns ErrNoHeader, or a *group.VersionError
// if another version of Tributary wrote it.
func Open(f disk.File, seq uint64) (*Segment, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of segment: %w", err)
	}
	page := make([]byte, HeaderBytes)
	if size < HeaderBytes {
		return nil, ErrNoHeader
	}
	if _, err := f.ReadAt(page, 0); err != nil {
		if unreadable(err) {
			return nil, ErrNoHeader
		}
		return nil, fmt.Errorf("read segment header: %w", err)
	}
	s, err := decodeHeader(page, seq)
	if err != nil {
		return nil, err
	}
	s.File, s.Short = f, max(0, s.Bytes-size)
	return s, nil
}

// decodeHeader reads the page that writeHeader wrote.
func decodeHeader(page []byte, seq uint64) (*Segment, error) {
	be := binary.BigEndian
	if len(page) != HeaderBytes || be.Uint32(page) != headerMagic || be.Uint32(page[4:]) != group.Checksum(page[8:]) {
		return nil, ErrNoHeader
	}
	if v := be.Uint16(page[8:]); v != Version {
		return nil, &group.VersionError{Version: v}
	}
	s := &Segment{Seq: seq, Salt: be.Uint64(page[24:]), Bytes: int64(be.Uint64(page[32:]))}
	if be.Uint64(page[16:]) != seq || s.Bytes < HeaderBytes+FooterBytes || s.Bytes > maxBytes {
		return nil, ErrNoHeader
	}
	if be.Uint16(page[10:])&flagPacked != 0 {
		s.Pack = &Extent{FirstCommit: be.Uint64(page[40:]), LastCommit: be.Uint64(page[48:]), End: int64(be.Uint64(page[56:]))}
		if s.Pack.End < HeaderBytes || s.Pack.End > s.End() {
			return nil, ErrNoHeader
		}
	}
	return s, nil
}

// maxBytes is more than any configuration allows.
const maxBytes = 1 << 30

// unreadable says whether err means that the device cannot give back what was
// written, or that the file was cut. What passes, such as too many open files,
// is not meant.
func unreadable(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EIO)
}

// End returns where the room for groups ends.
func (s *Segment) End() int64 { return s.Bytes - FooterBytes }

// used returns where there is nothing more to be looked for. What a packed segment
// has behind its end is of a source that found no room, and has no meaning.
func (s *Segment) used() int64 {
	if s.Pack != nil && s.Pack.End > 0 {
		return s.Pack.End
	}
	return s.End()
}

// ErrNoGroup says that no frame of this segment starts where one was looked for.
var ErrNoGroup = errors.New("no group here")

// ErrUnreadable says that the device does not give back the bytes at a place.
var ErrUnreadable = errors.New("the disk cannot read it")

// ReadGroup reads the frame at position at and what is stored behind it into
// buf, which grows as needed, and checks both. The errors are ErrNoGroup,
// ErrUnreadable, *group.CorruptError (with the frame still valid),
// *group.VersionError, or one of the system.
func (s *Segment) ReadGroup(at int64, buf []byte) (group.Frame, group.Header, []byte, error) {
	f, buf, err := s.ReadFrame(at, buf)
	if err != nil {
		return f, group.Header{}, buf, err
	}
	if cap(buf) < f.Bytes {
		buf = make([]byte, f.Bytes)
	}
	buf = buf[:f.Bytes]
	if err := s.read(buf, at+group.FrameBytes); err != nil {
		return f, group.Header{}, buf, err
	}
	h, err := group.Decode(&f, buf)
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
	if err := s.read(buf, at); err != nil {
		return group.Frame{}, buf, err
	}
	f, ok := group.DecodeFrame(buf)
	if !ok || f.Segment != s.Seq || f.Salt != s.Salt || at+int64(group.PaddedBytes(f.Bytes)) > s.End() {
		return group.Frame{}, buf, ErrNoGroup
	}
	return f, buf, nil
}

// ReadHeader reads the header of the group or pack in the frame at position at,
// without the body and therefore unchecked: good for finding, not for using.
func (s *Segment) ReadHeader(at int64, buf []byte) (group.Header, error) {
	if cap(buf) < group.HeaderBytes {
		buf = make([]byte, group.HeaderBytes)
	}
	buf = buf[:group.HeaderBytes]
	if err := s.read(buf, at+group.FrameBytes); err != nil {
		return group.Header{}, err
	}
	return group.Peek(buf)
}

func (s *Segment) read(buf []byte, at int64) error {
	_, err := s.File.ReadAt(buf, at)
	switch {
	case err == nil:
		return nil
	case unreadable(err):
		return fmt.Errorf("segment %s at byte %d: %w: %w", Name(s.Seq, s.Pack != nil), at, ErrUnreadable, err)
	default:
		return fmt.Errorf("read segment %s: %w", Name(s.Seq, s.Pack != nil), err)
	}
}

// A Span is a run of groups that a segment holds of one ledger: the records
// [From, To), without a hole. A ledger has a second span only after a hole.
type Span struct {
	Ledger    tributary.LedgerID
	From, To  tributary.LSN
	FromChain uint64 // the ledger's chain at From
	ToChain   uint64 // and at To
	Copy      bool   // another node writes the ledger
}

// Salvage opens a segment whose header is damaged by means of its groups, whose
// frames name the segment and its salt. It returns nil, without an error, if
// there is none: then the file holds nothing. bytes is the size that segments
// have: the file may be shorter. ErrUnreadable says that there may be groups that
// the device does not give back; the other errors are those of the system, and
// *group.VersionError.
func Salvage(f disk.File, seq uint64, packed bool, bytes int64) (*Segment, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of segment: %w", err)
	}
	s := &Segment{File: f, Seq: seq, Bytes: max(size, bytes), Short: max(0, bytes-size)}
	buf := make([]byte, group.FrameBytes)
	var p probe
	for at := int64(HeaderBytes); at+group.PageBytes <= min(s.End(), size) && !p.exhausted(); at += p.step() {
		err := s.read(buf, at)
		if p.saw(err) != nil {
			return nil, err
		}
		frame, ok := group.DecodeFrame(buf)
		if err != nil || !ok || frame.Segment != seq || at+int64(group.FrameBytes+frame.Bytes) > size {
			continue
		}
		s.Salt = frame.Salt
		_, _, _, err = s.ReadGroup(at, nil)
		if errors.Is(err, ErrNoGroup) || errors.As(err, new(*group.CorruptError)) { // a frame without its group proves nothing
			continue
		}
		if p.saw(err) != nil {
			return nil, err
		}
		if err != nil {
			continue
		}
		if packed {
			s.Pack = &Extent{FirstCommit: frame.Commit, LastCommit: frame.Commit}
		}
		return s, nil
	}
	if p.failures > 0 {
		return nil, fmt.Errorf("segment %s without its header: %w", Name(seq, packed), ErrUnreadable)
	}
	return nil, nil //nolint:nilnil // nothing is there
}
