package segment

import (
	"errors"
	"io"
	"io/fs"
	"reflect"
	"syscall"
	"testing"

	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/group"
)

// A failing file has pages that the device does not give back, and an end that
// may come early.
type failing struct {
	disk.File

	bad   func(page int64) error
	size  int64 // 0: as it is
	tries int   // reads that failed
}

func (f *failing) ReadAt(b []byte, at int64) (int, error) {
	for page := at / group.PageBytes; page*group.PageBytes < at+int64(len(b)); page++ {
		if f.bad == nil {
			break
		}
		if err := f.bad(page); err != nil {
			f.tries++
			return 0, &fs.PathError{Op: "read", Path: "segment", Err: err}
		}
	}
	if f.size > 0 && at+int64(len(b)) > f.size {
		f.tries++
		return 0, io.EOF
	}
	return f.File.ReadAt(b, at)
}

func (f *failing) Size() (int64, error) {
	if f.size > 0 {
		return f.size, nil
	}
	return f.File.Size()
}

// between makes the pages of the bytes [from, to) unreadable.
func between(from, to int64) func(page int64) error {
	return func(page int64) error {
		if from/group.PageBytes <= page && page*group.PageBytes < to {
			return syscall.EIO
		}
		return nil
	}
}

// filled is a segment with five groups of two pages, and what it is read through.
func filled(t *testing.T) (w *writer, at []int64, f *failing) {
	t.Helper()
	w = newSegment(t, 1)
	for range 5 {
		at = append(at, w.add(1, 5000))
	}
	f = &failing{File: w.File}
	w.File = f
	return w, at, f
}

// D3: pages that cannot be read hide what stands in them, and nothing else. With
// a later commit behind them they are rot. Else nobody can tell whether the log
// ends there: it is neither torn nor cut, and it is rot to the end.
func TestUnreadable(t *testing.T) {
	for first := range 5 {
		for last := first; last < 5; last++ {
			for pages := range int64(3) { // all, all but the frame, all but the last page
				w, at, f := filled(t)
				end := w.sum.End
				if last < 4 {
					end = at[last+1]
				}
				f.bad = between(at[first]+pages%2*group.PageBytes, end-pages/2*group.PageBytes)
				sc := w.scan(0)
				rot, opaque := Rot{at[first], end}, last == 4
				if opaque {
					rot.To = w.End()
				}
				if sc.Opaque != opaque || sc.Torn || len(sc.Stray) > 0 || !reflect.DeepEqual(sc.Rot, []Rot{rot}) {
					t.Errorf("groups %d to %d: %+v, want %+v", first, last, sc, rot)
				}
			}
		}
	}
}

// An error that passes ends a scan: what it would find may be wrong.
func TestPassingError(t *testing.T) {
	w, at, f := filled(t)
	f.bad = func(page int64) error {
		if page == at[2]/group.PageBytes {
			return syscall.ENOMEM
		}
		return nil
	}
	if _, err := w.Scan(0, nil); !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("a scan says %v", err)
	}
	f.bad = func(int64) error { return syscall.ENOMEM }
	if _, _, err := w.Footer(); !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("a footer: %v", err)
	}
	if _, err := Open(f, 1); !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("a header: %v", err)
	}
	for page := range int64(2) { // of the first group
		f.bad = func(p int64) error {
			if p == 1+page {
				return syscall.ENOMEM
			}
			return nil
		}
		if s, err := Salvage(f, 1, false, testBytes); s != nil || !errors.Is(err, syscall.ENOMEM) {
			t.Errorf("page %d of the first group, without a header: %v, %v", page, s, err)
		}
	}
}

// S1: however much of a segment cannot be read, and wherever, so many reads fail
// and no more: each may take the device seconds. The other end of a long stretch
// is found all the same.
func TestUnreadableIsBounded(t *testing.T) {
	const large = 64 << 20
	w := newSegment(t, 1)
	f := &failing{File: w.File, size: large}
	w.File = f
	w.Bytes = large
	if err := w.writeHeader(); err != nil {
		t.Fatal(err)
	}
	first := w.add(1, 5000)
	_, _, padded := w.group(1, 5000)
	w.write(large/2, padded)
	end := w.End()
	w.write(large-group.PageBytes, make([]byte, group.PageBytes)) // makes the file so long
	for name, bad := range map[string]func(page int64) error{
		"all":    between(HeaderBytes, large),
		"behind": between(first+2*group.PageBytes, large),
		"every second": func(page int64) error {
			if page%2 == 1 {
				return syscall.EIO
			}
			return nil
		},
	} {
		f.bad, f.tries = bad, 0
		sc := w.scan(0)
		if f.tries > maxUnreadable+2 || !sc.Opaque || sc.Torn || sc.Rot[len(sc.Rot)-1].To != end {
			t.Errorf("%s: %d reads failed, %+v", name, f.tries, sc)
		}
	}
	f.bad, f.tries = between(first+2*group.PageBytes, large/4), 0
	sc := w.scan(0)
	if f.tries > 40 || sc.Opaque || !reflect.DeepEqual(sc.Rot, []Rot{{first + 2*group.PageBytes, large / 2}}) {
		t.Errorf("%d reads failed, %+v", f.tries, sc)
	}
	f.bad, f.tries = between(0, large), 0
	if s, err := Salvage(f, 1, false, large); s != nil || !errors.Is(err, ErrUnreadable) || f.tries > maxUnreadable+2 {
		t.Errorf("without a header: %v, %v after %d tries", s, err, f.tries)
	}
	f.bad = between(0, large/4)
	if s, err := Salvage(f, 1, false, large); s == nil || err != nil || s.Salt != w.Salt {
		t.Errorf("without a header and the first groups: %v, %v", s, err)
	}
}

