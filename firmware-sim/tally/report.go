package tally

import (
	"fmt"
	"strings"
)

// A Report is what a check found. All figures but Resent, Twice and Unknown
// count messages; those three count records.
type Report struct {
	Sent    int `json:"sent"`     // at least begun to be sent
	Acked   int `json:"acked"`    // the broker took responsibility
	InKafka int `json:"in_kafka"` // at least once
	Lost    int `json:"lost"`     // acknowledged, and not in Kafka
	// Twice counts the records beyond what may be there: with QoS 2 one for
	// each session in which the message was sent, else one for each time.
	Twice int `json:"twice"`
	// OutOfOrder counts messages whose first record stands behind that of a
	// younger one, and devices that are in two partitions of a topic.
	OutOfOrder int `json:"out_of_order"`
	Resent     int `json:"resent"`  // records more than one per message, explained by sending it again
	Unknown    int `json:"unknown"` // records of messages that were never sent

	QoS       [3]Figures `json:"by_qos"`
	Offenders Offenders  `json:"offenders"`
}

// Figures are those of the messages of one QoS.
type Figures struct {
	Sent    int `json:"sent"`
	Acked   int `json:"acked"`
	InKafka int `json:"in_kafka"`
	Lost    int `json:"lost"`
	Twice   int `json:"twice"`
	Resent  int `json:"resent"`
}

func (f *Figures) add(m *sending, copies uint32) {
	f.Sent++
	if m.acked {
		f.Acked++
	}
	if copies > 0 {
		f.InKafka++
		most := max(1, m.allowed())
		f.Twice += int(copies - min(copies, most))
		f.Resent += int(min(copies, most)) - 1
	} else if m.acked {
		f.Lost++
	}
}

// Offenders are the first of each kind, in sentences.
type Offenders struct {
	Lost       Sample `json:"lost,omitempty"`
	Twice      Sample `json:"twice,omitempty"`
	OutOfOrder Sample `json:"out_of_order,omitempty"`
	Unknown    Sample `json:"unknown,omitempty"`
}

// A Sample is at most 20 sentences.
type Sample []string

const sampleSize = 20

func (s *Sample) add(format string, args ...any) {
	if len(*s) < sampleSize {
		*s = append(*s, fmt.Sprintf(format, args...))
	}
}

// OK says whether nothing was lost, twice or out of order.
func (r Report) OK() bool { return r.Lost == 0 && r.Twice == 0 && r.OutOfOrder == 0 }

// String returns the report as a table and the offenders, on several lines.
func (r Report) String() string {
	var b strings.Builder
	const row = "%-7s %10v %10v %10v %8v %8v %8v\n"
	fmt.Fprintf(&b, row, "", "sent", "acked", "in Kafka", "lost", "twice", "resent")
	for qos, q := range r.QoS {
		if q.Sent > 0 {
			fmt.Fprintf(&b, row, fmt.Sprintf("QoS %d", qos), q.Sent, q.Acked, q.InKafka, q.Lost, q.Twice, q.Resent)
		}
	}
	fmt.Fprintf(&b, row, "all", r.Sent, r.Acked, r.InKafka, r.Lost, r.Twice, r.Resent)
	fmt.Fprintf(&b, "out of order: %d, never sent: %d\n", r.OutOfOrder, r.Unknown)
	r.Offenders.write(&b, r)
	return b.String()
}

func (o Offenders) write(b *strings.Builder, r Report) {
	for _, kind := range []struct {
		title string
		count int
		list  Sample
	}{
		{"lost", r.Lost, o.Lost},
		{"twice", r.Twice, o.Twice},
		{"out of order", r.OutOfOrder, o.OutOfOrder},
		{"never sent", r.Unknown, o.Unknown},
	} {
		if len(kind.list) == 0 {
			continue
		}
		fmt.Fprintf(b, "%s:\n", kind.title)
		for _, sentence := range kind.list {
			fmt.Fprintf(b, "  %s\n", sentence)
		}
		if more := kind.count - len(kind.list); more > 0 {
			fmt.Fprintf(b, "  and %d more\n", more)
		}
	}
}
