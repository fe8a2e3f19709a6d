package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/peer"
	"github.com/tributary-edge/tributary/sync/roster"
)

// running is a node of a site, with one listener for peers and for joiners.
type running struct {
	site        *Site
	dir         string
	invitations *Invitations
	server      *Server
	address     string

	wrote chan struct{} // has a value when log has grown

	mu    sync.Mutex
	log   bytes.Buffer
	peers []error // what became of those who came as peers
}

func (n *running) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case n.wrote <- struct{}{}:
	default:
	}
	return n.log.Write(b)
}

// says waits until the node has logged text: it answers before it logs.
func (n *running) says(t *testing.T, text string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for !strings.Contains(n.logged(), text) {
		select {
		case <-n.wrote:
		case <-late:
			t.Fatalf("it does not say %q: %s", text, n.logged())
		}
	}
}

func (n *running) logged() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

func newRunning(t *testing.T) *running {
	t.Helper()
	n := &running{wrote: make(chan struct{}, 1)}
	n.site, n.dir = create(t, "plant", nodeA)
	n.invitations = NewInvitations(n.site.Authority)
	n.server = NewServer(n.site, n.invitations, func() []string { return []string{"10.1.2.3:7000", ":7000"} },
		slog.New(slog.NewTextHandler(n, &slog.HandlerOptions{Level: slog.LevelDebug})))
	return n
}

// start has the node listen. serve may be nil.
func start(t *testing.T, serve func(*running, *tls.Conn)) *running {
	t.Helper()
	n := newRunning(t)
	if serve == nil {
		serve = (*running).dispatch
	}
	both := n.server.Config(n.site.Authority.Config(n.site.Cert))
	n.address = listen(t, func(raw net.Conn) { serve(n, tls.Server(raw, both)) })
	return n
}

// dispatch is what the node does with each connection.
func (n *running) dispatch(conn *tls.Conn) {
	if err := conn.HandshakeContext(context.Background()); err != nil || conn.ConnectionState().NegotiatedProtocol == Protocol {
		n.server.Serve(context.Background(), conn)
		return
	}
	c, err := peer.Accept(context.Background(), conn, nil, peer.Hello{Site: "plant", Node: nodeA}, nil)
	if err == nil {
		_ = c.Close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers = append(n.peers, err)
}

// listen serves each connection until the test ends.
func listen(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

var guest = Guest{Node: nodeB, Name: "gateway-b", Site: "plant"}

func refuses(t *testing.T, address string, c Code, g Guest, want string) {
	t.Helper()
	b, err := Join(t.Context(), address, c, g)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%+v, %v, should say %q", b, err, want)
	}
}

// A node that has joined has what makes it one of the site: the other one takes
// it for a peer, on the same port.
func TestJoin(t *testing.T) {
	n := start(t, nil)
	b, err := Join(t.Context(), n.address, invite(t, n.invitations, time.Now()), guest)
	if err != nil {
		t.Fatal(err, n.logged())
	}
	if want := []string{n.address, "10.1.2.3:7000"}; b.Site != "plant" || !bytes.Equal(b.GossipKey, n.site.GossipKey) || !slices.Equal(b.Peers, want) {
		t.Errorf("%+v", b)
	}
	if !open(t, n.dir, nodeA).Shared() {
		t.Error("the node still thinks that it is alone")
	}
	joined, err := b.Adopt(t.TempDir(), nodeB)
	if err != nil {
		t.Fatal(err)
	}
	who, _, err := roster.Open(joined.Path(), nodeB)
	if err != nil || !slices.Equal(who.Members(), []tributary.NodeID{nodeA}) {
		t.Errorf("it knows of %v, %v, should know who let it in", who.Members(), err)
	}
	c, err := peer.Dial(t.Context(), n.address, joined.Authority.Config(joined.Cert), peer.Hello{Site: "plant", Node: nodeB}, nodeA)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	n.says(t, "has joined")
	if log := n.logged(); !strings.Contains(log, "gateway-b") || strings.Contains(log, "PRIVATE") {
		t.Errorf("log: %s", log)
	}
}

// A code that is not good lets nobody in, and the reason is told.
func TestRefused(t *testing.T) {
	n := start(t, nil)
	expired := invite(t, n.invitations, time.Now().Add(-15*time.Minute))
	used := invite(t, n.invitations, time.Now())
	if _, err := Join(t.Context(), n.address, used, guest); err != nil {
		t.Fatal(err)
	}
	refuses(t, n.address, expired, guest, "expired")
	refuses(t, n.address, used, guest, "used already")
	never := newCode(n.site.Authority.Certificate())
	refuses(t, n.address, never, guest, "not one of this node")
	good := invite(t, n.invitations, time.Now())
	refuses(t, n.address, good, Guest{Node: nodeA}, "copy of this one's")
	refuses(t, n.address, good, Guest{Node: nodeB, Site: "office"}, "set site = \"plant\"")
	for range maxWrong {
		refuses(t, n.address, never, guest, "not one of this node")
	}
	refuses(t, n.address, good, guest, "void")
	n.says(t, "all open invitations are void")
	refuses(t, "127.0.0.1:1", good, guest, "the code was not sent")
}

// A tap is a man in the middle who passes everything on and keeps what the joiner
// has said.
func tap(t *testing.T, to string) (address string, said func() []byte) {
	t.Helper()
	var mu sync.Mutex
	var heard bytes.Buffer
	address = listen(t, func(a net.Conn) {
		var d net.Dialer
		b, err := d.DialContext(context.Background(), "tcp", to)
		if err != nil {
			return
		}
		defer b.Close()
		go func() {
			_, _ = io.Copy(a, b)
			a.Close()
		}()
		buf := make([]byte, 4096)
		for {
			n, err := a.Read(buf)
			mu.Lock()
			heard.Write(buf[:n])
			mu.Unlock()
			if _, writeErr := b.Write(buf[:n]); err != nil || writeErr != nil {
				return
			}
		}
	})
	return address, func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return bytes.Clone(heard.Bytes())
	}
}

