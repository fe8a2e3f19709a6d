//go:build conformance

package conformance

import (
	"fmt"
	"slices"
)

// Sections 3.3.4 and 3.8 to 3.11, 4.7 and 4.8: subscriptions and what they match.

// subscribeMany subscribes to filters with their options and returns the SUBACK.
func (c *client) subscribeMany(pairs ...any) packet {
	id := c.nextID()
	c.write(pack(0x82, id, c.s.none(), join(pairs...)))
	ack := c.await(SUBACK)
	equal(c.s, "identifier", ack.id, id)
	return ack
}

func overlapping(s *suite) {
	base := s.topic("")
	c := s.newcomer()
	c.subscribeMany(base+"a", 1, base+"+", 2, base+"#", 0)
	p := s.newcomer()
	p.publish(msg{topic: base + "a", payload: "m", qos: 2})
	best := byte(0)
	all := c.collect()
	for _, got := range all {
		best = max(best, got.qos())
	}
	if n := len(all); n != 1 && n != 3 {
		s.fatalf("%d copies for 3 subscriptions", n)
	}
	equal(s, "highest QoS", best, byte(2))
}

// identifiersOfSubscriptions: each copy has the identifier of its subscription, or
// one copy has all.
func identifiersOfSubscriptions(s *suite) {
	base := s.topic("")
	c := s.newcomer()
	if ack := c.connack.props; ack.has(subIDsAvailable) && ack.number(subIDsAvailable) == 0 {
		s.skipf("no subscription identifiers")
	}
	c.subscribe(base+"a", 0, num(subscriptionID, 1))
	c.subscribe(base+"+", 0, num(subscriptionID, 268_435_455))
	c.subscribe(base+"#", 0)
	s.newcomer().publish(msg{topic: base + "a", payload: "m", qos: 1})
	var all []uint32
	for _, got := range c.collect() {
		all = append(all, got.props.numbers(subscriptionID)...)
	}
	slices.Sort(all)
	if !slices.Equal(all, []uint32{1, 268_435_455}) {
		s.fatalf("subscription identifiers %d", all)
	}
}

func identifierOfRetained(s *suite) {
	topic := s.topic("t")
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1, retain: true})
	c := s.newcomer()
	c.subscribe(topic, 1, num(subscriptionID, 7))
	equal(s, "subscription identifier", c.message("m").props.number(subscriptionID), 7)
	// A subscription that is replaced has the identifier of the new one, or none.
	c.subscribe(topic, 1|2<<4)
	s.newcomer().publish(msg{topic: topic, payload: "n", qos: 1})
	equal(s, "has an identifier", c.message("n").props.has(subscriptionID), false)
}

func identifierFromClient(s *suite) {
	c := s.newcomer()
	c.send(msg{topic: s.topic("t"), qos: 1, props: props{num(subscriptionID, 1)}})
	c.closed(0x81, 0x82)
	c = s.newcomer()
	c.write(pack(0x82, uint16(1), props{num(subscriptionID, 0)}, s.topic("t"), 0))
	c.closed(0x81, 0x82)
}

func subscribeFlags(s *suite) {
	for _, flags := range []byte{0, 1, 3, 6, 10} {
		c := s.newcomer()
		c.write(pack(0x80|flags, uint16(1), s.none(), s.topic("t"), 0))
		c.closed(0x81, 0x82)
	}
}

func unsubscribeFlags(s *suite) {
	for _, flags := range []byte{0, 1, 3, 6, 10} {
		c := s.newcomer()
		c.write(pack(0xA0|flags, uint16(1), s.none(), s.topic("t")))
		c.closed(0x81, 0x82)
	}
}

func subscribeEmpty(s *suite) {
	c := s.newcomer()
	c.write(pack(0x82, uint16(1), s.none()))
	c.closed()
	c = s.newcomer()
	c.write(pack(0x82, uint16(1), s.none(), s.topic("t"))) // no QoS
	c.closed()
}

func unsubscribeEmpty(s *suite) {
	c := s.newcomer()
	c.write(pack(0xA2, uint16(1), s.none()))
	c.closed()
}

