package edge_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/clock"
)

// A site is one node under test, its data directory and a Kafka.
type site struct {
	t      *testing.T
	dir    string
	kafka  *kfake.Cluster
	addr   string       // of kafka
	mqtt   string       // of its section of the configuration
	extra  string       // of the configuration
	linger string       // [kafka] linger; 10 ms if ""
	name   string       // [node] name; n1 if ""
	clock  *wrongClock  // nil: the machine's
	hurry  bool         // to take over what others do not forward
	late   *atomic.Bool // a device had to wait for its CONNACK

	*edge.Node

	stop context.CancelFunc
	done chan error
}

func newSite(t *testing.T, extra string) *site {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return &site{t: t, dir: t.TempDir(), kafka: k, addr: k.ListenAddrs()[0], extra: extra, late: new(atomic.Bool)}
}

func (s *site) config() *config.Config {
	s.t.Helper()
	cfg, problems := config.Parse("test.toml", []byte(s.text()))
	if cfg == nil {
		s.t.Fatal(problems)
	}
	return cfg
}

// text is the configuration.
func (s *site) text() string {
	return fmt.Sprintf("[node]\nname = %q\ndata_dir = %q\n[mqtt]\nlisten = [\"127.0.0.1:0\"]\n%s"+
		"[kafka]\nbrokers = [%q]\nlinger = %q\n%s", cmp.Or(s.name, "n1"), s.dir, s.mqtt, s.addr, cmp.Or(s.linger, "10ms"), s.extra)
}

func (s *site) start() {
	s.t.Helper()
	source := clock.System()
	if s.clock != nil {
		source = s.clock.source()
	}
	n, err := edge.OpenWithClock(s.t.Context(), s.config(), slog.New(slog.DiscardHandler), source)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.hurry {
		n.Hurry()
	}
	ctx, stop := context.WithCancel(context.Background())
	s.Node, s.stop, s.done = n, stop, make(chan error, 1)
	go func() { s.done <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-s.done:
		s.t.Fatal("the node ended:", err)
	}
	s.t.Cleanup(s.end)
}

// end stops the node as SIGTERM does.
func (s *site) end() {
	if s.stop == nil {
		return
	}
	s.stop()
	if err := <-s.done; err != nil {
		s.t.Error("run:", err)
	}
	if err := s.Close(); err != nil {
		s.t.Error("close:", err)
	}
	s.stop = nil
}

