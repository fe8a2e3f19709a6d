package packet

import (
	"fmt"
	"strings"
	"testing"
)

func TestSubscribe(t *testing.T) {
	var all []verdict
	for _, version := range versions {
		none := []byte{}
		if version == version5 {
			none = props()
		}
		add := func(name string, code byte, parts ...any) {
			all = append(all, verdict{name, version, pk(0x82, parts...), code})
		}
		for options := range 256 {
			code := byte(0)
			switch {
			case version != version5 && options > 2, options > 0x3f:
				code = CodeMalformed // [MQTT-3.8.3-5]; 3.1.1: [MQTT-3-8.3-4]
			case options&3 == 3, options&0x30 == 0x30:
				code = CodeProtocolError
			}
			add(fmt.Sprintf("options 0x%02x [3.8.3.1]", options), code, u16(1), none, "a", options)
			if options&4 != 0 && code == 0 {
				code = CodeProtocolError
			}
			add(fmt.Sprintf("options 0x%02x, shared [MQTT-3.8.3-4]", options), code, u16(1), none, "$share/g/a", options)
		}
		add("nothing", CodeMalformed)
		add("no filter [MQTT-3.8.3-2]", CodeProtocolError, u16(1), none)
		add("packet id 0 [MQTT-2.2.1-3]", CodeMalformed, u16(0), none, "a", 0)
		add("no options", CodeMalformed, u16(1), none, "a")
		add("no options on the second", CodeMalformed, u16(1), none, "a", 0, "b")
		add("half a filter length", CodeMalformed, u16(1), none, "a", 0, 0)
		add("a filter cut", CodeMalformed, u16(1), none, u16(2), []byte("a"))
		add("a hundred filters", 0, u16(1), none, []byte(strings.Repeat("\x00\x01a\x01", 100)))
		add("filters that are none stay for the SUBACK", 0, u16(1), none, "", 0, "a/#/b", 1, "$share/g", 2)
		for _, bad := range badTexts {
			add("filter with "+bad.name+" "+bad.statement, CodeMalformed, u16(1), none, bad.text, 0)
		}
		for _, good := range goodTexts {
			add("filter with "+good.name, 0, u16(1), none, good.text, 0)
		}
		flags(&all, version, 0x82, "[MQTT-3.8.1-1]", u16(1), none, "a", 0)
	}
	run(t, all)

	p, err := Parse(pk(0x82, u16(9), props(0x0b, 5), "a/#/b", 0x29, "", 0x06), version5)
	if err != nil {
		t.Fatal(err)
	}
	a, b := p.Filters[0], p.Filters[1]
	if p.PacketID != 9 || len(p.Filters) != 2 || a.Filter != "a/#/b" || a.Qos != 1 || a.RetainHandling != 2 || !a.RetainAsPublished || a.NoLocal ||
		a.Identifier != 5 || b.Filter != "" || b.Qos != 2 || !b.NoLocal || b.RetainHandling != 0 {
		t.Errorf("%+v", p)
	}
}

// flags adds a packet with all sixteen flags in its first byte, of which only
// those in first are right; but for DUP in 3.1.
func flags(all *[]verdict, version, first byte, statement string, parts ...any) {
	for f := range byte(16) {
		v := verdict{fmt.Sprintf("first byte 0x%x%x %s", first>>4, f, statement), version, pk(first&0xf0|f, parts...), CodeMalformed}
		if f == first&0x0f || version == version31 && f == 0x0a && first&0x0f == 2 {
			v.code = 0
		}
		*all = append(*all, v)
	}
}

func TestUnsubscribe(t *testing.T) {
	var all []verdict
	for _, version := range versions {
		none := []byte{}
		if version == version5 {
			none = props()
		}
		add := func(name string, code byte, parts ...any) {
			all = append(all, verdict{name, version, pk(0xa2, parts...), code})
		}
		add("two filters", 0, u16(1), none, "a", "b/#")
		add("nothing", CodeMalformed)
		add("no filter [MQTT-3.10.3-2]", CodeProtocolError, u16(1), none)
		add("packet id 0 [MQTT-2.2.1-3]", CodeMalformed, u16(0), none, "a")
		add("half a filter length", CodeMalformed, u16(1), none, "a", 0)
		add("a filter cut", CodeMalformed, u16(1), none, u16(2), []byte("a"))
		add("filters that are none stay for the UNSUBACK", 0, u16(1), none, "", "a/#/b", "$share/+/a")
		for _, bad := range badTexts {
			add("filter with "+bad.name+" "+bad.statement, CodeMalformed, u16(1), none, bad.text)
		}
		flags(&all, version, 0xa2, "[MQTT-3.10.1-1]", u16(1), none, "a")
	}
	run(t, all)
}

