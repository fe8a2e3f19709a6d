package flash

import "time"

// A Backlog is how much waits at one moment, and how much the log has taken.
type Backlog struct {
	At      time.Duration // as in Sample
	Waiting int64         // records that are not in Kafka yet
	Records int64         // that the log has taken
	Bytes   int64         // that the log gave to their groups, padding included
}

// A Fill watches whether the log fills up. Its zero value is none: see NewFill.
type Fill struct {
	window time.Duration
	points []Backlog // oldest first
	soon   bool
}

// NewFill returns a Fill that judges by a window of that length. It should be some
// times longer than what is gathered before it goes to Kafka.
func NewFill(window time.Duration) *Fill { return &Fill{window: window} }

// Add takes what waits now. It may come as often as it likes.
func (f *Fill) Add(b Backlog) {
	if n := len(f.points); n > 0 && b.At-f.points[n-1].At < f.window/steps {
		return
	}
	f.points = append(f.points, b)
	old := 0
	for old+1 < len(f.points) && b.At-f.points[old].At > f.window {
		old++
	}
	f.points = append(f.points[:0], f.points[old:]...)
}

// BytesPerDay returns how fast what is not in Kafka grows; 0 if it does not, or
// not enough is known. What waits goes up and down with every transaction, so the
// least that waited in the newer half of the window is compared with the least
// in the older half. Growth by less than a part in noise of what the log has
// taken is none.
func (f *Fill) BytesPerDay() float64 {
	if len(f.points) == 0 {
		return 0
	}
	first, last := f.points[0], f.points[len(f.points)-1]
	span := last.At - first.At
	if span < leastSpan {
		return 0
	}
	low, later := first, last
	for i := range f.points {
		p := f.points[i]
		if p.At-first.At < span/2 {
			if p.Waiting <= low.Waiting {
				low = p // the last of the older half: it waits since then
			}
		} else if p.Waiting < later.Waiting {
			later = p
		}
	}
	grown, records := later.Waiting-low.Waiting, last.Records-first.Records
	if grown <= records/noise || records <= 0 {
		return 0
	}
	bytes := float64(grown) * float64(last.Bytes-first.Bytes) / float64(records)
	return bytes * float64(24*time.Hour) / float64(later.At-low.At)
}

// noise is which part of the records may wait more than before by chance.
const noise = 50

// RoomDays returns for how many days there is room when the log grows that fast;
// filling is false, and days 0, when it does not grow.
func RoomDays(freeBytes int64, bytesPerDay float64) (days float64, filling bool) {
	if bytesPerDay <= 0 {
		return 0, false
	}
	return float64(max(0, freeBytes)) / bytesPerDay, true
}

// Soon says whether the log is full within a day. Once it says so, it goes on
// until there is room for a quarter more, so that it does not change its mind all
// the time.
func (f *Fill) Soon(freeBytes int64) bool {
	days, filling := RoomDays(freeBytes, f.BytesPerDay())
	f.soon = filling && (days < 1 || f.soon && days < 1.25)
	return f.soon
}
