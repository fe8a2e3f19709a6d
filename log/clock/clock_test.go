package clock

import "testing"

const (
	noon = int64(1_700_000_000_000) // what the time really is when a test starts
	hour = int64(3_600_000)
)

// A machine is a Source whose time of day somebody may set.
type machine struct {
	wall, up int64
	synced   bool
}

func (m *machine) clock(last int64) *Clock {
	return New(Source{
		Wall:   func() int64 { return m.wall },
		Uptime: func() int64 { return m.up },
		Synced: func() bool { return m.synced },
		Boot:   [16]byte{1},
	}, last)
}

func (m *machine) pass(millis int64) { m.wall, m.up = m.wall+millis, m.up+millis }

// check fails the test unless c says that it is millis, by a clock that is trusted
// or not, and that time and the time of the boot agree.
func (m *machine) check(t *testing.T, c *Clock, what string, millis int64, trusted bool) {
	t.Helper()
	for range 2 { // to look changes nothing
		if r := c.Look(); r.Millis != millis || r.Trusted != trusted || r.BootMillis != millis-m.up {
			t.Errorf("%s: %+v, want %d, %v", what, r, millis, trusted)
		}
	}
}

// A clock that is synchronised is right, whatever was before.
func TestSynchronised(t *testing.T) {
	for _, last := range []int64{0, noon - hour, noon + hour} {
		m := &machine{wall: noon, up: 5000, synced: true}
		c := m.clock(last)
		m.check(t, c, "at once", noon, true)
		m.pass(hour)
		m.check(t, c, "an hour later", noon+hour, true)
	}
}

// A machine without a battery starts in 1970: time goes on from the latest that is
// known, until the time of day is set, whether that is a synchronisation or not.
func TestStartsIn1970(t *testing.T) {
	for _, synced := range []bool{true, false} {
		m := &machine{wall: 20_000, up: 20_000}
		c := m.clock(noon)
		m.check(t, c, "in 1970", noon, false)
		m.pass(hour)
		m.check(t, c, "an hour later", noon+hour, false)
		m.wall += noon + 3*hour
		m.synced = synced
		m.check(t, c, "set", m.wall, synced)
		m.pass(hour)
		m.check(t, c, "an hour after that", m.wall, synced)
	}
}

// With nothing known, 1970 is as good as any other guess.
func TestNothingKnown(t *testing.T) {
	m := &machine{wall: 20_000, up: 20_000}
	m.check(t, m.clock(0), "in 1970", 20_000, false)
}

// A time of day that was stopped while the machine was off, and starts before the
// latest that is known, does not lead back when it has come that far by itself, nor
// when it is set to a time before that one.
func TestGuess(t *testing.T) {
	m := &machine{wall: noon - 2000, up: 100}
	c := m.clock(noon)
	m.check(t, c, "at the start", noon, false)
	for range 100 {
		m.pass(100)
		c.Look()
	}
	m.check(t, c, "behind the latest that is known", noon+10_000, false)
	m.wall = noon - hour
	m.check(t, c, "set to before it", noon+10_000, false)
	m.wall = noon + hour
	m.check(t, c, "set", noon+hour, false)
	m.wall = noon - hour // it is no longer a guess: there is only the time of day
	m.check(t, c, "set back", noon-hour, false)
}

// While it was never synchronised the time of day is all there is: where somebody
// sets it, the clock follows, forth and back.
func TestStepBeforeSync(t *testing.T) {
	m := &machine{wall: noon, up: 5000}
	c := m.clock(noon - hour)
	m.check(t, c, "at first", noon, false)
	for _, step := range []int64{hour, -2 * hour, 1500, -1500, 10} {
		m.wall += step
		m.check(t, c, "after a step", m.wall, false)
		m.pass(1000)
		m.check(t, c, "a second later", m.wall, false)
	}
}

// A time of day that was synchronised and is set by somebody is not believed: it is
// known when the boot was. When it is synchronised again, it is.
func TestStepAfterSync(t *testing.T) {
	m := &machine{wall: noon, up: 5000, synced: true}
	c := m.clock(noon - hour)
	m.check(t, c, "at first", noon, true)
	for _, step := range []int64{-30 * 365 * 24 * hour, 100 * 365 * 24 * hour, -hour} {
		m.pass(1000)
		right := c.Look().Millis
		m.wall, m.synced = noon+step, false
		m.check(t, c, "set by somebody", right, true)
		m.pass(hour)
		m.check(t, c, "an hour later", right+hour, true)
		m.wall, m.synced = right+hour+7, true
		m.check(t, c, "synchronised again", right+hour+7, true)
	}
}

// The kernel slews a clock that is synchronised: the time of the boot moves a
// little, and the clock with it. Without a synchronisation a trusted clock goes on
// by the time since the boot.
func TestDrift(t *testing.T) {
	m := &machine{wall: noon, up: 5000, synced: true}
	c := m.clock(0)
	for range 1000 {
		m.pass(100)
		m.wall += 3
		m.check(t, c, "slewed", m.wall, true)
	}
	m.synced = false
	right := m.wall
	for range 1000 {
		m.pass(100)
		m.wall += 3
		c.Look()
	}
	m.check(t, c, "left alone", right+100_000, true)
}

// The clocks of this machine can be read, and agree with themselves.
func TestSystem(t *testing.T) {
	src := System()
	c := New(src, 0)
	before := src.Wall()
	r := c.Look()
	if after := src.Wall(); r.Millis < before-1000 || r.Millis > after+1000 {
		t.Errorf("it is %d, and between %d and %d", r.Millis, before, after)
	}
	if up := src.Uptime(); up <= 0 || r.BootMillis > before {
		t.Errorf("%d ms since the boot, at %d", up, r.BootMillis)
	}
}
