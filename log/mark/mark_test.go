package mark

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

func TestStamp(t *testing.T) {
	for _, s := range []Stamp{{Epoch: 1, N: 1}, {Flags: Unverified | TwicePossible, Epoch: 1 << 62, N: 300}, {}} {
		b := s.Append(nil)
		if got, ok := ParseStamp(append(b, 7)); !ok || got != s || len(b) > StampBytes {
			t.Errorf("%+v: %+v, %t", s, got, ok)
		}
		for cut := range b {
			if got, ok := ParseStamp(b[:cut]); ok {
				t.Errorf("%+v cut to %d: %+v", s, cut, got)
			}
		}
		r := record.Record{Headers: []record.Header{{Key: "a"}, {Key: StampKey, Value: b}}}
		if got, ok := StampOf(&r); !ok || got != s {
			t.Errorf("of the record: %+v, %t", got, ok)
		}
	}
}

func marks() []Handoff {
	return []Handoff{
		{Client: "", Epoch: 0},
		{Client: "press-4", Epoch: 1 << 40, Deps: []Dep{{tributary.LedgerID{1}, 7}, {tributary.LedgerID{2}, 1 << 63}}},
	}
}

func TestHandoff(t *testing.T) {
	for _, h := range marks() {
		r := h.Record()
		if !IsHandoff(&r) || IsHandoff(&record.Record{Stream: "s", Key: r.Key}) {
			t.Errorf("%+v is told apart wrongly", r)
		}
		got, err := ParseHandoff(r.Value)
		if err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v, %v, should be %+v", got, err, h)
		}
		for cut := range r.Value {
			if _, err := ParseHandoff(r.Value[:cut]); !errors.Is(err, ErrMalformed) {
				t.Errorf("cut to %d: %v", cut, err)
			}
		}
	}
}

func TestEnding(t *testing.T) {
	for _, e := range []Ending{{1, 0, "c"}, {65535, 9, ""}, {2, 1 << 63, "client"}} {
		b := e.Append(nil)
		if got, err := ParseRelease(b); err != nil || got != e {
			t.Errorf("%+v, %v, should be %+v", got, err, e)
		}
		e.PacketID = 0
		if got, err := ParseClean(e.Append(nil)); err != nil || got != e {
			t.Errorf("%+v, %v, should be %+v", got, err, e)
		}
	}
	for _, b := range [][]byte{nil, {1, 0}, {2, 0, 0}, {3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {2, 0, 0, 0, 0, 0, 0, 0, 1, 5}} {
		if e, err := ParseRelease(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("% x: %+v, %v", b, e, err)
		}
	}
}

// The bytes of docs/format/handoff.md.
func TestGolden(t *testing.T) {
	h := Handoff{Client: "d1", Epoch: 9, Deps: []Dep{{tributary.LedgerID{0: 0xab, 15: 1}, 42}}}
	r := h.Record()
	e := Ending{PacketID: 5, Epoch: 9, Client: "d1"}
	for _, c := range []struct{ got, want []byte }{
		{Stamp{Unverified, 300, 2}.Append(nil), []byte{1, 0xac, 2, 2}},
		{r.Value, []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x09\x00\x02d1\x00\x01\xab\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x2a")},
		{e.Append(nil), []byte("\x02\x00\x00\x00\x00\x00\x00\x00\x09\x00\x05d1")},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("% x, should be % x", c.got, c.want)
		}
	}
}

// S1: what comes from another gateway is read or refused.
func FuzzParseHandoff(f *testing.F) {
	for _, h := range marks() {
		f.Add(h.Record().Value)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHandoff(b)
		if err != nil {
			return
		}
		if got, err := ParseHandoff(h.Record().Value); err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v, %v, should be %+v", got, err, h)
		}
	})
}

func FuzzParseStamp(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := ParseStamp(b)
		if !ok {
			return
		}
		if got, ok := ParseStamp(s.Append(nil)); !ok || got != s {
			t.Errorf("%+v, should be %+v", got, s)
		}
	})
}