func subscribeReserved(s *suite) {
	bad := []int{0x04, 0x08, 0x10, 0x40, 0x80, 3}
	if s.v == 5 {
		bad = []int{0x40, 0x80, 0xC0, 3, 0x30}
	}
	for _, options := range bad {
		c := s.newcomer()
		c.write(pack(0x82, uint16(1), s.none(), s.topic("t"), options))
		c.closed(0x81, 0x82)
	}
}

// wildcardsWork, or the subscription is refused.
func wildcardsWork(s *suite) {
	base := s.topic("")
	for _, filter := range []string{base + "#", base + "+"} {
		c := s.newcomer()
		if code := c.subscribe(filter, 1); code >= 0x80 {
			continue
		}
		s.newcomer().publish(msg{topic: base + "a", payload: "m", qos: 1})
		c.message("m")
	}
}

func noLocal(s *suite) {
	topic := s.topic("t")
	o := persistent(s.id(""))
	c := s.connect(o)
	c.subscribe(topic, 1|4)
	c.publish(msg{topic: topic, payload: "own", qos: 1})
	s.newcomer().publish(msg{topic: topic, payload: "another's", qos: 1})
	c.acknowledge(c.message("another's"))
	c.silent()
	c.disconnect()
	c = s.connect(o)
	c.publish(msg{topic: topic, payload: "own", qos: 1})
	c.silent()
}

func noLocalShared(s *suite) {
	c := s.newcomer()
	c.write(pack(0x82, uint16(1), props{}, "$share/g/"+s.topic("t"), 1|4))
	c.closed(0x82)
}

func subscribeIsAnswered(s *suite) {
	c := s.newcomer()
	for qos := range byte(3) {
		c.listen(s.topic("t"), qos)
	}
}

func subscriptionReplaced(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 0).listen(topic, 2)
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "m", qos: 2, retain: true})
	got := c.message("m")
	equal(s, "QoS", got.qos(), byte(2))
	c.acknowledge(got)
	c.silent()
	// The retained message is sent again.
	c.listen(topic, 1)
	got = c.message("m")
	equal(s, "QoS", got.qos(), byte(1))
	equal(s, "RETAIN", got.retain(), true)
	c.acknowledge(got)
	c.silent()
}

// replacedWithoutLoss: messages go on while a subscription is replaced.
func replacedWithoutLoss(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 1)
	p := s.newcomer()
	const n = 30
	for i := range n {
		p.send(msg{topic: topic, payload: fmt.Sprint(i), qos: 1})
		c.write(pack(0x82, uint16(1000+i), s.none(), topic, 1))
	}
	for range n {
		p.await(PUBACK)
	}
	seen := map[string]bool{}
	for len(seen) < n {
		got := c.read()
		if got.kind == PUBLISH {
			seen[got.payload] = true
			c.acknowledge(got)
		}
	}
}

func manyFilters(s *suite) {
	base := s.topic("")
	p := s.newcomer()
	p.publish(msg{topic: base + "b", payload: "kept", qos: 1, retain: true})
	c := s.newcomer()
	ack := c.subscribeMany(base+"a", 0, base+"b", 1, base+"c", 2)
	if !slices.Equal(ack.codes, []byte{0, 1, 2}) {
		s.fatalf("codes %x", ack.codes)
	}
	c.acknowledge(c.message("kept"))
	for i, name := range []string{"a", "b", "c"} {
		p.publish(msg{topic: base + name, payload: name, qos: 2})
		got := c.message(name)
		equal(s, "QoS", got.qos(), byte(i))
		c.acknowledge(got)
	}
}

// codesInOrder: also when some of the filters are refused.
func codesInOrder(s *suite) {
	base := s.topic("")
	c := s.newcomer()
	if ack := c.subscribeMany(base+"a", 2, base+"b", 0, base+"c", 1, base+"a", 0); !slices.Equal(ack.codes, []byte{2, 0, 1, 0}) {
		s.fatalf("codes %x", ack.codes)
	}
}