// Who has recorded a conversation can read nothing of it, and saying it again
// gets nothing, though the code were still good.
func TestReplay(t *testing.T) {
	n := start(t, nil)
	c := invite(t, n.invitations, time.Now())
	address, said := tap(t, n.address)
	if _, err := Join(t.Context(), address, c, guest); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(said(), c.secret[:]) || bytes.Contains(said(), []byte("gateway-b")) {
		t.Error("what is said can be read on the way")
	}
	n.invitations.mu.Lock()
	n.invitations.open, n.invitations.closed = n.invitations.closed, nil // as if it were not used
	n.invitations.mu.Unlock()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(said()); err != nil {
		t.Fatal(err)
	}
	answered, _ := io.ReadAll(conn) // however it ends
	n.invitations.mu.Lock()
	defer n.invitations.mu.Unlock()
	if len(n.invitations.open) != 1 {
		t.Errorf("the code was taken again, and answered with %d bytes", len(answered))
	}
}

// shown is what a node of the site shows to joiners.
func shown(s *Site) *tls.Config { return NewServer(s, nil, nil, nil).config() }

// To a server that cannot prove that it is of the site of the code, the joiner
// says nothing.
func TestManInTheMiddle(t *testing.T) {
	site, _ := create(t, "plant", nodeA)
	other, _ := create(t, "plant", nodeA)
	own, fake := shown(site).Certificates[0], shown(other).Certificates[0]
	chain := own.Certificate // the certificates are no secret; the keys are
	for what, cert := range map[string]tls.Certificate{
		"another site":                 fake,
		"no authority":                 {Certificate: fake.Certificate[:1], PrivateKey: fake.PrivateKey},
		"the real authority, shown":    {Certificate: [][]byte{fake.Certificate[0], chain[1]}, PrivateKey: fake.PrivateKey},
		"both authorities":             {Certificate: [][]byte{fake.Certificate[0], fake.Certificate[1], chain[1]}, PrivateKey: fake.PrivateKey},
		"the authority itself as node": {Certificate: [][]byte{fake.Certificate[1], chain[1]}, PrivateKey: fake.PrivateKey},
		"the real chain, without key":  {Certificate: chain, PrivateKey: fake.PrivateKey},
		"the real node alone":          {Certificate: chain[:1], PrivateKey: own.PrivateKey},
	} {
		heard := make(chan []byte, 1)
		conf := shown(other)
		conf.Certificates = []tls.Certificate{cert}
		address := listen(t, func(raw net.Conn) {
			all, _ := io.ReadAll(tls.Server(raw, conf)) // whatever is said
			heard <- all
		})
		refuses(t, address, newCode(site.Authority.Certificate()), guest, "the code was not sent")
		if all := <-heard; len(all) > 0 {
			t.Errorf("%s: it was told %q", what, all)
		}
	}
	// The test can fail: the real node is told.
	heard := make(chan []byte, 1)
	address := listen(t, func(raw net.Conn) {
		conn := tls.Server(raw, shown(site))
		b, _ := readMessage(conn, maxRequest)
		_ = writeMessage(conn, &answer{Version: 1, Site: "plant"})
		heard <- b
	})
	refuses(t, address, newCode(site.Authority.Certificate()), guest, "ask for another one")
	if b := <-heard; !bytes.Contains(b, []byte("secret")) {
		t.Errorf("the real node is told %q", b)
	}
}

// A server that answers with another site, though it is of the right one, is not
// believed; nor one that does not speak the protocol.
func TestWrongAnswer(t *testing.T) {
	site, _ := create(t, "plant", nodeA)
	other, _ := create(t, "plant", nodeA)
	code := newCode(site.Authority.Certificate())
	pem, err := other.Authority.PEM()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a    answer
		says string
	}{
		{answer{Version: 1, Site: "plant", Authority: string(pem), GossipKey: strings.Repeat("00", 32)}, "another site"},
		{answer{Version: 2, Refused: "no"}, "version 2"},
		{answer{Version: 1, Refused: "no\x1b[2J"}, "no[2J"},
	} {
		address := listen(t, func(raw net.Conn) {
			conn := tls.Server(raw, shown(site))
			_, _ = readMessage(conn, maxRequest)
			_ = writeMessage(conn, &c.a)
		})
		refuses(t, address, code, guest, c.says)
	}
	conf := shown(site)
	conf.NextProtos = nil
	refuses(t, listen(t, func(raw net.Conn) { _, _ = io.ReadAll(tls.Server(raw, conf)) }), code, guest, "does not speak")
	refuses(t, listen(t, func(raw net.Conn) { _, _ = raw.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }), code, guest, "the code was not sent")
}

