//go:build page

package edge_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/firmware-sim/device"
)

// A browser is a Chromium that looks at pages, see page/browser/look.js.
type browser struct {
	t     *testing.T
	in    io.Writer
	out   *bufio.Reader
	shots string // folder for screenshots
}

// An order is one look at a page.
type order struct {
	URL    string            `json:"url"`
	Token  string            `json:"token"`
	Colour status.Colour     `json:"colour"`
	Says   []string          `json:"says,omitempty"`
	Silent bool              `json:"silent,omitempty"`
	Looks  []string          `json:"looks"` // size and scheme
	Dir    string            `json:"dir"`
	Shots  map[string]string `json:"shots,omitempty"`
}

// openBrowser starts it. Without one the test fails: it never passes by not looking.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Minute) // it ends in a cleanup
	t.Cleanup(stop)
	cmd := exec.CommandContext(ctx, "node", filepath.Join("page", "browser", "look.js"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: edge/page/browser/install.sh installs what is missing", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error("the browser:", err)
		}
	})
	b := &browser{t: t, in: in, out: bufio.NewReader(out), shots: os.Getenv("SHOTS")}
	if b.shots == "" {
		b.shots = t.TempDir()
	}
	return b
}

// look has the browser carry out an order, and reports what is wrong. meanwhile is
// called, if it is not nil, once the page is open.
func (b *browser) look(name string, o *order, meanwhile func()) {
	b.t.Helper()
	o.Dir = b.shots
	text, err := json.Marshal(o)
	if err != nil {
		b.t.Fatal(err)
	}
	start := time.Now()
	b.say(text)
	line := b.line()
	if meanwhile != nil && line == "open\n" {
		meanwhile()
		b.say([]byte("gone"))
		line = b.line()
	}
	var answer struct {
		Faults  []string `json:"faults"`
		Figures int      `json:"figures"`
	}
	if err := json.Unmarshal([]byte(line), &answer); err != nil {
		b.t.Fatalf("%s: %v: %q", name, err, line)
	}
	for _, fault := range answer.Faults {
		b.t.Errorf("%s: %s", name, fault)
	}
	if answer.Figures < len(o.Looks)*40 {
		b.t.Errorf("%s: only %d figures were compared", name, answer.Figures)
	}
	b.t.Logf("%s: %d figures, %v", name, answer.Figures, time.Since(start).Round(100*time.Millisecond))
}

func (b *browser) say(text []byte) {
	if _, err := b.in.Write(append(text, '\n')); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) line() string {
	line, err := b.out.ReadString('\n')
	if err != nil {
		b.t.Fatal("the browser ended:", err)
	}
	return line
}

// traffic has some devices publish until the test ends.
func (s *site) traffic() {
	s.t.Helper()
	fleet, err := device.New(device.Options{
		Broker: s.Door().Addrs()[0].String(), Devices: 24, Rate: 5, Prefix: s.name + "-pump-", Topic: "plant/{device}/tele",
		QoS: device.Mix{{Name: "0", Weight: 1}, {Name: "1", Weight: 6}, {Name: "2", Weight: 3}}, BackoffMax: time.Second, KeepAlive: 30 * time.Second,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fleet.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Error("the devices:", err)
		}
	})
}

// fill publishes what does not compress until the report is as it should be.
func (s *site) fill(what string, ok func(status.Report) bool) {
	s.t.Helper()
	dev := s.connect("camera", 1)
	defer func() { _ = dev.Close() }()
	noise, body := rand.NewChaCha8([32]byte{}), make([]byte, 120_000)
	for n := range uint16(3000) {
		if ok(s.Report()) {
			return
		}
		_, _ = noise.Read(body)
		dev.publish(1, 0, n+1, "plant/camera", string(body))
		_, _, _ = dev.next() // an acknowledgement, or that there is no room
	}
	s.t.Fatalf("%s did not come; the report is %+v", what, s.Report())
}

