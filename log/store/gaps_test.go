package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/record"
)

// lack returns a gap of ledger id.
func lack(id byte, from, to tributary.LSN, streams ...string) gap {
	g := gap{
		Ledger: tributary.LedgerID{id}, From: from, To: to, FromChain: 1<<63 + uint64(from), ToChain: 1<<63 + uint64(to),
		FirstMillis: 1000 + int64(from), LastMillis: 1000 + int64(to), Streams: map[string]int64{},
	}
	for _, s := range streams {
		g.Streams[s]++
	}
	return g
}

// untold says that Kafka has been told of nothing.
func untold(tributary.LedgerID) tributary.LSN { return 0 }

// U4: what is dropped is added to what was dropped before; stretches of one ledger
// become one, and those that Kafka has been told of go. What was there is not
// changed: it counts until all is durable.
func TestGapsWith(t *testing.T) {
	g := gaps{all: []gap{lack(1, 0, 10, "a"), lack(2, 5, 7, "a", "b")}}
	before, _ := encodeGaps(g.all, 1)
	all := g.with([]gap{lack(2, 7, 9, "b", ""), lack(2, 20, 30, "b"), lack(3, 0, 1)}, func(id tributary.LedgerID) tributary.LSN {
		return map[byte]tributary.LSN{1: 10, 2: 6}[id[0]]
	})
	joined := lack(2, 5, 30, "a", "b", "b", "", "b")
	if want := []gap{joined, lack(3, 0, 1)}; !reflect.DeepEqual(all, want) {
		t.Errorf("%+v, want %+v", all, want)
	}
	all[0].Streams["a"] = 99
	if after, _ := encodeGaps(g.all, 1); !bytes.Equal(before, after) {
		t.Error("what was there has changed")
	}
	var empty gaps
	if all := empty.with(nil, untold); len(all) != 0 {
		t.Errorf("no gaps become %+v", all)
	}
}

// Streams beyond some number are counted together; all records are counted.
func TestGapsCountStreams(t *testing.T) {
	a, b := map[string]int64{}, map[string]int64{}
	for n := range int64(maxStreams) {
		a[fmt.Sprint("a", n)], b[fmt.Sprint("b", n)] = n, 2
	}
	sum := countStreams(a, b)
	if len(sum) != maxStreams+1 || sum["a5"] != 5 || sum[record.OtherStreams] != 2*maxStreams {
		t.Errorf("%d streams, %d others", len(sum), sum[record.OtherStreams])
	}
	if again := countStreams(sum, b); len(again) > maxStreams+1 || again[record.OtherStreams] < 2*2*maxStreams {
		t.Errorf("%d streams, %d others", len(again), again[record.OtherStreams])
	}
}

