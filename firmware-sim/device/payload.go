package device

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// The shapes of payload a device can send.
const (
	ShapeJSON      = "json"
	ShapeSparkplug = "sparkplug" // the protobuf of Sparkplug B: timestamp, metrics, seq
	ShapeCBOR      = "cbor"      // a map of text keys
	ShapeRandom    = "random"    // a mark and bytes that do not compress
	ShapeShort     = "short"     // JSON for a packet of 128 bytes
)

// contentTypes are what the shapes are called in MQTT 5's Content Type.
var contentTypes = map[string]string{
	ShapeJSON:      "application/json",
	ShapeSparkplug: "application/x-protobuf",
	ShapeCBOR:      "application/cbor",
	ShapeRandom:    "application/octet-stream",
	ShapeShort:     "application/json",
}

// appendPayload appends the payload of a message. The same arguments always
// give the same bytes, so that a message can be sent again, unchanged, by a
// simulator that was restarted in between. size is the length of the random
// shape, or that of its mark if that is more.
func appendPayload(dst []byte, shape, id string, seq uint64, millis int64, size int) []byte {
	switch shape {
	case ShapeSparkplug:
		return appendSparkplug(dst, id, seq, millis)
	case ShapeCBOR:
		return appendCBOR(dst, id, seq, millis)
	case ShapeShort:
		return appendShort(dst, id, seq)
	case ShapeRandom:
		end := len(dst) + size
		dst = appendMark(dst, id, seq)
		noise := rand.NewPCG(seq, uint64(millis))
		for len(dst)+8 <= end {
			dst = binary.LittleEndian.AppendUint64(dst, noise.Uint64())
		}
		for len(dst) < end {
			dst = append(dst, byte(noise.Uint64()))
		}
		return dst
	default:
		return appendJSON(dst, id, seq, millis)
	}
}

// measure returns the readings that belong to a message: a slow wave, as a
// sensor would see it, and a counter.
func measure(seq uint64) (celsius float64, pulses uint64) {
	wave := math.Sin(float64(seq%3600) * 2 * math.Pi / 3600)
	return math.Round((21.5+4*wave)*100) / 100, seq * 7
}

func appendJSON(dst []byte, id string, seq uint64, millis int64) []byte {
	celsius, pulses := measure(seq)
	dst = append(dst, jsonDevice...)
	dst = append(dst, id...)
	dst = append(dst, jsonSeq...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, `,"ts":"`...)
	dst = time.UnixMilli(millis).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = append(dst, `","temperature":`...)
	dst = strconv.AppendFloat(dst, celsius, 'f', 2, 64)
	dst = append(dst, `,"pulses":`...)
	dst = strconv.AppendUint(dst, pulses, 10)
	return append(dst, `,"status":"ok"}`...)
}

func appendShort(dst []byte, id string, seq uint64) []byte {
	celsius, _ := measure(seq)
	dst = append(append(dst, jsonDevice...), id...)
	dst = strconv.AppendUint(append(dst, jsonSeq...), seq, 10)
	dst = strconv.AppendFloat(append(dst, `,"t":`...), celsius, 'f', 2, 64)
	return append(dst, '}')
}

// appendSparkplug writes the fields of org.eclipse.tahu.protobuf.Payload. The
// mark travels in its field 5, body, which is for the application.
func appendSparkplug(dst []byte, id string, seq uint64, millis int64) []byte {
	celsius, pulses := measure(seq)
	dst = append(dst, 5<<3|2, byte(markBytes(id)))
	dst = appendMark(dst, id, seq)
	dst = binary.AppendUvarint(append(dst, 1<<3), uint64(millis))
	dst = appendMetric(dst, "Temperature", millis, 10, func(m []byte) []byte { // Double
		return binary.LittleEndian.AppendUint64(append(m, 13<<3|1), math.Float64bits(celsius))
	})
	dst = appendMetric(dst, "Pulses", millis, 8, func(m []byte) []byte { // UInt64
		return binary.AppendUvarint(append(m, 11<<3), pulses)
	})
	return binary.AppendUvarint(append(dst, 3<<3), seq%256)
}

func appendMetric(dst []byte, name string, millis int64, dataType byte, value func([]byte) []byte) []byte {
	m := append(make([]byte, 0, 64), 1<<3|2, byte(len(name)))
	m = append(m, name...)
	m = binary.AppendUvarint(append(m, 3<<3), uint64(millis))
	m = append(m, 4<<3, dataType)
	m = value(m)
	dst = append(dst, 2<<3|2, byte(len(m)))
	return append(dst, m...)
}

// appendCBOR writes a map of five pairs (RFC 8949); the mark is the byte
// string under "m".
func appendCBOR(dst []byte, id string, seq uint64, millis int64) []byte {
	celsius, pulses := measure(seq)
	dst = append(dst, 0xA5, 0x61, 'm')
	dst = append(dst, 0x58, byte(markBytes(id)))
	dst = appendMark(dst, id, seq)
	dst = append(dst, 0x62, 't', 's', 0x1B)
	dst = binary.BigEndian.AppendUint64(dst, uint64(millis))
	dst = append(dst, 0x64, 't', 'e', 'm', 'p', 0xFB)
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(celsius))
	dst = append(dst, 0x66, 'p', 'u', 'l', 's', 'e', 's', 0x1B)
	dst = binary.BigEndian.AppendUint64(dst, pulses)
	return append(dst, 0x62, 'o', 'k', 0xF5)
}
