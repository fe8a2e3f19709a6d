package tally

import (
	"fmt"
	"iter"
	"slices"
)

// A Copy is one record in Kafka that carries a simulated message.
type Copy struct {
	Device    string
	Seq       uint64
	Topic     string
	Partition int32
	Offset    int64
}

// Check compares what a fleet knows with what is in Kafka: all copies a
// read_committed reader sees, each partition in the order of its offsets.
func Check(t *Truth, copies iter.Seq[Copy]) Report {
	c := NewChecker(t)
	for cp := range copies {
		c.Add(cp)
	}
	return c.Report()
}

// A Checker is Check for copies that come over time. It is not safe for
// concurrent use.
type Checker struct {
	truth   *Truth
	found   [][]uint32 // copies of each message, as Truth.messages
	lanes   map[lane]*passage
	missing int // acknowledged, not found
	report  Report
}

// A lane is a device in a topic: there its messages have an order.
type lane struct {
	device int
	topic  string
}

type passage struct {
	partition int32 // the only one, if all is well
	highest   uint64
	split     bool
}

// NewChecker returns a checker that has seen nothing in Kafka yet. Neither it
// nor its caller may change t afterwards; several checkers may share it.
func NewChecker(t *Truth) *Checker {
	c := &Checker{truth: t, lanes: map[lane]*passage{}, found: make([][]uint32, len(t.messages))}
	for n, messages := range t.messages {
		c.found[n] = make([]uint32, len(messages))
		for _, m := range messages {
			if m.acked {
				c.missing++
			}
		}
	}
	return c
}

// Missing counts the acknowledged messages that have not been added.
func (c *Checker) Missing() int { return c.missing }

// Add takes one record. The records of one partition have to come in the order
// of their offsets.
func (c *Checker) Add(cp Copy) {
	m, n := c.truth.find(cp.Device, cp.Seq)
	if m == nil {
		c.report.Unknown++
		c.report.Offenders.Unknown.add("%s message %d is at %s, and was never sent", cp.Device, cp.Seq, cp.place())
		return
	}
	copies := &c.found[n][cp.Seq-1]
	*copies++
	if *copies == 1 {
		if m.acked {
			c.missing--
		}
		c.order(cp, m, n)
		return
	}
	if *copies <= m.allowed() {
		return
	}
	c.report.Offenders.Twice.add("%s message %d, QoS %d, sent %s, is %d times in Kafka, the last time at %s",
		cp.Device, cp.Seq, m.qos, m.effort(), *copies, cp.place())
}

// order judges the first occurrence of a message. One that was refused and
// sent again later may stand behind younger ones.
func (c *Checker) order(cp Copy, m *sending, n int) {
	p := c.lanes[lane{n, cp.Topic}]
	if p == nil {
		p = &passage{partition: cp.Partition}
		c.lanes[lane{n, cp.Topic}] = p
	}
	if p.partition != cp.Partition {
		if !p.split {
			p.split = true
			c.report.OutOfOrder++
			c.report.Offenders.OutOfOrder.add("%s is in partitions %d and %d of topic %s, so its messages have no order",
				cp.Device, p.partition, cp.Partition, cp.Topic)
		}
		return
	}
	if cp.Seq < p.highest && !m.refused {
		c.report.OutOfOrder++
		c.report.Offenders.OutOfOrder.add("%s message %d is at %s, after message %d", cp.Device, cp.Seq, cp.place(), p.highest)
	}
	p.highest = max(p.highest, cp.Seq)
}

// Report sums up what has been added so far. What has not been added and was
// acknowledged counts as lost.
func (c *Checker) Report() Report {
	r := c.report
	r.Offenders.Lost = Sample{}
	for _, name := range c.truth.sortedNames() {
		n := c.truth.names[name]
		for i := range c.truth.messages[n] {
			m, copies := &c.truth.messages[n][i], c.found[n][i]
			r.QoS[m.qos].add(m, copies)
			if m.acked && copies == 0 {
				r.Offenders.Lost.add("%s message %d, QoS %d, was acknowledged and is not in Kafka", name, i+1, m.qos)
			}
		}
	}
	for _, q := range r.QoS {
		r.Sent += q.Sent
		r.Acked += q.Acked
		r.InKafka += q.InKafka
		r.Lost += q.Lost
		r.Twice += q.Twice
		r.Resent += q.Resent
	}
	return r
}

// allowed returns how often a message may be in Kafka. QoS 2 promises exactly
// once within a session; QoS 1 no more often than it was really sent.
func (m *sending) allowed() uint32 {
	if m.qos == 2 {
		return uint32(m.sessions)
	}
	return m.transmissions
}

func (m *sending) effort() string {
	if m.qos == 2 {
		return fmt.Sprintf("in %d session(s)", m.sessions)
	}
	return fmt.Sprintf("%d time(s)", m.transmissions)
}

func (cp Copy) place() string { return fmt.Sprintf("%s/%d@%d", cp.Topic, cp.Partition, cp.Offset) }

func (t *Truth) sortedNames() []string {
	names := make([]string, 0, len(t.names))
	for name := range t.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
