package edge

import (
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/sync/uplink"
)

// A day of looks, one a second: the rates are those of the last ten seconds, and what
// is kept is bounded.
func TestTrend(t *testing.T) {
	tr, start := newTrend(), time.Unix(1e9, 0)
	if r := tr.rates(); r.WindowSeconds != 0 || r.In != 0 {
		t.Errorf("rates of nothing: %+v", r)
	}
	for i := range uint64(25 * 3600) {
		tr.look(counts{at: start.Add(time.Duration(i) * time.Second), in: 7 * i, out: 3 * i, waiting: 4 * i})
	}
	if r := tr.rates(); r.In != 7 || r.Out != 3 || r.WindowSeconds != 10 {
		t.Errorf("rates %+v", r)
	}
	h := tr.history()
	if n := len(h.Minutes.In); n != 300 || len(h.Minutes.Waiting) != n || h.Minutes.Out[0] != 3 {
		t.Errorf("%d fine steps", n)
	}
	if n := len(h.Day.In); n != 24*60 || h.Day.In[n-1] != 7 || h.Day.EverySeconds != 60 {
		t.Errorf("%d steps of the day", n)
	}
	if cap(tr.recent) > 100 {
		t.Errorf("room for %d looks", cap(tr.recent))
	}
	tr.look(counts{at: start}) // the clock was set back: nothing comes of it
	if r := tr.rates(); r.In != 0 {
		t.Errorf("rates %+v after a jump", r)
	}
}

// U1: what was committed again is counted, and nothing else is.
func TestTwice(t *testing.T) {
	for _, c := range []struct {
		next, to tributary.LSN
		records  int
		want     uint64
	}{
		{10, 15, 5, 0},
		{10, 15, 3, 0}, // two of them stay on this node
		{0, 15, 5, 0},  // it was not known what Kafka has
		{10, 10, 0, 0}, // what an earlier session had committed
		{12, 15, 5, 2},
		{20, 15, 5, 5},
	} {
		if got := twice(c.next, &uplink.Commit{Position: tributary.Position{Next: c.to}, Records: c.records}); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
