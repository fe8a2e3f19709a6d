package edge_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// U2: a gateway that never reaches Kafka is started again, and then dies for good:
// the other has copies of both its ledgers, and forwards one after the other, so
// that what a device sent stays in order.
func TestTakeOverOneLedgerAfterTheOther(t *testing.T) {
	a, b := newPair(t, "")
	kafka := a.addr
	a.addr, b.addr = "127.0.0.1:1", "127.0.0.1:1" // nobody is there
	b.pairWith(a)
	sent := 0
	publish := func(n int) {
		w := a.connect("device", 1)
		for range n {
			id := uint16(1 + sent%60000)
			w.publish(1, 0, id, "plant/1", fmt.Sprintf("%d %s", sent, strings.Repeat("x", 4000)))
			w.expect(0x40, id)
			sent++
		}
	}
	publish(1000)
	a.crash()
	a.start()
	a.until("the other node", func(r status.Report) bool { return r.Gateways != nil && len(r.Gateways.Peers) == 1 })
	publish(10)
	if r := a.Report(); r.Gateways.Short {
		t.Fatal("it has no copies")
	}
	a.end()
	b.end()
	b.addr = kafka
	b.start()
	for n, r := range b.committed("mqtt", sent) {
		if value, _, _ := strings.Cut(string(r.Value), " "); value != fmt.Sprint(n) {
			t.Fatalf("record %d is %s", n, value)
		}
	}
}

// A1, R10: a peer with a smaller log has given up the first part of its copy, because
// Kafka has it. This node keeps that for a subscriber who is away: the copy counts
// all the same.
func TestCopyWithoutWhatKafkaHas(t *testing.T) {
	a, b := newPair(t, "[log]\nsegment = \"4MiB\"\n")
	a.extra += "max_size = \"128MiB\"\n"
	b.extra += "max_size = \"20MiB\"\n"
	b.pairWith(a)
	away := a.connect("away", 0)
	away.follow("plant/#", 1)
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 100_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise) // never fails
	payload := string(noise)
	var w *wire
	for n := range uint16(400) {
		if n%50 == 0 {
			w = a.connect("device", 1)
		}
		w.publish(1, 0, n+1, "plant/1", payload)
		w.expect(0x40, n+1)
		if n%20 == 19 {
			a.until("Kafka to have it", func(r status.Report) bool { return r.Uplink.Waiting == 0 })
		}
	}
	if r := a.Report(); r.Gateways.Short || r.Gateways.Unprotected > 0 {
		t.Errorf("the copy does not count: %+v", r.Gateways)
	}
}

// U4: the disk of a gateway has damaged a copy. That is no gap: the gateway that wrote
// it lives, and has the records. Nobody tells Kafka otherwise.
func TestDamagedCopyIsNoGap(t *testing.T) {
	a, b := newPair(t, "[log]\ncompression = \"none\"\n[default_route]\ndead_letter = \"dead\"\n")
	kafka := a.addr
	a.addr, b.addr = "127.0.0.1:1", "127.0.0.1:1" // nobody is there
	b.pairWith(a)
	w := a.connect("device", 1)
	const sent = 20
	for n := range uint16(sent) {
		w.publish(1, 0, n+1, "plant/1", fmt.Sprintf("reading %d", n))
		w.expect(0x40, n+1)
	}
	b.end()
	name := b.segments()[0]
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("reading 10"))
	if at < 0 {
		t.Fatal("there is no copy")
	}
	text[at] ^= 0xff
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.addr = kafka
	b.start()
	b.committed("mqtt", 10)
	a.end()
	a.addr = kafka
	a.start()
	for n, r := range a.committed("mqtt", sent) {
		if string(r.Value) != fmt.Sprintf("reading %d", n) {
			t.Fatalf("record %d is %s", n, r.Value)
		}
	}
	if r := b.Report(); r.Uplink.Gaps > 0 {
		t.Errorf("%d gaps", r.Uplink.Gaps)
	}
}

