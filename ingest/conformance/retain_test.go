//go:build conformance

package conformance

import (
	"fmt"
	"slices"
)

func retainReplaces(s *suite) {
	topic := s.topic("t")
	p := s.newcomer()
	for qos := range byte(3) {
		payload := fmt.Sprint("m", qos)
		p.publish(msg{topic: topic, payload: payload, qos: qos, retain: true})
		p.settle()
		c := s.newcomer().listen(topic, 2)
		got := c.message(payload)
		equal(s, "RETAIN", got.retain(), true)
		equal(s, "QoS", got.qos(), qos)
		c.acknowledge(got)
		c.silent()
	}
}

func retainedForEachTopic(s *suite) {
	base := s.topic("")
	p := s.newcomer()
	want := []string{"a", "a/b", "c"}
	for _, name := range want {
		p.publish(msg{topic: base + name, payload: name, qos: 1, retain: true})
	}
	got := payloads(s.newcomer().listen(base+"#", 0).collect())
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.fatalf("retained %q, want %q", got, want)
	}
}

// retainedQoS0: a QoS 0 message replaces what was retained; it may itself be lost.
func retainedQoS0(s *suite) {
	topic := s.topic("t")
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "old", qos: 1, retain: true})
	p.publish(msg{topic: topic, payload: "new", retain: true})
	p.settle()
	if got := payloads(s.newcomer().listen(topic, 1).collect()); slices.Contains(got, "old") {
		s.fatalf("retained %q", got)
	}
}

func emptyRemoves(s *suite) {
	for qos := range byte(3) {
		topic := s.topic("t")
		p := s.newcomer()
		p.publish(msg{topic: topic, payload: "m", qos: 1, retain: true})
		c := s.newcomer().listen(topic, 2)
		c.acknowledge(c.message("m"))
		p.publish(msg{topic: topic, qos: qos, retain: true})
		got := c.message("") // so the server is through with it
		equal(s, "RETAIN", got.retain(), false)
		s.newcomer().listen(topic, 1).silent()
	}
}

func emptyIsNotStored(s *suite) {
	topic := s.topic("t")
	s.newcomer().publish(msg{topic: topic, qos: 1, retain: true})
	s.newcomer().listen(topic, 1).silent()
}

func withoutRetain(s *suite) {
	topic := s.topic("t")
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "not kept", qos: 1})
	s.newcomer().listen(topic, 1).silent()
	p.publish(msg{topic: topic, payload: "kept", qos: 1, retain: true})
	p.publish(msg{topic: topic, payload: "not kept", qos: 1})
	p.publish(msg{topic: topic, qos: 1})
	c := s.newcomer().listen(topic, 1)
	c.acknowledge(c.message("kept"))
	c.silent()
}

func retainForNew(s *suite) {
	topic := s.topic("t")
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1, retain: true})
	equal(s, "RETAIN", s.newcomer().listen(topic, 1).message("m").retain(), true)
}

func retainForOld(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 1)
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1, retain: true})
	equal(s, "RETAIN", c.message("m").retain(), false)
}

func retainHandling(handling byte) func(*suite) {
	return func(s *suite) {
		topic := s.topic("t")
		s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1, retain: true})
		c := s.newcomer()
		for again := range 2 {
			c.subscribe(topic, 1|handling<<4)
			if handling == 0 || handling == 1 && again == 0 {
				c.acknowledge(c.message("m"))
			}
			c.silent()
		}
		if handling == 1 { // a subscription that has ended is new when it begins again
			c.unsubscribe(topic)
			c.subscribe(topic, 1|handling<<4)
			c.message("m")
		}
	}
}

func retainAsPublished(on byte) func(*suite) {
	return func(s *suite) {
		topic := s.topic("t")
		c := s.newcomer()
		c.subscribe(topic, 1|on<<3)
		p := s.newcomer()
		for _, retain := range []bool{true, false} {
			p.publish(msg{topic: topic, payload: "m", qos: 1, retain: retain})
			got := c.message("m")
			equal(s, "RETAIN", got.retain(), retain && on == 1)
			c.acknowledge(got)
		}
		late := s.newcomer()
		late.subscribe(topic, 1|on<<3)
		equal(s, "RETAIN of a retained message", late.message("m").retain(), true)
	}
}
