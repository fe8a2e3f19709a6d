package packet

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestPublish(t *testing.T) {
	var all []verdict
	for _, version := range versions {
		none := []byte{}
		if version == version5 {
			none = props()
		}
		add := func(name string, code, first byte, parts ...any) {
			all = append(all, verdict{name, version, pk(first, parts...), code})
		}
		for flags := range 16 {
			name, code := fmt.Sprintf("first byte 0x3%x", flags), byte(0)
			switch flags {
			case 6, 7, 14, 15:
				name, code = name+" [MQTT-3.3.1-4]", CodeMalformed
			case 8, 9:
				name, code = name+" [MQTT-3.3.1-2]", CodeMalformed
			}
			id := []byte{}
			if flags&6 != 0 {
				id = u16(1)
			}
			add(name, code, 0x30|byte(flags), "t", id, none, []byte("x"))
			add(name+" without payload", code, 0x30|byte(flags), "t", id, none)
		}
		add("nothing", CodeMalformed, 0x30)
		add("half a topic length", CodeMalformed, 0x30, 0)
		add("topic cut", CodeMalformed, 0x30, u16(2), []byte("t"))
		add("no topic [MQTT-4.7.3-1]", CodeProtocolError, 0x30, "", none, []byte("x"))
		add("QoS 1 without packet id", CodeMalformed, 0x32, "t")
		add("QoS 2 with half a packet id", CodeMalformed, 0x34, "t", 1)
		add("QoS 1 with packet id 0 [MQTT-2.2.1-3]", CodeMalformed, 0x32, "t", u16(0), none)
		add("QoS 2 with packet id 0 [MQTT-2.2.1-3]", CodeMalformed, 0x34, "t", u16(0), none)
		for _, topic := range []string{"#", "+", "a/#", "a/+", "+/a", "a+", "a#b", "/+", "ä/#", "#ä"} {
			add("topic "+topic+" [MQTT-3.3.2-2]", CodeMalformed, 0x30, topic, none)
		}
		for _, topic := range []string{"/", "//", "a/", "/a", "$SYS/x", "$share/g/t", "a b", "A", "ü/€/𝄞"} {
			add("topic "+topic+" [4.7.3]", 0, 0x30, topic, none)
		}
		for _, bad := range badTexts {
			add("topic with "+bad.name+" "+bad.statement, CodeMalformed, 0x30, bad.text, none)
		}
		for _, good := range goodTexts {
			add("topic with "+good.name, 0, 0x30, good.text, none)
		}
		add("a payload that is no text", 0, 0x30, "t", none, []byte{0, 0xff, 0xc0})
		add("longer than it says", CodeMalformed, 0x30, "t", none, []byte("x"))
		all[len(all)-1].frame = append(all[len(all)-1].frame, 0)
		long := verdict{"length in two bytes where one does [MQTT-1.5.5-1]", version, overlongHead(pk(0x30, "t", none)), 0}
		if version == version5 {
			long.code = CodeMalformed
		}
		all = append(all, long)
	}
	add := func(name string, code byte, frame []byte) { all = append(all, verdict{name, version5, frame, code}) }
	add("an alias for the topic [3.3.2.3.4]", 0, pk(0x30, "", props(0x23, u16(1))))
	add("an alias and the topic [3.3.2.3.4]", 0, pk(0x30, "t", props(0x23, u16(1))))
	add("alias 0, and no topic [MQTT-3.3.2-8]", CodeTopicAlias, pk(0x30, "", props(0x23, u16(0))))
	add("a payload that is not the text it is said to be [MQTT-3.3.2-4]", 0, pk(0x30, "t", props(0x01, 1), []byte{0xff}))
	run(t, all)
}

// What Parse makes of a PUBLISH, field by field, and that appending to a part
// does not write into the next.
func TestPublishFields(t *testing.T) {
	frame := pk(0x3d, "a/b", u16(0x1234), props(0x23, u16(7), 0x02, u32(9), 0x26, "k", "v"), []byte("hello"))
	kept := bytes.Clone(frame)
	var p Publish
	if err := p.Parse(frame, version5); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(string(p.Topic), string(p.Payload), p.PacketID, p.QoS, p.Retain, p.Dup, p.Alias, p.HasProperties())
	if want := fmt.Sprint("a/b", "hello", 0x1234, 2, true, true, 7, true); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if s, ok := p.Expiry(); s != 9 || !ok {
		t.Errorf("expiry %d, %t", s, ok)
	}
	_, _ = append(p.Topic, "!!!"...), append(p.Payload, "!!!"...)
	props5, err := p.Properties()
	if err != nil || !bytes.Equal(frame, kept) {
		t.Fatalf("% x was changed to % x; %v", kept, frame, err)
	}
	clear(frame)
	if len(props5.User) != 1 || props5.User[0].Key != "k" || props5.TopicAlias != 0 || props5.TopicAliasFlag || props5.MessageExpiryInterval != 9 {
		t.Errorf("properties %+v", props5)
	}
	// The same struct again: nothing stays.
	if err := p.Parse(pk(0x30, "t", props(0x23, u16(1))), version5); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Expiry(); ok || p.HasProperties() || p.PacketID != 0 || p.Retain || p.Dup {
		t.Errorf("left over: %+v", p)
	}
	if err := p.Parse(pk(0x30, "t", props(0x02, u32(0))), version5); err != nil {
		t.Fatal(err)
	}
	if s, ok := p.Expiry(); s != 0 || !ok {
		t.Errorf("expiry %d, %t, want one of 0", s, ok)
	}
}

