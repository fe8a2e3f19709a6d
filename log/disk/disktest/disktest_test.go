package disktest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
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
	durable, pending := bytes.Repeat([]byte{1}, 2048), bytes.Repeat([]byte{2}, 4096)
	_, err := f.WriteAt(durable, 0)
	if err := errors.Join(err, f.Sync(), d.Sync()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(pending, 2048); err != nil {
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
	if !seen[2048] || !seen[2048+4096] || len(seen) < 4 {
		t.Errorf("after a cut the file has had these sizes only: %v", seen)
	}
	if got := content(t, d.Kill()); len(got) != 2048+4096 {
		t.Errorf("a killed process leaves %d bytes", len(got))
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
	if size, _ := f.Size(); size != 2048+4096 {
		t.Errorf("the program sees %d bytes", size)
	}
	if got := content(t, d.Crash(rng)); !slices.Equal(got, durable) {
		t.Errorf("the device has %d bytes", len(got))
	}
	if got := content(t, d); !slices.Equal(got, durable) {
		t.Errorf("opened again, the file has %d bytes", len(got))
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
