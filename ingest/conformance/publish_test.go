//go:build conformance

package conformance

import (
	"fmt"
	"slices"
	"time"
)

// Sections 1.5, 2 and 3.3: what is in a packet, and PUBLISH.

// badTexts sends texts that are none where MQTT has a text, and each must end the
// connection.
func badTexts(texts ...string) func(*suite) {
	return func(s *suite) {
		for _, bad := range texts {
			c := s.newcomer()
			c.send(msg{topic: s.topic(bad), qos: 1})
			c.closed()
			c = s.newcomer()
			c.write(pack(0x82, uint16(1), s.none(), s.topic(bad), 0))
			c.closed()
			c = s.newcomer()
			c.write(pack(0xA2, uint16(1), s.none(), s.topic(bad)))
			c.closed()
			s.hello(2, bad).refused(2, 0x81, 0x82, 0x85)
		}
	}
}

func subscribeText(s *suite) {
	for _, bad := range illFormed {
		c := s.newcomer()
		c.write(pack(0x82, uint16(1), s.none(), bad, 0))
		c.closed()
	}
}

func unsubscribeText(s *suite) {
	for _, bad := range illFormed {
		c := s.newcomer()
		c.write(pack(0xA2, uint16(1), s.none(), bad))
		c.closed()
	}
}

func topicText(s *suite) {
	for _, bad := range illFormed {
		c := s.newcomer()
		c.send(msg{topic: bad, payload: "m", qos: 1})
		c.closed()
	}
	c := s.newcomer()
	c.write(pack(0x30, []byte{0xFF, 0xFF, 'a'})) // a name longer than the packet
	c.closed()
}

func byteOrderMark(s *suite) {
	topic := s.topic("x\uFEFFy")
	c := s.newcomer().listen(topic, 1)
	p := s.newcomer()
	p.publish(msg{topic: topic[:len(topic)-4] + "y", payload: "another topic", qos: 1})
	p.publish(msg{topic: topic, payload: "m", qos: 1})
	equal(s, "topic", c.message("m").topic, topic)
}

// lengths makes the server encode Remaining Lengths of one, two and three bytes.
func lengths(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 0)
	p := s.newcomer()
	head := len(join(topic, s.none()))
	for _, n := range []int{head, 127, 128, 16383, 16384, 100_000} {
		payload := longText(n - head)
		p.publish(msg{topic: topic, payload: payload})
		c.message(payload)
	}
}

func badUserProperties(s *suite) {
	for _, bad := range illFormed {
		for _, p := range []prop{pair(bad, "value"), pair("name", bad)} {
			c := s.newcomer()
			c.send(msg{topic: s.topic("t"), qos: 1, props: props{p}})
			c.closed()
		}
	}
}

// reservedFlags sends packets with flags that are to be 0, or 2.
func reservedFlags(s *suite) {
	topic := s.topic("t")
	bad := [][]byte{
		pack(0xC1), pack(0xC8), pack(0xE1), pack(0x41, uint16(1)), pack(0x52, uint16(1)), pack(0x60, uint16(1)),
		pack(0x71, uint16(1)), pack(0x80, uint16(1), s.none(), topic, 0), pack(0xA0, uint16(1), s.none(), topic),
	}
	for _, b := range bad {
		c := s.newcomer()
		c.write(b)
		c.closed(0x81, 0x82)
	}
}

// badPackets are packets that no client may send to a server.
func badPackets(s *suite) {
	bad := [][]byte{
		pack(0x00), pack(0x20, 0, 0), pack(0x90, uint16(1), 0), pack(0xB0, uint16(1)), pack(0xD0),
		{0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0x01},
		pack(0xC0, 1), pack(0x40, 1), pack(0x62, 1),
	}
	if s.v != 5 {
		bad = append(bad, pack(0xF0), pack(0xE0, 0))
	}
	for _, b := range bad {
		c := s.newcomer()
		c.write(b)
		c.closed()
	}
}

func identifierZero(s *suite) {
	topic := s.topic("t")
	bad := [][]byte{
		msg{topic: topic, qos: 1}.bytes(s.v), msg{topic: topic, qos: 2}.bytes(s.v),
		pack(0x82, uint16(0), s.none(), topic, 0), pack(0xA2, uint16(0), s.none(), topic),
	}
	for _, b := range bad {
		c := s.newcomer()
		c.write(b)
		c.closed(0x81, 0x82)
	}
}

