package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
)

const testBytes = HeaderBytes + 32*group.PageBytes + FooterBytes

// A writer puts groups into a segment as log/store does.
type writer struct {
	*Segment

	tb     testing.TB
	disk   *disktest.Disk
	sum    Summary
	commit uint64
	next   map[byte]group.Header // by ledger
	build  group.Builder
}

func newSegment(tb testing.TB, seq uint64) *writer {
	tb.Helper()
	d := disktest.New(1 << 30)
	f, err := d.Create(Name(seq, false))
	if err != nil {
		tb.Fatal(err)
	}
	if err := Fill(f, testBytes); err != nil {
		tb.Fatal(err)
	}
	s, err := Start(f, seq, testBytes)
	if err != nil {
		tb.Fatal(err)
	}
	return &writer{Segment: s, tb: tb, disk: d, sum: NewSummary(), commit: 100, next: map[byte]group.Header{}}
}

// group returns the frame and the padded bytes of the next group of a ledger,
// with one record of size bytes.
func (w *writer) group(ledger byte, size int) (group.Frame, group.Header, []byte) {
	last := w.next[ledger]
	h := group.Header{
		Ledger: tributary.LedgerID{ledger}, Millis: 1000 + int64(w.commit),
		Boot: [16]byte{ledger}, BootMillis: int64(w.commit), Trusted: ledger%2 == 1,
	}
	if last.Count > 0 {
		h.Base, h.Number, h.PrevChain = last.Next(), last.Number+1, last.Chain()
	}
	w.build.Reset(h.Base)
	r := record.Record{Stream: "s", Value: bytes.Repeat([]byte{0x55}, size), Headers: []record.Header{{Key: "not zero at", Value: []byte("the end")}}}
	w.build.Add(&r, h.Millis, int64(h.Base))
	padded, f := w.build.Seal(&h, nil)
	f.Segment, f.Salt, f.Commit = w.Seq, w.Salt, w.commit+1
	f.Encode(padded)
	return f, h, padded
}

// add writes the next group of a ledger and returns where it is.
func (w *writer) add(ledger byte, size int) (at int64) {
	f, h, padded := w.group(ledger, size)
	at = w.sum.End
	w.write(at, padded)
	w.sum.Add(&f, &h)
	w.next[ledger] = h
	w.commit = f.Commit
	return at
}

func (w *writer) write(at int64, b []byte) {
	if _, err := w.File.WriteAt(b, at); err != nil {
		w.tb.Fatal(err)
	}
	if err := w.File.Sync(); err != nil {
		w.tb.Fatal(err)
	}
}

// flip changes one byte.
func (w *writer) flip(at int64) {
	var b [1]byte
	if _, err := w.File.ReadAt(b[:], at); err != nil {
		w.tb.Fatal(err)
	}
	w.write(at, []byte{b[0] ^ 0x40})
}

func (w *writer) scan(limit uint64) Scan {
	w.tb.Helper()
	s, err := Open(w.File, w.Seq)
	if err != nil {
		w.tb.Fatal(err)
	}
	sc, err := s.Scan(limit, nil)
	if err != nil {
		w.tb.Fatal(err)
	}
	return sc
}

// D3: a scan finds what was written, and the footer says the same.
func TestScanAndFooter(t *testing.T) {
	w := newSegment(t, 7)
	for _, ledger := range []byte{1, 1, 2, 1, 2} {
		w.add(ledger, 3000*int(ledger))
	}
	sc := w.scan(0)
	if !reflect.DeepEqual(sc.Summary, w.sum) || len(sc.Rot)+len(sc.Stray) > 0 || sc.Torn {
		t.Fatalf("scan found %+v, want %+v", sc, w.sum)
	}
	if _, sealed, err := w.Footer(); sealed || err != nil {
		t.Fatalf("a footer before Seal: %v", err)
	}
	if err := w.Seal(&w.sum); err != nil {
		t.Fatal(err)
	}
	if sum, sealed, err := w.Footer(); !sealed || err != nil || !reflect.DeepEqual(sum, w.sum) {
		t.Fatalf("the footer is %+v, %v, want %+v", sum, err, w.sum)
	}
	if want := []Clock{{[16]byte{1}, 103}}; !reflect.DeepEqual(w.sum.Clocks, want) || w.sum.Trusted {
		t.Fatalf("clocks %+v, trusted %v", w.sum.Clocks, w.sum.Trusted)
	}
	if len(w.sum.Spans) != 2 || w.sum.Spans[0].To != 3 || w.sum.FirstCommit != 101 || w.sum.LastCommit != 105 {
		t.Fatalf("summary %+v", w.sum)
	}
}

