package mdns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
)

// loopback is a network that every machine has.
func loopback() ([]Link, error) {
	i, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	return []Link{{Index: i.Index, Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}}, nil
}

func testOptions() *Options {
	return &Options{
		Name: "gateway.1", ID: "0123456789abcdef", Logger: slog.New(slog.DiscardHandler), Links: loopback,
		Services: []Service{
			{"_mqtt._tcp", netip.MustParseAddrPort("[::]:1883")},
			{"_secure-mqtt._tcp", netip.MustParseAddrPort("127.0.0.1:8883")},
			{"_elsewhere._tcp", netip.MustParseAddrPort("10.1.2.3:1")},
		},
	}
}

// A listener hears what is sent to the group on loopback.
type listener struct {
	*ipv4.PacketConn

	t *testing.T
}

func hear(t *testing.T) *listener {
	t.Helper()
	pc, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	links, err := loopback()
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.JoinGroup(&net.Interface{Index: links[0].Index}, group()); err != nil {
		t.Fatal(err)
	}
	return &listener{pc, t}
}

// next returns the next response of our node, and the TTL of its packet.
func (l *listener) next() *dnsmessage.Message {
	l.t.Helper()
	return response(l.t, func(b []byte) (int, error) {
		n, _, _, err := l.ReadFrom(b)
		return n, err
	}, l.SetReadDeadline)
}

func response(t *testing.T, read func([]byte) (int, error), deadline func(time.Time) error) *dnsmessage.Message {
	t.Helper()
	_ = deadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, maxPacketBytes)
	for {
		n, err := read(buf)
		if err != nil {
			t.Fatal("no response: ", err)
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) == nil && m.Response && slices.ContainsFunc(append(m.Answers, m.Additionals...), func(r dnsmessage.Resource) bool {
			return r.Header.Name.String() == "tributary-01234567.local."
		}) {
			return &m
		}
	}
}

func ask(name string, kind dnsmessage.Type, class dnsmessage.Class) dnsmessage.Message {
	return dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: class}},
	}
}

func packed(t *testing.T, m dnsmessage.Message) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onLoopback is how a test sends to the group.
func onLoopback(t *testing.T) *ipv4.ControlMessage {
	t.Helper()
	links, err := loopback()
	if err != nil {
		t.Fatal(err)
	}
	return &ipv4.ControlMessage{IfIndex: links[0].Index, Src: net.IPv4(127, 0, 0, 1)}
}

// A node is announced twice, found by mDNS clients and by those who are none, and
// says good-bye, over real sockets.
func TestAnnounce(t *testing.T) {
	l := hear(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Announce(ctx, testOptions()) }()
	for range announceTimes {
		m := l.next()
		if got := describe(m.Answers); !slices.Equal(got, everything) {
			t.Errorf("announced\n%q\nwant\n%q", got, everything)
		}
	}
	// A simple client asks from a port of its own.
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	simple := ipv4.NewPacketConn(c)
	if _, err := simple.WriteTo(packed(t, ask("_MQTT._tcp.local.", dnsmessage.TypePTR, dnsmessage.ClassINET)), onLoopback(t), group()); err != nil {
		t.Fatal(err)
	}
	m := response(t, func(b []byte) (int, error) {
		n, _, err := c.ReadFrom(b)
		return n, err
	}, c.SetReadDeadline)
	if got := describe(m.Answers); m.ID != 7 || len(m.Questions) != 1 || !slices.Equal(got, []string{"_mqtt._tcp.local. 10 PTR gateway-1 01234567._mqtt._tcp.local."}) || len(m.Additionals) != 3 {
		t.Errorf("the simple client got %+v", m)
	}
	// An mDNS client asks from the port of all, and all hear the answer, but not
	// twice in a second.
	pause(ctx, notTwiceIn)
	if _, err := l.WriteTo(packed(t, ask("tributary-01234567.local.", dnsmessage.TypeA, dnsmessage.ClassINET)), onLoopback(t), group()); err != nil {
		t.Fatal(err)
	}
	if m := l.next(); m.ID != 0 || len(m.Questions) != 0 || !slices.Equal(describe(m.Answers), []string{"tributary-01234567.local. 120! A 127.0.0.1"}) {
		t.Errorf("the address is %+v", m)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, r := range l.next().Answers {
		if r.Header.TTL != 0 {
			t.Errorf("good-bye with %s", r.Header.GoString())
		}
	}
}
