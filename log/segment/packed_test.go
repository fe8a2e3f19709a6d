package segment

import (
	"bytes"
	"errors"
	"io/fs"
	"reflect"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
)

// newPacked makes a packed segment of ten segments of some groups each, as
// log/store does: a pack for each of them, with the number of its first commit.
// It returns where the packs are.
func newPacked(tb testing.TB, seq uint64) (w *writer, at []int64) {
	tb.Helper()
	source := newSegment(tb, 1)
	w = newSegment(tb, 99)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	s, err := StartPacked(w.File, seq, testBytes)
	if err != nil {
		tb.Fatal(err)
	}
	w.Segment = s
	var p group.Packer
	for range 10 {
		first := source.commit + 1
		for range 3 {
			f, h, padded := source.group(1, 100)
			source.next[1], source.commit = h, f.Commit
			all, err := group.Open(&f, &h, bytes.Clone(padded[group.FrameBytes:group.FrameBytes+f.Bytes]), nil)
			if err != nil {
				tb.Fatal(err)
			}
			if added, err := p.Add(&all[0]); !added || err != nil {
				tb.Fatal(err)
			}
		}
		out, f, h := p.Seal(enc)
		f.Segment, f.Salt, f.Commit = s.Seq, s.Salt, first
		f.Encode(out)
		at = append(at, w.sum.End)
		w.write(w.sum.End, out)
		w.sum.Add(&f, &h)
		w.sum.LastCommit = source.commit
	}
	w.sum.Trusted = true
	w.sum.Learn(Clock{[16]byte{1}, 7})
	return w, at
}

func finished(tb testing.TB) (w *writer, at []int64) {
	tb.Helper()
	w, at = newPacked(tb, 5)
	if err := w.Finish(&w.sum); err != nil {
		tb.Fatal(err)
	}
	return w, at
}

// D3: a packed segment says what is in it, in its header, its footer and its
// frames. Its records are those of its sources.
func TestPacked(t *testing.T) {
	w, at := finished(t)
	s, err := Open(w.File, 5)
	if err != nil || s.Short != 0 || s.Pack == nil || *s.Pack != (Extent{FirstCommit: 101, LastCommit: 130, End: w.sum.End}) {
		t.Fatalf("%+v, %v", s, err)
	}
	if sum, sealed, err := s.Footer(); !sealed || err != nil || !reflect.DeepEqual(sum, w.sum) {
		t.Fatalf("the footer is %+v, %v, want %+v", sum, err, w.sum)
	}
	var seen []int64
	sc, err := s.Scan(0, func(at int64, _ group.Frame, h *group.Header, _ []byte) error {
		if h.Groups() != 3 {
			t.Errorf("%d groups at %d", h.Groups(), at)
		}
		seen = append(seen, at)
		return nil
	})
	if err != nil || !reflect.DeepEqual(seen, at) || len(sc.Rot)+len(sc.Stray) > 0 || sc.Torn || sc.Opaque {
		t.Fatalf("packs at %v: %+v, %v", seen, sc, err)
	}
	sc.Clocks, sc.Trusted = w.sum.Clocks, w.sum.Trusted // no pack says
	if !reflect.DeepEqual(sc.Summary, w.sum) || w.sum.Spans[0].To != 30 {
		t.Fatalf("scan found %+v, want %+v", sc.Summary, w.sum)
	}
}

// D3: until Finish has returned, the file holds nothing: not what it held before,
// and not what was to be packed; by no name.
func TestUnfinishedPacked(t *testing.T) {
	for n := 0; ; n++ {
		w, _ := newPacked(t, 5)
		holds(t, w, false)
		left := n
		w.disk.Fail(func(disktest.Op) error {
			if left--; left < 0 {
				return disktest.ErrOff
			}
			return nil
		})
		err := w.Finish(&w.sum)
		w.disk.Fail(nil)
		holds(t, w, err == nil || n == 3) // the header is there before its flush
		if err == nil {
			break
		}
		if !errors.Is(err, disktest.ErrOff) || n > 3 {
			t.Fatalf("operation %d: %v", n, err)
		}
	}
}

// holds fails the test unless w's file has the header of the segments 5 or 99
// just if want.
func holds(t *testing.T, w *writer, want bool) {
	t.Helper()
	for _, seq := range []uint64{5, 99} {
		_, err := Open(w.File, seq)
		if (err == nil) != (want && seq == 5) {
			t.Fatalf("as segment %d: %v", seq, err)
		}
	}
	if s, err := Salvage(w.File, 99, false, testBytes); s != nil || err != nil {
		t.Fatalf("it is segment 99, without its header: %v", err)
	}
}

