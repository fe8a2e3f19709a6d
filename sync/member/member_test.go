package member

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/tributary-edge/tributary"
)

var idA, idB, idC = tributary.NodeID{0xa}, tributary.NodeID{0xb}, tributary.NodeID{0xc}

func TestNewSaysEverythingThatIsWrong(t *testing.T) {
	_, err := New(Config{Name: strings.Repeat("x", maxName+1), Advertise: netip.MustParseAddrPort("0.0.0.0:1")})
	if err == nil {
		t.Fatal("an empty configuration is accepted")
	}
	for _, part := range []string{"without an id", "boot counter", "gossip key", "port of the peers", "name has", "0.0.0.0"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not speak of %q: %v", part, err)
		}
	}
}

// TestMeetAndPart is two nodes, one of which knows the other, and a third that
// comes to know both through one; and what they say of each other.
func TestMeetAndPart(t *testing.T) {
	a := start(t, idA, 1, loopback(), nil)
	b := start(t, idB, 7, loopback(), seeds(a))
	a.await(t, 10*time.Second, "a sees b", func() bool { return a.sees(b, Alive) })
	b.await(t, 10*time.Second, "b sees a", func() bool { return b.sees(a, Alive) })

	got := a.List()[0]
	want := Member{
		Node: idB, Name: "gateway", Boot: 7, Nonce: b.cfg.Nonce, Protocol: 1,
		GossipAddress: b.at, PeerAddress: netip.AddrPortFrom(b.at.Addr(), 7884), State: Alive, Since: got.Since,
	}
	if got != want || time.Since(got.Since) > time.Minute {
		t.Errorf("a says %+v, not %+v", got, want)
	}

	c := start(t, idC, 1, loopback(), func(cfg *Config) {
		cfg.Known = func() []string { return []string{b.at.String(), "127.0.0.1:1"} }
	})
	for _, n := range []*node{a, c} {
		other := map[*node]*node{a: c, c: a}[n]
		n.await(t, 10*time.Second, "a and c see each other", func() bool { return n.sees(other, Alive) })
	}
	if known := c.known(); len(known) == 0 || len(known) > 2 {
		t.Errorf("c has learned of %v", known)
	}

	began := time.Now()
	b.stop()
	if took := time.Since(began); took > 4*time.Second { // 2 s, and the machine may be busy
		t.Errorf("to leave took %v", took)
	}
	for _, n := range []*node{a, c} {
		n.await(t, 10*time.Second, "b has left", func() bool { return n.sees(b, Left) })
	}
}

// TestDHCP is T35: a node dies without a word, is seen as failed, and its
// successor is believed at another address. It is not taken for a clone.
func TestDHCP(t *testing.T) {
	a := start(t, idA, 1, loopback(), nil)
	b := start(t, idB, 1, loopback(), seeds(a))
	c := start(t, idC, 1, loopback(), seeds(a))
	for _, n := range []*node{a, b, c} {
		n.await(t, 10*time.Second, "all see each other", func() bool {
			return (n == a || n.sees(a, Alive)) && (n == b || n.sees(b, Alive)) && (n == c || n.sees(c, Alive))
		})
	}
	died := time.Now()
	c.crash()
	again := start(t, idC, 2, loopback(), seeds(a))
	a.await(t, 10*time.Second, "a sees that c is dead", func() bool { return a.sees(c, Failed) })
	t.Logf("seen dead by a after %v", time.Since(died))
	for _, n := range []*node{a, b} {
		n.await(t, 15*time.Second, "c is back", func() bool { return n.sees(again, Alive) })
	}
	t.Logf("seen again by a and b after %v", time.Since(died))
	if took := time.Since(died); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, n := range []*node{a, b, again} {
		if told := n.told(); len(told) > 0 {
			t.Errorf("a move is taken for a conflict: %v", told)
		}
	}
}

