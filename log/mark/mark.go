// Package mark is what the log of one gateway says about the sessions of devices
// to the others: the stamp that each record of a session carries, the mark of a
// hand-off, and the ends of QoS 2 packet ids.
//
// It is pure: bytes in, values out. docs/format/handoff.md has the bytes.
package mark

import (
	"encoding/binary"
	"errors"
	"hash/fnv"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// Keys of control records. Their stream is empty, and they have no headers.
const (
	HandoffKey = "handoff"
	ReleaseKey = "qos2.release"
	CleanKey   = "qos2.clean"
)

// StampKey is the header of a record that has its stamp. It stays on the gateway:
// what is in it goes to Kafka under other names.
const StampKey = "_s"

// Flags say what is not promised of a record.
type Flags uint8

// The flags. Others are of a newer version, and mean nothing to this one.
const (
	// Unverified: a gateway was silent when the device came, so records that it sent
	// before may come later (R44).
	Unverified Flags = 1 << iota
	// TwicePossible: a QoS 2 message that was sent again, and nobody could say
	// whether it had been taken before (R47).
	TwicePossible
)

// A Stamp says which record of which session of its device a record is.
type Stamp struct {
	Flags Flags
	Epoch uint64 // of the session: each later one of the device has a higher one (R40)
	N     uint64 // counts the records of the session, from 1
}

// StampBytes is the most that a stamp takes.
const StampBytes = 1 + 2*binary.MaxVarintLen64

// Append appends the stamp, encoded, to dst.
func (s Stamp) Append(dst []byte) []byte {
	dst = append(dst, byte(s.Flags))
	dst = binary.AppendUvarint(dst, s.Epoch)
	return binary.AppendUvarint(dst, s.N)
}

// ParseStamp is the inverse of Append. ok is false for what is no stamp; bytes
// behind it are those of a newer version.
func ParseStamp(b []byte) (s Stamp, ok bool) {
	if len(b) < 3 {
		return s, false
	}
	s.Flags = Flags(b[0]) & (Unverified | TwicePossible)
	epoch, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return Stamp{}, false
	}
	count, m := binary.Uvarint(b[1+n:])
	if m <= 0 {
		return Stamp{}, false
	}
	s.Epoch, s.N = epoch, count
	return s, true
}

// StampOf returns the stamp of a record, if it has one.
func StampOf(r *record.Record) (s Stamp, ok bool) { return ParseStamp(r.Header(StampKey)) }

// A Dep is a part of a ledger that must be in Kafka first.
type Dep struct {
	Ledger tributary.LedgerID
	End    tributary.LSN // the records below it
}

// A Handoff says where a device was before: what it sends to this ledger from here
// on comes after that (R43).
type Handoff struct {
	Client string
	Epoch  uint64
	Deps   []Dep
}

const (
	version   = 1
	versionOf = 2 // of a release, or clean, with its epoch

	// MaxDeps bounds the ledgers on which one mark depends.
	MaxDeps  = 4096
	depBytes = 16 + 8
)

// ErrMalformed says that a control record is none of this version of the program.
var ErrMalformed = errors.New("a control record of another version of the program")

// Record returns the control record of h, without a time.
func (h *Handoff) Record() record.Record {
	b := make([]byte, 0, 1+8+2+len(h.Client)+2+depBytes*len(h.Deps))
	b = binary.BigEndian.AppendUint64(append(b, version), h.Epoch)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.Client)))
	b = append(b, h.Client...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.Deps)))
	for i := range h.Deps {
		b = append(b, h.Deps[i].Ledger[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(h.Deps[i].End))
	}
	return record.Record{Key: []byte(HandoffKey), Value: b, Alarm: true}
}

// IsHandoff says whether a record is the mark of a hand-off.
func IsHandoff(r *record.Record) bool { return isControl(r, HandoffKey) }

func isControl(r *record.Record, key string) bool {
	return r.Stream == "" && len(r.Headers) == 0 && string(r.Key) == key
}

// ParseHandoff reads the value of the mark of a hand-off. The error is
// ErrMalformed. It keeps nothing of b.
func ParseHandoff(b []byte) (h Handoff, err error) {
	if len(b) < 1+8+2 || b[0] != version {
		return h, ErrMalformed
	}
	h.Epoch = binary.BigEndian.Uint64(b[1:])
	size := int(binary.BigEndian.Uint16(b[9:]))
	if b = b[11:]; len(b) < size+2 {
		return Handoff{}, ErrMalformed
	}
	h.Client = string(b[:size])
	deps := int(binary.BigEndian.Uint16(b[size:]))
	if b = b[size+2:]; deps > MaxDeps || len(b) < deps*depBytes {
		return Handoff{}, ErrMalformed
	}
	for range deps {
		var d Dep
		copy(d.Ledger[:], b)
		d.End = tributary.LSN(binary.BigEndian.Uint64(b[16:]))
		h.Deps = append(h.Deps, d)
		b = b[depBytes:]
	}
	return h, nil
}

// An Ending is the end of a QoS 2 packet id of a client, or of all that it has:
// then PacketID is 0. Epoch is that of the session; 0 where there is no site.
type Ending struct {
	PacketID uint16
	Epoch    uint64
	Client   string
}

// Append appends the value of the control record of e, whose key is ReleaseKey, or
// CleanKey without a packet id.
func (e *Ending) Append(dst []byte) []byte {
	if e.Epoch == 0 {
		dst = append(dst, version)
	} else {
		dst = binary.BigEndian.AppendUint64(append(dst, versionOf), e.Epoch)
	}
	if e.PacketID != 0 {
		dst = binary.BigEndian.AppendUint16(dst, e.PacketID)
	}
	return append(dst, e.Client...)
}

// ParseRelease reads the value of a control record whose key is ReleaseKey.
func ParseRelease(b []byte) (Ending, error) { return parseEnding(b, true) }

// ParseClean reads the value of a control record whose key is CleanKey.
func ParseClean(b []byte) (Ending, error) { return parseEnding(b, false) }

func parseEnding(b []byte, ofOne bool) (e Ending, err error) {
	switch {
	case len(b) >= 1 && b[0] == version:
		b = b[1:]
	case len(b) >= 9 && b[0] == versionOf:
		e.Epoch, b = binary.BigEndian.Uint64(b[1:]), b[9:]
	default:
		return e, ErrMalformed
	}
	if ofOne {
		if len(b) < 2 {
			return Ending{}, ErrMalformed
		}
		e.PacketID, b = binary.BigEndian.Uint16(b), b[2:]
	}
	e.Client = string(b)
	return e, nil
}

// Sum tells a QoS 2 message from others that its client gives the same packet id.
func Sum(topic, payload []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(topic) // never fails: hash.Hash
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(payload)
	return h.Sum64()
}