func lowerQoS(s *suite) {
	topic := s.topic("t")
	p := s.newcomer()
	for granted := range byte(3) {
		c := s.newcomer().listen(topic, granted)
		for qos := range byte(3) {
			p.publish(msg{topic: topic, payload: "m", qos: qos})
			got := c.message("m")
			equal(s, fmt.Sprintf("QoS of %d for %d", qos, granted), got.qos(), min(qos, granted))
			c.acknowledge(got)
		}
	}
}

func unsubscribeCompares(s *suite) {
	base := s.topic("")
	c := s.newcomer().listen(base+"+", 1).listen(base+"b", 1)
	c.unsubscribe(base + "a") // it matches the first filter, and is none
	c.unsubscribe(base + "#")
	c.unsubscribe(base + "B")
	p := s.newcomer()
	p.publish(msg{topic: base + "a", payload: "m", qos: 1})
	c.acknowledge(c.message("m"))
	c.unsubscribe(base + "+")
	p.publish(msg{topic: base + "a", payload: "n", qos: 1})
	p.publish(msg{topic: base + "b", payload: "o", qos: 1})
	c.acknowledge(c.message("o"))
	c.silent()
}

func unsubscribeStops(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 2)
	c.unsubscribe(topic)
	p := s.newcomer()
	for qos := range byte(3) {
		p.publish(msg{topic: topic, payload: "m", qos: qos})
	}
	c.silent()
}

// unsubscribeCompletes: a delivery that has begun is carried through.
func unsubscribeCompletes(s *suite) {
	o := persistent(s.id(""))
	topic := s.topic("t")
	c := s.connect(o).listen(topic, 2)
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "one", qos: 1})
	p.publish(msg{topic: topic, payload: "two", qos: 2})
	one, two := c.message("one"), c.message("two")
	c.unsubscribe(topic)
	c.acknowledge(two)
	c.disconnect() // the other one has not been acknowledged
	c = s.connect(o)
	again := c.message("one")
	equal(s, "identifier", again.id, one.id)
	c.acknowledge(again)
	c.silent()
}

func unsubscribeIsAnswered(s *suite) {
	c := s.newcomer().listen("a/"+s.topic("t"), 0)
	c.unsubscribe(s.topic("never subscribed"))
}

func unsubscribeCodes(s *suite) {
	base := s.topic("")
	c := s.newcomer().listen(base+"a", 0).listen(base+"b", 0)
	ack := c.unsubscribe(base+"a", base+"none", base+"b")
	if !slices.Equal(ack.codes, []byte{0, 0x11, 0}) {
		s.fatalf("codes %x", ack.codes)
	}
}

func unsubscribeMany(s *suite) {
	base := s.topic("")
	c := s.newcomer().listen(base+"a", 1).listen(base+"b", 1).listen(base+"c", 1)
	ack := c.unsubscribe(base+"a", base+"b")
	if s.v == 5 && len(ack.codes) != 2 {
		s.fatalf("codes %x", ack.codes)
	}
	p := s.newcomer()
	for _, name := range []string{"a", "b", "c"} {
		p.publish(msg{topic: base + name, payload: name, qos: 1})
	}
	c.acknowledge(c.message("c"))
	c.silent()
}

// smallAnswers: what is told beside the codes is left out rather than too large.
func smallAnswers(s *suite) {
	c := s.connect(connect{props: props{num(maximumPacketSize, 100)}})
	topic, user := s.topic("t"), pair(longText(200), longText(200))
	c.offer(msg{topic: topic, qos: 1, props: props{user}})
	c.offer(msg{topic: topic, qos: 2, props: props{user}})
	c.subscribe(s.topic("t"), 0, user)
	c.write(pack(0xA2, uint16(70), props{user}, topic))
	c.expect(UNSUBACK)
	c.write(pack(0x62, uint16(777), 0, props{user}))
	c.expect(PUBCOMP)
	c.violate()
	c.closed()
}