// crash ends the node as SIGKILL does, as far as one process can: nothing is
// noted at the end.
func (s *site) crash() {
	s.t.Helper()
	old := filepath.Join(s.t.TempDir(), "meta.db")
	if err := copyFile(filepath.Join(s.dir, "meta.db"), old); err != nil {
		s.t.Fatal(err)
	}
	s.end()
	if err := copyFile(old, filepath.Join(s.dir, "meta.db")); err != nil {
		s.t.Fatal(err)
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// replayed opens and crashes a node, and returns how many records it read.
func (s *site) replayed() (n int) {
	s.t.Helper()
	var out bytes.Buffer
	node, err := edge.Open(s.t.Context(), s.config(), slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := node.Close(); err != nil {
		s.t.Fatal(err)
	}
	if _, rest, ok := strings.Cut(out.String(), "msg=replayed records="); ok {
		_, _ = fmt.Sscan(rest, &n)
	}
	return n
}

// until asks for the report until ok says yes.
func (s *site) until(what string, ok func(status.Report) bool) status.Report {
	s.t.Helper()
	return s.untilWithin(20*time.Second, what, ok)
}

// untilWithin is until with more or less patience.
func (s *site) untilWithin(patience time.Duration, what string, ok func(status.Report) bool) status.Report {
	s.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for over := time.Now().Add(patience); ; <-tick.C {
		r := s.Report()
		if ok(r) {
			return r
		}
		if time.Now().After(over) {
			s.t.Fatalf("waited for %s; the report is %+v", what, r)
		}
	}
}

// committed returns the values in a topic, as a read_committed reader sees them.
func (s *site) committed(topic string, n int) (all []*kgo.Record) {
	s.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(s.addr), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	for len(all) < n {
		f := c.PollFetches(ctx)
		if ctx.Err() != nil {
			s.t.Fatalf("%d records in %s, want %d", len(all), topic, n)
		}
		f.EachRecord(func(r *kgo.Record) { all = append(all, r) })
	}
	return all
}

// A wire is a raw MQTT 5 client: what it sends is what the test says.
type wire struct {
	t *testing.T
	net.Conn

	r *bufio.Reader
}

func (s *site) connect(id string, clean byte) *wire {
	s.t.Helper()
	w, code := s.tryConnect(id, clean)
	if code != 0 {
		s.t.Fatalf("CONNACK with %#x", code)
	}
	return w
}

func (s *site) tryConnect(id string, clean byte) (w *wire, code byte) {
	s.t.Helper()
	began := time.Now()
	c, err := net.Dial("tcp", s.Door().Addrs()[0].String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	w = &wire{t: s.t, Conn: c, r: bufio.NewReader(c)}
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 5, clean << 1, 0, 60, 5, 0x11, 0, 0, 0xff, 0xff, 0, byte(len(id))}
	w.send(0x10, append(body, id...))
	head, b := w.packet()
	if head != 0x20 {
		s.t.Fatalf("%x %x, and no CONNACK", head, b)
	}
	if time.Since(began) > time.Second {
		s.late.Store(true)
	}
	return w, b[1]
}

func (w *wire) send(head byte, body []byte) {
	w.t.Helper()
	b := []byte{head}
	for n := len(body); ; {
		d := byte(n % 128)
		if n /= 128; n > 0 {
			d |= 128
		}
		b = append(b, d)
		if n == 0 {
			break
		}
	}
	if _, err := w.Write(append(b, body...)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) publish(qos, dup byte, id uint16, topic, payload string) {
	w.t.Helper()
	b := append([]byte{0, byte(len(topic))}, topic...)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	w.send(0x30|qos<<1|dup<<3, append(append(b, 0), payload...))
}

func (w *wire) packet() (head byte, body []byte) {
	w.t.Helper()
	head, body, err := w.next()
	if err != nil {
		w.t.Fatal("read:", err)
	}
	return head, body
}

func (w *wire) next() (head byte, body []byte, err error) {
	if head, err = w.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(w.r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(w.r, body)
	return head, body, err
}

// expect reads an answer: its type and packet id, and no reason code but success.
func (w *wire) expect(head byte, id uint16) {
	w.t.Helper()
	got, body := w.packet()
	code := byte(0)
	if len(body) > 2 {
		code = body[2]
	}
	if got != head || binary.BigEndian.Uint16(body) != id || code != 0 {
		w.t.Fatalf("answer %02x %x, want type %02x, packet id %d, reason 00", got, body, head, id)
	}
}

// U1, U2: what devices publish is in Kafka once, in order, with key and headers,
// over a restart.
func TestDeviceToKafka(t *testing.T) {
	s := newSite(t, "[[route]]\nmatch = \"plant/{line}/#\"\ntopic = \"telemetry.{line}\"\n")
	s.start()
	w := s.connect("pump-7", 1)
	for i := range 10 {
		w.publish(1, 0, uint16(i+1), "plant/a/t", fmt.Sprint(i))
	}
	for i := range 10 {
		w.expect(0x40, uint16(i+1))
	}
	s.end()
	s.start()
	w = s.connect("pump-7", 1)
	w.publish(2, 0, 1, "plant/a/t", "10")
	w.expect(0x50, 1)
	w.send(0x62, []byte{0, 1})
	w.expect(0x70, 1)
	for i, r := range s.committed("telemetry.a", 11) {
		if string(r.Value) != fmt.Sprint(i) || string(r.Key) != "pump-7" || r.Offset < int64(i) {
			t.Errorf("record %d is %q, key %q, offset %d", i, r.Value, r.Key, r.Offset)
		}
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		if headers["mqtt.topic"] != "plant/a/t" || headers["tributary.lsn"] == "" || len(headers["tributary.ledger"]) != 32 || headers["_pid"] != "" {
			t.Errorf("headers %v", headers)
		}
	}
	s.until("nothing to wait", func(r status.Report) bool { return r.Uplink.Waiting == 0 })
}

// U1: the node ends between PUBREC and PUBREL; the device sends its QoS 2
// message again to the next process, which acknowledges and does not store it.
func TestQoS2OverRestart(t *testing.T) {
	for _, checkpoint := range []bool{true, false} {
		t.Run(fmt.Sprintf("checkpoint %v", checkpoint), func(t *testing.T) {
			s := newSite(t, "")
			s.start()
			w := s.connect("valve-1", 0)
			w.publish(2, 0, 7, "t", "once")
			w.expect(0x50, 7)
			s.end()
			if !checkpoint {
				if err := os.Remove(filepath.Join(s.dir, "meta.db")); err != nil {
					t.Fatal(err)
				}
			}
			s.start()
			w = s.connect("valve-1", 0)
			w.publish(2, 1, 7, "t", "once")
			w.expect(0x50, 7)
			w.send(0x62, []byte{0, 7})
			w.expect(0x70, 7)
			w.publish(2, 0, 7, "t", "another")
			w.expect(0x50, 7)
			all := s.committed("mqtt", 2)
			if len(all) != 2 || string(all[0].Value) != "once" || string(all[1].Value) != "another" {
				t.Errorf("%d records", len(all))
			}
			if r := s.Report(); r.MQTT.Resent != 1 {
				t.Errorf("%d resent, want 1", r.MQTT.Resent)
			}
		})
	}
}

// A1: what a start reads again is bounded also while Kafka is away, and a node
// that is started again and again does not read it twice.
func TestReplayIsBounded(t *testing.T) {
	s := newSite(t, "[log]\nmax_size = \"64MiB\"\n")
	s.kafka.Close() // away for good
	s.start()
	w := s.connect("d", 0)
	const total, window = 20_000, 100
	for i := range total {
		if i >= window {
			w.expect(0x40, uint16((i-window)%1000+1))
		}
		w.publish(1, 0, uint16(i%1000+1), "t", "x")
	}
	for i := range window {
		w.expect(0x40, uint16((total-window+i)%1000+1))
	}
	s.crash() // no save at the end
	first, again := s.replayed(), s.replayed()
	if first < total || again > 2*2000 {
		t.Errorf("the starts read %d and %d records again; want all %d, then the last %d and their group", first, again, total, 2000)
	}
}

// A1: with Kafka away a full log answers 0x97 and keeps what it acknowledged;
// when Kafka is back, it takes the message that it refused.
func TestFullLogRefusesWithQuota(t *testing.T) {
	s := newSite(t, "[log]\nmax_size = \"16MiB\"\nsegment = \"4MiB\"\n")
	var down atomic.Bool
	down.Store(true)
	s.kafka.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		s.kafka.KeepControl()
		if down.Load() {
			return nil, errors.New("down"), true
		}
		return nil, nil, false
	})
	s.start()
	w := s.connect("d", 1)
	rng := rand.NewChaCha8([32]byte{})
	payload := make([]byte, 200<<10)
	sent := 0
	for id := uint16(1); ; id++ {
		_, _ = rng.Read(payload)
		w.publish(1, 0, id, "t", string(payload))
		head, body := w.packet()
		if head == 0x40 && len(body) > 2 && body[2] == 0x97 {
			break
		}
		if sent++; sent > 200 {
			t.Fatal("16 MiB took 200 messages of 200 KiB")
		}
	}
	r := s.Report()
	if r.Colour != status.Red || r.MQTT.RefusedFull != 1 || len(r.Reasons) == 0 || !strings.Contains(r.Reasons[0], "full") {
		t.Errorf("report is %+v", r)
	}
	down.Store(false)
	s.until("room", func(r status.Report) bool { return r.Uplink.Waiting == 0 && r.Colour == status.Green })
	w.publish(1, 0, 999, "t", string(payload))
	w.expect(0x40, 999)
	if all := s.committed("mqtt", sent+1); len(all) != sent+1 {
		t.Errorf("%d in Kafka, want %d", len(all), sent+1)
	}
}
