package device_test

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary/firmware-sim/device"
	"github.com/tributary-edge/tributary/firmware-sim/tally"
)

// shelf stands for Kafka: it keeps what the broker accepts, in order. spoil
// says how many times a message is put there; nil: once.
type shelf struct {
	mqtt.HookBase
	spoil func(qos byte, seq uint64) int

	mu     sync.Mutex
	copies []tally.Copy
	seen   map[string]int // user properties and content types
}

func (s *shelf) ID() string { return "shelf" }

func (s *shelf) Provides(b byte) bool {
	return b == mqtt.OnPublish || b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck
}

func (s *shelf) OnConnectAuthenticate(_ *mqtt.Client, pk packets.Packet) bool {
	c := pk.Connect
	return string(c.Username) == c.ClientIdentifier && string(c.Password) == "secret"
}

func (s *shelf) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

func (s *shelf) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	id, seq, ok := device.Identify(pk.Payload)
	if !ok || pk.TopicName != "site/sim/"+id+"/tele" {
		return pk, nil
	}
	times := 1
	if s.spoil != nil {
		times = s.spoil(pk.FixedHeader.Qos, seq)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for range times {
		s.copies = append(s.copies, tally.Copy{Device: id, Seq: seq, Topic: "t", Offset: int64(len(s.copies))})
	}
	s.seen[pk.Properties.ContentType]++
	for _, u := range pk.Properties.User {
		s.seen[u.Key+"="+u.Val]++
	}
	return pk, nil
}

// broker starts mochi on loopback and returns its address.
func broker(t *testing.T, s *shelf) string {
	t.Helper()
	s.seen = map[string]int{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumInflight = 8192
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler), Capabilities: limits})
	if err := server.AddHook(s, nil); err != nil {
		t.Fatal(err)
	}
	if err := server.AddListener(listeners.NewNet("test", listener)); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// fleet runs devices with bad radios, three times with one ledger: twice the
// simulator ends in the middle of things, the last time it makes Options.Count
// messages and waits for the answers. It returns what a checker says and what
// happened.
func fleet(t *testing.T, s *shelf, opt device.Options) (tally.Report, []device.Stats) {
	t.Helper()
	t.Helper()
	opt.Seed = rand.Uint64()
	t.Logf("seed %d: set Options.Seed to it for the same faults", opt.Seed)
	opt.Broker = broker(t, s)
	opt.Devices, opt.Window = 12, 10
	opt.Username, opt.Password = "{device}", "secret"
	opt.Payloads = device.Mix{{Name: "json", Weight: 1}, {Name: "cbor", Weight: 1}, {Name: "sparkplug", Weight: 1}, {Name: "random", Weight: 1}}
	opt.UserProperties = []device.Property{{Key: "line", Value: "7"}}
	path := filepath.Join(t.TempDir(), "ledger")
	var stats []device.Stats
	for _, sudden := range []bool{true, true, false} {
		ledger, err := tally.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		opt.Recorder = ledger
		span := time.Minute
		opt.Drain = 20 * time.Second
		if sudden {
			span, opt.Drain = 300*time.Millisecond, 0
		}
		f, err := device.New(opt)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), span)
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if err := ledger.Close(); err != nil {
			t.Error(err)
		}
		stats = append(stats, f.Stats())
	}
	truth, err := tally.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return tally.Check(truth, slices.Values(s.copies)), stats
}

var badRadio = device.Faults{
	Cut: 0.01, HalfOpen: 0.008, Reboot: 0.008, RebootLost: 0.008, Duplicate: 0.05, ClockOff: time.Hour,
}

// A broker that keeps its promises is never accused, whatever the radio does.
// With MQTT 5 mochi answers the repetition of a QoS 2 PUBLISH with 0x91
// instead of success, so there QoS 2 stays out; and it sends acknowledgements
// again on a new connection, so strays are not judged.
func TestFleetOnABadRadio(t *testing.T) {
	for _, opt := range []device.Options{
		{
			Versions: device.Mix{{Name: device.Version311, Weight: 1}}, Count: 150,
			QoS: device.Mix{{Name: "0", Weight: 1}, {Name: "1", Weight: 6}, {Name: "2", Weight: 3}}, Faults: badRadio,
		},
		{
			Versions: device.Mix{{Name: device.Version5, Weight: 1}}, Count: 150,
			QoS: device.Mix{{Name: "0", Weight: 1}, {Name: "1", Weight: 6}}, Faults: badRadio,
		},
		{
			Clean: true, Count: 100,
			QoS: device.Mix{{Name: "0", Weight: 1}, {Name: "1", Weight: 6}, {Name: "2", Weight: 3}}, Faults: device.Faults{Cut: 0.02},
		},
	} {
		s := &shelf{}
		report, stats := fleet(t, s, opt)
		if !report.OK() || report.Unknown > 0 {
			t.Errorf("a good broker is accused:\n%v", report)
		}
		st := stats[len(stats)-1]
		if st.Sent != 12*int64(opt.Count) || st.Outstanding != 0 || st.Connected != 0 {
			t.Errorf("the last run did not end well: %+v", st)
		}
		if st.Cuts == 0 || st.Reconnects == 0 || !opt.Clean && (st.HalfOpen == 0 || st.Reboots == 0 || st.Duplicates == 0) {
			t.Errorf("the radio was too good: %+v", st)
		}
		if len(opt.Versions) == 1 && opt.Versions[0].Name == device.Version5 {
			for _, key := range []string{"line=7", "application/json", "application/cbor", "application/x-protobuf", "application/octet-stream"} {
				if s.seen[key] == 0 {
					t.Errorf("no message came with %s", key)
				}
			}
		}
	}
}

// A broker that loses, or repeats, is accused of that. (The checker has teeth.)
func TestFleetAccusesABadBroker(t *testing.T) {
	for name, spoil := range map[string]func(qos byte, seq uint64) int{
		"lost":  func(_ byte, seq uint64) int { return min(1, int(seq%50)) },
		"twice": func(qos byte, seq uint64) int { return 1 + int(qos/2)*int(seq%50/49) },
	} {
		report, _ := fleet(t, &shelf{spoil: spoil}, device.Options{
			Versions: device.Mix{{Name: device.Version311, Weight: 1}}, Count: 100,
			QoS: device.Mix{{Name: "1", Weight: 1}, {Name: "2", Weight: 1}}, Faults: device.Faults{Cut: 0.005, Duplicate: 0.02},
		})
		found := bytes.Contains([]byte(report.String()), []byte(name+":\n"))
		if report.OK() || !found || (report.Lost > 0) != (name == "lost") || (report.Twice > 0) != (name == "twice") {
			t.Errorf("a broker that has things %s:\n%v", name, report)
		}
	}
}
