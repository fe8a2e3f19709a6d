package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// sequence makes groups of one ledger that follow one another, with so many
// records each, and returns them as Open does. Some are stored compressed.
func sequence(tb testing.TB, rng *rand.Rand, sizes ...int) (all []Group) {
	tb.Helper()
	enc, dec := codec(tb)
	var b Builder
	h := Header{Base: 1000, Number: 5, PrevChain: 99}
	for i, n := range sizes {
		b.Reset(h.Base)
		for j := range n {
			r := record.Record{Stream: "telemetry", Key: []byte("device"), Value: []byte(fmt.Sprintf(`{"t":%d}`, rng.IntN(1000)))}
			b.Add(&r, int64(i), int64(h.Base)+int64(j))
		}
		h = Header{
			Ledger: tributary.LedgerID{7}, Number: h.Number, PrevChain: h.PrevChain, Millis: 1000 + int64(i),
			Boot: [16]byte{4}, BootMillis: int64(i), Trusted: i%2 == 0,
		}
		use := enc
		if i%3 == 0 {
			use = nil
		}
		padded, f := b.Seal(&h, use)
		got, err := opened(&f, bytes.Clone(padded[FrameBytes:FrameBytes+f.Bytes]), dec)
		if err != nil {
			tb.Fatal(err)
		}
		if all = append(all, got...); got[0].Header != h {
			tb.Fatalf("group %d is %+v, sealed as %+v", i, got[0].Header, h)
		}
		h.Number, h.Base, h.PrevChain = h.Number+1, h.Next(), h.Chain()
	}
	return all
}

// pack makes one pack of all groups, and returns its frame and what is behind it.
func pack(tb testing.TB, all ...Group) (Frame, []byte) {
	tb.Helper()
	enc, _ := codec(tb)
	var p Packer
	for i := range all {
		if added, err := p.Add(&all[i]); !added || err != nil {
			tb.Fatalf("group %d is not added: %v", i, err)
		}
	}
	padded, f, _ := p.Seal(enc)
	if len(padded) != PaddedBytes(f.Bytes) || f.Codec != Pack {
		tb.Fatalf("%+v in %d bytes", f, len(padded))
	}
	return f, padded[FrameBytes : FrameBytes+f.Bytes]
}