// D3: a packed segment was whole from the first: whatever is damaged in it is rot,
// at its end as well, and nothing is ever cut.
func TestPackedIsNeverTorn(t *testing.T) {
	for bad := range 10 {
		for _, offset := range []int64{4, 30, group.FrameBytes + 50, group.FrameBytes + group.HeaderBytes + 20} {
			w, at := finished(t)
			w.flip(at[bad] + offset)
			sc := w.scan(0)
			end := w.sum.End
			if bad < 9 {
				end = at[bad+1]
			}
			var held tributary.LSN
			for _, p := range sc.Spans {
				held += p.To - p.From
			}
			if sc.Torn || sc.Opaque || len(sc.Stray) > 0 || !reflect.DeepEqual(sc.Rot, []Rot{{at[bad], end}}) || held != 27 || sc.LastCommit != 130 {
				t.Errorf("pack %d damaged at byte %d: %+v", bad, offset, sc)
			}
		}
	}
}

// D3: a source that did not fit whole may have left packs behind the end. They are
// whole, and count for nothing: that source is still there.
func TestPackedLeftover(t *testing.T) {
	w, at := newPacked(t, 5)
	w.sum.Trusted = false
	w.sum.Clocks = nil // no pack says
	want := w.sum.Clone()
	frame, stored, err := w.again(at[0])
	if err != nil {
		t.Fatal(err)
	}
	frame.Commit = 131
	frame.Encode(stored)
	w.write(w.sum.End, stored)
	if err := w.Finish(&w.sum); err != nil {
		t.Fatal(err)
	}
	if sc := w.scan(0); !reflect.DeepEqual(sc.Summary, want) || len(sc.Rot) > 0 {
		t.Fatalf("scan found %+v, want %+v", sc, want)
	}
	w.flip(at[9] + 200)
	if sc := w.scan(0); !reflect.DeepEqual(sc.Rot, []Rot{{at[9], want.End}}) || sc.LastCommit != 130 || sc.Spans[0].To != 27 {
		t.Fatalf("the last is damaged: %+v", sc)
	}
}

// again returns the frame at position at, and all of its pages.
func (w *writer) again(at int64) (group.Frame, []byte, error) {
	f, _, err := w.ReadFrame(at, nil)
	if err != nil {
		return f, nil, err
	}
	b := make([]byte, group.PaddedBytes(f.Bytes))
	_, err = w.File.ReadAt(b, at)
	return f, b, err
}

// D3: a packed segment whose header is damaged is opened by its packs; a damaged
// footer makes it be read.
func TestSalvagePacked(t *testing.T) {
	w, at := finished(t)
	w.flip(40)
	w.flip(at[0] + 60)
	if _, err := Open(w.File, 5); !errors.Is(err, ErrNoHeader) {
		t.Fatal(err)
	}
	s, err := Salvage(w.File, 5, true, testBytes)
	if err != nil || s == nil || s.Salt != w.Salt || s.Bytes != testBytes || s.Pack == nil || s.Pack.End != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if sum, sealed, err := s.Footer(); !sealed || err != nil || !reflect.DeepEqual(sum, w.sum) {
		t.Fatalf("the footer is %+v, %v", sum, err)
	}
	w.flip(s.End() + 100)
	if _, sealed, err := s.Footer(); sealed || err != nil {
		t.Fatalf("a damaged footer: %v", err)
	}
	sc, err := s.Scan(0, nil)
	if err != nil || sc.Torn || len(sc.Rot) != 1 || len(sc.Spans) != 1 || sc.Spans[0].To != 30 || sc.FirstCommit != 104 {
		t.Fatalf("%+v, %v", sc, err)
	}
}

// No header that says where packs end, wrongly, is believed.
func TestExtent(t *testing.T) {
	for _, end := range []int64{0, HeaderBytes - 1, testBytes - FooterBytes + 1, -1} {
		w, _ := finished(t)
		w.Pack.End = end
		if err := w.writeHeader(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(w.File, 5); !errors.Is(err, ErrNoHeader) {
			t.Errorf("end %d: %v", end, err)
		}
	}
}

// A header that could not be written, or flushed, is an error that says so.
func TestStartPackedFails(t *testing.T) {
	for _, kind := range []string{"write", "sync"} {
		w := newSegment(t, 99)
		w.disk.Fail(func(op disktest.Op) error {
			if op.Kind == kind {
				return fs.ErrPermission
			}
			return nil
		})
		if s, err := StartPacked(w.File, 5, testBytes); s != nil || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v, %v", kind, s, err)
		}
	}
}
