package mdns

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// everything is what a node announces on loopback; ! is the bit that says that
// there are no others of the name and type.
var everything = []string{
	"tributary-01234567.local. 120! A 127.0.0.1",
	"gateway-1 01234567._mqtt._tcp.local. 120! SRV tributary-01234567.local.:1883",
	"gateway-1 01234567._mqtt._tcp.local. 4500! TXT \"\"",
	"_mqtt._tcp.local. 4500 PTR gateway-1 01234567._mqtt._tcp.local.",
	"_services._dns-sd._udp.local. 4500 PTR _mqtt._tcp.local.",
	"gateway-1 01234567._secure-mqtt._tcp.local. 120! SRV tributary-01234567.local.:8883",
	"gateway-1 01234567._secure-mqtt._tcp.local. 4500! TXT \"\"",
	"_secure-mqtt._tcp.local. 4500 PTR gateway-1 01234567._secure-mqtt._tcp.local.",
	"_services._dns-sd._udp.local. 4500 PTR _secure-mqtt._tcp.local.",
}

func describe(all []dnsmessage.Resource) (lines []string) {
	for _, r := range all {
		unique := ""
		if r.Header.Class&topBit != 0 {
			unique = "!"
		}
		line := fmt.Sprintf("%s %d%s ", r.Header.Name, r.Header.TTL, unique)
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			line += "A " + netip.AddrFrom4(b.A).String()
		case *dnsmessage.SRVResource:
			line += fmt.Sprintf("SRV %s:%d", b.Target, b.Port)
		case *dnsmessage.TXTResource:
			line += fmt.Sprintf("TXT %q", b.TXT[0])
		case *dnsmessage.PTRResource:
			line += "PTR " + b.PTR.String()
		}
		lines = append(lines, line)
	}
	return lines
}

func testRecords(t testing.TB) []rr {
	t.Helper()
	o := testOptions()
	z, err := newZone(o.Name, o.ID, o.Services)
	if err != nil {
		t.Fatal(err)
	}
	return z.records([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")})
}

// Who asks gets what it asks for, what it needs next, and nothing that it knows.
func TestAnswer(t *testing.T) {
	all := testRecords(t)
	knowing := func(ttl uint32, target string) dnsmessage.Message {
		m := ask("_mqtt._tcp.local.", dnsmessage.TypePTR, dnsmessage.ClassINET)
		m.Answers = []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("x."), Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{}},
			{
				Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("_mqtt._TCP.local."), Class: dnsmessage.ClassINET, TTL: ttl},
				Body:   &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(target)},
			},
		}
		return m
	}
	const instance = "gateway-1 01234567._mqtt._tcp.local."
	in, whole := dnsmessage.ClassINET, dnsmessage.ClassANY
	for name, c := range map[string]struct {
		query               dnsmessage.Message
		answers, additional []int // of everything
	}{
		"kind":             {ask("_mqtt._tcp.local.", dnsmessage.TypePTR, in), []int{3}, []int{1, 2, 0}},
		"kind, unicast":    {ask("_mqtt._tcp.local.", dnsmessage.TypePTR, in|topBit), []int{3}, []int{1, 2, 0}},
		"kind, all":        {ask("_mqtt._tcp.local.", dnsmessage.TypeALL, whole), []int{3}, []int{1, 2, 0}},
		"instance":         {ask(instance, dnsmessage.TypeSRV, in), []int{1}, []int{0}},
		"instance's text":  {ask(instance, dnsmessage.TypeTXT, in), []int{2}, nil},
		"instance, all":    {ask(instance, dnsmessage.TypeALL, in), []int{1, 2}, []int{0}},
		"host":             {ask("Tributary-01234567.LOCAL.", dnsmessage.TypeA, in), []int{0}, nil},
		"host's IPv6":      {ask("tributary-01234567.local.", dnsmessage.TypeAAAA, in), nil, nil},
		"kinds":            {ask(enumeration, dnsmessage.TypePTR, in), []int{4, 8}, nil},
		"another kind":     {ask("_http._tcp.local.", dnsmessage.TypePTR, in), nil, nil},
		"not reachable":    {ask("_elsewhere._tcp.local.", dnsmessage.TypePTR, in), nil, nil},
		"another class":    {ask("_mqtt._tcp.local.", dnsmessage.TypePTR, dnsmessage.ClassCHAOS), nil, nil},
		"known":            {knowing(2250, instance), nil, nil},
		"known, but old":   {knowing(2249, instance), []int{3}, []int{1, 2, 0}},
		"knows of another": {knowing(4500, "other._mqtt._tcp.local."), []int{3}, []int{1, 2, 0}},
	} {
		q, err := parseQuery(packed(t, c.query))
		if err != nil {
			t.Fatal(name, err)
		}
		if answers, additional := q.answer(all); !slices.Equal(answers, c.answers) || !slices.Equal(additional, c.additional) {
			t.Errorf("%s: %v and %v, want %v and %v", name, answers, additional, c.answers, c.additional)
		}
		if unicast := name == "kind, unicast"; q.wantsUnicast() != unicast {
			t.Errorf("%s: wants unicast: %t", name, q.wantsUnicast())
		}
	}
	for name, h := range map[string]dnsmessage.Header{"response": {Response: true}, "status": {OpCode: 2}, "failed": {RCode: 3}} {
		m := ask("_mqtt._tcp.local.", dnsmessage.TypePTR, in)
		m.Header = h
		if _, err := parseQuery(packed(t, m)); err == nil {
			t.Errorf("%s: is taken for a query", name)
		}
	}
}

