package packet

import (
	"bytes"
	"testing"
)

var versions = [3]byte{version31, version311, version5}

// S1: every packet, cut at every byte, and with every byte replaced by every
// other, in every version. Nothing panics; and what is accepted means the same
// to mochi.
func TestSweep(t *testing.T) {
	inputs, accepted := 0, 0
	try := func(frame []byte, version byte) {
		inputs++
		if judge(t, frame, version) {
			accepted++
		}
	}
	for _, version := range versions {
		for _, seed := range append(seeds(version), fromServer()...) {
			for cut := range seed {
				try(seed[:cut], version)
				if cut >= 2 { // also with a length that says so
					short := bytes.Clone(seed[:cut])
					short[1] = byte(cut - 2)
					try(short, version)
				}
			}
			changed := bytes.Clone(seed)
			for i, was := range seed {
				for b := range 256 {
					changed[i] = byte(b)
					try(changed, version)
				}
				changed[i] = was
			}
		}
	}
	t.Logf("%d inputs, %d accepted", inputs, accepted)
	if inputs < 60_000 || accepted < inputs/20 {
		t.Errorf("%d inputs, %d accepted: that is no sweep", inputs, accepted)
	}
}

// Every seed is accepted in its own version; one that only a server sends is
// not, in any. Without this the sweep would start from nothing.
func TestSeeds(t *testing.T) {
	for _, version := range versions {
		for _, seed := range seeds(version) {
			if err := parse(seed, version); err != nil {
				t.Errorf("v%d % x: %v", version, seed, err)
			}
		}
		for _, seed := range fromServer() {
			if got := codeOf(t, parse(seed, version)); got != CodeProtocolError {
				t.Errorf("v%d % x: code 0x%02x, want a protocol error", version, seed, got)
			}
		}
	}
}

// S1: the SUBSCRIBE that ends before its options byte, on which mochi's
// decoder panics. It is refused; and if the check let it through, the panic
// would end here.
func TestSubscribeCutBeforeItsOptions(t *testing.T) {
	for _, frame := range [][]byte{
		pk(0x82, u16(2), props(), "b/#"),
		pk(0x82, u16(2), props(), "a", 0, "b"),
	} {
		if got := codeOf(t, parse(frame, version5)); got != CodeMalformed {
			t.Errorf("% x: code 0x%02x, want malformed", frame, got)
		}
		p, err := decode(frame, 2, version5)
		if got := codeOf(t, err); got != CodeImplementation || p != nil {
			t.Errorf("% x: the decoder's panic became %v, %v", frame, p, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, seed := range append(seeds(version5), fromServer()...) {
		f.Add(seed)
	}
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0x30, 0x80, 0x80, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		head, size, err := Header(b)
		codeOf(t, err)
		switch {
		case head == 0 && size != 0, err != nil && size != 0, head > maxHead, head > len(b), size > MaxBytes, head > size:
			t.Errorf("% x: %d, %d, %v", b, head, size, err)
		}
		// It says no earlier, and nothing else, with fewer bytes.
		for n := range min(len(b), maxHead+1) {
			h, s, e := Header(b[:n])
			if h != 0 && (h != head || s != size) || e != nil && err == nil {
				t.Errorf("% x: %d, %d, %v; of %d bytes: %d, %d, %v", b, head, size, err, n, h, s, e)
			}
		}
	})
}

// fuzz adds the seeds of some types, and judges what comes of them.
func fuzz(f *testing.F, is func(kind byte) bool) {
	f.Helper()
	for _, version := range versions {
		for _, seed := range append(seeds(version), fromServer()...) {
			if is(seed[0] >> 4) {
				f.Add(seed, version)
			}
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, version byte) {
		if len(frame) == 0 || !is(frame[0]>>4) {
			return
		}
		judge(t, frame, versions[version%3])
	})
}

func isAck(kind byte) bool { return kind >= TypePuback && kind <= TypePubcomp }

func FuzzPublish(f *testing.F) { fuzz(f, func(kind byte) bool { return kind == TypePublish }) }

func FuzzParseAck(f *testing.F) { fuzz(f, isAck) }

func FuzzParse(f *testing.F) {
	fuzz(f, func(kind byte) bool { return kind != TypePublish && !isAck(kind) })
}