// D3: a header that cannot be read is none; one group that can be read makes it
// good. If none can, nobody may take the file for free.
func TestUnreadableHeader(t *testing.T) {
	w, at, f := filled(t)
	f.bad = between(0, at[4])
	if _, err := Open(f, 1); !errors.Is(err, ErrNoHeader) {
		t.Fatal(err)
	}
	if s, err := Salvage(f, 1, false, testBytes); err != nil || s == nil || s.Salt != w.Salt {
		t.Fatalf("%v, %v", s, err)
	}
	f.bad = between(0, at[4]+1)
	if s, err := Salvage(f, 1, false, testBytes); s != nil || !errors.Is(err, ErrUnreadable) {
		t.Fatalf("%v, %v", s, err)
	}
	f.bad = between(w.End(), testBytes)
	if _, sealed, err := w.Footer(); sealed || !errors.Is(err, ErrUnreadable) {
		t.Errorf("an unreadable footer: %v", err)
	}
}

// D3: a file that is shorter than its header says has lost what nobody can tell:
// all that is whole is found, and the rest is rot, to the end.
func TestShort(t *testing.T) {
	w, at, f := filled(t)
	if err := w.Seal(&w.sum); err != nil {
		t.Fatal(err)
	}
	frame, _, err := w.ReadFrame(at[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(group.FrameBytes + frame.Bytes) // of every group, without what fills its last page
	for cut := int64(HeaderBytes); cut < testBytes; cut += 1000 {
		f.size = cut
		for _, damaged := range []bool{false, true} {
			s, err := Open(f, 1)
			if damaged {
				s, err = Salvage(f, 1, false, testBytes)
			}
			if damaged && cut < at[0]+size { // not even one group
				if s != nil || err != nil {
					t.Fatalf("cut to %d, without a header: %v, %v", cut, s, err)
				}
				continue
			}
			if err != nil || s == nil || s.Short != testBytes-cut || s.Bytes != testBytes || s.Salt != w.Salt {
				t.Fatalf("cut to %d: %+v, %v", cut, s, err)
			}
			if _, sealed, err := s.Footer(); sealed || !errors.Is(err, ErrUnreadable) {
				t.Fatalf("cut to %d: a footer, %v", cut, err)
			}
			sc, err := s.Scan(0, nil)
			whole := int64(HeaderBytes) // end of the groups that are there
			for _, first := range at {
				if cut >= first+size {
					whole = first + int64(group.PaddedBytes(frame.Bytes))
				}
			}
			if err != nil || !sc.Opaque || sc.Torn || len(sc.Stray) > 0 || sc.End != whole || !reflect.DeepEqual(sc.Rot, []Rot{{whole, s.End()}}) {
				t.Fatalf("cut to %d: %+v, %v; the groups end at %d", cut, sc, err, whole)
			}
		}
	}
	f.size = HeaderBytes - 1
	if _, err := Open(f, 1); !errors.Is(err, ErrNoHeader) {
		t.Errorf("cut to less than a header: %v", err)
	}
}

// D3: the same of a packed segment, whose header says where its packs end.
func TestShortPacked(t *testing.T) {
	w, at := finished(t)
	f := &failing{File: w.File, size: at[7]}
	s, err := Open(f, 5)
	if err != nil || s.Short != testBytes-at[7] {
		t.Fatalf("%+v, %v", s, err)
	}
	if sc, err := s.Scan(0, nil); err != nil || sc.Torn || !reflect.DeepEqual(sc.Rot, []Rot{{at[7], w.sum.End}}) || sc.Spans[0].To != 21 {
		t.Fatalf("%+v, %v", sc, err)
	}
}
