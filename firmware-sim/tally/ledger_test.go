package tally

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tributary-edge/tributary/firmware-sim/device"
)

// story is a history with everything that can be in one.
var story = []struct {
	device string
	device.Event
}{
	{"a", device.Event{Kind: device.NewSession, Session: 1}},
	{"a", device.Event{Kind: device.Sent, Seq: 1, QoS: 1, PacketID: 1, Session: 1, Millis: 1000}},
	{"b", device.Event{Kind: device.NewSession, Session: 1}},
	{"a", device.Event{Kind: device.Sent, Seq: 2, QoS: 2, PacketID: 2, Session: 1, Millis: 1001}},
	{"a", device.Event{Kind: device.Sent, Seq: 3, QoS: 0, Session: 1, Millis: 1002}},
	{"a", device.Event{Kind: device.Sent, Seq: 4, QoS: 2, PacketID: 3, Session: 1, Millis: 1003}},
	{"b", device.Event{Kind: device.Sent, Seq: 1, QoS: 2, PacketID: 1, Session: 1, Millis: 1003}},
	{"a", device.Event{Kind: device.Acked, Seq: 4}},
	{"a", device.Event{Kind: device.Acked, Seq: 2}},
	{"a", device.Event{Kind: device.Acked, Seq: 1}},
	{"b", device.Event{Kind: device.Forgotten}},
	{"a", device.Event{Kind: device.Sent, Seq: 5, QoS: 1, PacketID: 1, Session: 1, Millis: 1004}},
	{"a", device.Event{Kind: device.Sent, Seq: 6, QoS: 1, PacketID: 4, Session: 1, Millis: 1005}},
	{"a", device.Event{Kind: device.Released, Seq: 4}},
	{"a", device.Event{Kind: device.Refused, Seq: 5}},
	{"a", device.Event{Kind: device.Sent, Seq: 5, QoS: 1, PacketID: 5, Session: 1, Millis: 1004}},
	{"a", device.Event{Kind: device.Sent, Seq: 7, QoS: 2, PacketID: 6, Session: 1, Millis: 1006}},
	{"a", device.Event{Kind: device.Refused, Seq: 6}},
}

func write(t *testing.T, path string, from, to int) {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range story[from:to] {
		l.Record(e.device, e.Event)
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func resume(t *testing.T, path string) (a, b device.State) {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Resume("a"), l.Resume("b")
}

func TestLedgerGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	write(t, path, 0, 9)
	write(t, path, 9, len(story))
	a, b := resume(t, path)
	wantA := device.State{LastSeq: 7, Session: 1, Flights: []device.Flight{
		{Seq: 2, QoS: 2, PacketID: 2, Session: 1, Millis: 1001, Acked: true},
		{Seq: 5, QoS: 1, PacketID: 5, Session: 1, Millis: 1004},
		{Seq: 7, QoS: 2, PacketID: 6, Session: 1, Millis: 1006},
		{Seq: 6, QoS: 1, PacketID: 4, Session: 1, Millis: 1005, Refused: true},
	}}
	if !reflect.DeepEqual(a, wantA) {
		t.Errorf("a goes on with\n%+v\nwant\n%+v", a, wantA)
	}
	if wantB := (device.State{LastSeq: 1, Session: 1, Discard: true}); !reflect.DeepEqual(b, wantB) {
		t.Errorf("b goes on with %+v; want %+v", b, wantB)
	}

	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Record("a", device.Event{Kind: device.NewSession, Session: 2})
	l.Record("a", device.Event{Kind: device.Sent, Seq: 5, QoS: 1, PacketID: 5, Session: 2, Millis: 1004})
	if other, err := Open(path); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v, %v", other, err)
	}
	if _, err := Load(path); !errors.Is(err, ErrInUse) {
		t.Errorf("loaded while it is written: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	a, _ = resume(t, path)
	if a.Session != 2 || len(a.Flights) != 3 || a.Flights[0].Session != 2 || a.Flights[1].Session != 1 {
		t.Errorf("in the second session a goes on with %+v", a)
	}
}

// The simulator may be killed at any byte: what was flushed before is there,
// the rest is as if it had not happened, and writing goes on.
func TestLedgerCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger")
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	var ends []int64 // of the file after each event
	for _, e := range story {
		l.Record(e.device, e.Event)
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, info.Size())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		happened := 0
		for happened < len(ends) && ends[happened] <= int64(cut) {
			happened++
		}
		clipped := filepath.Join(dir, "clipped")
		if err := os.WriteFile(clipped, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(clipped); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		write(t, clipped, happened, len(story))
		got, err := os.ReadFile(clipped)
		if err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("cut at %d, then %d of %d events written again:\n%s\nwant\n%s",
				cut, len(story)-happened, len(story), got, whole)
		}
	}
}

func TestLedgerRefusesNonsense(t *testing.T) {
	head := versionLine + "d 0 a\nn 0 1\ns 0 1 1 1 1 5\n"
	for _, text := range []string{
		"hello\n", "firmware-sim ledger 2\n", "\n",
		versionLine + "d 1 a\n", versionLine + "d 0 a\nd 1 a\n", versionLine + "d 0 a b\n", versionLine + "d 0 \n", versionLine + "a 0 1\n",
		head + "z 0 1\n", head + "\n", head + "a 0\n", head + "a 0 \n", head + "a 0 1 2\n", head + "a 1 1\n", head + "a 0 2\n", head + "a 0 x\n",
		head + "s 0 3 1 1 1 5\n", head + "s 0 2 3 1 1 5\n", head + "s 0 2 1 1 65536 5\n", head + "s 0 99999999999999999999 1 1 1 5\n",
	} {
		path := filepath.Join(t.TempDir(), "ledger")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if l, err := Open(path); err == nil {
			t.Errorf("%q was opened: %v", text, l)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%q was changed to %q", text, now)
		}
		if _, err := Load(path); err == nil {
			t.Errorf("%q was loaded", text)
		}
	}
}

func TestLedgerDiskFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		// Only Linux has it, and only there do nodes run: the simulator runs elsewhere too.
		t.Skip("no /dev/full on this system")
	}
	l := &Ledger{file: full, numbers: map[string]int{}}
	l.Record("a", device.Event{Kind: device.NewSession, Session: 1})
	first := l.Flush()
	if first == nil || !errors.Is(l.Flush(), first) {
		t.Errorf("a failed write is forgotten: %v", first)
	}
	if err := l.Close(); err == nil {
		t.Error("Close hides it")
	}
}

// FuzzRead reads what might be a ledger (S1).
func FuzzRead(f *testing.F) {
	f.Add([]byte(versionLine + "d 0 a\nn 0 1\ns 0 1 1 1 1 5\na 0 1\nf 0\n"))
	f.Add([]byte(versionLine + "d 0 a\nn 0 1\ns 0 1 2 1 1 5\nx 0 1\ns 0 1 2 1 2 5\na 0 1\nc 0 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, err := read(bytes.NewReader(b), &progress{})
		if whole > int64(len(b)) || whole > 0 && b[whole-1] != '\n' {
			t.Fatalf("%d whole bytes in %q, %v", whole, b, err)
		}
		truth := &Truth{names: map[string]int{}}
		if _, err := read(bytes.NewReader(b), truth); err == nil {
			NewChecker(truth).Report()
		}
	})
}
