package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// codec returns what the store compresses and decompresses with.
func codec(tb testing.TB) (*zstd.Encoder, *zstd.Decoder) {
	tb.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBody))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(dec.Close)
	return enc, dec
}

// made is a group together with what was put into it.
type made struct {
	header  Header
	frame   Frame
	bytes   []byte // header and stored body
	padded  []byte // as it goes to the disk, with an empty frame
	entries []record.Entry
}

// build makes a group of n records, from LSN base on.
func build(b *Builder, rng *rand.Rand, base tributary.LSN, n int, enc *zstd.Encoder) made {
	b.Reset(base)
	offsets := map[string]int64{"a/0": 1 << 40}
	var m made
	for i := range n {
		millis := rng.Int64N(1<<42) - 1<<20
		r := record.Record{
			Stream: []string{"a", "telemetry.line4", ""}[rng.IntN(3)], Partition: rng.Int32N(2) - rng.Int32N(2),
			Key:   fmt.Appendf(nil, "device-%d", rng.IntN(9)),
			Value: bytes.Repeat([]byte{byte(i)}, rng.IntN(300)),
		}
		for range rng.IntN(4) {
			r.Headers = append(r.Headers, record.Header{Key: []string{"mqtt.topic", "mine"}[rng.IntN(2)], Value: r.Key})
		}
		place := fmt.Sprint(r.Stream, "/", r.Partition)
		b.Add(&r, millis, offsets[place])
		r.Millis = millis
		m.entries = append(m.entries, record.Entry{LSN: base + tributary.LSN(i), Offset: offsets[place], Record: r})
		offsets[place]++
	}
	m.header = Header{
		Ledger: tributary.LedgerID{1, 2, 3}, Number: 7, PrevChain: rng.Uint64(),
		Millis: 1_700_000_000_000, BootMillis: 1_600_000_000_000, Boot: [16]byte{9, 8, 7}, Trusted: rng.IntN(2) == 0,
	}
	m.padded, m.frame = b.Seal(&m.header, enc)
	m.padded = bytes.Clone(m.padded)
	m.bytes = m.padded[FrameBytes : FrameBytes+m.frame.Bytes]
	return m
}

// What was added comes back in the order of its LSNs, whatever runs it was in,
// through a builder that is used again and again.
func TestRoundTrip(t *testing.T) {
	enc, dec := codec(t)
	rng := rand.New(rand.NewPCG(3, 4))
	var b Builder
	for round := range 200 {
		n := 1 + rng.IntN(40)
		use := enc
		if round%2 == 0 {
			use = nil
		}
		m := build(&b, rng, tributary.LSN(rng.Uint64N(1<<50)), n, use)
		if len(m.padded)%PageBytes != 0 || len(m.padded) != PaddedBytes(len(m.bytes)) {
			t.Fatalf("%d bytes are padded to %d", len(m.bytes), len(m.padded))
		}
		if b.Bytes() < HeaderBytes+int(m.header.rawBytes) || b.Count() != n {
			t.Fatalf("Bytes is %d for a body of %d", b.Bytes(), m.header.rawBytes)
		}
		h, err := Decode(&m.frame, m.bytes)
		if err != nil || h != m.header || h.Next() != m.header.Next() || h.Chain() != m.header.Chain() {
			t.Fatalf("%+v is read as %+v, %v", m.header, h, err)
		}
		opened, err := Open(&m.frame, &h, m.bytes, dec)
		if err != nil || len(opened) != 1 || opened[0].Header != h {
			t.Fatalf("%+v is opened as %+v, %v", h, opened, err)
		}
		before := []record.Entry{{LSN: 1}}
		got, err := opened[0].Entries(before)
		if err != nil || len(got) != n+1 || got[0].LSN != 1 {
			t.Fatalf("%d entries, %v", len(got), err)
		}
		for i := range got[1:] {
			e, want := got[i+1], m.entries[i]
			if len(e.Headers) == 0 {
				e.Headers = nil
			}
			if !reflect.DeepEqual(e, want) {
				t.Fatalf("entry %d is %+v, want %+v", i, e, want)
			}
		}
	}
}

// The sum of MaxBytes is at least what the records take: the store relies on it
// to know that a group fits before it is built.
func TestBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var b Builder
		bound := HeaderBytes
		m := build(&b, rng, 0, 1+rng.IntN(60), nil)
		for i := range m.entries {
			bound += MaxBytes(&m.entries[i].Record)
		}
		if b.Bytes() > bound || len(m.bytes) > b.Bytes() {
			t.Fatalf("the group has %d bytes, Bytes says %d, MaxBytes %d", len(m.bytes), b.Bytes(), bound)
		}
	}
}