// TestStrangers is T36 and S1: a wrong key, no key at all, and garbage. None of
// it is seen, none of it costs more than it may, and a node of the site joins
// while it goes on.
func TestStrangers(t *testing.T) {
	complaints := &counter{}
	a := start(t, idA, 1, loopback(), func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(complaints, nil)) })
	stranger := start(t, idC, 1, loopback(), func(c *Config) {
		c.Key = []byte("another key another key another.")
		c.Seeds = []string{a.at.String()}
		c.Discover = func(context.Context) []string { return []string{a.at.String()} }
	})
	plain := memberlist.DefaultLANConfig()
	plain.Name, plain.BindAddr, plain.BindPort, plain.LogOutput = idC.String(), loopback().Addr().String(), DefaultPort, io.Discard
	list, err := memberlist.Create(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = list.Shutdown() }()
	if n, err := list.Join([]string{a.at.String()}); n > 0 || err == nil {
		t.Errorf("a node without a key joins")
	}

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	hold := garbage(t, rng, a.at)
	stats := a.Stats()
	if hold > maxStreamsPerHost || stats.Refused == 0 {
		t.Errorf("%d connections of one host are held, %d refused; the limit is %d", hold, stats.Refused, maxStreamsPerHost)
	}

	b := start(t, idB, 1, loopback(), seeds(a))
	a.await(t, 15*time.Second, "a sees b", func() bool { return a.sees(b, Alive) })
	if got := a.List(); len(got) != 1 || len(stranger.List()) != 0 {
		t.Errorf("a sees %v, and the stranger %v", got, stranger.List())
	}
	if n := complaints.n.Load(); n == 0 || n > 4*complaintsPerMinute {
		t.Errorf("%d lines are logged", n)
	}
}

// TestUnreadable is a holder of the key that is not one of ours.
func TestUnreadable(t *testing.T) {
	a := start(t, idA, 1, loopback(), nil)
	conf := serf.DefaultConfig()
	conf.NodeName, conf.LogOutput = "agent-one", io.Discard
	conf.MemberlistConfig = memberlist.DefaultLANConfig()
	conf.MemberlistConfig.LogOutput, conf.MemberlistConfig.SecretKey = io.Discard, siteKey
	conf.MemberlistConfig.BindAddr, conf.MemberlistConfig.BindPort = loopback().Addr().String(), DefaultPort
	conf.MemberlistConfig.AdvertisePort = DefaultPort
	other, err := serf.Create(conf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Shutdown() }()
	late := time.After(10 * time.Second)
	for tick := time.NewTicker(100 * time.Millisecond); a.Stats().Unreadable == 0; {
		_, _ = other.Join([]string{a.at.String()}, true)
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it is not counted")
		}
	}
	b := start(t, idB, 1, loopback(), seeds(a))
	a.await(t, 10*time.Second, "a sees b", func() bool { return a.sees(b, Alive) })
	if len(a.List()) != 1 {
		t.Errorf("it is in the list: %v", a.List())
	}
}

// garbage sends packets and streams to a node, and returns how many connections
// it then holds open at once.
func garbage(t *testing.T, rng *rand.Rand, to netip.AddrPort) (held int) {
	t.Helper()
	junk := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if n > 0 {
			b[0] %= 16 // as memberlist's kinds of messages are numbered
		}
		return b
	}
	udp, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for range 2000 {
		_, _ = udp.Write(junk(rng.IntN(1400)))
	}
	for range 50 {
		c, err := net.Dial("tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(junk(rng.IntN(3000)))
		_ = c.Close()
	}
	// Connections that say nothing: those above the limit are closed at once.
	closed := make(chan bool)
	for range 20 {
		c, err := net.Dial("tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			_ = c.SetReadDeadline(time.Now().Add(time.Second)) // memberlist gives up after 3
			_, err := c.Read(make([]byte, 1))
			timeout, ok := err.(net.Error) //nolint:errorlint // as it comes from Read
			closed <- !ok || !timeout.Timeout()
		}()
	}
	for range 20 {
		if !<-closed {
			held++
		}
	}
	return held
}

// TestSpoofedDiscovery leads a node to a host that says nothing and to one that
// never stops: it still finds its seed, and leaves in time.
func TestSpoofedDiscovery(t *testing.T) {
	mute := listener(t, func(net.Conn) {})
	loud := listener(t, func(c net.Conn) {
		junk := make([]byte, 1<<16)
		junk[0] = 10 // as an encrypted message of many bytes begins
		for err := error(nil); err == nil; {
			_, err = c.Write(junk)
		}
	})
	a := start(t, idA, 1, loopback(), nil)
	b := start(t, idB, 1, loopback(), func(c *Config) {
		c.Discover = func(context.Context) []string { return []string{mute, loud, "", ":", "::1", "host:port:port"} }
		c.Seeds = []string{a.at.String()}
	})
	b.await(t, 15*time.Second, "b sees a", func() bool { return b.sees(a, Alive) })
	began := time.Now()
	b.stop()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("to leave took %v", took)
	}
	if got := b.Stats().BytesReceived; got > 20<<20 {
		t.Errorf("b has read %d bytes", got)
	}
	if len(b.List()) != 1 {
		t.Errorf("b sees %v", b.List())
	}
}

