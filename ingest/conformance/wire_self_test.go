//go:build conformance

package conformance

import (
	"testing"
)

// TestStrict shows that the client of the suite refuses what a server may not
// send.
func TestStrict(t *testing.T) {
	good := []packet{
		{kind: CONNACK, body: join(0, 0, props{num(receiveMaximum, 10), pair("a", "b"), pair("a", "b")})},
		{kind: CONNACK, body: join(0, 1)},
		{kind: PUBLISH, flags: 2, body: join("t", uint16(1), props{num(subscriptionID, 1), num(subscriptionID, 2)}, []byte("m"))},
		{kind: PUBACK, body: join(uint16(1))},
		{kind: PUBACK, body: join(uint16(1), 0x10)},
		{kind: PUBREL, flags: 2, body: join(uint16(1), 0x92, props{})},
		{kind: SUBACK, body: join(uint16(1), props{}, 0, 0x87)},
		{kind: PINGRESP},
		{kind: DISCONNECT, body: join(0x8E)},
	}
	for _, p := range good {
		if err := parse(&p, 5); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
	bad := []packet{
		{kind: CONNECT},
		{kind: CONNACK, body: join(2, 0, props{})},
		{kind: CONNACK, body: join(0, 0x91, props{})},
		{kind: CONNACK, body: join(0, 0, props{num(topicAlias, 1)})},
		{kind: CONNACK, body: join(0, 0, props{num(receiveMaximum, 1), num(receiveMaximum, 1)})},
		{kind: CONNACK, body: join(0, 0, []byte{0x80, 0})}, // a length that is longer than it has to be
		{kind: CONNACK, flags: 1, body: join(0, 0, props{})},
		{kind: PUBLISH, flags: 6, body: join("t", uint16(1), props{})},
		{kind: PUBLISH, flags: 2, body: join("t", uint16(0), props{})},
		{kind: PUBLISH, body: join("t\x00", props{})},
		{kind: PUBLISH, body: join("t", props{pair("\xFF", "")})},
		{kind: PUBACK, body: join(uint16(0))},
		{kind: PUBACK, body: join(uint16(1), 0x01)},
		{kind: PUBREL, body: join(uint16(1))},
		{kind: PUBCOMP, body: join(uint16(1), 0, props{}, 0)},
		{kind: SUBACK, body: join(uint16(1), props{}, 0x03)},
		{kind: PINGRESP, body: join(0)},
		{kind: DISCONNECT, body: join(0, props{num(sessionExpiry, 1)})},
	}
	for _, p := range bad {
		if err := parse(&p, 5); err == nil {
			t.Errorf("%v passes", p)
		}
	}
	if err := parse(&packet{kind: DISCONNECT}, 4); err == nil {
		t.Error("a DISCONNECT for a client of MQTT 3.1.1 passes")
	}
}

// FuzzParse gives the client what no server should send.
func FuzzParse(f *testing.F) {
	f.Add(byte(0x20), byte(5), join(0, 0, props{num(receiveMaximum, 10)}))
	f.Add(byte(0x32), byte(5), join("t", uint16(1), props{pair("a", "b")}, "m"))
	f.Add(byte(0x90), byte(4), join(uint16(1), 0))
	f.Fuzz(func(_ *testing.T, first, version byte, body []byte) {
		_ = parse(&packet{kind: kind(first >> 4), flags: first & 15, body: body}, version)
	})
}