// A run is byte for byte the records section of a Kafka RecordBatch: with a
// batch header in front, Kafka's own client reads it.
func TestRunIsRecordBatch(t *testing.T) {
	m := build(new(Builder), rand.New(rand.NewPCG(7, 8)), 100, 50, nil)
	d := decoder{b: m.bytes[HeaderBytes:]}
	total := 0
	for len(d.b) > 0 {
		stream, _ := d.bytes()
		partition, _ := d.uvarint()
		offset, _ := d.uvarint()
		millis, n := binary.Varint(d.b)
		d.b = d.b[n:]
		count, _ := d.uvarint()
		_, _ = d.uvarint() // index
		_, _ = d.bytes()   // gaps
		records, ok := d.bytes()
		if !ok {
			t.Fatal("the run ends early")
		}
		var want []record.Entry
		for _, e := range m.entries {
			if e.Stream == string(stream) && e.Partition == int32(partition) {
				want = append(want, e)
			}
		}
		got := fetch(t, batch(int64(offset), millis, int32(count), records), int64(offset))
		if len(got) != len(want) || len(got) != int(count) {
			t.Fatalf("Kafka's client reads %d records of %s/%d, want %d", len(got), stream, partition, len(want))
		}
		for i, r := range got {
			e := want[i]
			if r.Offset != e.Offset || r.Timestamp.UnixMilli() != e.Millis || !bytes.Equal(r.Key, e.Key) || !bytes.Equal(r.Value, e.Value) || len(r.Headers) != len(e.Headers) {
				t.Errorf("Kafka's client reads %+v, want %+v", r, e)
			}
		}
		total += len(got)
	}
	if total != len(m.entries) {
		t.Errorf("%d records in all runs, want %d", total, len(m.entries))
	}
}

// batch puts a RecordBatch header in front of records.
func batch(offset, millis int64, count int32, records []byte) []byte {
	b := kmsg.RecordBatch{
		FirstOffset: offset, PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: count - 1,
		FirstTimestamp: millis, MaxTimestamp: millis, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: count, Records: records,
	}
	const upToLength, upToCRC = 12, 21
	raw := b.AppendTo(nil)
	b.Length = int32(len(raw) - upToLength)
	b.CRC = int32(Checksum(raw[upToCRC:]))
	return b.AppendTo(nil)
}

func fetch(t *testing.T, raw []byte, offset int64) []*kgo.Record {
	t.Helper()
	p := kmsg.NewFetchResponseTopicPartition()
	p.RecordBatches = raw
	got, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: offset, Topic: "t"}, &p, kgo.DefaultDecompressor(), nil)
	if got.Err != nil {
		t.Fatal("Kafka's client says:", got.Err)
	}
	return got.Records
}

// damage calls f with every byte of b changed in several ways.
func damage(b []byte, f func(at int, by byte)) {
	for at := range b {
		for _, by := range []byte{1, 0x80, 0xff} {
			b[at] ^= by
			f(at, by)
			b[at] ^= by
		}
	}
}

// D3: no cut and no changed byte of a group passes for a group, however it is
// stored. The checksum in its header alone finds it too: the one in the frame is
// not there in other copies.
func TestDamage(t *testing.T) {
	enc, dec := codec(t)
	for want, use := range []*zstd.Encoder{Raw: nil, Zstd: enc} {
		m := build(new(Builder), rand.New(rand.NewPCG(9, 10)), 5, 4+36*want, use)
		if m.frame.Codec != Codec(want) {
			t.Fatalf("the codec is %d, want %d", m.frame.Codec, want)
		}
		for cut := range m.bytes {
			if _, err := Decode(&m.frame, m.bytes[:cut]); !errors.As(err, new(*CorruptError)) {
				t.Fatalf("%d of %d bytes: %v", cut, len(m.bytes), err)
			}
		}
		good, err := opened(&m.frame, m.bytes, dec)
		if err != nil {
			t.Fatal(err)
		}
		damage(m.bytes, func(at int, by byte) {
			if _, err := Decode(&m.frame, m.bytes); !errors.As(err, new(*CorruptError)) {
				t.Fatalf("byte %d changed by %02x: %v", at, by, err)
			}
			f := m.frame
			f.crc = Checksum(m.bytes)
			all, err := opened(&f, m.bytes, dec)
			if errors.As(err, new(*CorruptError)) || errors.As(err, new(*VersionError)) {
				return
			}
			if err != nil || at < HeaderBytes || use == nil || !reflect.DeepEqual(all, good) { // zstd ignores some bits
				t.Fatalf("byte %d changed by %02x under a right checksum in the frame: %v", at, by, err)
			}
		})
	}
}

// opened decodes and opens what is stored behind f.
func opened(f *Frame, src []byte, dec *zstd.Decoder) ([]Group, error) {
	h, err := Decode(f, src)
	if err != nil {
		return nil, err
	}
	return Open(f, &h, src, dec)
}

