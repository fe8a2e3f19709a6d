package flash

import (
	"math"
	"testing"
	"time"
)

// A day of 100 records a second, each 50 bytes on disk, of which some part goes
// to Kafka.
func TestFill(t *testing.T) {
	const rate, bytes = 100, 50
	const inflow = float64(rate * bytes * 86400)
	for _, c := range []struct {
		name    string
		seconds int64
		waiting func(s int64) int64
		want    float64 // part of the inflow that stays
	}{
		{"Kafka is away", 3600, func(s int64) int64 { return rate * s }, 1},
		{"Kafka is away, and old records wait", 3600, func(s int64) int64 { return 1_000_000 + rate*s }, 1},
		{"half goes to Kafka", 3600, func(s int64) int64 { return rate * s / 2 }, 0.5},
		{"all goes to Kafka, every 20 s", 3600, func(s int64) int64 { return rate * (s % 20) }, 0},
		{"all goes to Kafka, with some left by chance", 3600, func(s int64) int64 { return (s * 7919) % 130 }, 0},
		{"what waits goes to Kafka", 3600, func(s int64) int64 { return 10_000_000 - rate*s }, 0},
		{"nothing moves", 3600, func(int64) int64 { return 5 }, 0},
		{"too early to say", 59, func(s int64) int64 { return rate * s }, 0},
		{"two minutes", 120, func(s int64) int64 { return rate * s }, 1},
		{"away for 8 minutes after an hour", 3600 + 480, func(s int64) int64 { return rate * max(s%20, s-3600) }, 1},
		{"back since 8 minutes", 3600 + 480, func(s int64) int64 { return max(rate*(s%20), rate*s-20*rate*max(0, s-3600)) }, 0},
	} {
		f := NewFill(10 * time.Minute)
		for s := range c.seconds + 1 {
			f.Add(Backlog{At: time.Duration(s) * time.Second, Waiting: c.waiting(s), Records: rate * s, Bytes: rate * bytes * s})
		}
		if got := f.BytesPerDay(); math.Abs(got-c.want*inflow) > 0.05*inflow {
			t.Errorf("%s: %.0f bytes a day, want %.0f", c.name, got, c.want*inflow)
		}
		if c.want == 0 && f.BytesPerDay() != 0 {
			t.Errorf("%s: it is said to fill up", c.name)
		}
		if n := len(f.points); n > steps+2 {
			t.Errorf("%s: %d points are kept", c.name, n)
		}
	}
}

func TestRoomDays(t *testing.T) {
	for _, c := range []struct {
		free    int64
		perDay  float64
		days    float64
		filling bool
	}{
		{41e9, 1e9, 41, true}, {5e8, 1e9, 0.5, true}, {-1, 1e9, 0, true}, {41e9, 0, 0, false},
	} {
		if days, filling := RoomDays(c.free, c.perDay); !near(days, c.days) || filling != c.filling {
			t.Errorf("%+v: %v, %v", c, days, filling)
		}
	}
}

// The alarm comes a day ahead, and does not flutter at the border.
func TestSoon(t *testing.T) {
	f := NewFill(10 * time.Minute)
	if f.Soon(0) {
		t.Error("alarm before anything is known")
	}
	for s := range int64(600) {
		f.Add(Backlog{At: time.Duration(s) * time.Second, Waiting: 10 * s, Records: 10 * s, Bytes: 1000 * s})
	}
	perDay := f.BytesPerDay()
	for _, c := range []struct {
		days float64
		want bool
	}{{30, false}, {1.1, false}, {0.99, true}, {1.1, true}, {0.5, true}, {1.3, false}, {1.1, false}, {0, true}} {
		if got := f.Soon(int64(c.days * perDay)); got != c.want {
			t.Errorf("room for %v days: alarm %v", c.days, got)
		}
	}
}
