package edge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/sync/join"
)

// pair is two gateways of one site, each at its own loopback address.
func newPair(t *testing.T, extra string) (a, b *site) {
	t.Helper()
	subnet := fmt.Sprintf("127.%d.%d", 1+rand.IntN(200), 1+rand.IntN(200))
	conf := func(n int) string {
		return fmt.Sprintf("[site]\nlisten = \"%s.%d:7882\"\n%s", subnet, n, extra)
	}
	a = newSite(t, conf(1))
	b = &site{t: t, dir: t.TempDir(), kafka: a.kafka, addr: a.addr, extra: conf(2)}
	a.hurry, b.hurry = true, true
	return a, b
}

// invite asks a running node for a code.
func (s *site) invite() (i edge.Invited) {
	s.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(s.dir, "admin.sock"))
	}}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 { // the door may be open before the site is
		resp, err := c.Post("http://node/api/invite", "", nil)
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&i)
			_ = resp.Body.Close() // only read
		}
		if err == nil && len(i.Addresses) > 0 {
			return i
		}
		<-tick.C
	}
	s.t.Fatal("no invitation")
	return i
}

// join makes s, which does not run, one of the site of the other.
func (s *site) join(other *site) {
	s.t.Helper()
	db, _, err := meta.Open(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	id, err := db.Start()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		s.t.Fatal(err)
	}
	i := other.invite()
	code, err := join.ParseCode(i.Code)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := join.Join(s.t.Context(), i.Addresses[0], code, join.Guest{Node: id.Node, Name: "n2", Site: "default"})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := b.Adopt(s.dir, id.Node); err != nil {
		s.t.Fatal(err)
	}
}

// pairWith starts both gateways, makes s one of the site of the other, and returns when
// it sees it.
func (s *site) pairWith(other *site) {
	s.t.Helper()
	other.start()
	s.join(other)
	s.start()
	s.until("the other node", func(r status.Report) bool { return r.Gateways != nil && len(r.Gateways.Peers) == 1 })
}

// A1, R2, U1: of two gateways the one without a way to Kafka dies for good; all
// that its devices had an acknowledgement for is in Kafka, once, in order, sent by
// the other.
func TestGatewayDiesForGood(t *testing.T) {
	a, b := newPair(t, "")
	kafka := a.addr
	a.addr = "127.0.0.1:1" // nobody is there
	b.pairWith(a)

	w := a.connect("device", 1)
	for n := range uint16(200) {
		w.publish(1, 0, n+1, "plant/1", fmt.Sprint(n))
		w.expect(0x40, n+1)
	}
	a.end()
	if kafka != b.addr {
		t.Fatal("the other gateway has another Kafka")
	}
	got := b.committed("mqtt", 200)
	for n, r := range got {
		if string(r.Value) != fmt.Sprint(n) {
			t.Fatalf("record %d is %s", n, r.Value)
		}
	}
}

// U1, U2: a gateway that lives and has lost its way to Kafka is helped out by the
// other; when it can reach Kafka again, in a new process, it goes on where that one
// has come to.
func TestUplinkCutForOne(t *testing.T) {
	a, b := newPair(t, "")
	kafka := a.addr
	a.addr = "127.0.0.1:1"
	b.pairWith(a)
	w := a.connect("device", 1)
	sent := 0
	publish := func(n int) {
		for range n {
			id := uint16(1 + sent%60000)
			w.publish(1, 0, id, "plant/1", fmt.Sprint(sent))
			w.expect(0x40, id)
			sent++
		}
	}
	publish(50)
	b.committed("mqtt", 50)
	publish(50) // it follows what still grows
	b.committed("mqtt", 100)
	a.end()
	a.addr = kafka
	a.start()
	w = a.connect("device", 1)
	publish(50)
	for n, r := range b.committed("mqtt", 150) {
		if string(r.Value) != fmt.Sprint(n) {
			t.Fatalf("record %d is %s", n, r.Value)
		}
	}
}

// A1, R2: while the only peer is away devices wait for five seconds, then this disk
// is enough, and the node is yellow; once the peer is back it is green again.
func TestShortOfPeers(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	w := a.connect("device", 1)
	w.publish(1, 0, 1, "plant/1", "both")
	w.expect(0x40, 1)
	if r := a.Report(); r.Gateways.Short || r.Gateways.Wanted != 1 {
		t.Errorf("with a peer: %+v", r.Gateways)
	}
	b.end()
	began := time.Now()
	w.publish(1, 0, 2, "plant/1", "alone")
	w.expect(0x40, 2)
	if took := time.Since(began); took < 4*time.Second {
		t.Errorf("acknowledged after %v, without a copy", took)
	}
	if r := a.Report(); !r.Gateways.Short || r.Colour != status.Yellow || r.Gateways.Unprotected == 0 {
		t.Errorf("without a peer it is %s: %+v", r.Colour, r.Gateways)
	}
	b.start()
	a.until("the copies to catch up", func(r status.Report) bool { return !r.Gateways.Short })
	w.publish(1, 0, 3, "plant/1", "both")
	w.expect(0x40, 3)
	a.until("a copy of all", func(r status.Report) bool {
		return len(r.Gateways.Peers) == 1 && r.Gateways.Peers[0].Copied == r.Log.Durable
	})
}