// D3: no changed byte of a frame passes for a frame.
func TestDamagedFrame(t *testing.T) {
	m := build(new(Builder), rand.New(rand.NewPCG(9, 10)), 5, 4, nil)
	f := m.frame
	f.Segment, f.Salt, f.Commit = 4, 1<<63, 9
	f.Encode(m.padded)
	if got, ok := DecodeFrame(m.padded); !ok || got != f || got.After() != 10 {
		t.Fatalf("%+v is read as %+v, %v", f, got, ok)
	}
	damage(m.padded[:FrameBytes], func(at int, by byte) {
		if f, ok := DecodeFrame(m.padded); ok {
			t.Fatalf("byte %d of the frame changed by %02x: %+v", at, by, f)
		}
	})
}

// Another version is told from damage: only when the checksum holds.
func TestOtherVersion(t *testing.T) {
	for _, v := range []uint16{1, Version + 1} {
		m := build(new(Builder), rand.New(rand.NewPCG(1, 1)), 0, 1, nil)
		binary.BigEndian.PutUint16(m.bytes[8:], v)
		if _, err := Decode(&m.frame, m.bytes); !errors.As(err, new(*CorruptError)) {
			t.Errorf("a damaged version: %v", err)
		}
		m.frame.crc = Checksum(m.bytes)
		var other *VersionError
		if _, err := Decode(&m.frame, m.bytes); !errors.As(err, &other) || other.Version != v || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("version %d: %v", v, err)
		}
	}
}

// L1: the chain depends on every record before, and on nothing but the ledger's
// bytes: not on where a group lies, nor on how it is stored.
func TestChain(t *testing.T) {
	enc, _ := codec(t)
	m := build(new(Builder), rand.New(rand.NewPCG(2, 2)), 0, 60, nil)
	other := m.header
	other.PrevChain++
	if m.header.Chain() == other.Chain() {
		t.Error("the chain forgets what was before")
	}
	f := m.frame
	f.Segment, f.Commit = 1, 1
	f.Encode(m.padded)
	if h, err := Decode(&m.frame, m.bytes); err != nil || h.Chain() != m.header.Chain() {
		t.Errorf("the chain depends on the frame: %v", err)
	}
	packed := build(new(Builder), rand.New(rand.NewPCG(2, 2)), 0, 60, enc)
	if packed.frame.Codec != Zstd || packed.header != m.header || packed.header.Chain() != m.header.Chain() {
		t.Errorf("compressed it is %+v, and else %+v", packed.header, m.header)
	}
}

// S1: whatever stands where a frame should be, what is accepted is a frame that
// Encode writes.
func FuzzDecodeFrame(f *testing.F) {
	for _, frame := range []Frame{{Segment: 1, Salt: 2, Commit: 3, Of: 1, Bytes: 96}, {Index: 1, Of: 2, Bytes: HeaderBytes + MaxBody}} {
		b := make([]byte, FrameBytes)
		frame.Encode(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		src = append(src, make([]byte, FrameBytes)...)[:FrameBytes]
		binary.BigEndian.PutUint32(src[4:], Checksum(src[8:])) // or else hardly anything gets through
		if frame, ok := DecodeFrame(src); ok {
			again := make([]byte, FrameBytes)
			if frame.Encode(again); frame.Bytes > HeaderBytes+MaxBody || frame.Index >= frame.Of || !bytes.Equal(again[8:45], src[8:45]) {
				t.Fatalf("%x is read as %+v", src, frame)
			}
		}
	})
}

// S1: no body makes Entries panic or take memory for records that it has no
// bytes for.
func FuzzEntries(f *testing.F) {
	for n := range 4 {
		m := build(new(Builder), rand.New(rand.NewPCG(uint64(n), 0)), 0, 1+3*n, nil)
		f.Add(m.header.Count, m.bytes[HeaderBytes:])
	}
	f.Fuzz(func(t *testing.T, count uint32, body []byte) {
		g := Group{Header: Header{Base: 10, Count: count}, Body: body}
		got, err := g.Entries(nil)
		if err != nil {
			if !errors.As(err, new(*CorruptError)) || len(got) != 0 {
				t.Fatalf("%d entries, %v", len(got), err)
			}
			return
		}
		if len(got) != int(count) || len(got)*record.MinBytes > len(body) {
			t.Fatalf("%d entries of %d, in %d bytes", len(got), count, len(body))
		}
		for i := range got {
			if got[i].LSN != 10+tributary.LSN(i) || got[i].Offset < 0 {
				t.Fatalf("entry %d is %+v", i, got[i])
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	var u Builder
	r := record.Record{Stream: "s", Key: []byte("device"), Value: make([]byte, 200)}
	b.ReportAllocs()
	for b.Loop() {
		u.Reset(0)
		for i := range 100 {
			u.Add(&r, int64(i), int64(i))
		}
		u.Seal(&Header{}, nil)
	}
}
