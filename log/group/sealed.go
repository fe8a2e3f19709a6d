package group

import "github.com/klauspost/compress/zstd"

// A Sealed is what a frame stores, one group or a pack, without its place: what
// one node gives another to keep.
type Sealed struct {
	Header

	Codec Codec
	Bytes []byte // the header and what follows it, as stored
}

// Prove returns what src stores with the given codec, if all of it is what its
// own checksums and chain say. The result points into src. dec may be shared.
// The error is a *CorruptError or a *VersionError.
func Prove(codec Codec, src []byte, dec *zstd.Decoder) (Sealed, error) {
	if len(src) < HeaderBytes || len(src) > HeaderBytes+MaxBody {
		return Sealed{}, corrupt("%d bytes are no group", len(src))
	}
	f := Frame{Bytes: len(src), Codec: codec, crc: Checksum(src)}
	h, err := Decode(&f, src)
	if err != nil {
		return Sealed{}, err
	}
	if _, err := Open(&f, &h, src, dec); err != nil {
		return Sealed{}, err
	}
	return Sealed{Header: h, Codec: codec, Bytes: src}, nil
}

// Copy returns s ready for a segment of another node than the one that wrote it,
// as Builder.Seal does: FrameBytes of room for f, whose place the caller fills
// in, then s as it is, then zeros up to a whole page.
func (s *Sealed) Copy() (padded []byte, f Frame) {
	padded = make([]byte, FrameBytes, PaddedBytes(len(s.Bytes)))
	padded, f = enclose(append(padded, s.Bytes...), s.Codec)
	f.Copy = true
	return padded, f
}

// Groups returns the groups that s stores, one or those of a pack. They point into
// s. dec may be shared.
func (s *Sealed) Groups(dec *zstd.Decoder) ([]Group, error) {
	f := Frame{Bytes: len(s.Bytes), Codec: s.Codec, crc: Checksum(s.Bytes)}
	return Open(&f, &s.Header, s.Bytes, dec)
}

// Raw returns a group that Open returned as it is stored when it is neither
// compressed nor packed.
func (g *Group) Raw() Sealed {
	b := make([]byte, HeaderBytes, HeaderBytes+len(g.Body))
	g.encode(b)
	return Sealed{Header: g.Header, Codec: Raw, Bytes: append(b, g.Body...)}
}
