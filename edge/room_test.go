package edge_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/ingest/route"
)

// A reserve that the disk cannot give beside a log is no reserve: the node says so
// instead of refusing every ordinary message.
func TestReserveLargerThanTheDisk(t *testing.T) {
	s := newSite(t, "[log]\nmax_size = \"95%\"\nalarm_reserve = \"1TiB\"\n[[route]]\nmatch = \"alarm/#\"\ntopic = \"alarms\"\npriority = \"alarm\"\n")
	n, err := edge.Open(t.Context(), s.config(), slog.New(slog.DiscardHandler))
	if err == nil {
		_ = n.Close()
		// The largest reserve that a configuration takes is 1 TiB: here it fits.
		t.Skip("a file system of more than 2 TiB")
	}
	if got := err.Error(); !strings.HasPrefix(got, "[log] alarm_reserve 1024 GiB leaves no room for other messages: the log may have ") ||
		!strings.HasSuffix(got, " for it; lower it. Nothing was changed") {
		t.Error(got)
	}
}

func TestReserveFor(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		reserve, maxBytes, onDisk int64
		alarms                    bool
		want                      int64 // -1: an error
	}{
		{0, 100 * gib, 200 * gib, false, 0},
		{0, 100 * gib, 200 * gib, true, 2 * gib},
		{0, 100 * gib, 50 * gib, true, gib},
		{10 * gib, 100 * gib, 20 * gib, true, 10 * gib},
		{10*gib + 1, 100 * gib, 20 * gib, true, -1},
		{51 * gib, 100 * gib, 200 * gib, true, -1},
		{51 * gib, 100 * gib, 200 * gib, false, 0},
	} {
		cfg := &config.Config{Log: config.Log{AlarmReserve: c.reserve}, Routes: []route.Rule{{Alarm: c.alarms}}}
		got, err := edge.ReserveFor(cfg, c.maxBytes, c.onDisk)
		if (err != nil) != (c.want < 0) || err == nil && got != c.want {
			t.Errorf("%+v: got %d, %v", c, got, err)
		}
	}
}

// Two nodes cannot share a directory, and the sentence names it once.
func TestDirectoryInUse(t *testing.T) {
	s := newSite(t, "")
	s.start()
	_, err := edge.Open(t.Context(), s.config(), slog.New(slog.DiscardHandler))
	if err == nil || strings.Count(err.Error(), "data directory") != 1 || !strings.Contains(err.Error(), "is in use by another tributary") {
		t.Error(err)
	}
}