// listener serves connections until the end of the test, and returns its address.
func listener(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", loopback().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// FuzzRead feeds what a holder of the key may say of itself.
func FuzzRead(f *testing.F) {
	f.Add(idA.String(), []byte{127, 0, 0, 1}, uint16(1), "1", "ff", "2", "3", "a name")
	f.Add(strings.Repeat("0", 32), []byte{}, uint16(0), "", "", "", "", "\xff")
	f.Fuzz(func(t *testing.T, name string, ip []byte, port uint16, boot, nonce, peer, protocol, label string) {
		m, err := read(&serf.Member{Name: name, Addr: ip, Port: port, Tags: map[string]string{
			tagBoot: boot, tagNonce: nonce, tagPeerPort: peer, tagProtocol: protocol, tagName: label,
		}})
		if err != nil {
			return
		}
		if m.Boot == 0 || m.Nonce == 0 || m.PeerAddress.Port() == 0 || !m.GossipAddress.IsValid() || !strings.EqualFold(m.Node.String(), name) {
			t.Errorf("%+v is accepted", m)
		}
		back, err := read(&serf.Member{Name: m.Node.String(), Addr: ip, Port: port, Tags: tagsOf(m, m.PeerAddress.Port())})
		if err != nil || back != m {
			t.Errorf("%+v is read back as %+v, %v", m, back, err)
		}
	})
}

// TestForget is a node that has not been seen for a day.
func TestForget(t *testing.T) {
	m, err := New(Config{Node: idA, Boot: 1, Nonce: 1, PeerPort: 1, Key: siteKey})
	if err != nil {
		t.Fatal(err)
	}
	for id, ago := range map[tributary.NodeID]time.Duration{idB: forget - time.Minute, idC: forget + time.Minute} {
		m.peers[id] = Member{Node: id, State: Failed, Since: time.Now().Add(-ago)}
	}
	if changed := m.refresh(nil); !changed || len(m.List()) != 1 || m.List()[0].Node != idB {
		t.Errorf("changed %v, and the list is %v", changed, m.List())
	}
}

func TestTagsFit(t *testing.T) {
	m := Member{Boot: 1<<64 - 1, Nonce: 1<<64 - 1, Protocol: 1<<16 - 1, Name: strings.Repeat("x", maxName)}
	bytes := 0
	for k, v := range tagsOf(m, 1<<16-1) {
		bytes += len(k) + len(v) + 6 // msgpack's headers of both, at most
	}
	if bytes+4 > memberlist.MetaMaxSize {
		t.Errorf("tags have %d bytes; serf refuses more than %d", bytes, memberlist.MetaMaxSize)
	}
}

func TestLines(t *testing.T) {
	count := &counter{}
	l := &lines{log: slog.New(slog.NewTextHandler(count, nil))}
	for range 100 {
		_, _ = l.Write([]byte("2026/09/01 12:00:00 [ERR] memberlist: it hurts\n"))
		_, _ = l.Write([]byte("2026/09/01 12:00:00 [INFO] memberlist: it does not\n"))
		_, _ = l.Write([]byte("no level at all"))
	}
	if n := count.n.Load(); n != complaintsPerMinute {
		t.Errorf("%d lines are logged, not %d", n, complaintsPerMinute)
	}
	if level, text := split([]byte("2026/09/01 12:00:00 [WARN] serf: [x] y\n")); level != "WARN" || text != "serf: [x] y" {
		t.Errorf("it is split into %q and %q", level, text)
	}
}

// TestGoroutinesEnd waits for those that serf leaves behind: they look at a flag
// now and then.
func TestGoroutinesEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	a := start(t, idA, 1, loopback(), nil)
	b := start(t, idB, 1, loopback(), seeds(a))
	a.await(t, 10*time.Second, "a sees b", func() bool { return a.sees(b, Alive) })
	b.stop()
	a.stop()
	late := time.After(10 * time.Second)
	for tick := time.NewTicker(50 * time.Millisecond); runtime.NumGoroutine() > before; {
		select {
		case <-tick.C:
		case <-late:
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}
