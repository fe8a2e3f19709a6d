//go:build conformance

package conformance

import (
	"fmt"
)

// shared returns two subscribers of a shared subscription.
func (s *suite) shared(topic string, a, b byte, o connect) (first, second *client) {
	name := "$share/" + s.id("g") + "/"
	first, second = s.connect(o), s.newcomer()
	if ack := first.connack.props; ack.has(sharedAvailable) && ack.number(sharedAvailable) == 0 {
		s.skipf("no shared subscriptions")
	}
	return first.listen(name+topic, a), second.listen(name+topic, b)
}

func sharedQoS(s *suite) {
	topic := s.topic("t")
	a, b := s.shared(topic, 0, 1, connect{})
	p := s.newcomer()
	for i := range 10 {
		p.publish(msg{topic: topic, payload: fmt.Sprint(i), qos: 2})
	}
	fromA, fromB := a.collect(), b.collect()
	equal(s, "messages in all", len(fromA)+len(fromB), 10)
	for _, got := range fromA {
		equal(s, "QoS of the first", got.qos(), 0)
	}
	for _, got := range fromB {
		equal(s, "QoS of the second", got.qos(), 1)
	}
}

// sharedQoS2Waits: a QoS 2 delivery that has begun is completed with that client
// and no other.
func sharedQoS2Waits(s *suite) {
	topic := s.topic("t")
	o := persistent(s.id(""))
	a, b := s.shared(topic, 2, 2, o)
	mine := s.oneFor(a, b, topic, 2)
	a.write(pack(0x50, mine.id)) // it is ours from here
	a.expect(PUBREL)
	a.drop()
	a = s.connect(o)
	equal(s, "PUBREL again", a.expect(PUBREL).id, mine.id)
	a.write(pack(0x70, mine.id))
	b.silent()
}

// oneFor publishes until the server chooses a, and returns what a got.
func (s *suite) oneFor(a, b *client, topic string, qos byte) packet {
	p := s.newcomer()
	for i := range 20 {
		p.publish(msg{topic: topic, payload: fmt.Sprint(i), qos: qos})
		if all := a.collect(); len(all) > 0 {
			b.silent()
			return all[0]
		}
		b.acknowledge(b.message(fmt.Sprint(i)))
	}
	s.fatalf("the shared subscription never chooses the first subscriber")
	return packet{}
}

// sharedQoS2Lost: when that client's session ends, the message goes to nobody.
func sharedQoS2Lost(s *suite) {
	topic := s.topic("t")
	o := persistent(s.id(""))
	a, b := s.shared(topic, 2, 2, o)
	mine := s.oneFor(a, b, topic, 2)
	a.write(pack(0x50, mine.id))
	a.expect(PUBREL)
	a.drop()
	s.connect(connect{id: o.id}).silent()
	b.silent()
}

func sharedRefused(s *suite) {
	topic := s.topic("t")
	a, b := s.shared(topic, 1, 1, connect{})
	mine := s.oneFor(a, b, topic, 1)
	a.write(pack(0x40, mine.id, 0x97, props{}))
	a.silent()
	b.silent()
}