func qos0HasNoIdentifier(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 0)
	m := msg{topic: topic, payload: "m"}
	s.newcomer().publish(m)
	equal(s, "bytes", c.message("m").size, len(m.bytes(s.v)))
}

// identifiersInUse: the server gives an identifier that is not zero, and not one
// that is in use.
func identifiersInUse(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 2)
	p := s.newcomer()
	used := map[uint16]bool{}
	for i := range 12 {
		payload := fmt.Sprint(i)
		p.publish(msg{topic: topic, payload: payload, qos: 1 + byte(i)%2})
		got := c.message(payload)
		if used[got.id] {
			s.fatalf("identifier %d twice without an acknowledgement", got.id)
		}
		used[got.id] = true
	}
}

func ackIdentifiers(s *suite) {
	c := s.newcomer()
	for _, id := range []uint16{1, 77, 255, 256, 32768, 65535} {
		c.publish(msg{topic: s.topic("t"), qos: 1, id: id})
		c.publish(msg{topic: s.topic("t"), qos: 2, id: id})
	}
}

func subackIdentifiers(s *suite) {
	c := s.newcomer()
	for _, id := range []uint16{1, 77, 256, 65535} {
		topic := s.topic("t")
		c.lastID = id - 1
		c.subscribe(topic, 0)
		c.lastID = id - 1
		c.unsubscribe(topic)
	}
}

// noProperties: a packet without properties says so with a length of 0.
func noProperties(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 0)
	m := msg{topic: topic, payload: "m"}
	s.newcomer().publish(m)
	if got := c.message("m"); !slices.Equal(got.body, m.bytes(5)[2:]) {
		s.fatalf("PUBLISH % x", got.body)
	}
	c.write(pack(0x82, uint16(9), props{}, topic, 0))
	if got := c.expect(SUBACK); len(got.props) == 0 && !slices.Equal(got.body, []byte{0, 9, 0, 0}) {
		s.fatalf("SUBACK % x", got.body)
	}
}

func bothQoSBits(s *suite) {
	c := s.newcomer()
	c.send(msg{topic: s.topic("t"), qos: 3})
	c.closed(0x81, 0x82, 0x9B)
}

func dupIsOurs(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 2)
	p := s.newcomer()
	for qos := byte(1); qos < 3; qos++ {
		p.publish(msg{topic: topic, payload: "m", qos: qos, dup: true})
		got := c.message("m")
		equal(s, "DUP", got.dup(), false)
		c.acknowledge(got)
	}
}

func dupOfQoS0(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 0)
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1, dup: true})
	equal(s, "DUP", c.message("m").dup(), false)
}

// wildcardTopic: a topic name with a wildcard is refused, by an error in MQTT 5 or
// with the connection.
func wildcardTopic(s *suite) {
	for _, end := range []string{"#", "a/#", "+", "+/b", "a+", "#b"} {
		topic := s.topic("")
		watcher := s.newcomer().listen(topic+"#", 1)
		c := s.newcomer()
		c.send(msg{topic: topic + end, payload: "m", qos: 1})
		c.refusesMessage()
		watcher.silent()
	}
}

// refusesMessage fails the case unless the last QoS 1 message is refused.
func (c *client) refusesMessage() {
	p, err := c.take(c.patience)
	if err != nil || p.kind == DISCONNECT && p.code >= 0x80 {
		c.closed()
		return
	}
	if p.kind != PUBACK || p.code < 0x80 {
		c.s.fatalf("%s: %v for a message that was to be refused", c.name, p)
	}
}

func topicsMatch(s *suite) {
	base := s.topic("")
	c := s.newcomer().listen(base+"+/x", 1)
	p := s.newcomer()
	for _, topic := range []string{"a/x", "a/y", "a/x/z", "b/x"} {
		p.publish(msg{topic: base + topic, payload: topic, qos: 1})
	}
	for _, topic := range []string{"a/x", "b/x"} {
		equal(s, "topic", c.message(topic).topic, base+topic)
	}
	c.silent()
}

// forwards sends a message with properties to subscribers of each QoS, and to one
// who subscribes later.
func forwards(sent ...prop) func(*suite) {
	return func(s *suite) {
		topic := s.topic("t")
		var all []*client
		for qos := range byte(3) {
			all = append(all, s.newcomer().listen(topic, qos))
		}
		p := s.newcomer()
		p.publish(msg{topic: topic, payload: "text", qos: 2, retain: true, props: sent})
		p.publish(msg{topic: topic, payload: "text", props: sent})
		for _, c := range all {
			for range 2 {
				got := c.message("text")
				s.sameProps(got.props, sent)
				c.acknowledge(got)
			}
		}
		late := s.topic("late")
		p.publish(msg{topic: late, payload: "text", qos: 1, retain: true, props: sent})
		s.sameProps(s.newcomer().listen(late, 1).message("text").props, sent)
	}
}

