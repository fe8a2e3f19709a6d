package edge

import (
	"sync"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// A trend keeps how fast records come and go: for the rates of the report, and for
// the charts of the page. Its methods may be called at once.
type trend struct {
	mu      sync.Mutex // guards what follows
	recent  []counts   // the last ones that look was given, oldest first
	minutes steps
	day     steps
}

// counts are the counters at a moment.
type counts struct {
	at               time.Time
	in, out, waiting uint64
}

// rateOver is what rates are measured over.
const rateOver = 10 * time.Second

func newTrend() *trend {
	return &trend{minutes: steps{every: 2 * time.Second, most: 300}, day: steps{every: time.Minute, most: 24 * 60}}
}

// look takes what the counters are now.
func (t *trend) look(c counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.recent) > 1 && c.at.Sub(t.recent[1].at) >= rateOver {
		t.recent = t.recent[1:]
	}
	t.recent = append(t.recent, c)
	t.minutes.look(c)
	t.day.look(c)
}

// rates are those between the oldest and the last look.
func (t *trend) rates() (r status.Rates) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.recent) < 2 {
		return r
	}
	last := t.recent[len(t.recent)-1]
	r.In, r.Out = last.since(t.recent[0])
	r.WindowSeconds = last.at.Sub(t.recent[0].at).Seconds()
	return r
}

// since returns what came and went per second.
func (c counts) since(b counts) (in, out float64) {
	seconds := c.at.Sub(b.at).Seconds()
	if seconds <= 0 || c.in < b.in || c.out < b.out {
		return 0, 0
	}
	return float64(c.in-b.in) / seconds, float64(c.out-b.out) / seconds
}

func (t *trend) history() status.History {
	t.mu.Lock()
	defer t.mu.Unlock()
	return status.History{Minutes: t.minutes.series(), Day: t.day.series()}
}

// steps are means over equal steps of time, the last of them.
type steps struct {
	every time.Duration
	most  int

	from counts // when the step that goes on began
	in   []float32
	out  []float32
	wait []float32
}

func (s *steps) look(c counts) {
	if s.from.at.IsZero() || c.at.Before(s.from.at) {
		s.from = c
	}
	if c.at.Sub(s.from.at) < s.every {
		return
	}
	in, out := c.since(s.from)
	s.from = c
	s.in, s.out, s.wait = s.with(s.in, in), s.with(s.out, out), s.with(s.wait, float64(c.waiting))
}

// with adds a value, and forgets the oldest if there are too many.
func (s *steps) with(all []float32, v float64) []float32 {
	if len(all) == s.most {
		copy(all, all[1:])
		all = all[:s.most-1]
	}
	return append(all, float32(v))
}

func (s *steps) series() status.Series {
	return status.Series{
		EverySeconds: int(s.every / time.Second), End: s.from.at.Unix(),
		In: append([]float32{}, s.in...), Out: append([]float32{}, s.out...), Waiting: append([]float32{}, s.wait...),
	}
}
