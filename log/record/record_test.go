package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// samples cover what differs in the encoding: nil and empty, one and two bytes
// of varint, names that are interned and others.
func samples() []Record {
	return []Record{
		{},
		{Key: []byte{}, Value: []byte{}},
		{Value: []byte("21.5"), Millis: 1},
		{Key: []byte("device-7"), Value: []byte("{\"t\":21.5}"), Millis: 63},
		{Key: []byte("k"), Value: bytes.Repeat([]byte("x"), 64), Millis: 64},
		{Key: bytes.Repeat([]byte("k"), 8191), Value: bytes.Repeat([]byte{0}, 8192), Millis: -1},
		{Value: []byte("v"), Millis: 1 << 40, Headers: []Header{
			{Key: "mqtt.topic", Value: []byte("plant/4/press/tele")},
			{Key: "mqtt.client_id", Value: []byte("press-4")},
			{Key: "mqtt.qos", Value: []byte("1")},
			{Key: "mqtt.retain", Value: []byte("1")},
			{Key: "content-type", Value: []byte("application/json")},
			{Key: "", Value: nil},
			{Key: "an unknown one", Value: []byte{}},
		}},
	}
}

// The bytes are those of Kafka: an encoder that others wrote makes the same.
func TestKafkaBytes(t *testing.T) {
	for _, r := range samples() {
		for _, offset := range []int64{0, 1, 63, 64, 100_000} {
			got := Append([]byte("before"), &r, r.Millis, offset)[len("before"):]
			k := kmsg.Record{TimestampDelta64: r.Millis, OffsetDelta: int32(offset), Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				k.Headers = append(k.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
			}
			k.Length = int32(len(k.AppendTo(nil)) - 1) // a length of 0 takes one byte
			if want := k.AppendTo(nil); !bytes.Equal(got, want) {
				t.Errorf("%+v at %d:\n got %x\nwant %x", r, offset, got, want)
			}
			if most := MaxBytes(&r); len(got) > most {
				t.Errorf("%+v takes %d bytes, MaxBytes says %d", r, len(got), most)
			}
		}
	}
	if n := len(Append(nil, &Record{}, 0, 0)); n != MinBytes {
		t.Errorf("the smallest record takes %d bytes, MinBytes is %d", n, MinBytes)
	}
}

// The same as a string of bytes, to be compared with the specification by hand.
func TestGolden(t *testing.T) {
	r := Record{Key: []byte("d1"), Value: []byte("on"), Headers: []Header{{Key: "mqtt.qos", Value: []byte("1")}, {Key: "x"}}}
	want := strings.Join([]string{
		"30",                      // length 24
		"00",                      // attributes
		"0a",                      // timestamp delta 5
		"04",                      // offset delta 2
		"04" + "6431",             // key "d1"
		"04" + "6f6e",             // value "on"
		"04",                      // 2 headers
		"10" + "6d7174742e716f73", // "mqtt.qos"
		"02" + "31",               // "1"
		"02" + "78",               // "x"
		"01",                      // null
	}, "")
	if got := hex.EncodeToString(Append(nil, &r, 5, 2)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	var all []byte
	for i, r := range samples() {
		all = Append(all, &r, r.Millis, int64(i))
	}
	var got Record
	for i, want := range samples() {
		offset, rest, err := Decode(all, &got)
		if err != nil || offset != int64(i) {
			t.Fatalf("record %d: offset %d, %v", i, offset, err)
		}
		if len(got.Headers) == 0 {
			got.Headers = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("record %d: got %+v, want %+v", i, got, want)
		}
		all = rest
	}
	if len(all) != 0 {
		t.Errorf("%d bytes are left", len(all))
	}
}

// Every cut of a record is malformed, and nothing else.
func TestEveryCut(t *testing.T) {
	for _, r := range samples() {
		whole := Append(nil, &r, r.Millis, 1)
		for cut := range whole {
			if _, _, err := Decode(whole[:cut], new(Record)); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%d of %d bytes: %v", cut, len(whole), err)
			}
		}
	}
}

func TestHeader(t *testing.T) {
	r := Record{Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}}}
	if got := r.Header("a"); string(got) != "1" {
		t.Errorf("the first of two is %q", got)
	}
	if got := r.Header("b"); got != nil {
		t.Errorf("no header is %q", got)
	}
}

// S1: no bytes make Decode panic or take more memory than they have, and what
// it accepts is what Append would write again.
func FuzzDecode(f *testing.F) {
	for _, r := range samples() {
		f.Add(Append(nil, &r, r.Millis, 3))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var r, again Record
		offset, rest, err := Decode(src, &r)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if size := len(src) - len(rest); size < MinBytes || 2*len(r.Headers) > size {
			t.Fatalf("%d headers in %d bytes", len(r.Headers), size)
		}
		written := Append(nil, &r, r.Millis, offset)
		offset2, rest2, err := Decode(written, &again)
		if err != nil || offset2 != offset || len(rest2) != 0 || !reflect.DeepEqual(r, again) {
			t.Fatalf("%x is read as %+v, written as %x and read as %+v, %v", src, r, written, again, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	r := &samples()[6]
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], r, 1, 1)
	}
}

func BenchmarkDecode(b *testing.B) {
	src := Append(nil, &samples()[3], 1, 1)
	var r Record
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Decode(src, &r); err != nil {
			b.Fatal(err)
		}
	}
}
