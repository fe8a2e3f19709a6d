package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed says that bytes are not a run of Kafka records v2.
var ErrMalformed = errors.New("malformed record")

// Decode reads the first record of src, as Append wrote it, into r: all of r
// but Stream and Partition, with Millis relative to the run. It returns the
// record's offset delta and what follows it. Key, Value and Headers of r point
// into src; the slice r.Headers is reused. Any error wraps ErrMalformed.
func Decode(src []byte, r *Record) (offsetDelta int64, rest []byte, err error) {
	c := cursor{b: src}
	size := c.length()
	if c.failed || size < 0 {
		return 0, nil, fmt.Errorf("%w: length", ErrMalformed)
	}
	body, rest := c.b[:size], c.b[size:]
	c = cursor{b: body}
	c.take(1) // attributes
	r.Millis = c.varint()
	offsetDelta = c.varint()
	r.Key = c.nullable()
	r.Value = c.nullable()
	r.Headers = c.headers(r.Headers[:0])
	if c.failed || len(c.b) != 0 {
		return 0, nil, fmt.Errorf("%w: fields", ErrMalformed)
	}
	return offsetDelta, rest, nil
}

// cursor reads from b and remembers the first failure, so that a decoder
// checks once at its end.
type cursor struct {
	b      []byte
	failed bool
}

func (c *cursor) fail() { c.b, c.failed = nil, true }

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

// length reads a length that must fit what is left, or -1.
func (c *cursor) length() int {
	n := c.varint()
	if n < -1 || n > int64(len(c.b)) {
		c.fail()
		return 0
	}
	return int(n)
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.fail()
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) nullable() []byte {
	n := c.length()
	if n < 0 {
		return nil
	}
	return c.take(n)
}

func (c *cursor) headers(to []Header) []Header {
	n := c.varint()
	if n < 0 || n > int64(len(c.b)) { // a header takes at least two bytes
		c.fail()
		return to
	}
	for range n {
		size := c.length()
		if size < 0 {
			c.fail()
		}
		if c.failed {
			return to
		}
		key := c.take(size)
		to = append(to, Header{Key: name(key), Value: c.nullable()})
	}
	return to
}

// name returns key as a string, without an allocation for the names that
// nearly every record has.
func name(key []byte) string {
	switch string(key) {
	case "mqtt.topic":
		return "mqtt.topic"
	case "mqtt.client_id":
		return "mqtt.client_id"
	case "mqtt.qos":
		return "mqtt.qos"
	case "mqtt.retain":
		return "mqtt.retain"
	case "content-type":
		return "content-type"
	}
	return string(key)
}
