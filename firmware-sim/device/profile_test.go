package device_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary/firmware-sim/device"
)

// A scribe is a broker that says yes to everything and writes down what it was
// told, in the words of another codec than the devices'.
type scribe struct {
	t      *testing.T // in whose bubble it is
	serial int        // of the connection
	cut    map[int]bool
	greet  func(v byte) []byte // said after SUBACK

	mu    sync.Mutex
	lines []heardPacket
}

type heardPacket struct {
	packets.Packet

	connection, bytes int
	at                time.Time
}

// dial is Options.Dial.
func (s *scribe) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	go s.serve(theirs, s.serial)
	return ours, nil
}

// serve ends a connection that is to be cut at its second reading.
func (s *scribe) serve(conn net.Conn, serial int) {
	defer conn.Close()
	out := make(chan []byte, 1000)
	defer close(out)
	go func() {
		for b := range out {
			if _, err := conn.Write(b); err != nil {
				conn.Close()
			}
		}
	}()
	r := bufio.NewReader(conn)
	version, readings := byte(0), 0
	for {
		pk, size, err := hear(r, version)
		if err != nil {
			return
		}
		version = max(version, pk.ProtocolVersion)
		s.mu.Lock()
		s.lines = append(s.lines, heardPacket{pk, serial, size, time.Now()})
		s.mu.Unlock()
		if _, _, isReading := device.Identify(pk.Payload); isReading && pk.FixedHeader.Type == packets.Publish {
			readings++
			if s.cut[serial] && readings == 2 {
				return
			}
		}
		if pk.FixedHeader.Type == packets.Disconnect {
			return
		}
		for _, b := range s.answer(pk, version) {
			out <- b
		}
	}
}

// hear reads a packet with mochi's codec.
func hear(r *bufio.Reader, version byte) (pk packets.Packet, size int, err error) {
	first, err := r.ReadByte()
	if err != nil {
		return pk, 0, err
	}
	length, err := binary.ReadUvarint(r)
	if err != nil {
		return pk, 0, err
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return pk, 0, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, 0, err
	}
	pk.FixedHeader.Remaining, pk.ProtocolVersion = int(length), version
	size = 1 + len(binary.AppendUvarint(nil, length)) + len(body)
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Subscribe:
		err = pk.SubscribeDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Pubrel:
		err = pk.PubrelDecode(body)
	}
	return pk, size, err
}

func (s *scribe) answer(pk packets.Packet, version byte) [][]byte {
	id := []byte{byte(pk.PacketID >> 8), byte(pk.PacketID)}
	switch pk.FixedHeader.Type {
	case packets.Connect:
		if version == 5 {
			return [][]byte{{0x20, 6, 0, 0, 3, 0x22, 0, 2}}
		}
		return [][]byte{{0x20, 2, 0, 0}}
	case packets.Subscribe:
		ack := []byte{0x90, 3, id[0], id[1], pk.Filters[0].Qos}
		if version == 5 {
			ack = []byte{0x90, 4, id[0], id[1], 0, pk.Filters[0].Qos}
		}
		if s.greet == nil {
			return [][]byte{ack}
		}
		return [][]byte{ack, s.greet(version)}
	case packets.Publish:
		if pk.FixedHeader.Qos > 0 {
			return [][]byte{{0x30 + 0x10*pk.FixedHeader.Qos, 2, id[0], id[1]}}
		}
	case packets.Pubrel:
		return [][]byte{{0x70, 2, id[0], id[1]}}
	case packets.Pubrec:
		return [][]byte{{0x62, 2, id[0], id[1]}}
	case packets.Pingreq:
		return [][]byte{{0xd0, 0}}
	}
	return nil
}

// of returns what was heard of one type.
func (s *scribe) of(kind byte) (found []heardPacket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.lines {
		if p.FixedHeader.Type == kind {
			found = append(found, p)
		}
	}
	return found
}

