package edge

import (
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/log/store"
)

// A log that fills up is announced a day before it is full, by the colour; what
// goes to Kafka is no reason for it.
func TestForecast(t *testing.T) {
	const rate, bytes = 100, 200 // records a second, bytes of one on disk
	const perDay = rate * bytes * 86400
	for _, c := range []struct {
		name   string
		free   int64
		away   bool
		colour status.Colour
	}{
		{"away, room for 30 hours", perDay * 30 / 24, true, status.Green},
		{"away, room for 20 hours", perDay * 20 / 24, true, status.Yellow},
		{"forwarding, room for an hour", perDay / 24, false, status.Green},
	} {
		db, _, err := meta.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		m, _ := newMeter(disktest.New(1<<20), db, t.TempDir(), 0, time.Second)
		var r status.Report
		for s := range int64(300) {
			m.uptime = func() int64 { return 1_000_000 + s*1000 }
			r = status.Report{Uplink: status.Uplink{State: "forwarding", Waiting: rate}}
			if c.away {
				r.Uplink.Waiting = uint64(rate * s)
			}
			m.report(&r, store.Stats{Records: rate * s, WrittenBytes: rate * bytes * s, FreeBytes: c.free, RoomBytes: c.free})
		}
		r.Log.FreeBytes = c.free
		r.Judge(time.Now())
		if r.Colour != c.colour || (r.Colour == status.Yellow) != strings.Contains(strings.Join(r.Reasons, ""), "full in 20 hours") {
			t.Errorf("%s: %s %q", c.name, r.Colour, r.Reasons)
		}
		if r.Log.Filling != c.away {
			t.Errorf("%s: filling %v by %.0f bytes a day", c.name, r.Log.Filling, r.Log.GrowthBytesPerDay)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
