package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// pk puts a packet together: a string is a text with its length, an int a byte,
// and bytes are themselves.
func pk(first byte, parts ...any) []byte {
	body := join(parts...)
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

func join(parts ...any) (b []byte) {
	for _, part := range parts {
		switch v := part.(type) {
		case string:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
		case int:
			b = append(b, byte(v))
		case []byte:
			b = append(b, v...)
		default:
			panic(fmt.Sprintf("pk of a %T", part))
		}
	}
	return b
}

// props is join with the property length before it.
func props(parts ...any) []byte {
	b := join(parts...)
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// A verdict is a packet and the reason code it is refused with, 0 when it is
// well-formed.
type verdict struct {
	name    string
	version byte
	frame   []byte
	code    byte
}

// parse decodes a frame as the server does, and returns only the error.
func parse(frame []byte, version byte) error {
	switch {
	case len(frame) == 0:
	case frame[0]>>4 == TypePublish:
		return new(Publish).Parse(frame, version)
	case frame[0]>>4 >= TypePuback && frame[0]>>4 <= TypePubcomp:
		_, err := ParseAck(frame, version)
		return err
	}
	_, err := Parse(frame, version)
	return err
}

// run checks that each packet gets its verdict.
func run(t *testing.T, all []verdict) {
	t.Helper()
	seen := map[string]bool{}
	for _, v := range all {
		name := fmt.Sprintf("v%d %s", v.version, v.name)
		if seen[name] {
			t.Errorf("%s: there are two cases of this name", name)
		}
		seen[name] = true
		if got := codeOf(t, parse(v.frame, v.version)); got != v.code {
			t.Errorf("%s: % x: code 0x%02x, want 0x%02x: %v", name, v.frame, got, v.code, parse(v.frame, v.version))
		}
		judge(t, v.frame, v.version)
	}
	t.Logf("%d cases", len(all))
}

// codeOf returns the reason code in an error of this package, or 0 for nil.
func codeOf(t *testing.T, err error) byte {
	t.Helper()
	if err == nil {
		return 0
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is a %T, want an *Error", err, err)
	}
	if e.Code < CodeMalformed || e.Packet == "" || e.What == "" {
		t.Errorf("%#v lacks something", e)
	}
	if strings.HasPrefix(e.What, "the decoder refuses") {
		t.Errorf("%v: the check let it through", e)
	}
	return e.Code
}
