package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// badTexts are no UTF-8 strings for MQTT.
var badTexts = []struct{ name, text, statement string }{
	{"a surrogate", "a\xed\xa0\x80", "[MQTT-1.5.4-1]"},
	{"a low surrogate", "\xed\xbf\xbf", "[MQTT-1.5.4-1]"},
	{"an overlong form", "\xc0\xaf", "[MQTT-1.5.4-1]"},
	{"a lone continuation", "a\x80", "[MQTT-1.5.4-1]"},
	{"a cut sequence", "a\xf0\x90", "[MQTT-1.5.4-1]"},
	{"beyond U+10FFFF", "\xf4\x90\x80\x80", "[MQTT-1.5.4-1]"},
	{"a byte of no form", "\xff", "[MQTT-1.5.4-1]"},
	{"U+0000", "a\x00b", "[MQTT-1.5.4-2]"},
	{"U+0000 in two bytes", "a\xc0\x80", "[MQTT-1.5.4-2]"},
	{"a late U+0000", strings.Repeat("ä", 40) + "\x00", "[MQTT-1.5.4-2]"},
}

// goodTexts are, though a receiver may refuse some of them.
var goodTexts = []struct{ name, text string }{
	{"a byte order mark [MQTT-1.5.4-3]", "\ufeffa"},
	{"a control character", "a\x01\x1f\x7f"},
	{"a non-character", "a\uffff"},
	{"four bytes a character", "A\U0002a6d4"},
	{"spaces", " a b "},
	{"65,535 bytes", strings.Repeat("x", maxText)},
}

func TestConnect(t *testing.T) {
	var all []verdict
	for _, version := range versions {
		all = append(all, connectCases(version)...)
	}
	add := func(name string, code byte, frame []byte) { all = append(all, verdict{name, 0, frame, code}) }
	for _, c := range []struct {
		name  string
		level int
	}{
		{"MQTT", 0},
		{"MQTT", 3},
		{"MQTT", 6},
		{"MQTT", 0x84},
		{"MQTT", 0xff},
		{"MQIsdp", 4},
		{"MQIsdp", 5},
		{"MQIsdp", 0x83},
		{"mqtt", 4},
		{"MQT", 4},
		{"MQTTX", 5},
		{"", 4},
		{"HTTP", 4},
	} {
		add(fmt.Sprintf("protocol %s level %d [MQTT-3.1.2-1] [MQTT-3.1.2-2]", c.name, c.level), CodeUnsupportedProtocol,
			pk(0x10, c.name, c.level, 2, u16(0), "d"))
	}
	add("nothing", CodeMalformed, pk(0x10))
	add("no protocol level", CodeMalformed, pk(0x10, "MQTT"))
	add("a level and no more", CodeMalformed, pk(0x10, "MQTT", 4))
	add("v5 and no properties", CodeMalformed, pk(0x10, "MQTT", 5, 2, u16(0)))
	add("3.1.1 with a longer length than it needs", 0, overlongHead(pk(0x10, "MQTT", 4, 2, u16(0), "d")))
	add("5 with a longer length than it needs [MQTT-1.5.5-1]", CodeMalformed, overlongHead(pk(0x10, "MQTT", 5, 2, u16(0), props(), "d")))
	add("5 with a password alone", 0, pk(0x10, "MQTT", 5, 0x42, u16(0), props(), "d", "p"))
	add("3.1.1 with a password alone [3.1.1: MQTT-3.1.2-22]", CodeMalformed, pk(0x10, "MQTT", 4, 0x42, u16(0), "d", "p"))
	add("3.1 with a password alone", CodeMalformed, pk(0x10, "MQIsdp", 3, 0x42, u16(0), "d", "p"))
	add("5 without id, to be resumed", 0, pk(0x10, "MQTT", 5, 0, u16(0), props(), ""))
	add("3.1.1 without id, to be resumed [3.1.1: MQTT-3.1.3-8]", CodeClientID, pk(0x10, "MQTT", 4, 0, u16(0), ""))
	add("3.1 without id, to be resumed", CodeClientID, pk(0x10, "MQIsdp", 3, 0, u16(0), ""))
	add("3.1 with an id of 24 characters", 0, pk(0x10, "MQIsdp", 3, 2, u16(0), strings.Repeat("x", 24)))
	add("5 with authentication data alone", CodeProtocolError, pk(0x10, "MQTT", 5, 2, u16(0), props(0x16, "x"), "d"))
	add("5 with an authentication method", 0, pk(0x10, "MQTT", 5, 2, u16(0), props(0x15, "m"), "d"))
	add("5 with an empty authentication method", CodeBadAuthMethod, pk(0x10, "MQTT", 5, 2, u16(0), props(0x15, ""), "d"))
	run(t, all)
}

// overlongHead writes the remaining length of a short packet in two bytes.
func overlongHead(p []byte) []byte { return append([]byte{p[0], p[1] | 0x80, 0}, p[2:]...) }