// badProperty: a PUBLISH with these properties ends the connection.
func badProperty(lists ...props) func(*suite) {
	return func(s *suite) {
		for _, ps := range lists {
			c := s.newcomer()
			c.send(msg{topic: s.topic("t"), qos: 1, props: ps})
			c.closed()
		}
	}
}

// oddProperty: a PUBLISH with these properties is refused, with the connection or
// without.
func oddProperty(lists ...props) func(*suite) {
	return func(s *suite) {
		for _, ps := range lists {
			c := s.newcomer()
			c.send(msg{topic: s.topic("t"), qos: 1, props: ps})
			c.refusesMessage()
		}
	}
}

func messageExpires(s *suite) {
	o := persistent(s.id(""))
	topic := s.topic("t")
	s.connect(o).listen(topic, 1).disconnect()
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "short", qos: 1, retain: true, props: props{num(messageExpiry, 1)}})
	p.publish(msg{topic: topic, payload: "long", qos: 1, props: props{num(messageExpiry, 100)}})
	s.pass(2200 * time.Millisecond)
	c := s.connect(o)
	c.acknowledge(c.message("long"))
	c.silent()
	s.newcomer().listen(topic, 1).silent()
}

func expiryCountsDown(s *suite) {
	o := persistent(s.id(""))
	topic := s.topic("t")
	s.connect(o).listen(topic, 1).disconnect()
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1, retain: true, props: props{num(messageExpiry, 100)}})
	s.pass(2200 * time.Millisecond)
	for _, c := range []*client{s.connect(o), s.newcomer().listen(topic, 1)} {
		if left := c.message("m").props.number(messageExpiry); left < 90 || left > 98 {
			s.fatalf("%d s left of 100 after 2.2", left)
		}
	}
}

func aliasNotCarriedOver(s *suite) {
	o := persistent(s.id(""))
	c := s.connect(o)
	if !c.connack.props.has(topicAliasMaximum) {
		s.skipf("the server takes no aliases")
	}
	c.publish(msg{topic: s.topic("t"), qos: 1, props: props{num(topicAlias, 1)}})
	c.disconnect()
	c = s.connect(o)
	c.send(msg{qos: 1, props: props{num(topicAlias, 1)}})
	c.closed(0x82, 0x94)
}

func aliasesTaken(s *suite) {
	c := s.newcomer()
	limit := c.connack.props.number(topicAliasMaximum)
	if limit == 0 {
		s.skipf("the server takes no aliases")
	}
	base := s.topic("")
	watcher := s.newcomer().listen(base+"#", 1)
	for alias := uint32(1); alias <= min(limit, 100); alias++ {
		topic := fmt.Sprint(base, alias)
		c.publish(msg{topic: topic, payload: "a", qos: 1, props: props{num(topicAlias, alias)}})
		c.publish(msg{payload: "b", qos: 2, props: props{num(topicAlias, alias)}})
		for _, payload := range []string{"a", "b"} {
			got := watcher.message(payload)
			equal(s, "topic", got.topic, topic)
			watcher.acknowledge(got)
		}
	}
	// The largest, and one that gets another topic.
	last := num(topicAlias, limit)
	c.publish(msg{topic: base + "last", payload: "c", qos: 1, props: props{last}})
	equal(s, "topic", watcher.message("c").topic, base+"last")
	c.publish(msg{payload: "d", qos: 1, props: props{last}})
	equal(s, "topic", watcher.message("d").topic, base+"last")
}

func respondsByQoS(s *suite) {
	c := s.newcomer()
	topic := s.topic("t")
	c.send(msg{topic: topic})
	c.ping() // nothing for QoS 0
	id := c.send(msg{topic: topic, qos: 1})
	equal(s, "PUBACK", c.expect(PUBACK).id, id)
	id = c.send(msg{topic: topic, qos: 2})
	equal(s, "PUBREC", c.expect(PUBREC).id, id)
	c.write(pack(0x62, id))
	equal(s, "PUBCOMP", c.expect(PUBCOMP).id, id)
}