// On a network where nothing is reachable nothing is said; a long name is cut.
func TestZone(t *testing.T) {
	o := testOptions()
	z, err := newZone("a-name-that-is-longer-than-a-label-of-the-domain-name-system-may-be", o.ID, o.Services[2:])
	if err != nil {
		t.Fatal(err)
	}
	if all := z.records([]netip.Prefix{netip.MustParsePrefix("192.168.1.2/24")}); all != nil {
		t.Errorf("there is %v", all)
	}
	all := z.records([]netip.Prefix{netip.MustParsePrefix("192.168.1.2/24"), netip.MustParsePrefix("10.1.2.3/8")})
	if len(all) != 5 || pack(all, every(all), nil, nil) == nil || describe([]dnsmessage.Resource{all[0].Resource})[0] != "tributary-01234567.local. 120! A 10.1.2.3" {
		t.Errorf("there is %v", all)
	}
}

// S1: whatever comes from the network, an answer is well-formed, and one of mDNS
// is small.
func FuzzAnswer(f *testing.F) {
	for _, m := range []dnsmessage.Message{
		ask("_mqtt._tcp.local.", dnsmessage.TypePTR, dnsmessage.ClassINET), ask(enumeration, dnsmessage.TypeALL, dnsmessage.ClassANY),
	} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00\x05_mqtt\x04_tcp\x05local\x00\x00\x0c\x00\x01\xc0\x0c\x00\x0c\x00\x01\x00\x00\x11\x94\x00\x02\xc0\x0c"))
	f.Add([]byte("\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00\xc0\x0c\x00\x0c\x00\x01"))
	all := testRecords(f)
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > maxPacketBytes {
			return
		}
		q, err := parseQuery(packet)
		if err != nil {
			return
		}
		answers, additional := q.answer(all)
		for _, legacy := range []*query{nil, q} {
			b := pack(all, answers, additional, legacy)
			if b == nil {
				continue
			}
			var m dnsmessage.Message
			if err := m.Unpack(b); err != nil {
				t.Fatalf("% x: %v", b, err)
			}
			if len(m.Answers) != len(answers) || len(m.Additionals) != len(additional) || legacy == nil && len(b) > 512 {
				t.Fatalf("%d bytes: %+v", len(b), m)
			}
		}
	})
}
