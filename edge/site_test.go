package edge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/sync/join"
)

// newPair is two gateways of one site, each at its own loopback address. Its tests
// wait most of their time, for timers that are real: they run beside each other.
func newPair(t *testing.T, extra string) (a, b *site) {
	t.Helper()
	t.Parallel()
	subnet := fmt.Sprintf("127.%d.%d", 1+rand.IntN(200), 1+rand.IntN(200))
	conf := func(n int) string {
		return fmt.Sprintf("[site]\nlisten = \"%s.%d:7882\"\n%s", subnet, n, extra)
	}
	a = newSite(t, conf(1))
	b = &site{t: t, dir: t.TempDir(), kafka: a.kafka, late: new(atomic.Bool), addr: a.addr, extra: conf(2)}
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

// admin asks a running node what commands ask. The code is 0 if it does not answer.
func (s *site) admin(method, path string) (code int, text string) {
	s.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(s.dir, "admin.sock"))
	}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://node"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err.Error() // it has just been started
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
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

// A1, R2: while the only peer is away, and Kafka is, devices wait for five seconds, then this disk
// is enough, and the node is yellow; once the peer is back it is green again.
func TestShortOfPeers(t *testing.T) {
	a, b := newPair(t, "")
	a.addr, b.addr = "127.0.0.1:1", "127.0.0.1:1" // nobody is there: what is in Kafka needs no copy
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

// imageOf copies the data directory of a gateway that does not run.
func (s *site) imageOf() (dir string) {
	s.t.Helper()
	dir = s.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// R3: the disk of a gateway is put back to an older image. Its peer knows a later
// process of it: it becomes another node, both say so, and it goes on working.
func TestOldImage(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	sent := uint16(0)
	publish := func() {
		t.Helper()
		w := a.connect("device", 1)
		for range 20 {
			sent++
			w.publish(1, 0, sent, "plant/1", fmt.Sprint(sent))
			w.expect(0x40, sent)
		}
	}
	publish()
	was := a.Report().NodeID
	a.end()
	image := a.imageOf()
	a.start()
	publish()
	a.end()
	a.dir = image
	a.start()
	a.until("a new id", func(r status.Report) bool { return r.NodeID != was && len(r.Gateways.Alarms) > 0 })
	b.until("an alarm", func(r status.Report) bool { return len(r.Gateways.Alarms) > 0 && r.Colour == status.Yellow })
	b.until("the new node", func(r status.Report) bool {
		return slices.ContainsFunc(r.Gateways.Peers, func(p status.Peer) bool { return p.Node == a.Report().NodeID && p.State == "alive" })
	})
	publish()
	a.until("a copy of all", func(r status.Report) bool {
		return !r.Gateways.Short && slices.ContainsFunc(r.Gateways.Peers, func(p status.Peer) bool { return p.Copied == r.Log.Durable })
	})
	is := a.Report().NodeID
	a.end()
	a.start()
	if now := a.Report().NodeID; now != is {
		t.Errorf("after a start it is node %s, was %s", now, is)
	}
	seen := map[string]int{}
	for _, r := range b.committed("mqtt", int(sent)) {
		seen[string(r.Value)]++
	}
	for n := range sent {
		if seen[fmt.Sprint(n+1)] != 1 {
			t.Errorf("record %d is there %d times", n+1, seen[fmt.Sprint(n+1)])
		}
	}
}

// R3: the data directory of a gateway was copied, and both run. One of them becomes
// another node; both work, and nothing is sent twice.
func TestClone(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	a.end()
	c := &site{t: t, dir: a.imageOf(), kafka: a.kafka, late: new(atomic.Bool), addr: a.addr, hurry: true}
	c.extra = strings.Replace(b.extra, ".2:7882", ".3:7882", 1)
	a.start()
	c.start()
	a.until("one to become another", func(r status.Report) bool { return r.NodeID != c.Report().NodeID })
	b.until("both", func(r status.Report) bool {
		there := 0
		for _, p := range r.Gateways.Peers {
			if p.State == "alive" && (p.Node == a.Report().NodeID || p.Node == c.Report().NodeID) {
				there++
			}
		}
		return there == 2
	})
	if len(a.Report().Gateways.Alarms)+len(c.Report().Gateways.Alarms) == 0 {
		t.Error("neither says so")
	}
	for i, s := range []*site{a, c} {
		w := s.connect(fmt.Sprint("device", i), 1)
		for n := range uint16(20) {
			w.publish(1, 0, n+1, "plant/1", fmt.Sprintf("%d of %d", n, i))
			w.expect(0x40, n+1)
		}
	}
	seen := map[string]int{}
	for _, r := range b.committed("mqtt", 40) {
		seen[string(r.Value)]++
	}
	if len(seen) != 40 {
		t.Errorf("%d records, should be 40", len(seen))
	}
}

// R70, R71: a gateway that is removed keeps no copies and takes no devices; what it
// held reaches Kafka, and then it is gone. Added again, it takes devices.
func TestRemoved(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	w := b.connect("device", 1)
	w.publish(1, 0, 1, "plant/1", "before")
	w.expect(0x40, 1)
	id := b.Report().NodeID
	if code, text := a.admin("POST", "/api/nodes/remove?node=nobody"); code != http.StatusBadRequest {
		t.Errorf("%d: %s", code, text)
	}
	if code, text := a.admin("POST", "/api/nodes/remove?node="+id[:10]); code != http.StatusOK {
		t.Fatalf("%d: %s", code, text)
	}
	standing := func(of *site, want string) {
		t.Helper()
		of.until("the node to be "+want, func(status.Report) bool {
			var all []status.Node
			_, text := of.admin("GET", "/api/nodes")
			return json.Unmarshal([]byte(text), &all) == nil && slices.ContainsFunc(all, func(n status.Node) bool { return n.ID == id && n.Standing == want })
		})
	}
	standing(a, "gone")
	if _, err := io.Copy(io.Discard, w.r); err != nil {
		t.Error(err)
	}
	if _, code := b.tryConnect("device", 1); code != 0x9c { // use another server
		t.Errorf("a removed gateway answers a device with %#x", code)
	}
	if r := a.Report(); r.Gateways.Wanted != 0 {
		t.Errorf("%d copies are wanted of nobody", r.Gateways.Wanted)
	}
	b.end()
	b.start()
	standing(b, "gone") // it is written down
	b.end()
	b.join(a)
	b.start()
	standing(a, "member")
	standing(b, "member")
	w = b.connect("device", 1)
	w.publish(1, 0, 1, "plant/1", "after")
	w.expect(0x40, 1)
	if got := a.committed("mqtt", 2); string(got[0].Value) != "before" || string(got[1].Value) != "after" {
		t.Errorf("%s, %s", got[0].Value, got[1].Value)
	}
}

// A1, I1: with if_peers_missing = "refuse" and its peer away, a node that is told to end
// does so, though devices wait: they get no acknowledgement, and when both are back
// what they sent is taken like anything that was never answered.
func TestEndsWhileItRefuses(t *testing.T) {
	a, b := newPair(t, "[ack]\nif_peers_missing = \"refuse\"\n")
	a.addr, b.addr = "127.0.0.1:1", "127.0.0.1:1" // nobody is there: what is in Kafka needs no copy
	b.pairWith(a)
	w := a.connect("device", 1)
	w.publish(1, 0, 1, "plant/1", "both")
	w.expect(0x40, 1)
	b.end()
	w.publish(1, 0, 2, "plant/1", "alone")
	a.until("the record to wait", func(r status.Report) bool { return r.Gateways.Waiting == 1 && r.Colour == status.Red })
	began := time.Now()
	a.end()
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("it took %v to end", took)
	}
	for {
		head, body, err := w.next()
		if err != nil {
			break
		}
		if head == 0x40 && (len(body) < 3 || body[2] < 0x80) {
			t.Errorf("a record without a copy is acknowledged: %x", body)
		}
	}
	a.start()
	b.start()
	w = a.connect("device", 1)
	w.publish(1, 1, 2, "plant/1", "alone")
	w.expect(0x40, 2)
	b.until("a copy", func(r status.Report) bool { return len(r.Gateways.Copies) > 0 })
}

// R22, R11: its only peer is away, and this gateway refuses. What Kafka has needs no
// copy: QoS 1 is forwarded and then acknowledged. QoS 2 is not forwarded before it is
// acknowledged: this gateway could burn now, and nobody would know the message when the
// device sends it again.
func TestForwardsWhatIsAcknowledged(t *testing.T) {
	a, b := newPair(t, "[ack]\nif_peers_missing = \"refuse\"\n")
	b.pairWith(a)
	b.end()
	w := a.connect("device", 1)
	for n := range uint16(5) {
		w.publish(1, 0, n+1, "plant/1", fmt.Sprint(n))
		w.expect(0x40, n+1)
	}
	w.publish(2, 0, 6, "plant/1", "5")
	w.publish(1, 0, 7, "plant/1", "6")
	a.until("two to wait", func(r status.Report) bool { return r.Gateways.Waiting == 2 })
	quiet := time.Now().Add(2 * time.Second)
	a.until("a while to pass", func(r status.Report) bool {
		if r.Gateways.Waiting != 2 || r.Uplink.Sent > 5 {
			t.Fatalf("%d wait, %d are in Kafka", r.Gateways.Waiting, r.Uplink.Sent)
		}
		return time.Now().After(quiet)
	})
	b.start()
	w.expect(0x50, 6)
	w.expect(0x40, 7)
	for n, r := range a.committed("mqtt", 7) {
		if string(r.Value) != fmt.Sprint(n) {
			t.Errorf("record %d is %s", n, r.Value)
		}
	}
}
