package packet

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// What is written, byte for byte; each behind something that is there already.
func TestAppend(t *testing.T) {
	with := func(p packets.Packet, f func([]byte, *packets.Packet) []byte) func([]byte) []byte {
		return func(dst []byte) []byte { return f(dst, &p) }
	}
	reason := packets.Properties{ReasonString: "why", ServerReference: "b"}
	for _, c := range []struct {
		name string
		by   func([]byte) []byte
		want []byte
	}{
		{"PINGRESP", AppendPingresp, []byte{0xd0, 0}},
		{"PUBACK", func(b []byte) []byte { return AppendAck(b, TypePuback, 0x1234, 0, 5) }, pk(0x40, u16(0x1234))},
		{"PUBREC refuses", func(b []byte) []byte { return AppendAck(b, TypePubrec, 1, 0x97, 5) }, pk(0x50, u16(1), 0x97)},
		{"PUBREC in 3.1.1", func(b []byte) []byte { return AppendAck(b, TypePubrec, 1, 0x97, 4) }, pk(0x50, u16(1))},
		{"PUBREL", func(b []byte) []byte { return AppendAck(b, TypePubrel, 1, 0, 5) }, pk(0x62, u16(1))},
		{"PUBCOMP of an unknown id", func(b []byte) []byte { return AppendAck(b, TypePubcomp, 1, 0x92, 5) }, pk(0x70, u16(1), 0x92)},

		{"CONNACK", with(packets.Packet{ProtocolVersion: 4, SessionPresent: true}, AppendConnack), pk(0x20, 1, 0)},
		{"CONNACK of 3.1", with(packets.Packet{ProtocolVersion: 3, SessionPresent: true}, AppendConnack), pk(0x20, 0, 0)},
		{
			"CONNACK of 5",
			with(packets.Packet{ProtocolVersion: 5, SessionPresent: true, Properties: packets.Properties{
				ReceiveMaximum: 9, TopicAliasMaximum: 10, MaximumPacketSize: 1 << 20, ServerKeepAliveFlag: true, ServerKeepAlive: 30, AssignedClientID: "x",
				RetainAvailableFlag: true, SharedSubAvailableFlag: true, SharedSubAvailable: 1,
			}}, AppendConnack),
			pk(0x20, 1, 0, props(0x12, "x", 0x13, u16(30), 0x21, u16(9), 0x22, u16(10), 0x25, 0, 0x27, u32(1<<20), 0x2a, 1)),
		},
		{"CONNACK that refuses has no session", with(packets.Packet{ProtocolVersion: 5, SessionPresent: true, ReasonCode: 0x87}, AppendConnack), pk(0x20, 0, 0x87, props())},
		{"CONNACK that refuses 3.1.1", with(packets.Packet{ProtocolVersion: 4, SessionPresent: true, ReasonCode: 0x87}, AppendConnack), pk(0x20, 0, 5)},

		{"SUBACK", with(packets.Packet{ProtocolVersion: 5, PacketID: 7, ReasonCodes: []byte{0, 2, 0x8f}}, AppendSuback), pk(0x90, u16(7), props(), 0, 2, 0x8f)},
		{"SUBACK of 3.1.1", with(packets.Packet{ProtocolVersion: 4, PacketID: 7, ReasonCodes: []byte{0, 2, 0x8f}}, AppendSuback), pk(0x90, u16(7), 0, 2, 0x80)},
		{"UNSUBACK", with(packets.Packet{ProtocolVersion: 5, PacketID: 7, ReasonCodes: []byte{0, 0x11}}, AppendUnsuback), pk(0xb0, u16(7), props(), 0, 0x11)},
		{"UNSUBACK of 3.1.1", with(packets.Packet{ProtocolVersion: 4, PacketID: 7, ReasonCodes: []byte{0}}, AppendUnsuback), pk(0xb0, u16(7))},

		{"DISCONNECT", func(b []byte) []byte { return AppendDisconnect(b, 0x8b, nil, 0) }, pk(0xe0, 0x8b, props())},
		{"DISCONNECT with words", func(b []byte) []byte { return AppendDisconnect(b, 0x9c, &reason, 14) }, pk(0xe0, 0x9c, props(0x1c, "b", 0x1f, "why"))},
		{"DISCONNECT with too many words [MQTT-3.14.2-3]", func(b []byte) []byte { return AppendDisconnect(b, 0x9c, &reason, 13) }, pk(0xe0, 0x9c, props())},
	} {
		before := append(make([]byte, 0, 64), 1, 2, 3)
		got := c.by(before)
		if !bytes.Equal(got, append([]byte{1, 2, 3}, c.want...)) {
			t.Errorf("%s: % x, want 01 02 03 and % x", c.name, got, c.want)
		}
		if !bytes.Equal(c.by(nil), c.want) {
			t.Errorf("%s: % x behind nothing, want % x", c.name, c.by(nil), c.want)
		}
	}
}

