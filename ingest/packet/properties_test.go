package packet

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// carriers are the packets that have properties and come from a client, each
// with the properties given and well-formed otherwise. needs stands before
// them where a packet cannot do without.
var carriers = []struct {
	name, needs string
	with        func(p []byte) []byte
}{
	{"CONNECT", "", func(p []byte) []byte { return pk(0x10, "MQTT", 5, 2, u16(0), props(p), "d") }},
	{"will", "", func(p []byte) []byte { return pk(0x10, "MQTT", 5, 6, u16(0), props(), "d", props(p), "w", "x") }},
	{"PUBLISH", "", func(p []byte) []byte { return pk(0x30, "t", props(p), []byte("x")) }},
	{"PUBACK", "", func(p []byte) []byte { return pk(0x40, u16(1), 0, props(p)) }},
	{"PUBREC", "", func(p []byte) []byte { return pk(0x50, u16(1), 0, props(p)) }},
	{"PUBREL", "", func(p []byte) []byte { return pk(0x62, u16(1), 0, props(p)) }},
	{"PUBCOMP", "", func(p []byte) []byte { return pk(0x70, u16(1), 0, props(p)) }},
	{"SUBSCRIBE", "", func(p []byte) []byte { return pk(0x82, u16(1), props(p), "a", 0) }},
	{"UNSUBSCRIBE", "", func(p []byte) []byte { return pk(0xa2, u16(1), props(p), "a") }},
	{"DISCONNECT", "", func(p []byte) []byte { return pk(0xe0, 0, props(p)) }},
	{"AUTH", "\x15\x00\x01m", func(p []byte) []byte { return pk(0xf0, 0x18, props(p)) }},
}

const everywhere = "CONNECT will PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE UNSUBSCRIBE DISCONNECT AUTH"

// standard is the table of MQTT 5, 2.2.2.2, as it stands there: which client's
// packets may have a property, a good value, and values that are refused.
var standard = map[byte]struct {
	name, in string
	good     []byte
	bad      map[string]byte // by the value's bytes, the reason code
}{
	0x01: {"Payload Format Indicator", "PUBLISH will", []byte{1}, map[string]byte{"\x02": 0x82, "\xff": 0x82}},
	0x02: {"Message Expiry Interval", "PUBLISH will", u32(0), nil},
	0x03: {"Content Type", "PUBLISH will", join("text"), map[string]byte{"\x00\x01\xff": 0x81, "\x00\x01\x00": 0x81}},
	0x08: {"Response Topic", "PUBLISH will", join("a/b"), map[string]byte{
		"\x00\x00": 0x82, "\x00\x03a/#": 0x82, "\x00\x01+": 0x82, "\x00\x01\xff": 0x81, "\x00\x01\x00": 0x81,
	}},
	0x09: {"Correlation Data", "PUBLISH will", join("\x00\xff"), nil},
	0x0b: {"Subscription Identifier", "SUBSCRIBE", []byte{0xff, 0xff, 0xff, 0x7f}, map[string]byte{
		"\x00": 0x82, "\x80\x00": 0x81, "\x80\x80\x80\x80\x01": 0x81, "\x81\x00": 0x81,
	}},
	0x11: {"Session Expiry Interval", "CONNECT DISCONNECT", u32(0xffffffff), nil},
	0x12: {"Assigned Client Identifier", "", join("id"), nil},
	0x13: {"Server Keep Alive", "", u16(1), nil},
	0x15: {"Authentication Method", "CONNECT AUTH", join("m"), map[string]byte{"\x00\x01\xff": 0x81}},
	0x16: {"Authentication Data", "AUTH", join("\x00\xff"), nil}, // in CONNECT with a method: see TestConnect
	0x17: {"Request Problem Information", "CONNECT", []byte{0}, map[string]byte{"\x02": 0x82}},
	0x18: {"Will Delay Interval", "will", u32(0), nil},
	0x19: {"Request Response Information", "CONNECT", []byte{1}, map[string]byte{"\x02": 0x82}},
	0x1a: {"Response Information", "", join("x"), nil},
	0x1c: {"Server Reference", "", join("x"), nil},
	0x1f: {"Reason String", "PUBACK PUBREC PUBREL PUBCOMP DISCONNECT AUTH", join("why"), map[string]byte{"\x00\x01\xff": 0x81}},
	0x21: {"Receive Maximum", "CONNECT", u16(1), map[string]byte{"\x00\x00": 0x82}},
	0x22: {"Topic Alias Maximum", "CONNECT", u16(0), nil},
	0x23: {"Topic Alias", "PUBLISH", u16(0xffff), map[string]byte{"\x00\x00": 0x94}},
	0x24: {"Maximum QoS", "", []byte{1}, nil},
	0x25: {"Retain Available", "", []byte{1}, nil},
	0x26: {"User Property", everywhere, join("", ""), map[string]byte{
		"\x00\x01\xff\x00\x00": 0x81, "\x00\x00\x00\x01\xff": 0x81, "\x00\x01\x00\x00\x00": 0x81,
	}},
	0x27: {"Maximum Packet Size", "CONNECT", u32(1), map[string]byte{"\x00\x00\x00\x00": 0x82}},
	0x28: {"Wildcard Subscription Available", "", []byte{1}, nil},
	0x29: {"Subscription Identifiers Available", "", []byte{1}, nil},
	0x2a: {"Shared Subscription Available", "", []byte{1}, nil},
}