// A position from the index is never behind the group that is looked for.
func TestSeek(t *testing.T) {
	sum := NewSummary()
	at := map[tributary.LSN]int64{}
	var h group.Header
	var chains [2]uint64
	for n := range 400 {
		h = group.Header{Ledger: tributary.LedgerID{byte(n % 2)}, Base: tributary.LSN(n / 2), Count: 1, PrevChain: chains[n%2]}
		chains[n%2] = h.Chain()
		if h.Ledger[0] == 1 {
			at[h.Base] = sum.End
		}
		sum.Add(&group.Frame{Commit: uint64(n + 1), Of: 1, Bytes: 5000}, &h)
	}
	if len(sum.Marks) < 10 {
		t.Fatalf("%d marks", len(sum.Marks))
	}
	for lsn, want := range at {
		if got := sum.Seek(1, lsn); got > want || want-got > 2*MarkEvery {
			t.Errorf("record %d is at %d, Seek says %d", lsn, want, got)
		}
	}
}

// D3: however the last write was torn, by bytes, everything before it is there
// and it is called torn, not rot.
func TestTorn(t *testing.T) {
	w := newSegment(t, 1)
	w.add(1, 100)
	w.add(1, 9000)
	_, _, padded := w.group(1, 6000)
	size := int(binary.BigEndian.Uint32(padded[36:]))
	for cut := 0; cut < group.FrameBytes+size; cut += 1 + cut/50 {
		torn := bytes.Clone(padded[:cut])
		w.write(w.sum.End, append(torn, make([]byte, len(padded)-cut)...))
		sc := w.scan(0)
		frame := cut >= len(bytes.TrimRight(padded[:group.FrameBytes], "\x00")) // it ends with zeros, which were there before
		if !reflect.DeepEqual(sc.Summary, w.sum) || len(sc.Rot) > 0 || len(sc.Stray) > 0 || sc.Torn != frame || sc.Opaque {
			t.Fatalf("%d bytes of %d were written: %+v", cut, size, sc)
		}
	}
}

// D3: a commit of several frames is whole or not there. What is left of a torn
// one is cut away, so that no later commit makes it look durable.
func TestTornCommitOfThree(t *testing.T) {
	w := newSegment(t, 1)
	w.add(1, 100)
	var at []int64
	end := w.sum.End
	for i := range uint16(3) {
		f, _, padded := w.group(2+byte(i), 5000)
		f.Index, f.Of = i, 3
		f.Encode(padded)
		w.write(end, padded)
		at = append(at, end)
		end += int64(len(padded))
	}
	w.flip(at[0] + 200)
	sc := w.scan(0)
	if !sc.Torn || len(sc.Rot) > 0 || !reflect.DeepEqual(sc.Stray, at[1:]) || sc.End != at[0] {
		t.Fatalf("scan found %+v", sc)
	}
	if err := w.Cut(sc.Stray); err != nil {
		t.Fatal(err)
	}
	w.add(1, 100)
	if sc := w.scan(0); sc.Torn || len(sc.Rot)+len(sc.Stray) > 0 || !reflect.DeepEqual(sc.Summary, w.sum) {
		t.Fatalf("after the next commit: %+v", sc)
	}
}