// listen runs devices with a profile against a scribe, in a bubble.
func listen(t *testing.T, profile string, opt device.Options, s *scribe, judge func(st device.Stats)) {
	t.Helper()
	t.Run(profile, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s.t = t
			opt.Profiles, opt.Dial, opt.Drain = device.Mix{{Name: profile, Weight: 1}}, s.dial, time.Minute
			fleet, err := device.New(opt)
			if err != nil {
				t.Fatal(err)
			}
			if err := fleet.Run(t.Context()); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			judge(fleet.Stats())
		})
	})
}

// Every profile does on the wire what its row says: CONNECT, will, subscription,
// birth, announcements and readings, in this order, on each connection.
func TestProfilesOnTheWire(t *testing.T) {
	for _, p := range device.Profiles() {
		s := &scribe{cut: map[int]bool{2: true}}
		opt := device.Options{Count: 5, Rate: 1, Prefix: "d-", Devices: 3}
		listen(t, p.Name, opt, s, func(st device.Stats) {
			if st.Sent != 15 || st.Outstanding != 0 || st.Strays != 0 || !p.Sleepy && st.Reconnects == 0 {
				s.t.Fatalf("%+v", st)
			}
			for _, c := range s.of(packets.Connect) {
				if c.Connect.Clean != p.Clean && !discards(s, c) || c.Connect.Keepalive != uint16(p.KeepAlive.Seconds()) ||
					c.Connect.WillFlag != (p.Status.Topic != "") {
					s.t.Errorf("CONNECT %+v", c.Connect)
				}
			}
			for serial := 1; serial <= s.serial; serial++ {
				checkConnection(s.t, s, p, serial)
			}
			for _, line := range s.lines {
				if p.PacketBytes > 0 && line.bytes > p.PacketBytes {
					s.t.Errorf("a packet of %d bytes, type %d", line.bytes, line.FixedHeader.Type)
				}
			}
		})
	}
}

// discards says whether a connection was for throwing an old session away.
func discards(s *scribe, c heardPacket) bool {
	return slices.ContainsFunc(s.lines, func(l heardPacket) bool {
		return l.connection == c.connection && l.FixedHeader.Type == packets.Disconnect
	}) && !slices.ContainsFunc(s.lines, func(l heardPacket) bool {
		return l.connection == c.connection && l.FixedHeader.Type == packets.Publish
	})
}

