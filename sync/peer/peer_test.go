package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
)

func examples() []Message {
	id := tributary.LedgerID{1, 2, 3}
	return []Message{
		&Hello{Version: 1, Site: "plant", Node: tributary.NodeID{9}, Boot: 7, Nonce: 1 << 63, Name: "gateway-1"},
		&RejectError{Reason: "another node has this identity", Boot: 5, Nonce: 1 << 63},
		&Status{
			SentMillis: 1, Live: id, Short: true, KafkaReached: true, FreeBytes: 1 << 40,
			Held:  []Held{{Ledger: id, Base: 1, Durable: 2, Chain: 3, Position: 4, Forwarding: true}, {Ledger: id, Holding: true}},
			Nodes: []Standing{{Node: tributary.NodeID{4}, Version: 5, State: 2}},
		},
		&Status{},
		&Append{Ledger: id, Position: 5, LAC: 6, Codec: group.Pack, Sealed: []byte("bytes")},
		&Ack{Ledger: id, Base: 1, Durable: 1<<64 - 1, Chain: 3},
		&Nack{Ledger: id, Reason: Full, End: 4, Chain: 5},
		&Pull{Ledger: id, From: 8, To: 10},
		&Pulled{Ledger: id, Codec: group.Zstd, Sealed: []byte("more")},
		&End{Ledger: id, Position: 9},
		&Echo{SentMillis: 11, SlackMillis: 4000, Refuses: true, Copies: 1},
		&Close{Try: 1, Clients: []Device{{"press-4", 7}, {"", 0}}},
		&Close{},
		&Closed{Try: 1, Epochs: []uint64{3, 1 << 63}, Held: []bool{false, true}},
		&Collect{Try: 2, Processes: []Process{{nodeA, 5}, {nodeB, 6}}, Clients: []Device{{"press-4", 7}}},
		&Collected{Try: 2},
		&Collected{
			Try: 3, Partial: true, Epochs: []uint64{1, 2}, Held: []bool{true, false},
			Ledgers: []Looked{{Ledger: id, From: 1, To: 9}, {Ledger: tributary.LedgerID{4}, To: 5, All: true}},
			Ends:    []ClientEnd{{1, 0, 7}, {0, 1, 1 << 60}},
			IDs:     []PacketID{{Client: 1, ID: 65535, LSN: 6, Epoch: 2, Sum: 1 << 63}, {Ledger: 1, Released: true, Epoch: 3}},
		},
	}
}

// What is said is what is heard; what is cut short anywhere is an error; what a
// newer version has added is passed over.
func TestMessages(t *testing.T) {
	for _, m := range examples() {
		b := Encode(nil, m)
		n, err := length(b, maxMessage)
		if err != nil || n != len(b)-headBytes {
			t.Fatalf("%T: length %d, %v", m, n, err)
		}
		got, err := Decode(b[4], b[headBytes:])
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v, %v, should be %+v", got, err, m)
		}
		tail, before := 0, map[int]bool{} // it may end where an older version ended
		switch m := m.(type) {            // the rest of these is what they carry
		case *Append:
			tail = len(m.Sealed)
		case *Pulled:
			tail = len(m.Sealed)
		case *RejectError:
			before[n-16] = true
		case *Pull:
			before[n-8] = true
		case *Echo:
			before[n-10] = true
		case *Status:
			before[n-2-25*len(m.Nodes)] = true
		}
		switch m.(type) {
		case *Append, *Pulled:
		default:
			if got, err := Decode(b[4], append(b[headBytes:], 1, 2, 3)); err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("of a newer version: %+v, %v, should be %+v", got, err, m)
			}
		}
		for cut := range n - tail {
			if got, err := Decode(b[4], b[headBytes:][:cut]); err == nil && !before[cut] {
				t.Errorf("%T cut to %d bytes: %+v", m, cut, got)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range examples() {
		b := Encode(nil, m)
		f.Add(b[4], b[headBytes:])
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		m, err := Decode(kind, b)
		if err != nil {
			return
		}
		again := Encode(nil, m)
		if m2, err := Decode(again[4], again[headBytes:]); err != nil || !reflect.DeepEqual(m, m2) {
			t.Errorf("%+v, %v, should be %+v", m2, err, m)
		}
	})
}

// site is an authority with two nodes.
type site struct {
	*Authority

	a, b *tls.Config
}

func newSite(t *testing.T) *site {
	t.Helper()
	made, err := NewAuthority("plant")
	if err != nil {
		t.Fatal(err)
	}
	text, err := made.PEM()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{}
	if s.Authority, err = ParseAuthority(text); err != nil || s.Site() != "plant" {
		t.Fatal(err)
	}
	s.a, s.b = s.node(t, nodeA), s.node(t, nodeB)
	return s
}

