package packet

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// A reader takes the fields of a packet one after the other. The first fault
// sticks, and after it everything reads as empty: so a packet is read straight
// through, and asked once. What it returns are parts of the packet.
type reader struct {
	b   []byte // what is left
	err *Error // nil, or the first fault; Packet is filled in by result
}

// result returns the first fault as one of a packet of this type, or nil.
func (r *reader) result(kind byte) error {
	if r.err == nil {
		return nil
	}
	if r.err.Packet == "" {
		r.err.Packet = names[kind&0x0f]
	}
	return r.err
}

func (r *reader) fail(code byte, what string) {
	if r.err == nil {
		r.err = &Error{Code: code, What: what}
	}
	r.b = nil
}

// short notes that the packet ends inside of a field.
func (r *reader) short(what string) {
	if r.err == nil {
		r.fail(CodeMalformed, "it ends inside of its "+what)
	}
}

// end notes a fault when something is left.
func (r *reader) end() {
	if len(r.b) > 0 {
		r.fail(CodeMalformed, "it has bytes behind its last field")
	}
}

func (r *reader) byte(what string) byte {
	if len(r.b) < 1 {
		r.short(what)
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uint16(what string) uint16 {
	if len(r.b) < 2 {
		r.short(what)
		return 0
	}
	v := binary.BigEndian.Uint16(r.b)
	r.b = r.b[2:]
	return v
}

func (r *reader) uint32(what string) uint32 {
	if len(r.b) < 4 {
		r.short(what)
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// length reads a variable byte integer: MQTT 5, 1.5.5.
func (r *reader) length(what string) int {
	n := 0
	for i := range 4 {
		if i >= len(r.b) {
			r.short(what)
			return 0
		}
		n |= int(r.b[i]&0x7f) << (7 * i)
		if r.b[i] >= 0x80 {
			continue
		}
		if i > 0 && r.b[i] == 0 {
			r.fail(CodeMalformed, overlong)
			return 0
		}
		r.b = r.b[i+1:]
		return n
	}
	r.fail(CodeMalformed, "a variable byte integer has more than four bytes [1.5.5]")
	return 0
}

// binary reads bytes with their length in two bytes before them.
func (r *reader) binary(what string) []byte {
	n := int(r.uint16(what))
	if n > len(r.b) {
		r.short(what)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// text reads a UTF-8 string: MQTT 5, 1.5.4. What a receiver may refuse there
// but need not, control characters and non-characters, is let through.
func (r *reader) text(what string) []byte {
	v := r.binary(what)
	switch {
	case !utf8.Valid(v):
		r.fail(CodeMalformed, what+" is not UTF-8 [MQTT-1.5.4-1]")
	case bytes.IndexByte(v, 0) >= 0:
		r.fail(CodeMalformed, what+" has a U+0000 [MQTT-1.5.4-2]")
	default:
		return v
	}
	return nil
}

// name reads a topic name, which may be empty. A wildcard in it has the reason
// code and the statement given.
func (r *reader) name(what string, code byte, statement string) []byte {
	v := r.binary(what)
	all := byte(0)
	for _, c := range v {
		if c == '+' || c == '#' {
			r.fail(code, what+" has a wildcard "+statement)
			return nil
		}
		if c == 0 {
			r.fail(CodeMalformed, what+" has a U+0000 [MQTT-1.5.4-2]")
			return nil
		}
		all |= c
	}
	if all >= utf8.RuneSelf && !utf8.Valid(v) {
		r.fail(CodeMalformed, what+" is not UTF-8 [MQTT-1.5.4-1]")
		return nil
	}
	return v
}

// packetID reads a packet identifier.
func (r *reader) packetID() uint16 {
	id := r.uint16("packet identifier")
	if id == 0 {
		r.fail(CodeMalformed, "packet identifier 0 [MQTT-2.2.1-3]")
	}
	return id
}