// connectCases returns what is the same in every version.
func connectCases(version byte) (all []verdict) {
	name, level, none := "MQTT", int(version), []byte{}
	if version == version31 {
		name = "MQIsdp"
	}
	if version == version5 {
		none = props()
	}
	add := func(what string, code byte, flags int, after ...any) {
		parts := append([]any{name, level, flags, u16(60), none}, after...)
		all = append(all, verdict{fmt.Sprintf("%d: %s", version, what), 0, pk(0x10, parts...), code})
	}
	will := func(after ...any) []any { return append([]any{"d", none}, after...) }

	add("clean", 0, 0x02, "d")
	add("to be resumed", 0, 0x00, "d")
	add("no client id", 0, 0x02, "")
	add("reserved flag [MQTT-3.1.2-3]", CodeMalformed, 0x03, "d")
	add("no payload [MQTT-3.1.3-3]", CodeMalformed, 0x02)
	add("bytes behind the payload", CodeMalformed, 0x02, "d", 0)
	add("a will without its flag [MQTT-3.1.2-9]", CodeMalformed, 0x02, will("w", "x")...)
	add("a user name without its flag [MQTT-3.1.2-16]", CodeMalformed, 0x02, "d", "u")
	add("a user name's flag alone [MQTT-3.1.2-17]", CodeMalformed, 0x82, "d")
	add("a password's flag alone [MQTT-3.1.2-19]", CodeMalformed, 0xc2, "d", "u")
	add("a password without its flag [MQTT-3.1.2-18]", CodeMalformed, 0x82, "d", "u", "p")
	add("an empty user name and password", 0, 0xc2, "d", "", "")
	add("a password that is no text", 0, 0xc2, "d", "u", "\x00\xff")
	for qos := 1; qos <= 3; qos++ {
		add(fmt.Sprintf("will QoS %d without a will [MQTT-3.1.2-11]", qos), CodeMalformed, 0x02|qos<<3, "d")
	}
	add("will retain without a will [MQTT-3.1.2-13]", CodeMalformed, 0x22, "d")
	for qos := range 3 {
		add(fmt.Sprintf("will of QoS %d", qos), 0, 0x06|qos<<3, will("w", "x")...)
		add(fmt.Sprintf("retained will of QoS %d", qos), 0, 0x26|qos<<3, will("w", "x")...)
	}
	add("will of QoS 3 [MQTT-3.1.2-12]", CodeMalformed, 0x1e, will("w", "x")...)
	add("will without a payload", 0, 0x06, will("w", "")...)
	add("will whose payload is no text", 0, 0x06, will("w", "\x00\xff")...)
	add("will without its payload [MQTT-3.1.2-9]", CodeMalformed, 0x06, will("w")...)
	add("will flag alone [MQTT-3.1.2-9]", CodeMalformed, 0x06, "d")
	add("will to an empty topic [MQTT-4.7.3-1]", CodeTopicName, 0x06, will("", "x")...)
	add("will to a/# [MQTT-4.7.1-1]", CodeTopicName, 0x06, will("a/#", "x")...)
	add("will to + [MQTT-4.7.1-1]", CodeTopicName, 0x06, will("+", "x")...)
	for _, bad := range badTexts {
		add("client id with "+bad.name+" "+bad.statement, CodeMalformed, 0x02, bad.text)
		add("will topic with "+bad.name+" "+bad.statement, CodeMalformed, 0x06, will(bad.text, "x")...)
		add("user name with "+bad.name+" "+bad.statement, CodeMalformed, 0x82, "d", bad.text)
	}
	for _, good := range goodTexts {
		add("client id with "+good.name, 0, 0x02, good.text)
		add("will topic with "+good.name, 0, 0x06, will(good.text, "x")...)
		add("user name with "+good.name, 0, 0x82, "d", good.text)
	}
	return all
}

// What Parse makes of a CONNECT with everything in it, which must stay when
// the frame is overwritten: connections read into one buffer again and again.
func TestConnectIsACopy(t *testing.T) {
	frame := pk(0x10, "MQTT", 5, 0xf6, u16(30), props(0x11, u32(7), 0x26, "k", "v"), "dev",
		props(0x18, u32(5), 0x01, 1, 0x02, u32(9), 0x03, "text", 0x08, "reply", 0x09, "id", 0x26, "a", "b"),
		"w/t", "gone", "user", "secret")
	p, err := Parse(frame, 0)
	if err != nil {
		t.Fatal(err)
	}
	clear(frame)
	c := p.Connect
	w := c.WillProperties
	got := fmt.Sprint(p.ProtocolVersion, c.ClientIdentifier, c.Keepalive, c.Clean, c.WillTopic, string(c.WillPayload), c.WillQos, c.WillRetain,
		string(c.Username), string(c.Password), p.Properties.SessionExpiryInterval, p.Properties.User,
		w.WillDelayInterval, w.PayloadFormat, w.MessageExpiryInterval, w.ContentType, w.ResponseTopic, string(w.CorrelationData), w.User)
	want := fmt.Sprint(5, "dev", 30, true, "w/t", "gone", 2, true,
		"user", "secret", 7, []packets.UserProperty{{Key: "k", Val: "v"}},
		5, 1, 9, "text", "reply", "id", []packets.UserProperty{{Key: "a", Val: "b"}})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Whoever has to answer a CONNECT that was refused learns its version.
func TestConnectVersion(t *testing.T) {
	for _, c := range []struct {
		frame []byte
		want  byte
	}{
		{pk(0x10, "MQTT", 5, 0x01), 5},
		{pk(0x10, "MQTT", 4), 4},
		{pk(0x10, "MQIsdp", 3, 0xff), 3},
		{pk(0x10, "MQTT", 6, 2), 0},
		{pk(0x10, "MQTT", 0x84, 2), 0},
		{pk(0x10, "MQTT"), 0},
		{pk(0x10), 0},
		{pk(0x11, "MQTT", 5), 0},
		{pk(0x30, "MQTT", 5), 0},
		{nil, 0},
		{[]byte{0x10}, 0},
	} {
		if got := ConnectVersion(c.frame); got != c.want {
			t.Errorf("% x: version %d, want %d", c.frame, got, c.want)
		}
	}
}