// A1: a gateway holds a part of a ledger that Kafka has all of, and has forgotten how
// far Kafka is. It finds out, and its log can use the room again.
func TestCopyThatKafkaIsBeyond(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	w := a.connect("device", 1)
	publish := func(n int) {
		for i := range n {
			w.publish(1, 0, uint16(i)+1, "plant/1", fmt.Sprint(i))
			w.expect(0x40, uint16(i)+1)
		}
	}
	publish(10)
	b.crash()
	publish(10) // after a while without a copy
	a.end()
	a.start()
	b.start()
	b.until("a copy that Kafka has", func(r status.Report) bool {
		return len(r.Gateways.Copies) > 0 && r.Gateways.Copies[0].Waiting == 0
	})
}

// A1: a node that is told to end gets the copies first that what it took waits for, and
// then answers the devices; without a peer, after the usual while.
func TestEndsUnderLoad(t *testing.T) {
	a, b := newPair(t, "")
	a.start()
	b.join(a)
	b.start()
	a.until("the other node", func(r status.Report) bool { return r.Gateways != nil && len(r.Gateways.Peers) == 1 })
	w := a.connect("device", 1)
	go func() {
		for n := uint16(1); ; n = n%60000 + 1 {
			if _, err := w.Write(append([]byte{0x32, 2 + 7 + 2 + 1 + 1, 0, 7}, append([]byte("plant/1"), byte(n>>8), byte(n), 0, 'x')...)); err != nil {
				return
			}
		}
	}()
	go func() { _, _ = io.Copy(io.Discard, w.r) }() // until the end
	a.until("records", func(r status.Report) bool { return r.Log.Durable > 500 })
	began := time.Now()
	a.end()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v to end", took)
	}
	b.end()
	a.start()
	w = a.connect("device", 1)
	w.publish(1, 0, 1, "plant/1", "alone")
	a.until("it to be durable", func(r status.Report) bool { return r.Log.Durable > 1 })
	a.end()
}

// A1, U1: gateways that let records wait for a long while before they go to Kafka do not
// take them for forgotten, and fence each other for ever.
func TestTakeOverDoesNotLinger(t *testing.T) {
	a, b := newPair(t, "")
	a.linger, b.linger = "12s", "12s" // longer than it takes until the other takes over
	a.start()
	b.join(a)
	b.start()
	a.until("the other node", func(r status.Report) bool { return r.Gateways != nil && len(r.Gateways.Peers) == 1 })
	w := a.connect("device", 1)
	for n := range uint16(10) {
		w.publish(1, 0, n+1, "plant/1", fmt.Sprint(n))
		w.expect(0x40, n+1)
	}
	for n, r := range a.committed("mqtt", 10) {
		if string(r.Value) != fmt.Sprint(n) {
			t.Fatalf("record %d is %s", n, r.Value)
		}
	}
}

// U1: a gateway has had no way to Kafka since its start, and another has forwarded what it
// writes. When it can reach Kafka, in the same process, it goes on there, and not at the
// beginning.
func TestTakeOverOfAFreshLedger(t *testing.T) {
	a, b := newPair(t, "")
	kafka := a.addr
	gate, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gate.Close() })
	a.addr = gate.Addr().String()
	var open atomic.Bool
	go func() {
		for {
			c, err := gate.Accept()
			if err != nil {
				return
			}
			if !open.Load() {
				_ = c.Close()
				continue
			}
			to, err := net.Dial("tcp", kafka)
			if err != nil {
				_ = c.Close()
				continue
			}
			go func() { _, _ = io.Copy(c, to); _ = c.Close() }()
			go func() { _, _ = io.Copy(to, c); _ = to.Close() }()
		}
	}()
	b.pairWith(a)
	w := a.connect("device", 1)
	sent := 0
	publish := func(n int) {
		for range n {
			sent++
			w.publish(1, 0, uint16(sent), "plant/1", fmt.Sprint(sent-1))
			w.expect(0x40, uint16(sent))
		}
	}
	publish(50)
	b.committed("mqtt", sent)
	open.Store(true)
	a.until("its own way to Kafka", func(r status.Report) bool { return r.Uplink.State == "forwarding" })
	publish(50)
	a.addr = kafka
	for n, r := range a.committed("mqtt", sent) {
		if string(r.Value) != fmt.Sprint(n) {
			t.Fatalf("record %d is %s", n, r.Value)
		}
	}
}