func checkConnection(t *testing.T, s *scribe, p device.Profile, serial int) {
	t.Helper()
	var said []string
	for _, l := range s.lines { // all is quiet: no lock
		if l.connection != serial {
			continue
		}
		switch l.FixedHeader.Type {
		case packets.Connect:
			if l.Connect.WillFlag {
				said = append(said, fmt.Sprintf("will %s %s %d %v", l.Connect.WillTopic, l.Connect.WillPayload, l.Connect.WillQos, l.Connect.WillRetain))
			}
		case packets.Subscribe:
			said = append(said, fmt.Sprintf("subscribe %s %d", l.Filters[0].Filter, l.Filters[0].Qos))
		case packets.Publish:
			if _, _, reading := device.Identify(l.Payload); reading {
				said = append(said, "reading")
				if l.FixedHeader.Retain != p.Retain {
					t.Errorf("reading: %+v", l.FixedHeader)
				}
				continue
			}
			said = append(said, fmt.Sprintf("publish %s %s %d %v", l.TopicName, l.Payload, l.FixedHeader.Qos, l.FixedHeader.Retain))
		}
	}
	if len(said) == 0 || !slices.Contains(said, "reading") {
		return // cut before, or nothing was due any more
	}
	id := idOf(s, serial)
	q := p.Of(id)
	var want []string
	if q.Status.Topic != "" {
		want = append(want, fmt.Sprintf("will %s %s %d true", q.Status.Topic, q.Status.Will, q.Status.QoS))
	}
	want = append(want, fmt.Sprintf("subscribe %s %d", q.Command.Filter, q.Command.QoS))
	if q.Status.Topic != "" {
		want = append(want, fmt.Sprintf("publish %s %s %d true", q.Status.Topic, q.Status.Birth, q.Status.QoS))
	}
	for _, a := range q.Announce {
		want = append(want, fmt.Sprintf("publish %s %s 0 true", a.Topic, a.Payload))
	}
	want = append(want, "reading")
	if !slices.Equal(said[:min(len(said), len(want))], want) {
		t.Errorf("connection %d said\n%s\nwant\n%s", serial, strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
	last := said[len(said)-1]
	if farewell := fmt.Sprintf("publish %s %s 0 true", q.Status.Topic, q.Status.Will); p.Farewells != (last == farewell) && !s.cut[serial] {
		t.Errorf("connection %d ends with %q", serial, last)
	}
	if p.Sleepy && strings.Count(strings.Join(said, " "), "reading") > 1 {
		t.Errorf("a sleepy device said %q", said)
	}
}

func idOf(s *scribe, serial int) string {
	for _, l := range s.lines {
		if id, _, ok := device.Identify(l.Payload); ok && l.connection == serial {
			return id
		}
	}
	return ""
}

// The client id is the device's own, another one each time, or none.
func TestProfileClientIDs(t *testing.T) {
	for _, p := range device.Profiles() {
		s := &scribe{cut: map[int]bool{1: true, 2: true, 3: true}}
		listen(t, p.Name, device.Options{Count: 6, Rate: 1, Prefix: "d-"}, s, func(_ device.Stats) {
			seen := map[string]int{}
			connects := s.of(packets.Connect)
			for _, c := range connects {
				seen[c.Connect.ClientIdentifier]++
				if p.ClientID == device.ChangingID && c.Connect.Clean {
					s.t.Error("a clean session")
				}
			}
			own := "d-" + p.Name + "-0001"
			ok := len(seen) == 1 && seen[own] > 1
			switch p.ClientID {
			case device.EmptyID:
				ok = len(seen) == 1 && seen[""] > 1
			case device.ChangingID:
				ok = len(seen) == len(connects) && len(seen) > 1 && seen[own] == 0
			case device.StableID:
			}
			if !ok {
				s.t.Errorf("client ids %v", seen)
			}
		})
	}
}

// With MQTT 5 the readings of one profile go under a topic alias: topic and
// alias first, then the alias alone, and again from the beginning on the next
// connection.
func TestProfileTopicAlias(t *testing.T) {
	s := &scribe{cut: map[int]bool{3: true}}
	listen(t, "esp-idf", device.Options{Count: 6, Rate: 1, Devices: 4, Prefix: "d-"}, s, func(_ device.Stats) {
		full, short := 0, 0
		known := map[int]bool{}
		for _, p := range s.of(packets.Publish) {
			id, _, reading := device.Identify(p.Payload)
			if !reading || p.ProtocolVersion != 5 {
				if reading && p.TopicName == "" {
					s.t.Error("an alias with MQTT 3.1.1")
				}
				continue
			}
			if !p.Properties.TopicAliasFlag || p.Properties.TopicAlias != 1 || known[p.connection] == (p.TopicName != "") {
				s.t.Errorf("%s on connection %d: topic %q, properties %+v", id, p.connection, p.TopicName, p.Properties)
			}
			if known[p.connection] {
				short++
			} else {
				full++
			}
			known[p.connection] = true
		}
		if full == 0 || short == 0 {
			s.t.Errorf("%d with a topic, %d without", full, short)
		}
	})
}

// A device without a keep-alive says nothing when it has nothing to say; the
// others ping.
func TestProfileKeepAlive(t *testing.T) {
	for _, p := range device.Profiles() {
		s := &scribe{}
		listen(t, p.Name, device.Options{Count: 3, Rate: 0.001}, s, func(_ device.Stats) {
			pings := len(s.of(packets.Pingreq))
			if want := p.KeepAlive > 0 && !p.Sleepy; (pings > 5) != want || pings > 0 && !want {
				s.t.Errorf("%d PINGREQ in some 3000 s with a keep-alive of %v", pings, p.KeepAlive)
			}
		})
	}
}

// Commands of every QoS are acknowledged, shown and answered; what is longer
// than the buffer is skipped and harms nothing.
func TestProfileCommands(t *testing.T) {
	for _, p := range device.Profiles() {
		topic := p.Of("d-" + p.Name + "-0001").Command.Filter
		topic = strings.ReplaceAll(topic, "#", "POWER")
		s := &scribe{greet: func(version byte) []byte {
			var all []byte
			for qos := range byte(3) {
				all = append(all, command(version, topic, "on", qos)...)
			}
			all = append(all, command(version, topic, "on", 2)...) // the same again
			return append(all, command(version, topic, strings.Repeat("x", 9000), 1)...)
		}}
		var mu sync.Mutex
		var got []device.Command
		opt := device.Options{Count: 2, Rate: 1, Prefix: "d-", Commanded: func(c device.Command) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, c)
		}}
		listen(t, p.Name, opt, s, func(st device.Stats) {
			connections := int64(len(s.of(packets.Subscribe)))
			if st.Commands != 3*connections || st.Skipped != connections || int64(len(got)) != st.Commands || st.LastError != "" {
				s.t.Errorf("%d connections, %d shown, %+v", connections, len(got), st)
			}
			for i, c := range got {
				if c.Topic != topic || c.Payload != "on" || c.QoS != byte(i%3) || c.Device != "d-"+p.Name+"-0001" {
					s.t.Errorf("command %d is %+v", i, c)
				}
			}
			if acks, recs := len(s.of(packets.Puback)), len(s.of(packets.Pubrec)); int64(acks) != connections || int64(recs) != 2*connections {
				s.t.Errorf("%d PUBACK, %d PUBREC", acks, recs)
			}
			answers := 0
			for _, a := range s.of(packets.Publish) {
				if p.Reply != "" && a.TopicName == p.Of("d-"+p.Name+"-0001").Reply && string(a.Payload) == "on" {
					answers++
				}
			}
			if p.Reply != "" && int64(answers) != st.Commands {
				s.t.Errorf("%d answers to %d commands", answers, st.Commands)
			}
		})
	}
}

