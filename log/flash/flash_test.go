package flash

import (
	"math"
	"testing"
	"time"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Max(math.Abs(a), math.Abs(b)) }

// at is the sample of a node that has run for so many seconds: 10 groups of a
// page and 20 records a second, and twice as much from the kernel.
func at(seconds int64) Sample {
	return Sample{
		At: time.Hour + time.Duration(seconds)*time.Second, Records: 1000 + 200*seconds,
		Own: Writes{Bytes: 5 << 20, Flushes: 7}.plus(10 * seconds), Kernel: Writes{}.plus(20 * seconds), Known: true,
	}
}

func (w Writes) plus(groups int64) Writes {
	return Writes{w.Bytes + groups*4096, w.Flushes + groups}
}

func TestMeter(t *testing.T) {
	m := New(time.Hour)
	if r := m.Recent(); r.PerDay(1) != 0 || r.PerRecord(1) != 0 || r.BytesPerDay() != 0 {
		t.Errorf("without a sample: %+v", r)
	}
	m.Add(at(0))
	m.Add(at(59))
	if r := m.Recent(); r.PerDay(r.Own.Bytes) != 0 {
		t.Errorf("after less than a minute: %+v", r)
	}
	for s := int64(1); s <= 3*3600; s++ {
		m.Add(at(s))
	}
	total := m.Total()
	for name, r := range map[string]Rates{"recent": m.Recent(), "total": total} {
		if got := r.PerDay(r.Own.Bytes); !near(got, 10*4096*86400) {
			t.Errorf("%s: %.0f bytes a day, want %.0f", name, got, 10*4096*86400.0)
		}
		if got := r.BytesPerDay(); !near(got, 20*4096*86400) {
			t.Errorf("%s: the device gets %.0f bytes a day, want the kernel's", name, got)
		}
		if got := r.PerRecord(r.Own.Bytes); !near(got, 204.8) {
			t.Errorf("%s: %v bytes a record, want 204.8", name, got)
		}
		if got := r.PerRecord(r.Own.Flushes); !near(got, 0.05) {
			t.Errorf("%s: %v flushes a record, want 0.05", name, got)
		}
	}
	if total.Over != 3*time.Hour {
		t.Errorf("the total is over %v, want 3h", total.Over)
	}
	if over := m.Recent().Over; over < time.Hour || over > time.Hour+2*time.Minute {
		t.Errorf("the window is %v, want an hour and at most two minutes more", over)
	}
	if n := len(m.samples); n > steps+2 {
		t.Errorf("%d samples are kept; %d are enough", n, steps+2)
	}
}

// What happened before the window does not count in it.
func TestMeterSlides(t *testing.T) {
	m := New(time.Hour)
	for s := range int64(3601) {
		m.Add(at(s))
	}
	rest := at(3600)
	for range 2 * 3600 {
		rest.At += time.Second
		m.Add(rest)
	}
	if r := m.Recent(); r.Own.Bytes != 0 || r.Kernel.Bytes != 0 || r.Records != 0 {
		t.Errorf("after two hours of rest: %+v", r)
	}
	if r := m.Total(); r.Own.Bytes != 3600*10*4096 {
		t.Errorf("in total: %+v", r)
	}
}

// A device that the kernel shows only at one of the ends has no figure, nor has
// one whose count began anew.
func TestMeterKernelUnknown(t *testing.T) {
	for _, known := range [][2]bool{{false, false}, {true, false}, {false, true}} {
		m, a, b := New(time.Hour), at(0), at(60)
		a.Known, b.Known = known[0], known[1]
		m.Add(a)
		m.Add(b)
		if r := m.Recent(); r.Known || r.Kernel != (Writes{}) || !near(r.BytesPerDay(), 10*4096*86400) {
			t.Errorf("known %v: %+v", known, r)
		}
	}
}

func TestMeterKernelWraps(t *testing.T) {
	m, b := New(time.Hour), at(60)
	b.Kernel.Bytes = 0
	m.Add(at(30))
	m.Add(at(45))
	m.Add(b)
	if r := m.Recent(); r.Known || r.Own.Bytes != 30*10*4096 {
		t.Errorf("after the kernel's count began anew: %+v", r)
	}
}

func TestLifeYears(t *testing.T) {
	for _, c := range []struct {
		endurance int64
		perDay    float64
		years     float64
		ok        bool
	}{
		{120e12, 6e9, 120e12 / 6e9 / 365.25, true}, // 54.8
		{16e12, 298e9, 16e12 / 298e9 / 365.25, true},
		{0, 6e9, 0, false},
		{120e12, 0, 0, false},
	} {
		if years, ok := LifeYears(c.endurance, c.perDay); !near(years, c.years) || ok != c.ok {
			t.Errorf("%+v: %v, %v", c, years, ok)
		}
	}
}