func TestAcks(t *testing.T) {
	var all []verdict
	good := map[byte]string{
		0x40: "\x00\x10\x80\x83\x87\x90\x91\x97\x99", 0x50: "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
		0x62: "\x00\x92", 0x70: "\x00\x92",
	}
	for _, first := range []byte{0x40, 0x50, 0x62, 0x70} {
		name := names[first>>4]
		for _, version := range versions {
			add := func(what string, code byte, parts ...any) {
				all = append(all, verdict{name + " " + what, version, pk(first, parts...), code})
			}
			add("id 1", 0, u16(1))
			add("id 65535", 0, u16(65535))
			add("id 0 [MQTT-2.2.1-3]", CodeMalformed, u16(0))
			add("nothing", CodeMalformed)
			add("half an id", CodeMalformed, 0)
		}
		for code := range 256 {
			v := verdict{fmt.Sprintf("%s reason 0x%02x [2.4]", name, code), version5, pk(first, u16(1), code), CodeProtocolError}
			if strings.IndexByte(good[first], byte(code)) >= 0 {
				v.code = 0
			}
			all = append(all, v)
		}
		all = append(all,
			verdict{name + " with bytes behind the properties", version5, pk(first, u16(1), 0, props(), 0), CodeMalformed},
			verdict{name + " with a reason", version311, pk(first, u16(1), 0), CodeMalformed},
			verdict{name + " with a reason", version31, pk(first, u16(1), 0), CodeMalformed})
	}
	dup := pk(0x6a, u16(1))
	all = append(all,
		verdict{"PUBREL with DUP, which 3.1 has", version31, dup, 0},
		verdict{"PUBREL with DUP [MQTT-3.6.1-1]", version311, dup, CodeMalformed},
		verdict{"PUBREL with DUP [MQTT-3.6.1-1]", version5, dup, CodeMalformed})
	run(t, all)

	a, err := ParseAck(pk(0x50, u16(0x1234), 0x97, props(0x1f, "full")), version5)
	if (a != Ack{TypePubrec, 0x1234, CodeQuotaExceeded}) || err != nil {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := ParseAck(pk(0xc0), version5); (a != Ack{}) || codeOf(t, err) != CodeProtocolError {
		t.Errorf("a PINGREQ is %+v, %v", a, err)
	}
	if err := new(Publish).Parse(pk(0xc0), version5); codeOf(t, err) != CodeProtocolError {
		t.Errorf("a PINGREQ as a PUBLISH: %v", err)
	}
}

// What is nearly all of the traffic costs no garbage.
func TestAllocations(t *testing.T) {
	plain := pk(0x32, "plant/7/temperature", u16(7), []byte("21.5"))
	rich := pk(0x32, "plant/ü", u16(7), props(0x23, u16(1), 0x02, u32(9), 0x08, "r", 0x26, "k", "v"), []byte("21.5"))
	ack := pk(0x40, u16(7), 0x10, props(0x1f, "why"))
	out := Out{
		Topic: []byte("plant/7"), Payload: []byte("21.5"), PacketID: 7, QoS: 1,
		Properties: join(0x26, "k", "v"), SubscriptionIDs: []uint32{1, 1 << 20},
	}
	dst := make([]byte, 0, 256)
	var p Publish
	for name, f := range map[string]func(){
		"Publish.Parse": func() {
			if p.Parse(plain, version311) != nil || p.Parse(rich, version5) != nil {
				t.Error("refused")
			}
		},
		"ParseAck": func() {
			if a, err := ParseAck(ack, version5); err != nil || a.PacketID != 7 {
				t.Error("refused")
			}
		},
		"AppendPublish": func() { dst = AppendPublish(AppendPublish(dst[:0], &out, version5), &out, version311) },
		"AppendAck":     func() { dst = AppendAck(dst[:0], TypePubrec, 7, CodeQuotaExceeded, version5) },
		"Header": func() {
			if _, size, err := Header(plain); size != len(plain) || err != nil {
				t.Error("refused")
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkPublishParse(b *testing.B) {
	for name, c := range map[string]verdict{
		"311":        {version: version311, frame: pk(0x32, "plant/7/temperature", u16(7), make([]byte, 256))},
		"5":          {version: version5, frame: pk(0x32, "plant/7/temperature", u16(7), props(), make([]byte, 256))},
		"5-alias":    {version: version5, frame: pk(0x32, "", u16(7), props(0x23, u16(1)), make([]byte, 256))},
		"5-user":     {version: version5, frame: pk(0x32, "plant/7/temperature", u16(7), props(0x26, "unit", "celsius"), make([]byte, 256))},
		"311-umlaut": {version: version311, frame: pk(0x32, "werk/süd/wärme", u16(7), make([]byte, 256))},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var p Publish
			for b.Loop() {
				if err := p.Parse(c.frame, c.version); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	out := Out{Topic: []byte("plant/7/temperature"), Payload: make([]byte, 256), PacketID: 7, QoS: 1, SubscriptionIDs: []uint32{1}}
	dst := make([]byte, 0, 512)
	for _, version := range versions[1:] {
		b.Run(fmt.Sprint(version), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = AppendPublish(dst[:0], &out, version)
			}
		})
	}
}
