package record

import (
	"encoding/binary"
	"math/bits"
)

// Append appends r to dst in Kafka's record format v2 (KIP-98, "Message
// Format") and returns the longer slice. millisDelta and offsetDelta are
// relative to the first record of the run. It keeps nothing of r.
func Append(dst []byte, r *Record, millisDelta, offsetDelta int64) []byte {
	dst = binary.AppendVarint(dst, int64(bodyBytes(r, millisDelta, offsetDelta)))
	dst = append(dst, 0) // attributes: none are defined
	dst = binary.AppendVarint(dst, millisDelta)
	dst = binary.AppendVarint(dst, offsetDelta)
	dst = appendNullable(dst, r.Key)
	dst = appendNullable(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendNullable(dst, h.Value)
	}
	return dst
}

// MaxBytes returns an upper bound of what Append adds for r, whatever the deltas.
func MaxBytes(r *Record) int {
	n := 2*binary.MaxVarintLen64 + binary.MaxVarintLen32 + 1 + nullableBytes(r.Key) + nullableBytes(r.Value) + binary.MaxVarintLen32
	for i := range r.Headers {
		n += varintBytes(int64(len(r.Headers[i].Key))) + len(r.Headers[i].Key) + nullableBytes(r.Headers[i].Value)
	}
	return n
}

// appendNullable tells nil (no key, no value) from empty, as Kafka does.
func appendNullable(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

func bodyBytes(r *Record, millisDelta, offsetDelta int64) int {
	n := 1 + varintBytes(millisDelta) + varintBytes(offsetDelta) +
		nullableBytes(r.Key) + nullableBytes(r.Value) + varintBytes(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintBytes(int64(len(h.Key))) + len(h.Key) + nullableBytes(h.Value)
	}
	return n
}

func nullableBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return varintBytes(int64(len(b))) + len(b)
}

func varintBytes(v int64) int {
	zigzag := uint64(v)<<1 ^ uint64(v>>63)
	return (bits.Len64(zigzag|1) + 6) / 7
}
