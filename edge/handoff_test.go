package edge_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary/edge/status"
)

// ownRoom is a log that fits on the disk, however much of that others use.
const ownRoom = "[log]\nmax_size = \"256MiB\"\n"

// A walker is a device that roams: its messages are numbered.
type walker struct {
	id  string
	qos byte
	w   *wire
	n   int
}

// goTo has the device connect to a gateway, with a session that lasts.
func (d *walker) goTo(s *site) {
	s.t.Helper()
	d.w = s.connect(d.id, 0)
}

// publish sends more messages and waits for their acknowledgements.
func (d *walker) publish(count int) {
	d.w.t.Helper()
	for range count {
		pid := uint16(1 + d.n%60000)
		d.w.publish(d.qos, 0, pid, "plant/1", fmt.Sprintf("%s %d", d.id, d.n))
		d.n++
		if d.qos == 1 {
			d.w.expect(0x40, pid)
			continue
		}
		d.w.expect(0x50, pid)
		d.w.send(0x62, []byte{byte(pid >> 8), byte(pid)})
		d.w.expect(0x70, pid)
	}
}

// isLate says whether a gateway took so long for a device that another one may have seemed
// silent: on a machine that has too much to do flags are no defect.
func isLate(all ...*site) bool {
	return slices.ContainsFunc(all, func(s *site) bool { return s.late.Load() })
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// checkOrder checks that all messages of the devices are there, once, in their order,
// in sessions that follow one another, and returns how many carry flags.
func checkOrder(t *testing.T, got []*kgo.Record, all ...*walker) (flagged int) {
	t.Helper()
	next, last := map[string]int{}, map[string][2]int{}
	for _, r := range got {
		id, text, _ := strings.Cut(string(r.Value), " ")
		if n, err := strconv.Atoi(text); err != nil || n != next[id] {
			t.Errorf("%q, should be %s %d", r.Value, id, next[id])
		}
		next[id]++
		epoch, count, _ := strings.Cut(header(r, "tributary.session"), ".")
		e, err := strconv.Atoi(epoch)
		n, err2 := strconv.Atoi(count)
		if was := last[id]; err != nil || err2 != nil || e < was[0] || e == was[0] && n <= was[1] {
			t.Errorf("%q is of session %q, after %v", r.Value, header(r, "tributary.session"), was)
		}
		last[id] = [2]int{e, n}
		if header(r, "tributary.flags") != "" {
			flagged++
		}
	}
	for _, d := range all {
		if next[d.id] != d.n {
			t.Errorf("%d messages of %s, should be %d", next[d.id], d.id, d.n)
		}
	}
	return flagged
}

// I3, I9, T21: devices go from one gateway to the other and back, while one of the two is
// slow to forward: all is in Kafka once, in the order in which they sent it, unflagged.
func TestDevicesRoam(t *testing.T) {
	a, b := newPair(t, ownRoom)
	a.linger = "1s"
	b.pairWith(a)
	a.until("the other node", func(r status.Report) bool { return len(r.Gateways.Peers) == 1 })
	var all []*walker
	for i := range 6 {
		all = append(all, &walker{id: fmt.Sprintf("walker-%d", i), qos: byte(1 + i%2)})
	}
	sent := 0
	for step := range 6 {
		for i, d := range all {
			d.goTo([]*site{a, b}[(step+i)%2])
			d.publish(5)
			sent += 5
		}
	}
	if flagged := checkOrder(t, a.committed("mqtt", sent), all...); flagged > 0 && !isLate(a, b) {
		t.Errorf("%d records are flagged", flagged)
	}
}

// I3, T22: a gateway without a way to Kafka is killed; its devices are at the other one at
// once, and send on. What they sent before goes first, from the copy, and nothing is
// flagged: the gateway cannot have acknowledged anything alone.
func TestDevicesFlee(t *testing.T) {
	a, b := newPair(t, ownRoom)
	kafka := a.addr
	a.addr = "127.0.0.1:1" // nobody is there
	b.pairWith(a)
	a.until("the other node", func(r status.Report) bool { return len(r.Gateways.Peers) == 1 })
	all := []*walker{{id: "one", qos: 1}, {id: "two", qos: 2}}
	for _, d := range all {
		d.goTo(a)
		d.publish(20)
	}
	a.crash()
	began, in := time.Now(), make(chan struct{})
	for _, d := range all {
		go func() {
			d.w, _ = b.tryConnect(d.id, 0)
			in <- struct{}{}
		}()
	}
	for range all {
		<-in
	}
	soon := time.Since(began) < 2500*time.Millisecond // later it could have acknowledged something alone, a second before it ended
	for _, d := range all {
		d.publish(20)
	}
	if flagged := checkOrder(t, b.committed("mqtt", 80), all...); flagged > 0 && soon {
		t.Errorf("%d records are flagged", flagged)
	}
	a.addr = kafka
	a.start()
	for _, d := range all {
		d.goTo(a)
		d.publish(5)
	}
	checkOrder(t, b.committed("mqtt", 90), all...)
}

// R44: a gateway has acknowledged alone, and is gone. Nobody can say what it has of a
// device, so what the device sends elsewhere is flagged, and not held back for ever.
func TestUnverifiedIsFlagged(t *testing.T) {
	a, b := newPair(t, ownRoom)
	kafka := a.addr
	a.addr = "127.0.0.1:1" // nobody is there
	b.pairWith(a)
	b.end()
	d := &walker{id: "one", qos: 1}
	d.goTo(a)
	d.publish(3)
	if r := a.Report(); !r.Gateways.Short {
		t.Fatal("it has copies")
	}
	a.end()
	b.start()
	lost := d.n
	d.goTo(b)
	d.publish(3)
	got := b.committed("mqtt", 3)
	for _, r := range got {
		if flags := header(r, "tributary.flags"); flags != "unverified" {
			t.Errorf("%q is flagged %q", r.Value, flags)
		}
	}
	a.addr = kafka
	a.start()
	b.committed("mqtt", 3+lost)
}

// I9, R47, T27: a QoS 2 message is sent again to another gateway, because its PUBREC did
// not come: it is in Kafka once.
func TestQoS2Moves(t *testing.T) {
	a, b := newPair(t, ownRoom)
	a.linger = "1s"
	b.pairWith(a)
	a.until("the other node", func(r status.Report) bool { return len(r.Gateways.Peers) == 1 })
	w := a.connect("device", 0)
	w.publish(2, 0, 5, "plant/1", "m")
	w.expect(0x50, 5) // and this is lost
	w = b.connect("device", 0)
	w.publish(2, 1, 5, "plant/1", "m")
	w.expect(0x50, 5)
	w.send(0x62, []byte{0, 5})
	w.expect(0x70, 5)
	w.publish(2, 0, 5, "plant/1", "m") // the same once more, and another message
	w.expect(0x50, 5)
	w = a.connect("device", 0) // where 5 was known, and has been used anew since
	w.publish(2, 1, 5, "plant/1", "m")
	w.expect(0x50, 5)
	w.send(0x62, []byte{0, 5})
	w.expect(0x70, 5)
	w.publish(2, 0, 6, "plant/1", "end")
	w.expect(0x50, 6)
	var values []string
	for _, r := range a.committed("mqtt", 3) {
		values = append(values, string(r.Value))
		if flags := header(r, "tributary.flags"); flags != "" && !isLate(a, b) {
			t.Errorf("%q is flagged %q", r.Value, flags)
		}
	}
	if !slices.Equal(values, []string{"m", "m", "end"}) {
		t.Errorf("Kafka has %q", values)
	}
}

// R40 to R42: a hundred devices that come at once are asked for together, and soon.
func TestManyArrive(t *testing.T) {
	a, b := newPair(t, ownRoom)
	b.pairWith(a)
	a.until("the other node", func(r status.Report) bool { return len(r.Gateways.Peers) == 1 })
	began := time.Now()
	done := make(chan struct{})
	const devices = 100
	for i := range devices {
		go func() {
			defer func() { done <- struct{}{} }()
			b.tryConnect(fmt.Sprint("device-", i), 0)
		}()
	}
	for range devices {
		<-done
	}
	t.Logf("%d devices were let in within %v", devices, time.Since(began))
	if r := b.Report(); r.Gateways.LetIn != devices || r.Gateways.Unverified > 0 && !isLate(a, b) {
		t.Errorf("%+v", r.Gateways)
	}
}