// L1: groups come out of packs byte for byte as they were sealed: headers, bodies
// and chains, whatever their number and size. Packs are closed when they have
// enough bytes, and one Packer makes many.
func TestPackRoundTrip(t *testing.T) {
	enc, dec := codec(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for name, sizes := range map[string][]int{
		"one":   {1},
		"small": slices.Repeat([]int{1, 2, 30}, 200),
		"large": {1, 30_000, 1, 1, 30_000, 30_000, 1}, // the large ones: each is more than a pack gathers
	} {
		all := sequence(t, rng, sizes...)
		var got []Group
		var p Packer
		packs, raw := 0, 0
		seal := func() {
			padded, f, h := p.Seal(enc)
			raw = max(raw, int(h.rawBytes))
			src := bytes.Clone(padded[FrameBytes : FrameBytes+f.Bytes])
			read, err := Decode(&f, src)
			if err != nil || read != h {
				t.Fatalf("%s: pack %+v is read as %+v, %v", name, h, read, err)
			}
			groups, err := Open(&f, &read, src, dec)
			if err != nil || len(groups) != h.Groups() {
				t.Fatalf("%s: %d groups of %d, %v", name, len(groups), h.Groups(), err)
			}
			last := groups[len(groups)-1]
			if h.Base != groups[0].Base || h.Number != groups[0].Number || h.Next() != last.Next() || h.Chain() != last.Chain() || h.Millis != last.Millis {
				t.Fatalf("%s: the pack says %+v, its groups are %+v to %+v", name, h, groups[0].Header, last.Header)
			}
			got = append(got, groups...)
			packs++
		}
		for i := range all {
			added, err := p.Add(&all[i])
			if err != nil {
				t.Fatal(err)
			}
			if !added {
				seal()
				if added, err = p.Add(&all[i]); !added || err != nil {
					t.Fatalf("%s: group %d finds no room in an empty pack: %v", name, i, err)
				}
			}
		}
		seal()
		if padded, _, _ := p.Seal(enc); padded != nil {
			t.Errorf("%s: a pack of nothing", name)
		}
		if !reflect.DeepEqual(got, all) {
			t.Fatalf("%s: %d groups came out, %d went in, or they differ", name, len(got), len(all))
		}
		if want := map[string]int{"one": 1, "small": 1, "large": 6}[name]; packs != want {
			t.Errorf("%s: %d packs of at most %d bytes, want %d", name, packs, raw, want)
		}
		for i := range got {
			if got[i].Chain() != all[i].Chain() {
				t.Fatalf("%s: group %d has another chain", name, i)
			}
		}
	}
}

// A group that does not follow the one before, or finds no room, is not taken,
// and the pack is as it was.
func TestPackRefuses(t *testing.T) {
	all := sequence(t, rand.New(rand.NewPCG(3, 3)), 2, 2, 2, 6000, 16_000)
	h := all[1].Header
	for name, change := range map[string]func(p *Packer, g *Group){
		"hole":           func(_ *Packer, g *Group) { *g = all[2] },
		"again":          func(_ *Packer, g *Group) { *g = all[0] },
		"other ledger":   func(_ *Packer, g *Group) { g.Ledger[0]++ },
		"other number":   func(_ *Packer, g *Group) { g.Number++ },
		"other chain":    func(_ *Packer, g *Group) { g.PrevChain++ },
		"full by groups": func(p *Packer, _ *Group) { p.head.groups, p.head.Number = maxPackGroups, h.Number-maxPackGroups },
		"full by bytes": func(p *Packer, _ *Group) {
			p.raw = append(p.raw, make([]byte, PackBytes-len(p.raw)-HeaderBytes-len(all[1].Body)+1)...)
		},
	} {
		var p Packer
		if added, err := p.Add(&all[0]); !added || err != nil {
			t.Fatal(err)
		}
		g := all[1]
		change(&p, &g)
		head, raw := p.head, len(p.raw)
		if added, err := p.Add(&g); added || err != nil || p.head != head || len(p.raw) != raw {
			t.Errorf("%s: added %v, %v", name, added, err)
		}
	}
}

// D3: a group that would not come out of a pack as it went in stays where it is:
// one that is damaged, one whose header has something that this program does not
// know, and one so large that the pack might not be read again.
func TestPackKeepsOut(t *testing.T) {
	_, dec := codec(t)
	all := sequence(t, rand.New(rand.NewPCG(4, 4)), 2, 2, 2)
	huge := Group{Header: Header{Count: 1}, Body: make([]byte, MaxBody)}
	huge.finish(make([]byte, HeaderBytes), huge.Body)
	unknown := all[1]
	unknown.crc++ // of a header with another flag
	damaged := all[1]
	damaged.Body = bytes.Clone(damaged.Body)
	damaged.Body[3]++
	none := all[1]
	none.Count = 0
	for name, g := range map[string]Group{"huge": huge, "unknown": unknown, "damaged": damaged, "none": none} {
		if added, err := new(Packer).Add(&g); added || !errors.As(err, new(*CorruptError)) {
			t.Errorf("%s, first: added %v, %v", name, added, err)
		}
		var p Packer
		_, _ = p.Add(&all[0])
		if added, err := p.Add(&g); added || !errors.As(err, new(*CorruptError)) {
			t.Errorf("%s, second: added %v, %v", name, added, err)
		}
		if added, err := p.Add(&all[1]); !added || err != nil {
			t.Errorf("%s: the pack takes nothing more: %v", name, err)
		}
		enc, _ := codec(t)
		padded, f, _ := p.Seal(enc)
		if got, err := opened(&f, padded[FrameBytes:FrameBytes+f.Bytes], dec); err != nil || !reflect.DeepEqual(got, all[:2]) {
			t.Errorf("%s: the pack is %+v, %v", name, got, err)
		}
	}
}

// The largest group that a pack takes comes out of it, even if nothing can be
// compressed.
func TestPackOfTheLargest(t *testing.T) {
	_, dec := codec(t)
	body := make([]byte, maxPacked-HeaderBytes)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(body)
	g := Group{Header: Header{Count: 1}, Body: body}
	g.finish(make([]byte, HeaderBytes), body)
	f, src := pack(t, g)
	if got, err := opened(&f, src, dec); err != nil || len(got) != 1 || !bytes.Equal(got[0].Body, body) {
		t.Fatalf("%d groups, %v", len(got), err)
	}
}

// D3: every change of a byte of a pack is found by the checksum of the frame. If
// that is right, by what the pack and its groups say of each other: what comes out
// is what went in, or nothing.
func TestDamagedPack(t *testing.T) {
	_, dec := codec(t)
	all := sequence(t, rand.New(rand.NewPCG(5, 5)), 3, 1, 20)
	f, src := pack(t, all...)
	src = bytes.Clone(src)
	for cut := range src {
		if _, err := Decode(&f, src[:cut]); !errors.As(err, new(*CorruptError)) {
			t.Fatalf("%d of %d bytes: %v", cut, len(src), err)
		}
	}
	damage(src, func(at int, by byte) {
		if _, err := Decode(&f, src); !errors.As(err, new(*CorruptError)) {
			t.Fatalf("byte %d changed by %02x: %v", at, by, err)
		}
		forged := f
		forged.crc = Checksum(src)
		got, err := opened(&forged, src, dec)
		if err == nil && !reflect.DeepEqual(got, all) {
			t.Fatalf("byte %d changed by %02x: other groups come out", at, by)
		}
		if err != nil && !errors.As(err, new(*CorruptError)) && !errors.As(err, new(*VersionError)) {
			t.Fatalf("byte %d changed by %02x: %v", at, by, err)
		}
	})
}

// forge makes a pack with right checksums of groups that need not follow one
// another. change may make its header say something else.
func forge(tb testing.TB, all []Group, change func(h *Header)) (Frame, []byte) {
	tb.Helper()
	enc, _ := codec(tb)
	var p Packer
	p.head = Header{
		Ledger: all[0].Ledger, Number: all[0].Number, Base: all[0].Base, PrevChain: all[0].PrevChain,
		chain: all[len(all)-1].Chain(), groups: len(all),
	}
	for i := range all {
		g := &all[i]
		at := len(p.raw)
		p.raw = append(p.raw, make([]byte, HeaderBytes)...)
		g.finish(p.raw[at:], g.Body)
		p.raw = append(p.raw, g.Body...)
		p.head.Count += g.Count
	}
	p.head.chain = all[len(all)-1].Chain()
	change(&p.head)
	padded, f, _ := p.Seal(enc)
	return f, padded[FrameBytes : FrameBytes+f.Bytes]
}

// D3: a pack whose groups are whole, and do not follow one another or are not
// what it says, is damaged, though every checksum is right.
func TestInconsistentPack(t *testing.T) {
	_, dec := codec(t)
	for name, change := range map[string]func(all []Group, h *Header){
		"":                 func([]Group, *Header) {},
		"ledger of one":    func(all []Group, _ *Header) { all[1].Ledger[3]++ },
		"ledger":           func(_ []Group, h *Header) { h.Ledger[3]++ },
		"number of one":    func(all []Group, _ *Header) { all[1].Number++ },
		"number":           func(_ []Group, h *Header) { h.Number++ },
		"base of one":      func(all []Group, _ *Header) { all[1].Base++ },
		"base of the last": func(all []Group, _ *Header) { all[2].Base-- },
		"base":             func(_ []Group, h *Header) { h.Base++ },
		"chain of one":     func(all []Group, _ *Header) { all[1].PrevChain++ },
		"chain before":     func(_ []Group, h *Header) { h.PrevChain++ },
		"chain after":      func(_ []Group, h *Header) { h.chain++ },
		"records":          func(_ []Group, h *Header) { h.Count++ },
		"records of one":   func(all []Group, _ *Header) { all[1].Count = 0 },
		"too many groups":  func(_ []Group, h *Header) { h.groups++ },
		"too few groups":   func(_ []Group, h *Header) { h.groups-- },
	} {
		all := sequence(t, rand.New(rand.NewPCG(6, 6)), 2, 3, 4)
		change(all, &Header{})
		f, src := forge(t, all, func(h *Header) { change(slices.Clone(all), h) })
		got, err := opened(&f, src, dec)
		if name == "" {
			if err != nil || !reflect.DeepEqual(got, all) {
				t.Fatalf("a right pack: %v", err)
			}
			continue
		}
		if !errors.As(err, new(*CorruptError)) || got != nil {
			t.Errorf("%s: %d groups, %v", name, len(got), err)
		}
	}
}

// D3: a group in a pack is proved by its own checksum, whatever the pack says.
func TestDamagedBeforeItWasPacked(t *testing.T) {
	enc, dec := codec(t)
	all := sequence(t, rand.New(rand.NewPCG(8, 8)), 2, 3)
	for at := range 2*HeaderBytes + len(all[0].Body) + len(all[1].Body) {
		var p Packer
		for i := range all {
			if added, err := p.Add(&all[i]); !added || err != nil {
				t.Fatal(err)
			}
		}
		p.raw[at] ^= 4
		padded, f, _ := p.Seal(enc)
		if got, err := opened(&f, padded[FrameBytes:FrameBytes+f.Bytes], dec); !errors.As(err, new(*CorruptError)) || got != nil {
			t.Fatalf("byte %d changed: %d groups, %v", at, len(got), err)
		}
	}
}

// S1: bytes that decompress to far more than their header says take no more
// memory than the largest body, and a little.
func TestBomb(t *testing.T) {
	enc, dec := codec(t)
	bomb := bytes.Repeat(enc.EncodeAll(make([]byte, MaxBody), nil), 100)
	for _, c := range []Codec{Zstd, Pack} {
		h := Header{Count: 1, rawBytes: 100}
		src := append(make([]byte, HeaderBytes), bomb...)
		h.encode(src)
		if c == Pack {
			h.groups = 1
			h.encodePack(src)
		}
		f := Frame{Of: 1, Bytes: len(src), Codec: c, crc: Checksum(src)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := opened(&f, src, dec)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 4*MaxBody || !errors.As(err, new(*CorruptError)) {
			t.Errorf("codec %d: %d MiB, %v", c, took>>20, err)
		}
	}
}

// consistent fails the test unless what Open returned is what the header says.
func consistent(t *testing.T, h *Header, all []Group, err error) {
	t.Helper()
	if err != nil {
		if !errors.As(err, new(*CorruptError)) || all != nil {
			t.Fatalf("%d groups, %v", len(all), err)
		}
		return
	}
	next, chain, size := h.Base, h.PrevChain, 0
	for i := range all {
		g := &all[i]
		if g.Ledger != h.Ledger || g.Number != h.Number+uint64(i) || g.Base != next || g.PrevChain != chain || g.Count == 0 || g.Groups() != 1 || len(g.Body) != int(g.rawBytes) {
			t.Fatalf("group %d of %+v is %+v", i, h, g.Header)
		}
		next, chain = g.Next(), g.Chain()
		size += len(g.Body)
	}
	if len(all) != h.Groups() || next != h.Next() || chain != h.Chain() || size > MaxBody {
		t.Fatalf("%d groups up to record %d, %d bytes: %+v", len(all), next, size, h)
	}
}

// S1: whatever a frame stores, by whatever codec, under right checksums, Decode
// and Open do not panic and do not return what does not fit.
func FuzzOpen(f *testing.F) {
	enc, dec := codec(f)
	for n, use := range []*zstd.Encoder{Raw: nil, Zstd: enc} {
		m := build(new(Builder), rand.New(rand.NewPCG(uint64(n), 0)), 3, 1+60*n, use)
		f.Add(uint8(m.frame.Codec), m.bytes[8:HeaderBytes], m.bytes[HeaderBytes:])
	}
	_, src := pack(f, sequence(f, rand.New(rand.NewPCG(1, 1)), 1, 2, 3)...)
	f.Add(uint8(Pack), src[8:HeaderBytes], src[HeaderBytes:])
	f.Fuzz(func(t *testing.T, c uint8, header, stored []byte) {
		src := make([]byte, HeaderBytes, HeaderBytes+len(stored))
		copy(src[8:], header)
		frame := Frame{Of: 1, Codec: Codec(c % 4)}
		copy(src, "TRBG")
		if frame.Codec == Pack {
			copy(src, "TRBP")
		}
		src[8], src[9] = 0, Version
		body := stored
		if frame.Codec == Zstd {
			body, _ = dec.DecodeAll(stored, nil)
		}
		binary.BigEndian.PutUint32(src[4:], Checksum(slices.Concat(src[8:], body)))
		src = append(src, stored...)
		frame.Bytes, frame.crc = len(src), Checksum(src)
		h, err := Decode(&frame, src)
		if err != nil {
			if !errors.As(err, new(*CorruptError)) {
				t.Fatal(err)
			}
			return
		}
		all, err := Open(&frame, &h, src, dec)
		consistent(t, &h, all, err)
	})
}

// S1, D3: whatever stands in a pack, under right checksums, groups that follow one
// another come out of it, or nothing does. Groups that come out can be packed
// again, and then come out the same.
func FuzzPack(f *testing.F) {
	enc, dec := codec(f)
	for _, sizes := range [][]int{{1}, {1, 2, 3}, {9, 1, 1, 1, 1, 40}} {
		var raw []byte
		all := sequence(f, rand.New(rand.NewPCG(1, 1)), sizes...)
		for i := range all {
			var header [HeaderBytes]byte
			all[i].encode(header[:])
			raw = append(append(raw, header[:]...), all[i].Body...)
		}
		f.Add(uint16(len(sizes)), true, raw)
		f.Add(uint16(len(sizes)), false, raw)
	}
	f.Fuzz(func(t *testing.T, groups uint16, follow bool, raw []byte) {
		head := repair(bytes.Clone(raw), follow)
		if head.raw == nil {
			return
		}
		head.groups = int(groups)
		head.rawBytes = uint32(len(head.raw))
		src := enc.EncodeAll(head.raw, make([]byte, HeaderBytes))
		head.encodePack(src)
		frame := Frame{Of: 1, Bytes: len(src), Codec: Pack, crc: Checksum(src)}
		h, err := Decode(&frame, src)
		if err != nil {
			if !errors.As(err, new(*CorruptError)) {
				t.Fatal(err)
			}
			return
		}
		all, err := Open(&frame, &h, src, dec)
		consistent(t, &h, all, err)
		var p Packer
		for i := range all {
			if added, err := p.Add(&all[i]); err != nil {
				return // it has something in its header that is not kept
			} else if !added {
				t.Fatalf("group %d is not added", i)
			}
		}
		if padded, f, _ := p.Seal(enc); padded != nil {
			again, err := opened(&f, padded[FrameBytes:FrameBytes+f.Bytes], dec)
			if err != nil || !reflect.DeepEqual(again, all) {
				t.Fatalf("packed again: %v", err)
			}
		}
	})
}

// forged is the header of a pack, and its content.
type forged struct {
	Header

	raw []byte
}

// repair makes what stands in raw groups with right checksums, that follow one
// another if follow, and returns the header of a pack of them.
func repair(raw []byte, follow bool) (p forged) {
	rest := raw
	for n := 0; len(rest) >= HeaderBytes; n++ {
		copy(rest, "TRBG")
		rest[8], rest[9] = 0, Version
		g, err := Peek(rest)
		if err != nil || int64(g.rawBytes) > int64(len(rest)-HeaderBytes) {
			break
		}
		if n == 0 {
			p.Header = Header{Ledger: g.Ledger, Number: g.Number, Base: g.Base, PrevChain: g.PrevChain, chain: g.PrevChain}
		}
		if follow {
			g.Ledger, g.Number, g.Base, g.PrevChain = p.Ledger, p.Number+uint64(n), p.Next(), p.chain
		}
		body := rest[HeaderBytes : HeaderBytes+g.rawBytes]
		g.finish(rest, body)
		p.Count += g.Count
		p.chain = g.Chain()
		rest = rest[HeaderBytes+len(body):]
	}
	p.raw = raw
	return p
}