// The caller's packet is not changed, though 3.1.1 has other codes.
func TestAppendLeavesThePacket(t *testing.T) {
	p := packets.Packet{ProtocolVersion: 4, ReasonCodes: []byte{0x8f}, ReasonCode: 0x87, SessionPresent: true}
	AppendSuback(nil, &p)
	AppendConnack(nil, &p)
	if p.ReasonCodes[0] != 0x8f || p.ReasonCode != 0x87 || !p.SessionPresent || p.FixedHeader.Type != 0 {
		t.Errorf("changed: %+v", p)
	}
}

// The return codes of 3.1.1, 3.2.2.3; those that are given stay.
func TestConnackCodes3(t *testing.T) {
	want := map[byte]byte{0x84: 1, 0x85: 2, 0x86: 4, 0x87: 5, 0x8a: 5, 0x8c: 5}
	for code := range 256 {
		w, ok := want[byte(code)]
		switch {
		case ok:
		case code < 0x80:
			w = byte(code)
		default:
			w = 3
		}
		if got := connackCode3(byte(code)); got != w {
			t.Errorf("0x%02x: %d, want %d", code, got, w)
		}
	}
}

func TestAppendPublish(t *testing.T) {
	rich := packets.Properties{
		PayloadFormatFlag: true, PayloadFormat: 0, MessageExpiryInterval: 9, ContentType: "text", ResponseTopic: "re/ply", CorrelationData: []byte{},
		User:       []packets.UserProperty{{Key: "b", Val: "2"}, {Key: "a", Val: "1"}, {Key: "b", Val: "2"}},
		TopicAlias: 7, TopicAliasFlag: true, SubscriptionIdentifier: []int{3}, ReasonString: "not here",
	}
	encoded := AppendProperties(nil, &rich)
	wantProps := join(0x01, 0, 0x02, u32(9), 0x03, "text", 0x08, "re/ply", 0x09, "", 0x26, "b", "2", 0x26, "a", "1", 0x26, "b", "2")
	if !bytes.Equal(encoded, wantProps) {
		t.Errorf("% x\nwant % x", encoded, wantProps)
	}
	if got := AppendProperties(nil, &packets.Properties{}); len(got) != 0 {
		t.Errorf("% x of nothing", got)
	}
	long := []byte(strings.Repeat("x", 200))
	for _, c := range []struct {
		out       Out
		v311, v50 []byte
	}{
		{Out{Topic: []byte("t")}, pk(0x30, "t"), pk(0x30, "t", props())},
		{Out{Topic: []byte("t"), PacketID: 9, Payload: []byte("x"), Retain: true}, pk(0x31, "t", []byte("x")), pk(0x31, "t", props(), []byte("x"))},
		{
			Out{Topic: []byte("a/b"), Payload: long, QoS: 2, PacketID: 0x1234, Dup: true, Properties: encoded, SubscriptionIDs: []uint32{1, 128, 1<<28 - 1}},
			pk(0x3c, "a/b", u16(0x1234), long),
			pk(0x3c, "a/b", u16(0x1234), props(encoded, 0x0b, 1, 0x0b, 0x80, 1, 0x0b, 0xff, 0xff, 0xff, 0x7f), long),
		},
		{Out{Topic: long, QoS: 1, PacketID: 1, Properties: join(0x26, string(long), "")}, pk(0x32, string(long), u16(1)), pk(0x32, string(long), u16(1), props(0x26, string(long), ""))},
	} {
		for version, want := range map[byte][]byte{version31: c.v311, version311: c.v311, version5: c.v50} {
			got := AppendPublish([]byte{1}, &c.out, version)
			if !bytes.Equal(got[1:], want) || got[0] != 1 || c.out.Size(version) != len(want) {
				t.Errorf("v%d %+v: size %d\n got % x\nwant % x", version, c.out, c.out.Size(version), got[1:], want)
			}
		}
	}
}