// D3: damage to a commit that a later one follows is rot: it hides nothing else,
// and nobody writes over it. That holds for the first group of the first segment,
// where no earlier commit says which one to expect, and when the commit behind
// the damage was torn.
func TestRot(t *testing.T) {
	for bad := range 4 {
		for _, offset := range []int64{4, 30, group.FrameBytes + 50, group.FrameBytes + 200} { // frame, header, body
			for _, torn := range []bool{false, true} {
				w := newSegment(t, 1)
				var at []int64
				for range 5 {
					at = append(at, w.add(1, 5000))
				}
				w.flip(at[bad] + offset)
				if torn {
					w.flip(at[4] + group.FrameBytes + 300)
				}
				sc := w.scan(0)
				wholes := 4
				end := w.sum.End
				if torn {
					wholes, end = 3, at[4]
				}
				var held tributary.LSN
				for _, p := range sc.Spans {
					held += p.To - p.From
				}
				if len(sc.Rot) != 1 || sc.Rot[0] != (Rot{at[bad], at[bad+1]}) || int(held) != wholes || sc.Torn != torn || sc.End != end || len(sc.Stray) > 0 {
					t.Errorf("group %d damaged at byte %d, torn %v: %+v", bad, offset, torn, sc)
				}
				if want := w.sum.LastCommit - uint64(5-wholes-1); sc.LastCommit != want {
					t.Errorf("group %d, torn %v: the last commit is %d, should be %d", bad, torn, sc.LastCommit, want)
				}
			}
		}
	}
}

// D3: what a file held before it was recycled is never taken for a group.
func TestRecycled(t *testing.T) {
	w := newSegment(t, 1)
	for range 6 {
		w.add(1, 100)
	}
	again, err := Start(w.File, 2, testBytes)
	if err != nil {
		t.Fatal(err)
	}
	if again.Salt == w.Salt {
		t.Fatal("the salt is the old one")
	}
	if sc, err := again.Scan(0, nil); err != nil || len(sc.Spans)+len(sc.Rot)+len(sc.Stray) > 0 || sc.Torn {
		t.Fatalf("%+v, %v", sc, err)
	}
	if _, err := Open(w.File, 1); !errors.Is(err, ErrNoHeader) {
		t.Errorf("by its old name: %v", err)
	}
}

// A damaged header is made good by any group that is whole; a file without
// groups of its own name is free.
func TestSalvage(t *testing.T) {
	w := newSegment(t, 5)
	if s, err := Salvage(w.File, 5, false, testBytes); s != nil || err != nil {
		t.Fatalf("an empty segment: %v, %v", s, err)
	}
	first := w.add(1, 100)
	w.add(1, 100)
	w.flip(20)
	w.flip(first + 100)
	if _, err := Open(w.File, 5); !errors.Is(err, ErrNoHeader) {
		t.Fatal(err)
	}
	if s, err := Salvage(w.File, 6, false, testBytes); s != nil || err != nil {
		t.Fatalf("a recycled one: %v, %v", s, err)
	}
	s, err := Salvage(w.File, 5, false, testBytes)
	if err != nil || s == nil || *s != *w.Segment {
		t.Fatalf("%+v, %v", s, err)
	}
}

// rewrite changes the first page, under a right checksum.
func (w *writer) rewrite(change func(page []byte)) {
	page := make([]byte, HeaderBytes)
	if _, err := w.File.ReadAt(page, 0); err != nil {
		w.tb.Fatal(err)
	}
	change(page)
	binary.BigEndian.PutUint32(page[4:], group.Checksum(page[8:]))
	w.write(0, page)
}

// Another version is told from damage, and left as it is: by the header, or, if
// that is damaged, by the groups.
func TestOtherVersion(t *testing.T) {
	for _, v := range []uint16{1, Version + 1} {
		w := newSegment(t, 1)
		w.rewrite(func(page []byte) { binary.BigEndian.PutUint16(page[8:], v) })
		var other *group.VersionError
		if _, err := Open(w.File, 1); !errors.As(err, &other) || other.Version != v {
			t.Errorf("version %d: %v", v, err)
		}
	}
	w := newSegment(t, 1)
	frame, _, padded := w.group(1, 100)
	stored := padded[group.FrameBytes : group.FrameBytes+frame.Bytes]
	binary.BigEndian.PutUint16(stored[8:], Version+1)
	binary.BigEndian.PutUint32(padded[40:], group.Checksum(stored))
	binary.BigEndian.PutUint32(padded[4:], group.Checksum(padded[8:group.FrameBytes]))
	w.write(HeaderBytes, padded)
	if _, err := w.Scan(0, nil); !errors.As(err, new(*group.VersionError)) {
		t.Errorf("a scan says %v", err)
	}
	w.flip(20)
	if s, err := Salvage(w.File, 1, false, testBytes); s != nil || !errors.As(err, new(*group.VersionError)) {
		t.Errorf("a group of a newer version, without a header: %v, %v", s, err)
	}
}