// command is a PUBLISH to a device. Its packet id is its QoS.
func command(version byte, topic, payload string, qos byte) []byte {
	body := append(binary.BigEndian.AppendUint16(nil, uint16(len(topic))), topic...)
	if qos > 0 {
		body = append(body, 0, qos)
	}
	if version == 5 {
		body = append(body, 0)
	}
	body = append(body, payload...)
	return append(binary.AppendUvarint([]byte{0x30 | qos<<1}, uint64(len(body))), body...)
}

// A mix has its proportions, and the devices of each kind have its name.
func TestProfileMix(t *testing.T) {
	mix, err := device.ParseMix("tasmota=3,shelly:1", device.ProfileNames()...)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := &scribe{t: t}
		fleet, err := device.New(device.Options{Profiles: mix, Devices: 40, Count: 1, Dial: s.dial, Drain: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if err := fleet.Run(t.Context()); err != nil {
			t.Error(err)
		}
		kinds := map[string]int{}
		for _, c := range s.of(packets.Connect) {
			kinds[strings.TrimRight(c.Connect.ClientIdentifier, "0123456789")]++
		}
		if len(kinds) != 2 || kinds["sim-tasmota-"] < 28 || kinds["sim-tasmota-"] > 32 {
			t.Errorf("%v", kinds)
		}
	})
}

func TestProfileThatDoesNotFit(t *testing.T) {
	dial := func(context.Context) (net.Conn, error) { return nil, net.ErrClosed }
	_, err := device.New(device.Options{
		Profiles: device.Mix{{Name: "zephyr", Weight: 1}}, Dial: dial, Prefix: strings.Repeat("long-", 8),
	})
	if err == nil || !strings.Contains(err.Error(), "buffer of 128") {
		t.Errorf("a prefix of 40 bytes: %v", err)
	}
	_, err = device.New(device.Options{Profiles: device.Mix{{Name: "toaster", Weight: 1}}, Dial: dial})
	if err == nil || !strings.Contains(err.Error(), "toaster") {
		t.Errorf("an unknown profile: %v", err)
	}
}
