package clock

import "time"

// A Source is where a Clock gets its time from: the system's clocks, or a
// test's. All fields are set.
type Source struct {
	Wall   func() int64 // time of day, ms since 1970
	Uptime func() int64 // ms since the boot; nobody sets it
	Synced func() bool  // whether the time of day is synchronised
	Boot   [16]byte     // which boot this is; zeros: not known
}

// System returns the clocks of this machine.
func System() Source {
	return Source{
		Wall:   func() int64 { return time.Now().UnixMilli() },
		Uptime: UptimeMillis, Synced: Synced, Boot: Boot(),
	}
}

// A Reading is the time by a Clock.
type Reading struct {
	Millis     int64 // since 1970
	BootMillis int64 // what the clock takes for the time of the boot
	Trusted    bool  // the time of day was synchronised at some time since New
}

// A Clock tells the time on a machine whose time of day may be wrong and may
// jump. It keeps the time of the boot, and adds how long that is ago: so a
// reading that was not to be trusted can be put right later, when the time of
// the boot is known. It is not for concurrent use.
type Clock struct {
	src  Source
	last int64 // the latest time that is known to have been, before this process

	boot    int64
	trusted bool
	guessed bool  // boot is a guess from last: the time of day is before it
	seen    int64 // time of the boot by the time of day, when it was last looked at
	looked  bool
}

// New returns a clock that knows that it was at least last, ms since 1970, before.
func New(src Source, last int64) *Clock { return &Clock{src: src, last: last} }

// stepMillis is a change of the time of day that is a step and not drift.
const stepMillis = 1000

// Look reads the clock.
//
// While the time of day is synchronised, it is right. Once it has been, a later
// time of day that is not, because somebody has set it, is not believed: it is
// known when the boot was. Before that the time of day is all there is, but a
// machine without a battery says 1970, or when it was last switched off: then time
// goes on from the latest that is known, until the time of day is set to a later one.
func (c *Clock) Look() Reading {
	wall, up := c.src.Wall(), c.src.Uptime()
	seen := wall - up
	step := seen - c.seen
	stepped := step > stepMillis || step < -stepMillis
	switch {
	case c.src.Synced():
		c.boot, c.trusted = seen, true
	case c.trusted:
	case !c.looked && wall < c.last:
		c.boot, c.guessed = c.last-up, true
	case !c.guessed, stepped && wall >= c.last:
		c.boot, c.guessed = seen, false
	}
	c.seen, c.looked = seen, true
	return Reading{Millis: c.boot + up, BootMillis: c.boot, Trusted: c.trusted}
}
