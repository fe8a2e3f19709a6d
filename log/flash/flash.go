// Package flash reckons what the life of a card is spent on. It is arithmetic
// only: counts go in, rates and a life come out.
package flash

import "time"

// A Sample is what was counted up to one moment.
type Sample struct {
	At      time.Duration // on a clock that nobody sets, such as the time since the boot
	Records int64         // that devices were promised
	Own     Writes        // what the node gave to the device
	Kernel  Writes        // what the device got, from every program
	Known   bool          // whether Kernel is
}

// Writes are counts of what a device was given.
type Writes struct{ Bytes, Flushes int64 }

// A Meter keeps the samples of a sliding window, and the first one. Its zero
// value is no meter: see New.
type Meter struct {
	window  time.Duration
	every   time.Duration
	first   Sample
	latest  Sample
	samples []Sample // oldest first; the oldest is as old as the window, or the first
}

// steps is how many samples a window has: a rate is of a time that is at most so
// much of a window longer.
const steps = 60

// New returns a meter whose window is that long.
func New(window time.Duration) *Meter { return &Meter{window: window, every: window / steps} }

// Add takes a sample. It may come as often as it likes.
func (m *Meter) Add(s Sample) {
	if len(m.samples) == 0 {
		m.first = s
	}
	m.latest = s
	if n := len(m.samples); n > 0 && s.At-m.samples[n-1].At < m.every {
		return
	}
	m.samples = append(m.samples, s)
	old := 0
	for old+1 < len(m.samples) && s.At-m.samples[old+1].At >= m.window {
		old++
	}
	m.samples = append(m.samples[:0], m.samples[old:]...)
}

// Recent returns the rates over the window, or since the first sample if that is
// less.
func (m *Meter) Recent() Rates {
	if len(m.samples) == 0 {
		return Rates{}
	}
	return between(m.samples[0], m.latest)
}

// Total returns the rates since the first sample.
func (m *Meter) Total() Rates { return between(m.first, m.latest) }

// Rates are what was written over some time.
type Rates struct {
	Over    time.Duration
	Records int64
	Own     Writes
	Kernel  Writes
	Known   bool // whether Kernel is
}

func between(a, b Sample) Rates {
	r := Rates{
		Over: b.At - a.At, Records: b.Records - a.Records,
		Own:   Writes{b.Own.Bytes - a.Own.Bytes, b.Own.Flushes - a.Own.Flushes},
		Known: a.Known && b.Known && a.Kernel.Bytes <= b.Kernel.Bytes && a.Kernel.Flushes <= b.Kernel.Flushes, // 32 bits wrap
	}
	if r.Known {
		r.Kernel = Writes{b.Kernel.Bytes - a.Kernel.Bytes, b.Kernel.Flushes - a.Kernel.Flushes}
	}
	return r
}

// leastSpan is how long something is watched before it is said what a day will
// bring.
const leastSpan = time.Minute

// PerDay returns what n in the time of r is in a day; 0 if it is too early to say.
func (r *Rates) PerDay(n int64) float64 {
	if r.Over < leastSpan {
		return 0
	}
	return float64(n) * float64(24*time.Hour) / float64(r.Over)
}

// PerRecord returns n for each record of r; 0 if there was none.
func (r *Rates) PerRecord(n int64) float64 {
	if r.Records <= 0 {
		return 0
	}
	return float64(n) / float64(r.Records)
}

// BytesPerDay returns what the device gets in a day: the kernel's figure if it is
// known, because a card wears by whatever is written to it, else our own.
func (r *Rates) BytesPerDay() float64 {
	if r.Known {
		return r.PerDay(r.Kernel.Bytes)
	}
	return r.PerDay(r.Own.Bytes)
}

const daysPerYear = 365.25

// LifeYears returns how long a new card lasts that can be written with so many
// bytes; ok is false when nothing is known, or nothing written.
func LifeYears(enduranceBytes int64, bytesPerDay float64) (years float64, ok bool) {
	if enduranceBytes <= 0 || bytesPerDay <= 0 {
		return 0, false
	}
	return float64(enduranceBytes) / bytesPerDay / daysPerYear, true
}