// keepFull publishes whenever the report is not as it should be, until ctx ends.
func (s *site) keepFull(ctx context.Context, ok func(status.Report) bool) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.fill("what it was", ok)
		case <-ctx.Done():
			return
		}
	}
}

// The status page in a browser, while a gateway of a site gets into one trouble after
// the other: every figure on it is of the JSON, the colour follows the rules, it fits a
// phone, asks nobody else, and axe finds nothing serious, in light and dark.
func TestPage(t *testing.T) {
	a, b := newPair(t, "[log]\nmax_size = \"64MiB\"\nsegment = \"4MiB\"\nendurance = \"120TB\"\n[[route]]\nmatch = \"raw/{what}\"\ntopic = \"raw.{what}\"\n")
	address, token, file := freeAddress(t), "correct-horse-battery", filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token)
	a.name, b.name = "north-gate", "south-gate"
	a.extra += fmt.Sprintf("[status]\nlisten = %q\ntoken_file = %q\n", address, file)
	b.pairWith(a)
	look := openBrowser(t)
	a.traffic()
	b.traffic()
	o := func(c status.Colour, says ...string) *order {
		return &order{URL: "http://" + address + "/", Token: token, Colour: c, Says: says, Looks: []string{"phone-light", "wide-dark"}}
	}
	every := []string{"phone-light", "phone-dark", "wide-light", "wide-dark"}

	a.until("copies", func(r status.Report) bool {
		return r.Colour == status.Green && r.Uplink.Sent > 100 && r.Gateways.Peers[0].Copied > 0
	})
	warm := time.Now()
	a.untilWithin(time.Minute, "a while", func(status.Report) bool { return time.Since(warm) > 30*time.Second })
	healthy := o(status.Green, "connected", "This gateway sends to Kafka. Copies of what it takes: south-gate.")
	healthy.Looks = every
	healthy.Shots = map[string]string{"wide-light": "page-healthy.png", "phone-dark": "page-phone.png"}
	look.look("healthy", healthy, nil)

	odd := a.connect("odd", 1)
	odd.publish(1, 0, 1, "raw/ü", "no topic of Kafka can be called so")
	odd.expect(0x40, 1)
	write("short")
	a.Reload()
	look.look("bad reload", o(status.Yellow, "was not reloaded", "token_file"), nil)
	write(token)
	a.Reload()

	b.end()
	a.untilWithin(time.Minute, "the peer to be gone", func(r status.Report) bool { return r.Colour == status.Yellow })
	look.look("peer gone", o(status.Yellow, "Bring a peer back", "not there"), nil)

	a.kafka.Close()
	a.untilWithin(2*time.Minute, "the uplink to be missed", func(r status.Report) bool {
		return len(r.Reasons) > 1 && strings.Contains(strings.Join(r.Reasons, " "), "wait on this disk")
	})
	look.look("uplink cut", o(status.Yellow, "records wait on this disk", "does not reach Kafka"), nil)

	nearly := func(r status.Report) bool { return r.Log.FreeBytes < r.Log.MaxBytes/6 }
	a.fill("a log that is nearly full", nearly)
	keep, enough := context.WithCancel(t.Context())
	kept := make(chan struct{})
	go func() { // packing makes room meanwhile
		defer close(kept)
		a.keepFull(keep, nearly)
	}()
	look.look("nearly full", o(status.Yellow, "less than a fifth of the log is free"), nil)
	enough()
	<-kept

	a.fill("a full log", func(r status.Report) bool { return r.Log.Refusing && r.Totals.Refused > 0 })
	full := o(status.Red, "the log is full and devices are told to wait", "There is no room")
	full.Looks = every
	full.Shots = map[string]string{"wide-dark": "page-troubled.png"}
	look.look("full", full, nil)

	gone := o(status.Red)
	gone.Silent, gone.Looks = true, nil
	look.look("silent", gone, a.end)
	if r := a.Report(); r.Totals.DeadLetters != 1 || r.Totals.Refused == 0 || r.Totals.Lost != 0 {
		t.Errorf("totals %+v", r.Totals)
	}
}
