package device

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// magic begins the mark that every payload that is not JSON carries within its
// first maxMarkOffset bytes: magic, length of the id (1 byte), id, sequence
// number (8 bytes, big endian).
const (
	magic         = "\xF1SIM"
	maxMarkOffset = 16
	maxIDBytes    = 64

	jsonDevice = `{"device":"`
	jsonSeq    = `","seq":`
)

// appendMark appends the mark of a message.
func appendMark(dst []byte, id string, seq uint64) []byte {
	dst = append(dst, magic...)
	dst = append(dst, byte(len(id)))
	dst = append(dst, id...)
	return binary.BigEndian.AppendUint64(dst, seq)
}

func markBytes(id string) int { return len(magic) + 1 + len(id) + 8 }

// Identify says which message a payload is: its device and its sequence
// number, whatever the shape. ok is false for a payload that no simulated
// device made. It accepts any bytes.
func Identify(payload []byte) (id string, seq uint64, ok bool) {
	if rest, isJSON := bytes.CutPrefix(payload, []byte(jsonDevice)); isJSON {
		return identifyJSON(rest)
	}
	at := bytes.Index(payload[:min(len(payload), maxMarkOffset+len(magic))], []byte(magic))
	if at < 0 {
		return "", 0, false
	}
	rest := payload[at+len(magic):]
	if len(rest) < 1 || len(rest) < 1+int(rest[0])+8 {
		return "", 0, false
	}
	n := int(rest[0])
	id = string(rest[1 : 1+n])
	seq = binary.BigEndian.Uint64(rest[1+n:])
	return id, seq, seq > 0 && ValidID(id)
}

func identifyJSON(rest []byte) (id string, seq uint64, ok bool) {
	name, rest, found := bytes.Cut(rest, []byte(jsonSeq))
	if !found || !ValidID(string(name)) {
		return "", 0, false
	}
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	seq, err := strconv.ParseUint(string(rest[:digits]), 10, 64)
	return string(name), seq, err == nil && seq > 0
}

// ValidID says whether a device may be called so: 1 to 64 letters, digits and
// "-_.:", which need no quoting in JSON, in a topic or in a line of text.
func ValidID(id string) bool {
	for i := range len(id) {
		c := id[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && !bytes.ContainsRune([]byte("-_.:"), rune(c)) {
			return false
		}
	}
	return id != "" && len(id) <= maxIDBytes
}