// matches publishes to topics below a base, and the filter has to match those in
// want and no other.
func matches(filter string, want, not []string) func(*suite) {
	return func(s *suite) {
		base := s.topic("")
		c := s.newcomer().listen(base+filter, 0)
		p := s.newcomer()
		for _, topic := range slices.Concat(want, not) {
			p.publish(msg{topic: base + topic, payload: topic, qos: 1, retain: true})
		}
		if got := payloads(c.collect()); !slices.Equal(got, want) {
			s.fatalf("%q matches %q, not %q", filter, got, want)
		}
		got := payloads(s.newcomer().listen(base+filter, 0).collect())
		slices.Sort(got)
		if !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			s.fatalf("%q matches retained %q, not %q", filter, got, want)
		}
	}
}

// each runs several checks as one case.
func each(checks ...func(*suite)) func(*suite) {
	return func(s *suite) {
		for _, check := range checks {
			check(s)
		}
	}
}

// badFilters: a filter that is none is refused, with a code or the connection.
func badFilters(filters ...string) func(*suite) {
	return func(s *suite) {
		for _, filter := range filters {
			c := s.newcomer()
			c.write(pack(0x82, uint16(1), s.none(), filter, 0))
			p, err := c.take(c.patience)
			if err != nil || p.kind == DISCONNECT && p.code >= 0x80 {
				c.closed()
				continue
			}
			if p.kind != SUBACK || p.codes[0] < 0x80 {
				s.fatalf("%v for filter %q", p, filter)
			}
		}
	}
}

// dollarTopics: filters that begin with a wildcard match no topic of the server's
// own. What it has there it publishes; a client cannot.
func dollarTopics(s *suite) {
	for _, filter := range []string{"#", "+/broker/#", "+/#", "+/broker/version"} {
		c := s.newcomer()
		c.subscribe(filter, 0)
		for _, p := range c.collect() {
			if p.kind == PUBLISH && p.topic[0] == '$' {
				s.fatalf("%q matches %q", filter, p.topic)
			}
		}
	}
}

// emptyTopic: a name or filter has at least one character.
func emptyTopic(s *suite) {
	badFilters("")(s)
	c := s.newcomer()
	c.send(msg{payload: "m", qos: 1})
	c.closed()
}

func oneCharacter(s *suite) {
	emptyTopic(s)
	c := s.newcomer().listen("/", 1)
	s.newcomer().publish(msg{topic: "/", payload: s.run, qos: 1})
	for c.read().payload != s.run { // other cases publish there
	}
}

func nullInTopic(s *suite) {
	for _, topic := range []string{"\x00", s.topic("\x00"), s.topic("a\x00b")} {
		c := s.newcomer()
		c.write(pack(0x82, uint16(1), s.none(), topic, 0))
		c.closed()
		c = s.newcomer()
		c.send(msg{topic: topic, qos: 1})
		c.closed()
	}
}

// longTopic: as long as a text can be; a server may have a lower limit, and goes
// on or closes.
func longTopic(s *suite) {
	topic := s.topic("")
	topic += longText(65535 - len(topic))
	c := s.newcomer()
	c.write(pack(0x82, uint16(1), s.none(), topic, 0))
	p, err := c.take(c.patience)
	if err != nil || p.kind != SUBACK || p.codes[0] >= 0x80 {
		s.newcomer().ping()
		return
	}
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1})
	equal(s, "topic", c.message("m").topic, topic)
}

// noNormalizing: what looks alike is not the same.
func noNormalizing(s *suite) {
	base := s.topic("")
	c := s.newcomer()
	want := []string{"a", "A", "a/", "/a", "//a", "a b", "\u00E9", "e\u0301", "a//b"}
	for _, topic := range want {
		c.listen(base+topic, 0)
	}
	p := s.newcomer()
	for _, topic := range slices.Concat(want, []string{"a ", " a", "A/", "\u00C9", "a/b", "a%20b", "./a"}) {
		p.publish(msg{topic: base + topic, payload: topic, qos: 1})
	}
	if got := payloads(c.collect()); !slices.Equal(got, want) {
		s.fatalf("got %q, want %q", got, want)
	}
}