// Every property, known or not, in every packet: there, there twice, cut at
// every byte, with values out of range, and where it must not be.
func TestProperties(t *testing.T) {
	var all []verdict
	for _, c := range carriers {
		add := func(name string, code byte, parts ...any) {
			p := join(append([]any{[]byte(c.needs)}, parts...)...)
			all = append(all, verdict{c.name + ": " + name, version5, c.with(p), code})
		}
		add("none [2.2.2.1]", 0)
		for id := range 256 {
			p, ok := standard[byte(id)]
			at := fmt.Sprintf("property 0x%02x ", id)
			switch {
			case !ok:
				add(at+"is unknown [2.2.2.2]", CodeMalformed, id, 0)
			case id == 0x15 && c.needs != "":
				add(at+p.name+" twice [3.15.2.2.2]", CodeProtocolError, id, p.good)
			case id == 0x16 && c.name == "CONNECT":
				add(at+"without a method [3.1.2.11.10]", CodeProtocolError, id, p.good)
			case id == 0x0b && c.name == "PUBLISH":
				add(at+"from a client [MQTT-3.3.4-6]", CodeProtocolError, id, p.good)
			case id == 0x1c && c.name == "DISCONNECT":
				add(at+"from a client [3.14.2.2.5]", CodeProtocolError, id, p.good)
			case !slices.Contains(strings.Fields(p.in), c.name):
				add(at+p.name+" does not belong there [2.2.2.2]", CodeMalformed, id, p.good)
			default:
				add(at+p.name, 0, id, p.good)
				twice := byte(CodeProtocolError)
				if id == 0x26 {
					twice = 0
				}
				add(at+p.name+" twice [2.2.2.2]", twice, id, p.good, id, p.good)
				for cut := range p.good {
					add(fmt.Sprintf("%s%s cut after %d bytes", at, p.name, cut), CodeMalformed, id, p.good[:cut])
				}
				for value, code := range p.bad {
					add(fmt.Sprintf("%s%s is % x", at, p.name, value), code, id, []byte(value))
				}
			}
		}
		add("an identifier in two bytes", CodeMalformed, 0xa6, 0, "k", "v")
	}
	run(t, all)
}

// The property length: MQTT 5, 2.2.2.1.
func TestPropertyLength(t *testing.T) {
	publish := func(parts ...any) []byte { return pk(0x30, append([]any{"t"}, parts...)...) }
	run(t, []verdict{
		{"[MQTT-2.2.2-1] missing in PUBLISH", version5, publish(), CodeMalformed},
		{"[MQTT-2.2.2-1] missing in SUBSCRIBE", version5, pk(0x82, u16(1)), CodeMalformed},
		{"[MQTT-2.2.2-1] missing in UNSUBSCRIBE", version5, pk(0xa2, u16(1)), CodeMalformed},
		{"[MQTT-2.2.2-1] missing in AUTH", version5, pk(0xf0, 0x18), CodeMalformed},
		{"[MQTT-2.2.2-1] missing in a will", version5, pk(0x10, "MQTT", 5, 6, u16(0), props(), "d"), CodeMalformed},
		{"3.4.2.2.1 missing in PUBACK", version5, pk(0x40, u16(1), 0), 0},
		{"3.14.2.2.1 missing in DISCONNECT", version5, pk(0xe0, 0), 0},
		{"longer than the packet", version5, publish(7, 0x26, "k", "v")[:8], CodeMalformed},
		{"one too long", version5, publish(3, 0x01, 0), CodeMalformed},
		{"one too short, so that the value is payload", version5, publish(1, 0x01, 0), CodeMalformed},
		{"ends inside of a user property", version5, publish(6, 0x26, "k", "vv"), CodeMalformed},
		{"[MQTT-1.5.5-1] 0 in two bytes", version5, publish(0x80, 0), CodeMalformed},
		{"[MQTT-1.5.5-1] 2 in three bytes", version5, publish(0x82, 0x80, 0, 0x01, 0), CodeMalformed},
		{"in two bytes", version5, publish(props(0x26, strings.Repeat("k", 200), "v")), 0},
		{"in four bytes, beyond the packet", version5, publish(0xff, 0xff, 0xff, 0x7f), CodeMalformed},
		{"in five bytes", version5, publish(0x80, 0x80, 0x80, 0x80, 1), CodeMalformed},
		{"cut", version5, publish(0x80), CodeMalformed},
		{"MQTT 3.1.1 has none: it is payload", version311, publish(0xff, 0xff), 0},
		{"MQTT 3.1 has none: it is payload", version31, publish(0x7f), 0},
	})
}
