package status

import (
	"fmt"
	"strings"
)

// Room says for people how long the log has room.
func (l *Log) Room() string {
	switch {
	case l.Refusing:
		return "no room"
	case l.Dropping():
		return "full, dropping the oldest"
	case !l.Filling:
		return "not filling"
	}
	return fmt.Sprintf("room for %s at this rate", Days(l.RoomDays))
}

// Dropping reports whether the oldest records make room for new ones: Kafka has not been
// told of all yet, or there is still little room.
func (l *Log) Dropping() bool {
	return l.DropsOldest && (l.UntoldRecords > 0 || l.DroppedRecords > 0 && l.FreeBytes < l.MaxBytes/3)
}

// perRecord says what a record takes as it is written, before it is packed.
func (l *Log) perRecord() string {
	if l.Records <= 0 {
		return ""
	}
	return fmt.Sprintf("   %d bytes a record", l.WrittenBytes/l.Records)
}

// tooEarly is how many seconds must have passed before a rate says anything of a
// day.
const tooEarly = 60

// lifeTooEarly is how many seconds must have passed before a rate says anything
// of the years that a card lasts.
const lifeTooEarly = 15 * 60

// TellsLife reports whether the node has measured for long enough to say how long
// a card lasts.
func (f *Flash) TellsLife() bool { return f.WindowSeconds >= lifeTooEarly }

// over says how long it was measured.
func (f *Flash) over() string {
	if f.WindowSeconds >= 3600 {
		return fmt.Sprintf("over %.0f h", f.WindowSeconds/3600)
	}
	return fmt.Sprintf("over %d min", int(f.WindowSeconds/60))
}

// Text says on one line what the device's life is spent on.
func (f *Flash) Text() string {
	var b strings.Builder
	if f.WindowSeconds < tooEarly {
		fmt.Fprintf(&b, "%s in %d flushes since the start, too early for more", Bytes(f.Bytes), f.Flushes)
		return b.String()
	}
	fmt.Fprintf(&b, "%s a day", gigabytes(f.BytesPerDay))
	if !f.JournalKnown {
		b.WriteString(" and what the file system adds")
	}
	b.WriteString(" " + f.over() + ", ")
	if f.KernelKnown {
		fmt.Fprintf(&b, "%s by the kernel's count of %s   ", gigabytes(f.KernelBytesPerDay), f.Device)
	} else {
		b.WriteString("the kernel's count is not known   ")
	}
	if f.BytesPerRecord > 0 {
		fmt.Fprintf(&b, "%.0f bytes and %.2g flushes a record   ", f.BytesPerRecord, f.FlushesPerRecord)
	}
	switch {
	case f.EnduranceBytes == 0:
		b.WriteString("life not known: set [log] endurance")
	case !f.TellsLife():
		b.WriteString("too early to say how long a card lasts")
	case f.LifeYears > 0:
		fmt.Fprintf(&b, "a new card of %s lasts %s", gigabytes(float64(f.EnduranceBytes)), years(f.LifeYears))
	}
	return strings.TrimRight(b.String(), " ")
}

// gigabytes writes bytes in the decimal units in which cards are sold.
func gigabytes(n float64) string {
	switch {
	case n >= 1e12:
		return fmt.Sprintf("%.4g TB", n/1e12)
	case n >= 1e8:
		return fmt.Sprintf("%.3g GB", n/1e9)
	}
	return fmt.Sprintf("%.3g MB", n/1e6)
}

func years(n float64) string {
	switch {
	case n >= 100:
		return "more than 100 years"
	case n >= 10:
		return fmt.Sprintf("%.0f years", n)
	case n >= 1:
		return fmt.Sprintf("%.1f years", n)
	}
	return Days(n * 365.25)
}

// Days writes a number of days for people.
func Days(n float64) string {
	switch {
	case n >= 1000:
		return "more than 1000 days"
	case n >= 10:
		return fmt.Sprintf("%.0f days", n)
	case n >= 2:
		return fmt.Sprintf("%.1f days", n)
	case n*24 >= 2:
		return fmt.Sprintf("%.0f hours", n*24)
	}
	return fmt.Sprintf("%.0f minutes", n*24*60)
}