func (s *site) node(t *testing.T, id tributary.NodeID) *tls.Config {
	t.Helper()
	cert, err := s.Issue(id)
	if err != nil {
		t.Fatal(err)
	}
	return s.Config(cert)
}

var nodeA, nodeB = tributary.NodeID{0xa}, tributary.NodeID{0xb}

// meet has a dial b. Each returns an error, or its end.
func meet(t *testing.T, a, b *tls.Config, helloA, helloB Hello, want tributary.NodeID, accept func(*Hello) error) (ca, cb *Conn, errA, errB error) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			errB = err
			return
		}
		cb, errB = Accept(context.WithoutCancel(t.Context()), raw, b, helloB, accept)
	}()
	ca, errA = Dial(t.Context(), l.Addr().String(), a, helloA, want)
	<-done
	t.Cleanup(func() {
		for _, c := range []*Conn{ca, cb} {
			if c != nil {
				_ = c.Close() // it may be closed
			}
		}
	})
	return ca, cb, errA, errB
}

func TestTwoNodesSpeak(t *testing.T) {
	s := newSite(t)
	a, b, errA, errB := meet(t, s.a, s.b, Hello{Site: "plant", Node: nodeA, Name: "a"}, Hello{Site: "plant", Node: nodeB, Boot: 4}, nodeB, nil)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if a.Peer().Node != nodeB || a.Peer().Boot != 4 || b.Peer().Name != "a" || b.Peer().Version != Version {
		t.Errorf("a knows %+v, b knows %+v", a.Peer(), b.Peer())
	}
	for _, m := range examples()[2:] {
		if err := errors.Join(a.Send(m), a.Flush()); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Receive(); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v, %v, should be %+v", got, err, m)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

// S1: who is not of the site, or says that it is somebody else, or is not wanted,
// does not get to speak.
func TestStrangers(t *testing.T) {
	s, other := newSite(t), newSite(t)
	none := s.a.Clone()
	none.Certificates = nil
	a, b := Hello{Site: "plant", Node: nodeA}, Hello{Site: "plant", Node: nodeB}
	for _, c := range []struct {
		what   string
		a, b   *tls.Config
		helloA Hello
		want   tributary.NodeID
		accept func(*Hello) error
		says   string
	}{
		{"another authority", other.a, s.b, a, nodeB, nil, "certificate"},
		{"no certificate", none, s.b, a, nodeB, nil, "certificate"},
		{"the name of another node", s.a, s.b, Hello{Site: "plant", Node: nodeB}, nodeB, nil, "its certificate is of"},
		{"another site", s.a, s.b, Hello{Site: "office", Node: nodeA}, nodeB, nil, "site"},
		{"another node than expected", s.a, s.b, a, tributary.NodeID{7}, nil, "is node"},
		{"not wanted", s.a, s.b, a, nodeB, func(*Hello) error { return errors.New("this node was removed") }, "removed"},
		{"no TLS", nil, s.b, a, nodeB, nil, "TLS"},
	} {
		confA := c.a
		if confA == nil {
			confA = &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: serverName}
		}
		ca, _, errA, errB := meet(t, confA, c.b, c.helloA, b, c.want, c.accept)
		if errA == nil && errB == nil {
			if _, errA = ca.Receive(); errA == nil {
				t.Errorf("%s: they speak", c.what)
			}
		}
		if all := errors.Join(errA, errB); !strings.Contains(all.Error(), c.says) {
			t.Errorf("%s: %v", c.what, all)
		}
	}
}

// A gateway whose clock says 1970, or 2100, is of the site all the same.
func TestClockDoesNotMatter(t *testing.T) {
	s := newSite(t)
	from, to := always()
	if now := s.a.Time(); now.Before(from) || now.After(to) || time.Since(now) < 0 {
		t.Errorf("certificates are looked at as of %v", now)
	}
}

// A Collected that names what is not in it is refused.
func TestCollectedNames(t *testing.T) {
	for _, m := range []Collected{
		{Epochs: []uint64{1}, Held: []bool{false}, Ends: []ClientEnd{{}}},
		{Ledgers: []Looked{{}}, Ends: []ClientEnd{{}}},
		{Epochs: []uint64{1}, Held: []bool{false}, Ledgers: []Looked{{}}, IDs: []PacketID{{Ledger: 1}}},
	} {
		b := Encode(nil, &m)
		if got, err := Decode(b[4], b[headBytes:]); err == nil {
			t.Errorf("%+v", got)
		}
	}
}