// damageCopy makes the disk of a gateway that does not run damage a part of what it has
// of others.
func (s *site) damageCopy(part string) {
	s.t.Helper()
	name := s.segments()[0]
	text, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	at := bytes.Index(text, []byte(part))
	if at < 0 {
		s.t.Fatal("there is no copy")
	}
	text[at] ^= 0xff
	if err := os.WriteFile(name, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// R15: a part of a copy is damaged. It is taken from the gateway that has it, which
// cannot reach Kafka, and all is forwarded.
func TestDamagedCopyIsHealed(t *testing.T) {
	a, b := newPair(t, "[log]\ncompression = \"none\"\n[default_route]\ndead_letter = \"dead\"\n")
	kafka := a.addr
	a.addr, b.addr = "127.0.0.1:1", "127.0.0.1:1" // nobody is there
	b.pairWith(a)
	w := a.connect("device", 1)
	const sent = 20
	for n := range uint16(sent) {
		w.publish(1, 0, n+1, "plant/1", fmt.Sprintf("reading %d", n))
		w.expect(0x40, n+1)
	}
	b.end()
	b.damageCopy("reading 10")
	b.addr = kafka
	b.start()
	for n, r := range b.committed("mqtt", sent) {
		if string(r.Value) != fmt.Sprintf("reading %d", n) {
			t.Fatalf("record %d is %s", n, r.Value)
		}
	}
	if r := b.Report(); r.Uplink.Gaps > 0 || len(r.Gateways.Stuck) > 0 {
		t.Errorf("%d gaps, stuck %v", r.Uplink.Gaps, r.Gateways.Stuck)
	}
}

// R15: the gateway that wrote a ledger is gone for good, and the only copy is damaged.
// It is stuck, and says so, until an operator gives the damaged part up: then the
// dead-letter topic names it, and what is behind it goes on.
func TestSkip(t *testing.T) {
	a, b := newPair(t, "[log]\ncompression = \"none\"\n[default_route]\ndead_letter = \"dead\"\n")
	kafka := a.addr
	a.addr, b.addr = "127.0.0.1:1", "127.0.0.1:1" // nobody is there
	b.pairWith(a)
	w := a.connect("device", 1)
	for n := range uint16(20) {
		w.publish(1, 0, n+1, "plant/1", fmt.Sprintf("reading %d", n))
		w.expect(0x40, n+1)
	}
	a.end()
	b.end()
	b.damageCopy("reading 10")
	b.addr = kafka
	b.start()
	if got := b.committed("mqtt", 10); len(got) != 10 {
		t.Errorf("%d records before it", len(got))
	}
	r := b.until("it to be stuck", func(r status.Report) bool { return len(r.Gateways.Stuck) == 1 })
	if code, text := b.admin("POST", "/api/skip?ledger=0123456789"); code != http.StatusConflict {
		t.Errorf("%d: %s", code, text)
	}
	if code, text := b.admin("POST", "/api/skip?ledger="+r.Gateways.Stuck[0].Ledger); code != http.StatusOK {
		t.Errorf("%d: %s", code, text)
	}
	got := b.committed("mqtt", 19)
	if string(got[10].Value) != "reading 11" || len(b.committed("dead", 1)) != 1 {
		t.Errorf("behind it is %s", got[10].Value)
	}
	b.until("the room to be free", func(r status.Report) bool { return len(r.Gateways.Stuck) == 0 && r.Gateways.Copies[0].Waiting == 0 })
}