// Who comes to join, and so shows no certificate, does not get to speak as a
// peer, whatever it offers.
func TestJoinerIsNoPeer(t *testing.T) {
	n := start(t, func(n *running, conn *tls.Conn) { // even if it were handed on
		_, err := peer.Accept(context.Background(), conn, nil, peer.Hello{Site: "plant", Node: nodeA}, nil)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.peers = append(n.peers, err)
	})
	for _, protocols := range [][]string{{Protocol}, {"tributary-peer/1", Protocol}, {"tributary-peer/1"}, nil} {
		conf := &tls.Config{InsecureSkipVerify: true, NextProtos: protocols, MinVersion: tls.VersionTLS13}
		_, err := peer.Dial(t.Context(), n.address, conf, peer.Hello{Site: "plant", Node: nodeB}, nodeA)
		if err == nil {
			t.Errorf("%v: it is a peer", protocols)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, err := range n.peers {
		if err == nil {
			t.Error("it is a peer")
		}
	}
}

// S1: the garbage of strangers takes up neither a code nor memory, and does not stop
// the node.
func TestGarbage(t *testing.T) {
	n := start(t, nil)
	c := invite(t, n.invitations, time.Now())
	for _, b := range [][]byte{
		nil,
		{0xff, 0xff, 0xff, 0xff},
		binary.BigEndian.AppendUint32(nil, maxRequest+1),
		append(binary.BigEndian.AppendUint32(nil, 2), "{}"...),
		append(binary.BigEndian.AppendUint32(nil, 6), "\x00\x01\x02[[["...),
		[]byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{Protocol}, MinVersion: tls.VersionTLS13}}).DialContext(t.Context(), "tcp", n.address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b); err != nil {
			t.Error(err)
		}
		_ = conn.(*tls.Conn).CloseWrite()
		if answered, err := io.ReadAll(conn); err != nil || len(answered) > 0 {
			t.Errorf("%q is answered %q, %v", b, answered, err)
		}
		conn.Close()
	}
	if _, err := Join(t.Context(), n.address, c, guest); err != nil {
		t.Error(err, n.logged())
	}
}

// A stranger who says nothing is gone after ten seconds, and of those who come at
// once eight are served.
func TestStrangersDoNotStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newRunning(t)
		began := time.Now()
		var all sync.WaitGroup
		var mu sync.Mutex
		var took []time.Duration
		for range maxJoins + 3 {
			here, there := net.Pipe()
			defer there.Close()
			all.Go(func() {
				n.server.Serve(t.Context(), tls.Server(here, n.server.config()))
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(began))
			})
		}
		all.Wait()
		slices.Sort(took)
		if took[2] != 0 || took[3] != patience || took[len(took)-1] != patience {
			t.Errorf("they were there for %v", took)
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"version":1,"secret":"AAECAwQFBgcICQ==","node":"0b000000000000000000000000000000","name":"b"}`))
	f.Add([]byte(`{"version":2,"secret":"AAECAwQFBgcICQ==","node":"0B000000000000000000000000000000","more":[1]}`))
	f.Add([]byte(`{"version":0}`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRequest(b)
		if err == nil && (r.Version < 1 || len(r.Secret) != secretBytes || !strings.EqualFold(r.node.String(), r.Node) || len(r.Name) > maxNameBytes) {
			t.Errorf("%q is %+v", b, r)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add([]byte(`{"version":1,"refused":"no\u001b"}`))
	f.Add([]byte(`{"version":1,"site":"plant","authority":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n","gossip_key":"00"}`))
	f.Add([]byte(`{"version":3,"peers":["a:1",":",""]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bundle, err := decodeAnswer(b)
		var refused *RefusedError
		if errors.As(err, &refused) && len(refused.Reason) > maxReasonBytes {
			t.Errorf("%q: a reason of %d bytes", b, len(refused.Reason))
		}
		if err == nil && (bundle.Site == "" || len(bundle.GossipKey) != gossipKeyBytes || len(bundle.Peers) > maxPeers) {
			t.Errorf("%q is %+v", b, bundle)
		}
	})
}

func TestAddresses(t *testing.T) {
	got := addresses([]string{"a:1", "[::1]:2", "a:1", "a", ":3", "b:", "", strings.Repeat("x", 300) + ":1"})
	if want := []string{"a:1", "[::1]:2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, should be %v", got, want)
	}
	many := make([]string, 0, 2*maxPeers)
	for i := range 2 * maxPeers {
		many = append(many, strings.Repeat("h", i+1)+":1")
	}
	if n := len(addresses(many)); n != maxPeers {
		t.Errorf("%d addresses", n)
	}
}
