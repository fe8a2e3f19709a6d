package disktest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/tributary-edge/tributary/log/disk"
)

// As long as nothing fails, this disk and a directory of the host are the same.
func TestSameAsDir(t *testing.T) {
	host, err := disk.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	both := [2]disk.FS{New(1 << 20), host}
	rng := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "c"}
	for range 1000 {
		kind, name, to, at, write := rng.IntN(6), names[rng.IntN(3)], names[rng.IntN(3)], rng.Int64N(5000), rng.IntN(2) == 0
		data := make([]byte, rng.IntN(3000))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		var errs [2]error
		var read [2][]byte
		for i, d := range both {
			switch kind {
			case 0:
				f, err := d.Create(name)
				if errs[i] = err; err == nil {
					_ = f.Close()
				}
			case 1:
				errs[i] = d.Rename(name, to)
			case 2:
				errs[i] = d.Remove(name)
			case 3:
				list, err := d.List()
				read[i], errs[i] = []byte(fmtNames(list)), err
			case 4:
				f, err := d.Open(name, true)
				if errs[i] = err; err == nil {
					_, err := f.WriteAt(data, at)
					errs[i] = errors.Join(err, f.Sync(), f.Close(), d.Sync())
				}
			case 5:
				f, err := d.Open(name, write)
				if errs[i] = err; err == nil {
					size, err := f.Size()
					buf := make([]byte, 4000)
					n, err2 := f.ReadAt(buf, at)
					read[i], errs[i] = append(buf[:n], byte(size), byte(size>>8)), errors.Join(err, err2, f.Close())
				}
			}
		}
		for _, e := range []error{nil, fs.ErrExist, fs.ErrNotExist, io.EOF} {
			if errors.Is(errs[0], e) != errors.Is(errs[1], e) {
				t.Fatalf("operation %d on %s: %v here, %v there", kind, name, errs[0], errs[1])
			}
		}
		if !bytes.Equal(read[0], read[1]) {
			t.Fatalf("operation %d on %s: %x here, %x there", kind, name, read[0], read[1])
		}
	}
}

func fmtNames(names []string) (all string) {
	for _, n := range names {
		all += n + "/"
	}
	return all
}

// What was synced survives every cut of the power, what was not may be lost, and
// what a failed Sync gave up is shown until the file is opened again, and no
// longer.
func TestPower(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	d := New(1 << 20)
	f, _ := d.Create("x")
	durable, pending := bytes.Repeat([]byte{1}, 4096), bytes.Repeat([]byte{2}, 4096)
	_, err := f.WriteAt(durable, 0)
	if err := errors.Join(err, f.Sync(), d.Sync()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(pending, 4096); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for range 100 {
		got := content(t, d.Crash(rng))
		if !bytes.HasPrefix(got, durable) {
			t.Fatal("synced bytes are lost")
		}
		seen[len(got)] = true
	}
	if !seen[4096] || !seen[8192] || len(seen) < 4 {
		t.Errorf("after a cut the file has had these sizes only: %v", seen)
	}
	eio := errors.New("input/output error")
	d.Fail(func(op Op) error {
		if op.Kind == "sync" {
			return eio
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, eio) {
		t.Fatal(err)
	}
	d.Fail(nil)
	if err := f.Sync(); err != nil {
		t.Fatal("the second sync calls it a success:", err)
	}
	if size, _ := f.Size(); size != 8192 {
		t.Errorf("the program sees %d bytes", size)
	}
	clear(seen)
	for range 100 {
		seen[len(content(t, d.Crash(rng)))] = true
	}
	if !seen[4096] || !seen[8192] {
		t.Errorf("what the device got of a failed sync is not open: sizes %v", seen)
	}
	if got := content(t, d); !slices.Equal(got, durable) {
		t.Errorf("opened again, the file has %d bytes", len(got))
	}
	if _, err := f.WriteAt(pending, 4096); err != nil {
		t.Fatal(err)
	}
	if got := content(t, d.Kill()); len(got) != 8192 {
		t.Errorf("a killed process leaves %d bytes", len(got))
	}
	if err := f.Sync(); !errors.Is(err, ErrOff) {
		t.Errorf("the killed process goes on: %v", err)
	}
}

// A write that shares a page with durable bytes may damage them.
func TestGarble(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	d := New(1 << 20)
	f, _ := d.Create("x")
	_, err := f.WriteAt(bytes.Repeat([]byte{1}, 4000), 0)
	if err := errors.Join(err, f.Sync(), d.Sync()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{2}, 5000), 4000); err != nil {
		t.Fatal(err)
	}
	here, beside := 0, 0
	for range 2000 {
		got := content(t, d.Crash(rng))
		if !bytes.Equal(got[3584:4000], bytes.Repeat([]byte{1}, 416)) {
			here++
		} else if !bytes.Equal(got[:3584], bytes.Repeat([]byte{1}, 3584)) {
			beside++
		}
	}
	if here == 0 || beside == 0 {
		t.Errorf("damaged: %d times in the sector, %d times in the page", here, beside)
	}
}

// Somebody else cuts and removes files; the device does not give back a page.
func TestBehindTheBack(t *testing.T) {
	d := New(1 << 20)
	f, _ := d.Create("x")
	if _, err := f.WriteAt(bytes.Repeat([]byte{1}, 9000), 0); err != nil {
		t.Fatal(err)
	}
	d.Fail(func(op Op) error {
		if op.Kind == "read" && op.At < 8192 && op.At+int64(op.Len) > 4096 {
			return syscall.EIO
		}
		return nil
	})
	for at, want := range map[int64]error{0: nil, 4000: syscall.EIO, 8000: syscall.EIO, 8192: nil} {
		if _, err := f.ReadAt(make([]byte, 100), at); !errors.Is(err, want) {
			t.Errorf("read at %d: %v", at, err)
		}
	}
	d.Fail(nil)
	d.Truncate("x", 5000)
	if got := content(t, d); len(got) != 5000 {
		t.Errorf("cut to %d bytes", len(got))
	}
	if _, err := f.WriteAt([]byte{2}, 6000); err != nil {
		t.Fatal(err)
	}
	if got := content(t, d); !slices.Equal(got[4999:], append([]byte{1}, append(make([]byte, 1000), 2)...)) {
		t.Error("cut bytes are there again")
	}
	d.Vanish("x")
	if _, err := f.Size(); !errors.Is(err, disk.ErrRemoved) {
		t.Errorf("size of a removed file: %v", err)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	d.VanishAll()
	if _, err := d.Create("y"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("create in a directory that is gone: %v", err)
	}
}

func content(t *testing.T, d *Disk) []byte {
	t.Helper()
	f, err := d.Open("x", true)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}
