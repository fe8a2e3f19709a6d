package edge_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/status"
)

// reading reads the site's configuration with more keys, as a reload does.
func (s *site) reading(more string) (*config.Reading, error) {
	s.t.Helper()
	in := config.Input{Path: s.file("tributary.toml", s.text()+more)}
	return in.Read()
}

// adopt tells the node what it was started with.
func (s *site) adopt() {
	s.t.Helper()
	r, err := s.reading("")
	if err != nil || r.Config == nil {
		s.t.Fatal(r, err)
	}
	s.Adopt(r, "")
}

// wantRouted checks what is in the topic of the route.
func (s *site) wantRouted(want string) {
	s.t.Helper()
	if all := s.committed("routed", 1); len(all) != 1 || string(all[0].Value) != want {
		s.t.Errorf("the routed topic has %v, want %q", all, want)
	}
}

// A reload applies routes, limits and linger, names what needs a restart, and leaves
// all as it was if anything is wrong; each of these the node says.
func TestReconfigure(t *testing.T) {
	s := newSite(t, "")
	s.mqtt = "max_messages_per_second = 0\n"
	s.start()
	s.adopt()
	w := s.login("dev", "", "")
	w.publish(1, 0, 1, "a/b", "before")
	w.expect(0x40, 1)

	const routes = "[[route]]\nmatch = \"a/#\"\ntopic = \"routed\"\n[logging]\nlevel = \"debug\"\n"
	if c := s.Reconfigure(s.reading(routes + "[log]\nsegment = \"4MiB\"\n")); c.Logging.Level >= 0 || c.Log.SegmentBytes == 4<<20 {
		t.Errorf("in force is %+v", c)
	}
	r := s.Report()
	if r.Colour != status.Yellow || !slices.Equal(r.Config.NeedsRestart, []string{"[log] segment"}) ||
		!slices.ContainsFunc(r.Reasons, func(s string) bool { return strings.Contains(s, "needs a restart: [log] segment") }) {
		t.Errorf("%v %v %+v", r.Colour, r.Reasons, r.Config)
	}
	w.publish(1, 0, 2, "a/b", "after")
	w.expect(0x40, 2)
	s.until("routed", func(r status.Report) bool { return r.Uplink.Waiting == 0 })
	s.wantRouted("after")

	if c := s.Reconfigure(s.reading("[log]\nsegment = \"4\"\n[[route]]\nmatch = \"#\"\ntopic = \"other\"\n")); len(c.Routes) != 1 || c.Routes[0].Topic != "routed" {
		t.Errorf("a broken configuration changed %+v", c.Routes)
	}
	if r := s.Report(); r.Colour != status.Yellow || !strings.Contains(r.Config.BadReload, "tributary.toml:") || !strings.Contains(r.Config.BadReload, `"4" is not a size`) {
		t.Errorf("%v %+v", r.Reasons, r.Config)
	}
	s.Reconfigure(nil, os.ErrNotExist)
	if r := s.Report(); r.Colour != status.Yellow || r.Config.BadReload == "" {
		t.Errorf("%v %+v", r.Reasons, r.Config)
	}
	s.Reconfigure(s.reading(""))
	if r := s.Report(); r.Colour != status.Green || r.Config.BadReload != "" || len(r.Config.NeedsRestart) != 0 {
		t.Errorf("%v %+v", r.Reasons, r.Config)
	}
	w.publish(1, 0, 3, "a/b", "back")
	w.expect(0x40, 3)
	s.until("back", func(r status.Report) bool { return r.Uplink.Waiting == 0 })
	s.wantRouted("after")
	s.mqtt = "max_messages_per_second = 1\n"
	s.Reconfigure(s.reading(""))
	for id := range uint16(3) {
		w.publish(1, 0, 4+id, "a/b", "fast")
	}
	s.until("slowed", func(r status.Report) bool { return r.MQTT.Slowed > 0 })
	s.mqtt = "max_connections_per_address = 1\n"
	s.Reconfigure(s.reading(""))
	if _, _, err := s.dial().next(); err == nil {
		t.Error("a second client of this address was let in")
	}
	const alarms = "[[route]]\nmatch = \"a\"\ntopic = \"t\"\npriority = \"alarm\"\n"
	for range 2 { // a reserve for alarms is set aside at a start, however often this is read
		s.Reconfigure(s.reading(alarms + "[mqtt_]\n"))
		s.Reconfigure(s.reading(alarms + "[log]\nsegment = \"4MiB\"\n"))
		if got := s.Report().Config.NeedsRestart; !slices.Equal(got, []string{"[log] segment", "[log] alarm_reserve"}) {
			t.Errorf("%q", got)
		}
	}
	in := config.Input{Path: "elsewhere/tributary.toml"}
	if last, err := in.LastGood(&config.Reading{DataDir: s.dir}); err != nil || last.Config.Node.Name != "n1" || last.Config.Log.SegmentBytes == 4<<20 || !last.Config.HasAlarms() {
		t.Errorf("last good: %v, %v", last, err)
	}
}

// A shorter linger counts for the first record that comes after the reload.
func TestReconfigureLinger(t *testing.T) {
	s := newSite(t, "")
	s.linger = "1h"
	s.start()
	s.adopt()
	s.until("the uplink", func(r status.Report) bool { return r.Uplink.State == "forwarding" })
	s.linger = "10ms"
	if c := s.Reconfigure(s.reading("")); c.Kafka.Linger != 10*time.Millisecond {
		t.Error(c.Kafka.Linger)
	}
	if r := s.Report(); r.Colour != status.Green {
		t.Errorf("%v %v", r.Colour, r.Reasons)
	}
	w := s.login("dev", "", "")
	w.publish(1, 0, 1, "a/b", "soon")
	w.expect(0x40, 1)
	s.committed("mqtt", 1)
}
