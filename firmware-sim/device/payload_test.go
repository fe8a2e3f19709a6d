package device

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
)

var shapes = []string{ShapeJSON, ShapeSparkplug, ShapeCBOR, ShapeRandom}

func TestEveryShapeIsIdentified(t *testing.T) {
	const millis = 1_795_371_361_660
	for _, shape := range shapes {
		for _, seq := range []uint64{1, 255, 256, 1 << 40, math.MaxUint64} {
			p := appendPayload(nil, shape, "pump-7.a", seq, millis, 100)
			id, got, ok := Identify(p)
			if id != "pump-7.a" || got != seq || !ok {
				t.Errorf("%s, %d: identified as %q %d %v", shape, seq, id, got, ok)
			}
			if again := appendPayload(nil, shape, "pump-7.a", seq, millis, 100); !bytes.Equal(p, again) {
				t.Errorf("%s, %d: made twice, two payloads", shape, seq)
			}
			if shape == ShapeRandom && len(p) != 100 {
				t.Errorf("random payload of %d bytes; want 100", len(p))
			}
		}
	}
	if n := len(appendPayload(nil, ShapeRandom, "pump", 1, millis, 3)); n != markBytes("pump") {
		t.Errorf("random payload of 3 bytes has %d; its mark has %d", n, markBytes("pump"))
	}
}

func TestJSONIsJSON(t *testing.T) {
	var reading struct {
		Device string
		Seq    uint64
		TS     time.Time
	}
	p := appendPayload(nil, ShapeJSON, "sim-0001", 12, 1_795_371_361_660, 0)
	if err := json.Unmarshal(p, &reading); err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	if reading.Device != "sim-0001" || reading.Seq != 12 || reading.TS.UnixMilli() != 1_795_371_361_660 {
		t.Errorf("%s is read as %+v", p, reading)
	}
}

// The bytes were decoded by hand, along RFC 8949 and Sparkplug's schema.
func TestBinaryShapesGolden(t *testing.T) {
	const mark = "f153494d 01 61 0000000000000001"
	cbor := "a5 61 6d 58 0e " + mark + "62 7473 1b 0000000000000002 64 74656d70 fb 403582 8f5c28f5c3 66 70756c736573 1b 0000000000000007 62 6f6b f5"
	if got := appendPayload(nil, ShapeCBOR, "a", 1, 2, 0); !bytes.Equal(got, unhex(t, cbor)) {
		t.Errorf("CBOR:\n got %x\nwant %x", got, unhex(t, cbor))
	}
	sparkplug := "2a 0e " + mark + "08 02" +
		"12 1a 0a 0b" + hexOf("Temperature") + "18 02 20 0a 69 c3f5285c8f823540" +
		"12 0e 0a 06" + hexOf("Pulses") + "18 02 20 08 58 07" +
		"18 01"
	if got := appendPayload(nil, ShapeSparkplug, "a", 1, 2, 0); !bytes.Equal(got, unhex(t, sparkplug)) {
		t.Errorf("Sparkplug:\n got %x\nwant %x", got, unhex(t, sparkplug))
	}
}

func TestIdentifyForeign(t *testing.T) {
	for _, p := range []string{
		"", "{}", `{"device":"`, `{"device":"a","seq":`, `{"device":"a","seq":0}`, `{"device":"a b","seq":1}`,
		`{"device":"","seq":1}`, `{"device":"a","seq":99999999999999999999}`, `{"seq":1,"device":"a"}`,
		magic, magic + "\x01", magic + "\x01a1234567", magic + "\x00" + "12345678", magic + "\x01a\x00\x00\x00\x00\x00\x00\x00\x00",
		"0123456789abcdefg" + magic + "\x01a12345678",
	} {
		if id, seq, ok := Identify([]byte(p)); ok {
			t.Errorf("%q is message %d of %q", p, seq, id)
		}
	}
}

// FuzzIdentify feeds payloads of other people (S1), and looks for messages of
// our own that are not recognised.
func FuzzIdentify(f *testing.F) {
	for _, shape := range shapes {
		f.Add(appendPayload(nil, shape, "sim-0001", 7, 1_795_371_361_660, 64), "sim-0001", uint64(7), int64(1))
	}
	f.Fuzz(func(t *testing.T, payload []byte, id string, seq uint64, millis int64) {
		if got, n, ok := Identify(payload); ok && (!ValidID(got) || n == 0) {
			t.Fatalf("%x is message %d of %q", payload, n, got)
		}
		if !ValidID(id) || seq == 0 {
			return
		}
		for _, shape := range shapes {
			p := appendPayload(nil, shape, id, seq, millis, 64)
			if got, n, ok := Identify(p); got != id || n != seq || !ok {
				t.Fatalf("%s: message %d of %q is identified as %d of %q, %v", shape, seq, id, n, got, ok)
			}
		}
	})
}

func TestMix(t *testing.T) {
	m, err := ParseMix("0:10, 1:60,2:30", "0", "1", "2")
	if err != nil {
		t.Fatal(err)
	}
	for place, want := range map[float64]string{0: "0", 0.099: "0", 0.1: "1", 0.699: "1", 0.7: "2", 0.9999: "2", 1: "2"} {
		if got := m.at(place); got != want {
			t.Errorf("at %v: %s; want %s", place, got, want)
		}
	}
	half, _ := ParseMix("a,b", "a", "b")
	for _, devices := range []int{2, 4, 20, 200} {
		count := 0
		for n := range devices {
			if half.spread(n, versionStep) == "a" {
				count++
			}
		}
		if off := count - devices/2; off < -1 || off > 1 {
			t.Errorf("%d of %d devices are a half", count, devices)
		}
	}
	for _, wrong := range []string{"", "3", "1:x", "1:-1", "0:0", "1:1,"} {
		if m, err := ParseMix(wrong, "0", "1", "2"); err == nil {
			t.Errorf("%q is a mix: %v", wrong, m)
		}
	}
}

func TestLatency(t *testing.T) {
	var h histogram
	if l := h.latency(); l != (Latency{}) {
		t.Errorf("nothing counted: %+v", l)
	}
	for ms := range 1000 {
		h.add(time.Duration(ms+1) * time.Millisecond)
	}
	l := h.latency()
	for _, c := range []struct{ got, want time.Duration }{
		{l.P50, 501 * time.Millisecond}, {l.P90, 901 * time.Millisecond}, {l.P99, 991 * time.Millisecond},
	} {
		if c.got < c.want || c.got > c.want+c.want/32 {
			t.Errorf("percentile is %v; want %v and up to 1/32 more", c.got, c.want)
		}
	}
	if l.Max != time.Second || l.Count != 1000 {
		t.Errorf("max %v, count %d", l.Max, l.Count)
	}
	for _, us := range []int64{-1, 0, 1, 31, 32, 63, 64, 65, 1 << 20, 1<<37 - 1, 1 << 37, math.MaxInt64} {
		if b := bucketOf(us); us >= 0 && us < 1<<37 && (upperBound(b) < us || b > 0 && upperBound(b-1) >= us) {
			t.Errorf("%d us is in bucket %d, which ends at %d", us, b, upperBound(b))
		}
		h.add(time.Duration(us) * time.Microsecond)
	}
}

func hexOf(s string) string {
	const digits = "0123456789abcdef"
	var b []byte
	for i := range len(s) {
		b = append(b, digits[s[i]>>4], digits[s[i]&15])
	}
	return string(b)
}
