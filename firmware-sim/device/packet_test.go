package device

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// unhex reads hexadecimal digits with spaces between them.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes were written down from the specification, field by field.
func TestPacketsGolden(t *testing.T) {
	user := []Property{{"k", "v"}}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{
			"CONNECT 3.1.1",
			connect{version: v311, clientID: "ab", clean: true, keepAliveSeconds: 30}.encode(),
			"10 0e 0004 4d515454 04 02 001e 0002 6162",
		},
		{
			"CONNECT 3.1.1 with a user, kept session",
			connect{version: v311, clientID: "ab", username: "u", password: "pw", keepAliveSeconds: 300, expirySeconds: 9}.encode(),
			"10 15 0004 4d515454 04 c0 012c 0002 6162 0001 75 0002 7077",
		},
		{
			"CONNECT 5, kept session",
			connect{version: v5, clientID: "ab", keepAliveSeconds: 30, expirySeconds: 86400}.encode(),
			"10 14 0004 4d515454 05 00 001e 05 11 00015180 0002 6162",
		},
		{
			"CONNECT 5, clean",
			connect{version: v5, clientID: "ab", keepAliveSeconds: 30, clean: true}.encode(),
			"10 0f 0004 4d515454 05 02 001e 00 0002 6162",
		},
		{
			"PUBLISH 3.1.1 QoS 0",
			publish{topic: "a/b", payload: []byte("hi")}.append(nil),
			"30 07 0003 612f62 6869",
		},
		{
			"PUBLISH 3.1.1 QoS 2 again",
			publish{topic: "a/b", qos: 2, dup: true, packetID: 0x1234, payload: []byte("hi")}.append(nil),
			"3c 09 0003 612f62 1234 6869",
		},
		{
			"PUBLISH 5 QoS 1",
			publish{topic: "a", qos: 1, packetID: 1, props: publishProperties("x/y", user, 0), payload: []byte("p")}.append(nil),
			"32 14 0001 61 0001 0d 03 0003 782f79 26 0001 6b 0001 76 70",
		},
		{
			"PUBLISH 5 without properties",
			publish{topic: "a", props: publishProperties("", nil, 0), payload: []byte("p")}.append(nil),
			"30 05 0001 61 00 70",
		},
		{
			"CONNECT 5, will, buffer",
			connect{
				version: v5, clientID: "", clean: true, maxPacketBytes: 1024,
				will: publish{topic: "w", payload: []byte("x"), qos: 1, retain: true},
			}.encode(),
			"10 19 0004 4d515454 05 2e 0000 05 27 00000400 0000 00 0001 77 0001 78",
		},
		{
			"CONNECT 3.1.1, will, user",
			connect{
				version: v311, clientID: "a", username: "u", password: "p", keepAliveSeconds: 15,
				will: publish{topic: "w", payload: []byte("x"), retain: true},
			}.encode(),
			"10 19 0004 4d515454 04 e4 000f 0001 61 0001 77 0001 78 0001 75 0001 70",
		},
		{"SUBSCRIBE 3.1.1", subscribe{v311, 0xff01, "a/#", 1}.append(nil), "82 08 ff01 0003 612f23 01"},
		{"SUBSCRIBE 5", subscribe{v5, 0xff01, "a", 0}.append(nil), "82 07 ff01 00 0001 61 00"},
		{
			"PUBLISH 5, retained, with an alias",
			publish{retain: true, props: publishProperties("", nil, 1), payload: []byte("p")}.append(nil),
			"31 07 0000 03 23 0001 70",
		},
		{"PUBCOMP", appendAck(nil, typePubcomp, 3), "70 02 0003"},
		{"PUBREL", appendPubrel(nil, 0xABCD), "62 02 abcd"},
		{"PINGREQ", appendPingreq(nil), "c0 00"},
		{"DISCONNECT", appendDisconnect(nil), "e0 00"},
	} {
		if want := unhex(t, c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, c.got, want)
		}
	}
	long := publish{topic: "t", payload: make([]byte, 200)}.append(nil)
	if !bytes.HasPrefix(long, []byte{0x30, 0xCB, 0x01}) { // 203 = 0x4B + 1*128
		t.Errorf("a length of two bytes: %x", long[:4])
	}
}