// The packets that are nearly nothing.
func TestPingDisconnectAuth(t *testing.T) {
	var all []verdict
	for _, version := range versions {
		add := func(name string, code byte, frame []byte) { all = append(all, verdict{name, version, frame, code}) }
		add("PINGREQ with a byte", CodeMalformed, pk(0xc0, 0))
		flags(&all, version, 0xc0, "[MQTT-2.1.3-1]")
		flags(&all, version, 0xe0, "[MQTT-3.14.1-1]")
		add("nothing at all", CodeMalformed, nil)
		add("type 0", CodeMalformed, pk(0x00))
		add("type 0 with flags", CodeMalformed, pk(0x0f))
		add("a first byte alone", CodeMalformed, []byte{0xc0})
		add("a length in five bytes", CodeMalformed, []byte{0xc0, 0x80, 0x80, 0x80, 0x80, 0})
		add("a length that goes on", CodeMalformed, []byte{0xc0, 0x80, 0x80})
		add("a second packet behind", CodeMalformed, []byte{0xc0, 0, 0xc0, 0})
		if version != version5 {
			add("DISCONNECT with a reason", CodeMalformed, pk(0xe0, 0))
			add("AUTH [3.1.1: 2.2.1]", CodeProtocolError, pk(0xf0, 0x18, props(0x15, "m")))
			continue
		}
		for code := range 256 {
			v := byte(CodeProtocolError)
			if strings.IndexByte("\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99", byte(code)) >= 0 {
				v = 0
			}
			add(fmt.Sprintf("DISCONNECT 0x%02x [MQTT-3.14.2-1]", code), v, pk(0xe0, code))
			add(fmt.Sprintf("DISCONNECT 0x%02x with properties [MQTT-3.14.2-1]", code), v, pk(0xe0, code, props(0x11, u32(0))))
			v = CodeProtocolError
			if code == 0x18 || code == 0x19 {
				v = 0
			}
			add(fmt.Sprintf("AUTH 0x%02x [MQTT-3.15.2-1]", code), v, pk(0xf0, code, props(0x15, "m")))
		}
		add("DISCONNECT with bytes behind its properties", CodeMalformed, pk(0xe0, 0, props(), 0))
		flags(&all, version, 0xf0, "[MQTT-3.15.1-1]", 0x18, props(0x15, "m"))
		add("AUTH of no bytes: success, from a client [3.15.2.1]", CodeProtocolError, pk(0xf0))
		add("AUTH without a method [3.15.2.2.2]", CodeProtocolError, pk(0xf0, 0x18, props()))
		add("AUTH with bytes behind its properties", CodeMalformed, pk(0xf0, 0x18, props(0x15, "m"), 0))
	}
	run(t, all)

	// mochi takes it for a normal end, and so would lose the will.
	p, err := Parse(pk(0xe0, 0x04), version5)
	if err != nil || p.ReasonCode != CodeDisconnectWithWill {
		t.Errorf("DISCONNECT 0x04 of remaining length 1: %+v, %v", p, err)
	}
}

func TestFilterValid(t *testing.T) {
	for filter, want := range map[string]bool{
		"a": true, "a/b": true, "/": true, "//": true, "a/": true, "/a": true, " ": true, "ü": true,
		"#": true, "a/#": true, "/#": true, "a//#": true, "+": true, "+/+": true, "/+": true, "+/": true, "a/+/b": true, "+/#": true, "+//": true,
		"$SYS/#": true, "$sharea/g/x": true, "$Share/+/x": true, "a/$share/+/x": true, "$SHARE/": true,
		"$share/g/a": true, "$share/g/#": true, "$share/g/+/b": true, "$share/g//": true, "$share/g//a": true, "$share/ü/a": true, "$share/g/$share/g/a": true,

		"": false, "a#": false, "#a": false, "#/": false, "#/a": false, "a/#/b": false, "##": false, "/#/": false, "a/b#": false, "#/#": false,
		"a+": false, "+a": false, "++": false, "a/b+/c": false, "a/+b": false, "+#": false, "#+": false,
		"$share": false, "$share/": false, "$share/g": false, "$share/g/": false, "$share//a": false, "$share///": false,
		"$share/+/a": false, "$share/#/a": false, "$share/g+/a": false, "$share/g#/a": false, "$share/g/#/a": false, "$share/g/a+": false, "$share/#": false,
	} {
		if got := FilterValid(filter); got != want {
			t.Errorf("%q: %t, want %t [4.7.1] [MQTT-4.8.2-1] [MQTT-4.8.2-2]", filter, got, want)
		}
	}
}

func TestShareOf(t *testing.T) {
	for filter, want := range map[string][3]any{
		"a/b": {"", "a/b", false}, "$share": {"", "$share", false}, "$sharex/g/a": {"", "$sharex/g/a", false}, "": {"", "", false},
		"$share/g/a/b": {"g", "a/b", true}, "$share/g/": {"g", "", true}, "$share/g": {"g", "", true}, "$share/": {"", "", true}, "$share//a": {"", "a", true},
	} {
		group, rest, shared := ShareOf(filter)
		if got := [3]any{group, rest, shared}; got != want {
			t.Errorf("%q: %v, want %v", filter, got, want)
		}
	}
}

// S1: the longest filter there can be is looked at once, not once per level.
func BenchmarkFilterValid(b *testing.B) {
	deep := strings.Repeat("/", maxText)
	for b.Loop() {
		if !FilterValid(deep) {
			b.Fatal("refused")
		}
	}
}