// D2: frames of commits that a later segment has do not count, whether whole or
// damaged, and what comes before is as ever.
func TestLimit(t *testing.T) {
	for bad := range 6 { // 5: none
		for limit := uint64(101); limit <= 107; limit++ {
			w := newSegment(t, 1)
			var at []int64
			for range 5 {
				at = append(at, w.add(1, 5000))
			}
			if bad < 5 {
				w.flip(at[bad] + group.FrameBytes + 300)
			}
			sc := w.scan(limit)
			n := min(5, int(limit-101)) // groups that count
			var held int
			for _, p := range sc.Spans {
				held += int(p.To - p.From)
			}
			want := n
			rot := bad < n-1 // the last that counts is torn, for all that anybody knows
			if bad < n {
				want--
			}
			if held != want || (len(sc.Rot) == 1) != rot || sc.Torn && bad >= 5 || len(sc.Stray) > 0 || sc.LastCommit >= limit {
				t.Errorf("limit %d, group %d damaged: %d records, %+v", limit, bad, held, sc)
			}
		}
	}
}

// The latest boots are remembered, each once, by what was said last.
func TestLearn(t *testing.T) {
	var s Summary
	for n := range byte(maxClocks + 3) {
		s.Learn(Clock{[16]byte{n}, 5})
		s.Learn(Clock{[16]byte{n}, int64(n)})
	}
	if len(s.Clocks) != maxClocks {
		t.Fatalf("%d clocks", len(s.Clocks))
	}
	for i, c := range s.Clocks {
		if n := byte(i + 3); c != (Clock{[16]byte{n}, int64(n)}) {
			t.Errorf("clock %d is %+v", i, c)
		}
	}
	c := s.Clone()
	c.Learn(Clock{[16]byte{99}, 99})
	if s.Clocks[0].Boot[0] != 3 {
		t.Error("a clone shares its clocks")
	}
}

// D3: a segment with more holes than a footer can list is scanned every time.
func TestTooDamagedForAFooter(t *testing.T) {
	w := newSegment(t, 1)
	w.add(1, 10)
	sum := w.sum
	for len(sum.Spans) <= maxSpans {
		sum.Spans = append(sum.Spans, Span{})
	}
	if err := w.Seal(&sum); err != nil {
		t.Fatal(err)
	}
	if _, sealed, err := w.Footer(); sealed || err != nil {
		t.Errorf("sealed %v, %v", sealed, err)
	}
	sum.Spans = sum.Spans[:maxSpans]
	if err := w.Seal(&sum); err != nil {
		t.Fatal(err)
	}
	if got, sealed, err := w.Footer(); !sealed || err != nil || len(got.Spans) != maxSpans || len(got.Marks) > 1 {
		t.Errorf("%d spans, sealed %v, %v", len(got.Spans), sealed, err)
	}
}

func TestName(t *testing.T) {
	for _, seq := range []uint64{0, 1, numbers - 2} {
		for _, packed := range []bool{false, true} {
			name := Name(seq, packed)
			if got, p, ok := ParseName(name); !ok || got != seq || p != packed {
				t.Errorf("%s is read as %d, %v, %v", name, got, p, ok)
			}
		}
		if Name(seq, false) >= Name(seq, true) || Name(seq, true) >= Name(seq+1, false) {
			t.Errorf("a packed segment %d does not follow the first that it was made of", seq)
		}
	}
	for _, name := range []string{
		"", "lock", "gaps", "1.seg", "0000000000000001.seg.tmp", "000000000000000G.seg", "000000000000000A.seg",
		"0000000000000001.zzseg", "000000000000000A.zseg", "0000010000000000.seg", "ffffffffffffffff.zseg", "+000000000000001.seg", "0000000000000001",
	} {
		if seq, _, ok := ParseName(name); ok {
			t.Errorf("%q is read as %d", name, seq)
		}
	}
}
