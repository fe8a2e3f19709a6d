package edge

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// That the log will be full is said once, also when the node is yellow or red
// already; drops are said, but not each second.
func TestAnnouncer(t *testing.T) {
	var out strings.Builder
	logger := slog.New(slog.NewTextHandler(&out, nil))
	a, now := announcer{colour: status.Green}, time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name   string
		change func(*status.Report)
		after  time.Duration
		want   []string // one for each line
	}{
		{"nothing", func(*status.Report) {}, 0, nil},
		{"yellow", func(r *status.Report) { r.Colour, r.Reasons = status.Yellow, []string{"one", "two"} }, time.Second, []string{`reasons="one; two"`}},
		{"soon", func(r *status.Report) { r.Log.FullSoon, r.Log.RoomDays, r.Log.FreeBytes = true, 0.5, 1<<30 }, time.Second, []string{`within a day" room="12 hours" free="1.0 GiB"`}},
		{"still", func(*status.Report) {}, time.Second, nil},
		{"red", func(r *status.Report) { r.Colour, r.Log.Refusing, r.Log.FullSoon = status.Red, true, false }, time.Second, []string{"status is red"}},
		{"room", func(r *status.Report) { r.Colour, r.Log.Refusing, r.Log.FullSoon = status.Green, false, false }, time.Second, []string{"any more", "green again"}},
		{"dropped", func(r *status.Report) { r.Log.DropsOldest, r.Log.FullSoon, r.Log.DroppedRecords = true, true, 7 }, time.Second, []string{"records=7 since_start=7"}},
		{"more", func(r *status.Report) { r.Log.DroppedRecords = 9 }, time.Second, nil},
		{"a minute later", func(r *status.Report) { r.Log.DroppedRecords = 10 }, time.Minute, []string{"records=3 since_start=10"}},
	} {
		r := &status.Report{Colour: a.colour}
		r.Log.FullSoon, r.Log.DroppedRecords = a.soon, a.dropped
		c.change(r)
		now = now.Add(c.after)
		out.Reset()
		a.look(logger, r, now)
		if strings.Count(out.String(), "\n") != len(c.want) {
			t.Errorf("%s: want %d lines, got %q", c.name, len(c.want), out.String())
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %s in %q", c.name, want, out.String())
			}
		}
	}
}