func TestDecode(t *testing.T) {
	all := connack{receiveMaximum: 65535, maximumQoS: 2}
	for _, c := range []struct {
		name  string
		v     version
		bytes string
		want  packet
	}{
		{"CONNACK 3.1.1", v311, "20 02 01 00", packet{kind: typeConnack, connack: connack{true, 65535, 2, 0, 0}}},
		{"CONNACK 3.1.1 refused", v311, "20 02 00 05", packet{kind: typeConnack, code: 5, connack: all}},
		{"CONNACK 5", v5, "20 03 00 00 00", packet{kind: typeConnack, connack: all}},
		{"CONNACK 5 of a 3.1.1 broker", v5, "20 02 00 01", packet{kind: typeConnack, code: 1, connack: all}},
		{
			"CONNACK 5, limits among others", v5,
			"20 19 01 00 16 27 00100000 21 0014 24 01 13 003c 26 0001 61 0001 62 2a 00",
			packet{kind: typeConnack, connack: connack{true, 20, 1, 60, 0}},
		},
		{
			"PUBLISH 3.1.1", v311, "30 05 0001 61 6869",
			packet{kind: typePublish, publish: delivery{topic: "a", payload: "hi"}},
		},
		{
			"PUBLISH 5 QoS 2, retained, with a property", v5, "35 09 0001 61 0102 02 01 00 68",
			packet{kind: typePublish, packetID: 0x102, publish: delivery{topic: "a", payload: "h", qos: 2, retained: true}},
		},
		{"SUBACK 3.1.1", v311, "90 03 ff01 80", packet{kind: typeSuback, packetID: 0xff01, code: 0x80}},
		{"SUBACK 5", v5, "90 04 ff01 00 01", packet{kind: typeSuback, packetID: 0xff01, code: 1}},
		{"PUBREL", v311, "62 02 0003", packet{kind: typePubrel, packetID: 3}},
		{"PUBACK", v5, "40 02 1234", packet{kind: typePuback, packetID: 0x1234}},
		{"PUBACK refused, with properties", v5, "40 04 1234 97 00", packet{kind: typePuback, packetID: 0x1234, code: 0x97}},
		{"PUBREC", v311, "50 02 0001", packet{kind: typePubrec, packetID: 1}},
		{"PUBCOMP not found", v5, "70 03 0001 92", packet{kind: typePubcomp, packetID: 1, code: 0x92}},
		{"PINGRESP", v311, "d0 00", packet{kind: typePingresp}},
		{"DISCONNECT", v5, "e0 01 8e", packet{kind: typeDisconnect, code: 0x8e}},
	} {
		r := bufio.NewReader(bytes.NewReader(unhex(t, c.bytes)))
		got, err := readPacket(r, c.v, make([]byte, maxPacketBytes))
		if err != nil || got != c.want || r.Buffered() > 0 {
			t.Errorf("%s: got %+v, %v\nwant %+v", c.name, got, err, c.want)
		}
	}
}

func TestDecodeMalformed(t *testing.T) {
	for _, s := range []string{
		"20 00", "20 01 00", "20 04 00 00 03 21", "20 05 00 00 02 21 00", "20 05 00 00 05 21 00",
		"20 04 00 00 01 26", "20 06 00 00 03 26 0009", "20 04 00 00 01 77",
		"40 01 00", "50 00", "40 80 80 80 80 01", "90 ffff7f",
		"32 02 0000", "32 04 0000 0001", "30 03 0005 61", "36 05 0000 0001 00", "90 02 0001", "90 03 0001 00", "90 03 0001 05", "62 01 00",
	} {
		r := bufio.NewReader(bytes.NewReader(unhex(t, s)))
		if p, err := readPacket(r, v5, make([]byte, maxPacketBytes)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: got %+v, %v", s, p, err)
		}
	}
}

// FuzzReadPacket feeds whatever a broker might say (S1).
func FuzzReadPacket(f *testing.F) {
	f.Add(true, unhex(f, "20 19 01 00 16 27 00100000 21 0014 24 01 13 003c 26 0001 61 0001 62 2a 00"))
	f.Add(false, unhex(f, "20 02 01 00 40 02 1234"))
	f.Fuzz(func(t *testing.T, five bool, b []byte) {
		v := v311
		if five {
			v = v5
		}
		r := bufio.NewReader(bytes.NewReader(b))
		buf := make([]byte, maxPacketBytes)
		for {
			p, err := readPacket(r, v, buf)
			if err != nil {
				return
			}
			if p.kind == typeConnack && p.connack.receiveMaximum == 0 {
				t.Fatalf("a receive maximum of 0 from %x", b)
			}
		}
	})
}
