package edge_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/firmware-sim/device"
	"github.com/tributary-edge/tributary/firmware-sim/readback"
	"github.com/tributary-edge/tributary/firmware-sim/tally"
)

// byTopic gives the devices without a client id of their own the key that their
// topics name; see docs/DEVICES.md.
const byTopic = "[[route]]\nmatch = \"lost/{device}/#\"\ntopic = \"mqtt\"\nkey = \"{device}\"\n" +
	"[[route]]\nmatch = \"nameless/{device}/#\"\ntopic = \"mqtt\"\nkey = \"{device}\"\n"

// A radio is how devices reach a node that comes back on another port.
type radio struct {
	mu    sync.Mutex
	to    string // "": nowhere
	conns []net.Conn
}

func (r *radio) tune(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}

// dial is device.Options.Dial.
func (r *radio) dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	if to == "" {
		return nil, errors.New("out of reach")
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, c)
	return c, nil
}

// fail ends all connections without a DISCONNECT, and makes no new ones.
func (r *radio) fail() {
	r.tune("")
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

// D1, U1, U2, U4: whatever firmware the devices have and however bad their radio is,
// over a crash of the node as well, what was acknowledged to them is in Kafka, once
// if it was QoS 2, and in order.
func TestProfilesOnABadRadio(t *testing.T) {
	s := newSite(t, byTopic)
	s.start()
	r := &radio{to: s.Door().Addrs()[0].String()}
	path := filepath.Join(t.TempDir(), "ledger")
	ledger, err := tally.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var mix device.Mix
	for _, name := range device.ProfileNames() {
		mix = append(mix, device.Share{Name: name, Weight: 1})
	}
	seed := rand.Uint64()
	t.Logf("seed %d: set Options.Seed to it for the same faults", seed)
	fleet, err := device.New(device.Options{
		Profiles: mix, Devices: 30, Rate: 30, Count: 60, Window: 8, Dial: r.dial, Seed: seed, Recorder: ledger,
		BackoffMax: 200 * time.Millisecond, AckTimeout: 5 * time.Second, HalfOpenFor: time.Second, Drain: 30 * time.Second,
		Faults: device.Faults{Cut: 0.03, HalfOpen: 0.01, Reboot: 0.005, RebootLost: 0.005, Duplicate: 0.03},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	span, cancelSpan := context.WithTimeout(t.Context(), time.Minute)
	defer cancelSpan()
	go func() { done <- fleet.Run(span) }()
	waitFor(t, "a third of the readings", func() bool { return fleet.Stats().Sent > 600 })
	r.tune("")
	s.crash()
	s.start()
	r.tune(s.Door().Addrs()[0].String())
	if err := errors.Join(<-done, ledger.Close()); err != nil {
		t.Fatal(err)
	}
	st := fleet.Stats()
	if st.Sent != 30*60 || st.Outstanding != 0 || st.Connected != 0 {
		t.Errorf("the fleet did not end well: %+v", st)
	}
	if st.Cuts == 0 || st.HalfOpen == 0 || st.Reboots == 0 || st.Reconnects < 30 || st.Duplicates == 0 {
		t.Errorf("the radio was too good: %+v", st)
	}
	s.until("nothing to wait", func(r status.Report) bool { return r.Uplink.Waiting == 0 })
	truth, err := tally.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	report, err := readback.Verify(ctx, []string{s.addr}, []string{"mqtt"}, truth, 20*time.Second)
	if err != nil || !report.OK() || report.Unknown > 0 || report.QoS[0].InKafka == 0 || report.QoS[1].Acked == 0 || report.QoS[2].Acked == 0 {
		t.Errorf("%v\n%v", err, report)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for over := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(over) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// A habitat is a few devices of a kind at a node, of which a test looks at one,
// and who talks with it.
type habitat struct {
	*site

	id       string
	profile  device.Profile // its topics are the device's
	radio    *radio
	fleet    *device.Fleet
	said     string // on the status topic, last
	settled  chan bool
	commands chan device.Command
	stop     context.CancelFunc
	done     chan error
}

// settle switches devices on; the first two speak MQTT 3.1.1, and the third MQTT 5
// if its kind can. p.number is that of the one to look at.
func (s *site) settle(t *testing.T, p kind) *habitat {
	t.Helper()
	prefix := "d" + p.number[3:] + "-" // what another test has left at the node is not ours
	id := prefix + p.Name + "-" + p.number
	ours := *s
	ours.t = t
	h := &habitat{
		site: &ours, settled: make(chan bool, 10_000), id: id, profile: p.Of(id), radio: &radio{},
		commands: make(chan device.Command, 10_000), done: make(chan error, 1),
	}
	fleet, err := device.New(device.Options{
		Profiles: device.Mix{{Name: p.Name, Weight: 1}}, Prefix: prefix, Devices: 3, Rate: 20, Dial: h.radio.dial, Drain: 20 * time.Second,
		BackoffMax: 50 * time.Millisecond, Seed: 1,
		Settled: func(name string) {
			if name == id {
				h.settled <- true
			}
		},
		Commanded: func(c device.Command) {
			if c.Device == id {
				h.commands <- c
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.fleet = fleet
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	go func() { h.done <- fleet.Run(ctx) }()
	t.Cleanup(stop)
	return h
}

// subscribe asks for a filter; options are the QoS and what MQTT 5 adds to it.
func (w *wire) subscribe(filter string, options byte) {
	w.t.Helper()
	b := append([]byte{0, 9, 0, 0, byte(len(filter))}, filter...)
	w.send(0x82, append(b, options))
	if head, body := w.packet(); head != 0x90 || body[len(body)-1] != options&3 {
		w.t.Fatalf("SUBACK %02x %x", head, body)
	}
}

// message waits for the next message, of QoS 0, and returns its payload.
func (w *wire) message() (payload string) {
	w.t.Helper()
	head, body := w.packet()
	if head&0xf6 != 0x30 || len(body) < 3 {
		w.t.Fatalf("%x %x instead of a message", head, body)
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	props, size := binary.Uvarint(body[n:])
	return string(body[n+size+int(props):])
}

// retain publishes a retained message with QoS 1.
func (w *wire) retain(topic, payload string) {
	w.t.Helper()
	b := append(append([]byte{0, byte(len(topic))}, topic...), 0, 9, 0)
	w.send(0x33, append(b, payload...))
	w.expect(0x40, 9)
}

// expectStatus fails the test unless the topic says these things next. The last may
// come again: a birth message of QoS 1 whose PUBACK was lost is sent twice.
func (h *habitat) expectStatus(w *wire, want ...string) {
	h.t.Helper()
	for _, x := range want {
		got := w.message()
		for got == h.said {
			got = w.message()
		}
		if got != x {
			h.t.Fatalf("the status topic says %q; want %q", got, x)
		}
		h.said = x
	}
}

// retained waits until who subscribes gets a retained message with this payload.
func (h *habitat) retained(t *testing.T, topic, payload string) {
	t.Helper()
	waitFor(t, topic+" to be "+payload, func() bool {
		w := h.connect("later", 1)
		defer func() { _ = w.Close() }()
		w.subscribe(topic, 0)
		w.publish(1, 0, 2, "site/marker", "x")
		for {
			head, body, err := w.next()
			if err != nil {
				t.Fatal(err)
			}
			if head == 0x40 {
				return false // long after SUBACK: there is no such message yet
			}
			if head == 0x31 && strings.HasSuffix(string(body), payload) {
				return true
			}
		}
	})
}

// Who is there: a birth that a later subscriber sees, a will when the connection
// breaks, the birth again, and at a DISCONNECT nothing but what the device says.
func TestProfileStatus(t *testing.T) {
	s := newSite(t, byTopic)
	s.start()
	for _, p := range kinds() {
		t.Run(p.name, func(t *testing.T) {
			if p.Status.Topic == "" {
				t.Skip("this firmware publishes no birth and has no will: there is nothing to see")
			}
			h := s.settle(t, p)
			st := h.profile.Status
			live := h.connect("live", 1)
			live.subscribe(st.Topic, 0)
			h.radio.tune(s.Door().Addrs()[0].String())
			h.expectStatus(live, st.Birth)
			h.retained(t, st.Topic, st.Birth)
			for _, a := range h.profile.Announce {
				h.retained(t, a.Topic, a.Payload)
			}
			h.radio.fail()
			h.expectStatus(live, st.Will)
			h.retained(t, st.Topic, st.Will)
			h.radio.tune(s.Door().Addrs()[0].String())
			h.expectStatus(live, st.Birth)
			h.retained(t, st.Topic, st.Birth)
			h.stop()
			if err := <-h.done; err != nil {
				t.Error(err)
			}
			if p.Farewells {
				h.expectStatus(live, st.Will)
			}
			h.connect("marker", 1).publish(0, 0, 0, st.Topic, "marker")
			h.expectStatus(live, "marker")
			if got := h.fleet.Stats(); got.Strays > 0 || got.Refused > 0 || got.Outstanding > 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Commands reach a device and its answers the one who asked, after a broken
// connection as well, and a message that is too long for it does it no harm.
func TestProfileCommands(t *testing.T) {
	s := newSite(t, byTopic)
	s.start()
	for _, p := range kinds() {
		t.Run(p.name, func(t *testing.T) {
			h := s.settle(t, p)
			topic := strings.ReplaceAll(h.profile.Command.Filter, "#", "POWER")
			asker, listener := h.connect("asker", 1), h.connect("listener", 1)
			if p.Reply != "" {
				listener.subscribe(h.profile.Reply, 0)
			}
			for _, text := range []string{"first", "second"} {
				if p.Sleepy { // it is away most of the time
					asker.retain(topic, text)
				}
				h.radio.tune(s.Door().Addrs()[0].String())
				select {
				case <-h.settled:
				case <-time.After(20 * time.Second):
					t.Fatalf("%s did not settle: %+v", h.id, h.fleet.Stats())
				}
				if p.PacketBytes > 0 {
					asker.publish(1, 0, 1, topic, strings.Repeat("long", p.PacketBytes/4))
					asker.expect(0x40, 1)
				}
				if !p.Sleepy {
					asker.publish(1, 0, 2, topic, text)
					asker.expect(0x40, 2)
				}
				h.obeyed(topic, text)
				for answer := ""; p.Reply != "" && answer != text; { // one may come twice
					answer = listener.message()
				}
				h.radio.fail()
			}
			h.radio.tune(s.Door().Addrs()[0].String())
			h.stop()
			if err := <-h.done; err != nil {
				t.Error(err)
			}
			got := h.fleet.Stats()
			saidSo := p.number == "0003" // with MQTT 5 it said what it can take (MQTT-3.1.2-24)
			if got.Strays > 0 || got.Refused > 0 || got.Outstanding > 0 || (got.Skipped > 0) != (p.PacketBytes > 0 && !saidSo) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// obeyed waits until a command has reached the device. With QoS 1 others may come
// again.
func (h *habitat) obeyed(topic, text string) {
	h.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case c := <-h.commands:
			if c.Topic == topic && c.Payload == text {
				return
			}
		case <-late:
			h.t.Fatalf("%s never got %q; %+v", h.id, text, h.fleet.Stats())
		}
	}
}

// A kind is a profile and a version of MQTT that it speaks.
type kind struct {
	device.Profile

	name, number string // number is that of a device which speaks it, see settle
}

func kinds() (all []kind) {
	for _, p := range device.Profiles() {
		for i, number := range []string{"0001", "0003"}[:len(p.Versions)] {
			all = append(all, kind{p, p.Name + " " + p.Versions[i].Name, number})
		}
	}
	return all
}