// The sizes at which the remaining length takes one more byte.
func TestSizes(t *testing.T) {
	for _, n := range []int{0, 1, 124, 125, 126, 127, 128, 16380, 16381, 16382, 16383, 16384, 2097147, 2097148, 2097149, 2097152} {
		out := Out{Topic: []byte("t"), Payload: make([]byte, n)}
		for _, version := range versions {
			b := AppendPublish(nil, &out, version)
			head, size, err := Header(b)
			if err != nil || size != len(b) || out.Size(version) != size || !minimal(b[:head]) {
				t.Errorf("v%d, %d bytes: %d of %d, %d, %v", version, n, size, len(b), out.Size(version), err)
			}
		}
	}
	largest := Out{Topic: []byte("t"), Payload: make([]byte, maxRemaining-3)}
	if got := largest.Size(version311); got != MaxBytes {
		t.Errorf("the largest packet has %d bytes, want %d", got, MaxBytes)
	}
	if got := largest.Size(version5); got <= MaxBytes {
		t.Errorf("one that is larger has %d bytes", got)
	}
	if got := AppendPublish(nil, &largest, version5); got != nil {
		t.Errorf("%d bytes were written of a packet that cannot be", len(got))
	}
	if got := AppendPublish(nil, &Out{Topic: make([]byte, maxText+1)}, version311); got != nil {
		t.Errorf("% x... was written for a topic that cannot be", got[:4])
	}
}

// A stream is cut where its packets end, however it arrives.
func TestStream(t *testing.T) {
	for _, version := range versions {
		var stream []byte
		all := seeds(version)
		for _, p := range all {
			stream = append(stream, p...)
		}
		var got [][]byte
		have := 0
		for have <= len(stream) { // one more byte at a time
			_, size, err := Header(stream[:have])
			switch {
			case err != nil:
				t.Fatal(err)
			case size == 0 || size > have:
				have++
			default:
				got, stream, have = append(got, stream[:size]), stream[size:], 0
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(all) || len(stream) > 0 {
			t.Errorf("v%d: %d packets of %d, %d bytes left", version, len(got), len(all), len(stream))
		}
	}
}

func TestErrorText(t *testing.T) {
	for want, frame := range map[string][]byte{
		"PUBLISH: topic name has a wildcard [MQTT-3.3.2-2]":                                       pk(0x30, "a/#", props()),
		"SUBSCRIBE: it ends inside of its subscription options":                                   pk(0x82, u16(1), props(), "a"),
		"CONNECT: neither MQTT 3.1, 3.1.1 nor 5 [MQTT-3.1.2-1] [MQTT-3.1.2-2]":                    pk(0x10, "MQTT", 6),
		"PINGRESP: only a server sends this [4.13]":                                               pk(0xd0),
		"PUBREL: Reason String is not UTF-8 [MQTT-1.5.4-1]":                                       pk(0x62, u16(1), 0, props(0x1f, "\xff")),
		"packet of type 0: there is no such type [2.1.2]":                                         pk(0x00),
		"PUBLISH: property 0xfe is not known, or only a server's [2.2.2.2]":                       pk(0x30, "t", props(0xfe, 0)),
		"PUBLISH: only a server sends a Subscription Identifier here [MQTT-3.3.4-6] [3.14.2.2.5]": pk(0x30, "t", props(0x0b, 1)),
	} {
		if err := parse(frame, version5); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
