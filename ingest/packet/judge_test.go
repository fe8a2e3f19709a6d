package packet

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// judge parses a frame, whatever is in it, and checks all that must be true
// of every frame: nothing panics, an error is an *Error, all ways to parse
// agree, and what is accepted is the same for mochi's decoder, and when it is
// written and parsed again. It reports whether the frame was accepted.
func judge(t *testing.T, frame []byte, version byte) bool {
	t.Helper()
	kept := bytes.Clone(frame)
	err := parse(frame, version)
	codeOf(t, err)
	got, err2 := Parse(frame, version)
	if codeOf(t, err) != codeOf(t, err2) {
		t.Errorf("v%d % x: %v, and from Parse: %v", version, frame, err, err2)
	}
	if !bytes.Equal(frame, kept) {
		t.Fatalf("v%d % x was changed to % x", version, kept, frame)
	}
	if err != nil || err2 != nil {
		return false
	}
	if head, size, err := Header(frame); err != nil || size != len(frame) || head < 2 {
		t.Errorf("v%d % x: Header says %d, %d, %v", version, frame, head, size, err)
	}
	want := mochi(t, frame, version)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("v%d % x:\n got %+v\nmochi %+v", version, frame, got, want)
	}
	switch frame[0] >> 4 {
	case TypePublish:
		judgePublish(t, frame, version, want)
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		a, err := ParseAck(frame, version)
		if (a != Ack{want.FixedHeader.Type, want.PacketID, want.ReasonCode}) || err != nil {
			t.Errorf("v%d % x: %+v, %v; mochi %+v", version, frame, a, err, want)
		}
		again, err := ParseAck(AppendAck(nil, a.Type, a.PacketID, a.Code, version), version)
		if again != a || err != nil {
			t.Errorf("v%d % x: %+v, written and parsed: %+v, %v", version, frame, a, again, err)
		}
	default:
		judgeAgain(t, frame, version, got)
	}
	return true
}

// mochi decodes a frame that was accepted, with what it is known to get wrong
// put right.
func mochi(t *testing.T, frame []byte, version byte) *packets.Packet {
	t.Helper()
	head, size, err := Header(frame)
	if err != nil {
		t.Fatal(err)
	}
	pk := &packets.Packet{ProtocolVersion: version}
	if version == version31 && frame[0]>>4 != TypePublish && frame[0]&flagDup != 0 {
		pk.FixedHeader = packets.FixedHeader{Type: frame[0] >> 4, Qos: 1, Dup: true}
	} else if err := pk.FixedHeader.Decode(frame[0]); err != nil {
		t.Errorf("v%d % x is accepted; mochi's header: %v", version, frame, err)
	}
	body := bytes.Clone(frame[head:])
	pk.FixedHeader.Remaining = size - head
	decode := map[byte]func([]byte) error{
		TypeConnect: pk.ConnectDecode, TypePublish: pk.PublishDecode,
		TypePuback: pk.PubackDecode, TypePubrec: pk.PubrecDecode, TypePubrel: pk.PubrelDecode, TypePubcomp: pk.PubcompDecode,
		TypeSubscribe: pk.SubscribeDecode, TypeUnsubscribe: pk.UnsubscribeDecode,
		TypePingreq: pk.PingreqDecode, TypeDisconnect: pk.DisconnectDecode, TypeAuth: pk.AuthDecode,
	}[frame[0]>>4]
	if decode == nil {
		t.Fatalf("v%d % x is accepted; no client sends it", version, frame)
	}
	if err := decode(body); err != nil {
		t.Errorf("v%d % x is accepted; mochi: %v", version, frame, err)
	}
	if frame[0]>>4 == TypeDisconnect && len(body) == 1 {
		pk.ReasonCode = body[0]
	}
	return pk
}