// U4: records are covered only if all of them that Kafka has not are in one gap.
func TestGapsCover(t *testing.T) {
	g := gaps{all: []gap{lack(1, 10, 20), lack(2, 0, 5), lack(1, 30, 40)}}
	for _, c := range []struct {
		id                  byte
		from, to, forwarded tributary.LSN
		want                bool
	}{
		{1, 10, 20, 0, true},
		{1, 12, 13, 0, true},
		{1, 9, 20, 0, false},
		{1, 5, 20, 10, true},
		{1, 5, 20, 9, false},
		{1, 10, 21, 0, false},
		{1, 19, 31, 0, false},
		{1, 30, 40, 0, true},
		{1, 40, 41, 0, false},
		{2, 0, 5, 0, true},
		{2, 10, 20, 0, false},
		{3, 0, 1, 0, false},
	} {
		if got := g.cover(tributary.LedgerID{c.id}, c.from, c.to, c.forwarded); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	for lsn := range tributary.LSN(50) {
		p := g.at(tributary.LedgerID{1}, lsn)
		if want := lsn >= 10 && lsn < 20 || lsn >= 30 && lsn < 40; (p != nil) != want || want && (lsn < p.From || lsn >= p.To) {
			t.Errorf("record %d is in %+v", lsn, p)
		}
	}
}

// What a slot says is what was put in; every cut of it and every changed byte
// makes it damaged, or empty where its first bytes were never written.
func TestGapsSlot(t *testing.T) {
	want := []gap{lack(1, 0, 1<<63+5, "a", ""), lack(2, 3, 4, record.OtherStreams)}
	b, err := encodeGaps(want, 1<<60)
	if err != nil {
		t.Fatal(err)
	}
	slot := append(bytes.Clone(b), make([]byte, 100)...) // an earlier, longer one left something behind
	slot[len(b)+3] = 7
	if all, seq, whole, err := decodeGaps(slot); !reflect.DeepEqual(all, want) || seq != 1<<60 || !whole || err != nil {
		t.Fatalf("%+v, %d, %v, %v", all, seq, whole, err)
	}
	for cut := range b {
		all, seq, whole, err := decodeGaps(b[:cut])
		if len(all) > 0 || seq != 0 || whole != (cut < slotHeader) || err != nil {
			t.Fatalf("%d of %d bytes: %+v, %d, %v, %v", cut, len(b), all, seq, whole, err)
		}
	}
	for at := range b {
		for _, by := range []byte{1, 0x80} {
			b[at] ^= by
			if all, seq, whole, err := decodeGaps(b); len(all) > 0 || seq != 0 || whole || err != nil {
				t.Fatalf("byte %d changed by %02x: %+v, %d, %v, %v", at, by, all, seq, whole, err)
			}
			b[at] ^= by
		}
	}
	binary.BigEndian.PutUint16(b[8:], group.Version+1)
	binary.BigEndian.PutUint32(b[4:], group.Checksum(b[8:]))
	if _, _, _, err := decodeGaps(b); !errors.As(err, new(*group.VersionError)) {
		t.Errorf("a newer version: %v", err)
	}
	if all, seq, whole, err := decodeGaps(make([]byte, slotBytes)); len(all) > 0 || seq != 0 || !whole || err != nil {
		t.Errorf("zeros: %+v, %d, %v, %v", all, seq, whole, err)
	}
}

// keep saves all, as log/store does: what is saved counts from then on.
func (g *gaps) keep(d *disktest.Disk, all []gap) error {
	err := g.save(d, all)
	if err == nil {
		g.all = all
	}
	return err
}

// U4: the file has room for so many gaps; more than that are refused, and nothing
// is written.
func TestGapsTooMany(t *testing.T) {
	d := disktest.New(1 << 20)
	var g gaps
	var all []gap
	for n := 0; ; n++ {
		all = append(all, lack(byte(n), tributary.LSN(n), 1<<40, "telemetry"))
		ops := d.Ops()
		err := g.keep(d, all)
		if err == nil {
			continue
		}
		if !errors.Is(err, errTooManyGaps) || len(g.all) != n || n < 100 || d.Ops() != ops {
			t.Fatalf("gap %d: %v", n, err)
		}
		break
	}
	if err := g.keep(d, all[:1]); err != nil {
		t.Errorf("fewer: %v", err)
	}
	var again gaps
	if damaged, err := again.load(d); damaged || err != nil || !reflect.DeepEqual(again.all, all[:1]) {
		t.Errorf("%+v, %v, %v", again.all, damaged, err)
	}
}

// U4: a write that was cut short, or a slot that went bad, leaves the other, and
// the next write does not touch that one. With both bad, it is said that gaps may
// be forgotten.
func TestGapsTornSlot(t *testing.T) {
	for saves := 1; saves <= 4; saves++ {
		d := disktest.New(1 << 20)
		var g gaps
		if damaged, err := g.load(d); damaged || err != nil {
			t.Fatal(err)
		}
		for n := range saves {
			if err := g.keep(d, []gap{lack(1, 0, tributary.LSN(n+1))}); err != nil {
				t.Fatal(err)
			}
		}
		latest := int64(saves-1) % 2 * slotBytes
		if _, err := g.file.WriteAt(bytes.Repeat([]byte{0x5a}, 100), latest); err != nil {
			t.Fatal(err)
		}
		var again gaps
		damaged, err := again.load(d)
		if damaged || err != nil || len(again.all) != min(1, saves-1) || saves > 1 && again.all[0].To != tributary.LSN(saves-1) {
			t.Fatalf("after %d writes, the last cut short: %+v, %v, %v", saves, again.all, damaged, err)
		}
		want := []gap{lack(1, 0, 77)}
		if err := again.keep(d, want); err != nil {
			t.Fatal(err)
		}
		var last gaps
		if damaged, err := last.load(d); damaged || err != nil || !reflect.DeepEqual(last.all, want) {
			t.Fatalf("after the next write: %+v, %v, %v", last.all, damaged, err)
		}
		for slot := range int64(2) {
			if _, err := last.file.WriteAt([]byte{1, 2, 3, 4}, slot*slotBytes); err != nil {
				t.Fatal(err)
			}
		}
		var none gaps
		if damaged, err := none.load(d); !damaged || err != nil || len(none.all) > 0 {
			t.Fatalf("both are damaged: %+v, %v, %v", none.all, damaged, err)
		}
	}
}

// D2: after a write or flush that failed the file is never written again. What it
// said is still there, and the next gaps are in another file in its place.
func TestGapsFailedWrite(t *testing.T) {
	first, second := []gap{lack(1, 0, 1)}, []gap{lack(1, 0, 2)}
	for _, kind := range []string{"create", "write", "sync", "rename", "syncdir"} {
		for _, made := range []bool{false, true} { // the file is there before
			d := disktest.New(1 << 20)
			var g gaps
			if made {
				if err := g.keep(d, first); err != nil {
					t.Fatal(err)
				}
			}
			d.Fail(func(op disktest.Op) error {
				if op.Kind == kind {
					return fs.ErrPermission
				}
				return nil
			})
			err := g.keep(d, second)
			if made && kind != "write" && kind != "sync" {
				if err != nil { // none of that is done to a file that is there
					t.Errorf("%s: %v", kind, err)
				}
				continue
			}
			if !errors.Is(err, fs.ErrPermission) || g.file != nil {
				t.Fatalf("%s, made %v: %v", kind, made, err)
			}
			d.Fail(nil)
			var again gaps
			if damaged, err := again.load(d); damaged || err != nil || made && !reflect.DeepEqual(again.all, first) {
				t.Errorf("%s, made %v: %+v, %v, %v", kind, made, again.all, damaged, err)
			}
			if err := g.keep(d, second); err != nil {
				t.Fatalf("%s, made %v, tried again: %v", kind, made, err)
			}
			var last gaps
			if damaged, err := last.load(d); damaged || err != nil || !reflect.DeepEqual(last.all, second) {
				t.Errorf("%s, made %v, tried again: %+v, %v, %v", kind, made, last.all, damaged, err)
			}
		}
	}
}

// S1: no slot, even with a right checksum, makes the decoder panic; what it accepts
// is written again as it was understood.
func FuzzGaps(f *testing.F) {
	for _, all := range [][]gap{nil, {lack(1, 2, 3, "a", "b")}, {lack(1, 2, 3), lack(2, 0, 1<<63, "")}} {
		b, err := encodeGaps(all, 3)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint32(len(b)-slotHeader), uint64(3), b[slotHeader:])
	}
	f.Add(uint32(1<<32-100), uint64(3), []byte("[]"))
	f.Fuzz(func(t *testing.T, size uint32, seq uint64, text []byte) {
		b := append(make([]byte, slotHeader), text...)
		be := binary.BigEndian
		be.PutUint32(b, gapsMagic)
		be.PutUint16(b[8:], group.Version)
		be.PutUint32(b[12:], size)
		be.PutUint64(b[16:], seq)
		be.PutUint32(b[4:], group.Checksum(b[8:slotHeader+min(uint64(size), uint64(len(text)))]))
		all, got, whole, err := decodeGaps(b)
		if err != nil || !whole && (all != nil || got != 0) || whole && got != seq {
			t.Fatalf("%+v, %d, %v, %v", all, got, whole, err)
		}
		if !whole {
			return
		}
		again, err := encodeGaps(all, got)
		if errors.Is(err, errTooManyGaps) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if all2, _, whole, err := decodeGaps(again); !whole || err != nil || !reflect.DeepEqual(all2, all) {
			t.Fatalf("%+v is read again as %+v, %v", all, all2, err)
		}
	})
}
