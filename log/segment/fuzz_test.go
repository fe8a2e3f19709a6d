package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
)

// S1: no footer, even with a right checksum, makes the decoder panic or name a
// place outside the segment.
func FuzzFooter(f *testing.F) {
	w := newSegment(f, 3)
	for range 5 {
		w.add(1, 9000)
		w.add(2, 10)
	}
	b := w.sum.encode(w.Segment)
	f.Add(bytes.Clone(b[:400]))
	b[72+1], b[68], b[70+1] = 100, 0, 0 // more clocks than there may be
	f.Add(b[:400])
	f.Fuzz(func(t *testing.T, src []byte) {
		page := append(src, make([]byte, FooterBytes)...)[:FooterBytes]
		copy(page, b[:10])          // magic and version,
		copy(page[16:32], b[16:32]) // number, and the salt, which is another in each process: or else nothing gets through
		binary.BigEndian.PutUint32(page[4:], group.Checksum(page[8:]))
		sum, ok := decodeFooter(page, w.Segment)
		if !ok {
			return
		}
		if sum.End < HeaderBytes || sum.End > w.End() || len(sum.Spans) > maxSpans || len(sum.Clocks) > maxClocks {
			t.Fatalf("%+v", sum)
		}
		if again, ok := decodeFooter(sum.encode(w.Segment), w.Segment); !ok || !reflect.DeepEqual(again, sum) {
			t.Fatalf("%+v is written as %+v", sum, again)
		}
		for _, m := range sum.Marks {
			if at := sum.Seek(m.Span, m.LSN); at < HeaderBytes || at >= sum.End {
				t.Fatalf("%+v leads to %d", m, at)
			}
		}
	})
}

// S1: no header, even with a right checksum, makes the decoder panic, or describes
// a segment that cannot be.
func FuzzHeader(f *testing.F) {
	for _, pack := range []*Extent{nil, {FirstCommit: 3, LastCommit: 9, End: HeaderBytes}} {
		w := newSegment(f, 3)
		w.Pack = pack
		if err := w.writeHeader(); err != nil {
			f.Fatal(err)
		}
		page := make([]byte, 100)
		if _, err := w.File.ReadAt(page, 0); err != nil {
			f.Fatal(err)
		}
		f.Add(page)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		page := append(src, make([]byte, HeaderBytes)...)[:HeaderBytes]
		copy(page, "TRBS")
		binary.BigEndian.PutUint32(page[4:], group.Checksum(page[8:]))
		s, err := decodeHeader(page, 3)
		if err != nil {
			if s != nil || !errors.Is(err, ErrNoHeader) && !errors.As(err, new(*group.VersionError)) {
				t.Fatalf("%+v, %v", s, err)
			}
			return
		}
		if s.Seq != 3 || s.End() < HeaderBytes || s.Bytes > maxBytes || s.Pack != nil && (s.Pack.End < HeaderBytes || s.Pack.End > s.End()) {
			t.Fatalf("%+v, %+v", s, s.Pack)
		}
	})
}

// S1, D3: whatever frames lie in a segment, of any commits in any order, whole
// or damaged, a scan ends, stays inside, and finds the same once the torn tail
// is cut.
func FuzzScan(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 8 {
		script := make([]byte, 5*n)
		for i := range script {
			script[i] = byte(rng.IntN(6))
		}
		f.Add(uint8(n), script)
	}
	f.Fuzz(func(t *testing.T, limit uint8, script []byte) {
		w := newSegment(t, 1)
		w.commit = 0
		at := int64(HeaderBytes)
		for ; len(script) >= 5; script = script[5:] {
			frame, h, padded := w.group(script[0]%4, int(script[1])*50)
			if at += int64(script[0]/4%4) * group.PageBytes; at+int64(len(padded)) > w.End() {
				break
			}
			frame.Commit, frame.Index, frame.Of = uint64(script[2]), uint16(script[3]%4), uint16(script[3]/4%4)
			frame.Encode(padded)
			w.write(at, padded)
			if script[4]%3 == 0 {
				w.flip(at + int64(script[4]))
			}
			w.next[script[0]%4] = h
			at += int64(len(padded))
		}
		sc := checkScan(t, w.File, uint64(limit))
		if err := w.Cut(sc.Stray); err != nil {
			t.Fatal(err)
		}
		again := checkScan(t, w.File, uint64(limit))
		if len(again.Stray) > 0 || !reflect.DeepEqual(again.Summary, sc.Summary) || !reflect.DeepEqual(again.Rot, sc.Rot) {
			t.Fatalf("first %+v, then %+v", sc, again)
		}
	})
}

func checkScan(t *testing.T, file disk.File, limit uint64) Scan {
	t.Helper()
	s, err := Open(file, 1)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	sc, err := s.Scan(limit, func(at int64, f group.Frame, _ *group.Header, _ []byte) error {
		if at <= last || at+int64(group.PaddedBytes(f.Bytes)) > s.End() {
			t.Fatalf("a group at %d, after %d", at, last)
		}
		if limit != 0 && f.Commit >= limit {
			t.Fatalf("a group of commit %d, the limit is %d", f.Commit, limit)
		}
		last = at
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before := int64(0)
	for _, r := range sc.Rot {
		if r.From < before || r.To <= r.From || r.To > sc.End {
			t.Fatalf("rot %+v of %+v", r, sc)
		}
		before = r.To
	}
	for _, at := range sc.Stray {
		if at <= sc.End || at >= s.End() {
			t.Fatalf("stray %d of %+v", at, sc)
		}
	}
	return sc
}