// judgePublish compares a PUBLISH with what mochi has made of it, and writes
// and parses it again.
func judgePublish(t *testing.T, frame []byte, version byte, want *packets.Packet) {
	t.Helper()
	var p Publish
	if err := p.Parse(frame, version); err != nil {
		t.Fatal(err)
	}
	if string(p.Topic) != want.TopicName || !bytes.Equal(p.Payload, want.Payload) || p.PacketID != want.PacketID ||
		p.QoS != want.FixedHeader.Qos || p.Dup != want.FixedHeader.Dup || p.Retain != want.FixedHeader.Retain ||
		p.Alias != want.Properties.TopicAlias || p.expiry != want.Properties.MessageExpiryInterval {
		t.Errorf("v%d % x:\n got %+v\nmochi %+v", version, frame, p, want)
	}
	wantProps := want.Properties
	wantProps.TopicAlias, wantProps.TopicAliasFlag = 0, false
	got, err := p.Properties()
	if err != nil || !reflect.DeepEqual(got, wantProps) {
		t.Errorf("v%d % x: %v\n got %+v\nmochi %+v", version, frame, err, got, wantProps)
	}
	if !p.HasProperties() && !reflect.DeepEqual(wantProps, packets.Properties{}) {
		t.Errorf("v%d % x: has no properties, mochi %+v", version, frame, wantProps)
	}

	out := Out{
		Topic: p.Topic, Payload: p.Payload, PacketID: p.PacketID, QoS: p.QoS, Dup: p.Dup, Retain: p.Retain,
		Properties: AppendProperties(nil, &got),
	}
	if p.Alias != 0 { // the client's own; with one the topic may be empty
		out.Topic = append([]byte("t"), p.Topic...)
	}
	var again Publish
	written := AppendPublish(nil, &out, version)
	if err := again.Parse(written, version); err != nil || len(written) != out.Size(version) {
		t.Fatalf("v%d % x: written % x, of %d bytes: %v", version, frame, written, out.Size(version), err)
	}
	gotAgain, err := again.Properties()
	if err != nil || !reflect.DeepEqual(gotAgain, got) || !slices.Equal(again.Topic, out.Topic) || !slices.Equal(again.Payload, p.Payload) ||
		again.PacketID != p.PacketID || again.QoS != p.QoS || again.Dup != p.Dup || again.Retain != p.Retain || again.Alias != 0 {
		t.Errorf("v%d % x: written and parsed: %v\n got %+v %+v\nwant %+v %+v", version, frame, err, again, gotAgain, p, got)
	}
}

// judgeAgain lets mochi write a packet, and parses that.
func judgeAgain(t *testing.T, frame []byte, version byte, pk *packets.Packet) {
	t.Helper()
	in := *pk
	in.Mods.AllowResponseInfo = true
	b := new(bytes.Buffer)
	encode := map[byte]func(*bytes.Buffer) error{
		TypeConnect: in.ConnectEncode, TypeSubscribe: in.SubscribeEncode, TypeUnsubscribe: in.UnsubscribeEncode,
		TypePingreq: in.PingreqEncode, TypeDisconnect: in.DisconnectEncode, TypeAuth: in.AuthEncode,
	}[frame[0]>>4]
	if err := encode(b); err != nil {
		t.Fatalf("v%d % x: mochi writes: %v", version, frame, err)
	}
	again, err := Parse(b.Bytes(), version)
	if err != nil {
		t.Fatalf("v%d % x: written % x: %v", version, frame, b.Bytes(), err)
	}
	// What mochi does not write: the size differs, and empty is none.
	again.FixedHeader.Remaining = pk.FixedHeader.Remaining
	plain := *pk
	for _, p := range []*packets.Packet{again, &plain} {
		for _, b := range []*[]byte{
			&p.Properties.CorrelationData, &p.Connect.WillProperties.CorrelationData,
			&p.Properties.AuthenticationData, &p.Connect.Password, &p.Connect.Username, &p.Connect.WillPayload,
		} {
			if len(*b) == 0 {
				*b = nil
			}
		}
		p.Properties.TopicAliasFlag, p.Properties.RequestResponseInfo = false, 0
	}
	if !reflect.DeepEqual(again, &plain) {
		t.Errorf("v%d % x: written % x\n got %+v\nwant %+v", version, frame, b.Bytes(), again, plain)
	}
}
