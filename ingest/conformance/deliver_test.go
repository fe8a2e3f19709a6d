//go:build conformance

package conformance

import (
	"fmt"
	"slices"
	"time"
)

// Sections 3.4 to 3.7, 4.1 to 4.6, 4.8 and 4.9: what becomes of a message, and of
// a session.

func pubrelFlags(s *suite) {
	for _, flags := range []byte{0, 1, 3, 4, 15} {
		c := s.newcomer()
		id := c.send(msg{topic: s.topic("t"), qos: 2})
		c.expect(PUBREC)
		c.write(pack(0x60|flags, id))
		c.closed(0x81, 0x82)
	}
}

// ackCodes makes the server acknowledge what it knows, and what it does not; the
// client checks the codes.
func ackCodes(s *suite) {
	c := s.newcomer()
	topic := s.topic("t")
	c.publish(msg{topic: topic, qos: 1})
	c.publish(msg{topic: topic, qos: 2})
	c.listen(topic, 2)
	c.publish(msg{topic: topic, payload: "m", qos: 1})
	c.acknowledge(c.message("m"))
	c.publish(msg{topic: topic, payload: "n", qos: 2})
	c.acknowledge(c.message("n"))
}

// strayRelease: a PUBREL for nothing is answered, so that the sender is done.
func strayRelease(s *suite) {
	c := s.newcomer()
	c.write(pack(0x62, uint16(4711)))
	equal(s, "identifier", c.expect(PUBCOMP).id, 4711)
}

// strayReceived: a PUBREC for nothing is answered with a PUBREL of a lawful code,
// or the connection ends.
func strayReceived(s *suite) {
	c := s.newcomer()
	c.write(pack(0x50, uint16(4711)))
	p, err := c.take(c.patience)
	if err == nil && p.kind != PUBREL {
		if p.kind != DISCONNECT {
			s.fatalf("%v for a PUBREC of nothing", p)
		}
	}
}

func pingIsAnswered(s *suite) {
	c := s.newcomer()
	for range 3 {
		c.ping()
	}
}

func disconnectFlags(s *suite) {
	for _, flags := range []byte{1, 2, 8} {
		watcher, c := s.willed(connect{}, msg{payload: "gone"})
		c.write(pack(0xE0 | flags))
		c.closed(0x81, 0x82)
		watcher.message("gone")
	}
}

// disconnectCodes makes the server say DISCONNECT; the client checks code and
// properties, and that nothing follows.
func disconnectCodes(s *suite) {
	for _, bad := range [][]byte{violation, pack(0x00), pack(0x10), msg{qos: 3}.bytes(s.v)} {
		c := s.newcomer()
		c.write(bad)
		c.closed()
	}
}

func disconnectDiscardsWill(s *suite) {
	watcher, c := s.willed(connect{}, msg{payload: "gone", qos: 1, retain: true})
	c.disconnect()
	watcher.silent()
}

// nothingAfterDisconnect: what a client sends after DISCONNECT is not taken.
func nothingAfterDisconnect(s *suite) {
	topic := s.topic("t")
	watcher := s.newcomer().listen(topic, 1)
	c := s.newcomer()
	c.write(slices.Concat(pack(0xE0), msg{topic: topic, payload: "m", qos: 1, id: 1}.bytes(s.v)))
	c.ended()
	watcher.silent()
}

// sessionWhileConnected: the state of a session lasts as long as the connection at
// least, however short its expiry.
func sessionWhileConnected(s *suite) {
	topic := s.topic("t")
	c := s.connect(connect{id: s.id(""), resume: true}).listen(topic, 2)
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "m", qos: 2})
	got := c.message("m")
	s.pass(1500 * time.Millisecond)
	c.ping()
	c.acknowledge(got)
	p.publish(msg{topic: topic, payload: "n", qos: 2})
	c.acknowledge(c.message("n"))
}

func firstIsNoDup(qos byte) func(*suite) {
	return func(s *suite) {
		topic := s.topic("t")
		c := s.newcomer().listen(topic, qos)
		o := persistent(s.id(""))
		s.connect(o).listen(topic, qos).disconnect()
		s.newcomer().publish(msg{topic: topic, payload: "m", qos: qos})
		got := c.message("m")
		equal(s, "QoS", got.qos(), qos)
		equal(s, "DUP", got.dup(), false)
		if qos > 0 { // also when it had to wait
			equal(s, "DUP of a queued message", s.connect(o).message("m").dup(), false)
		}
	}
}

// resent: what has not been acknowledged is sent again, as it was but with DUP.
func resent(qos byte) func(*suite) {
	return func(s *suite) {
		o := persistent(s.id(""))
		topic := s.topic("t")
		c := s.connect(o).listen(topic, qos)
		s.newcomer().publish(msg{topic: topic, payload: "m", qos: qos})
		first := c.message("m")
		for range 2 {
			c.drop()
			c = s.connect(o)
			again := c.message("m")
			equal(s, "identifier", again.id, first.id)
			equal(s, "DUP", again.dup(), true)
		}
		c.acknowledge(first)
		c.disconnect()
		s.connect(o).silent()
	}
}

// notResent: in one connection nothing is sent twice.
func notResent(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 2)
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "one", qos: 1})
	p.publish(msg{topic: topic, payload: "two", qos: 2})
	one, two := c.message("one"), c.message("two")
	c.write(pack(0x50, two.id))
	c.expect(PUBREL)
	s.pass(1500 * time.Millisecond)
	c.silent()
	c.acknowledge(one)
	c.write(pack(0x70, two.id))
	c.silent()
}

// receiverQoS1: PUBACK has the identifier, after which it can be used again.
func receiverQoS1(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 1)
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "one", qos: 1, id: 9})
	p.publish(msg{topic: topic, payload: "two", qos: 1, id: 9, dup: true})
	c.acknowledge(c.message("one"))
	c.acknowledge(c.message("two"))
}

// receiverQoS2: until PUBREL a repeated PUBLISH gets PUBREC again, and is
// delivered once; also over connections.
func receiverQoS2(s *suite) {
	topic := s.topic("t")
	watcher := s.newcomer().listen(topic, 2)
	o := persistent(s.id(""))
	c := s.connect(o)
	m := msg{topic: topic, payload: "m", qos: 2, id: 9}
	c.send(m)
	equal(s, "PUBREC", c.expect(PUBREC).id, 9)
	m.dup = true
	c.send(m)
	equal(s, "PUBREC again", c.expect(PUBREC).code, 0)
	c.drop()
	c = s.connect(o)
	c.send(m)
	equal(s, "PUBREC in another connection", c.expect(PUBREC).code, 0)
	for range 2 { // the second is for nothing, and answered
		c.write(pack(0x62, uint16(9)))
		equal(s, "PUBCOMP", c.expect(PUBCOMP).id, 9)
	}
	// The message goes to others at once, or when it is released.
	watcher.acknowledge(watcher.message("m"))
	watcher.silent()
	c.send(m) // a new message
	equal(s, "PUBREC", c.expect(PUBREC).code, 0)
	c.write(pack(0x62, uint16(9)))
	equal(s, "PUBCOMP", c.expect(PUBCOMP).code, 0)
	watcher.acknowledge(watcher.message("m"))
}

// senderQoS2: PUBREC is answered with PUBREL, which is sent again instead of the
// PUBLISH.
func senderQoS2(s *suite) {
	o := persistent(s.id(""))
	topic := s.topic("t")
	c := s.connect(o).listen(topic, 2)
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 2})
	got := c.message("m")
	c.write(pack(0x50, got.id))
	equal(s, "PUBREL", c.expect(PUBREL).id, got.id)
	for range 2 {
		c.drop()
		c = s.connect(o)
		equal(s, "PUBREL again", c.expect(PUBREL).id, got.id)
	}
	c.write(pack(0x70, got.id))
	c.disconnect()
	s.connect(o).silent()
}

// errorEndsQoS2: after PUBREC with an error there is no PUBREL, and the identifier
// is free.
func errorEndsQoS2(s *suite) {
	o := persistent(s.id(""))
	o.props = props{num(receiveMaximum, 1)}
	topic := s.topic("t")
	c := s.connect(o).listen(topic, 2)
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "one", qos: 2})
	got := c.message("one")
	p.publish(msg{topic: topic, payload: "two", qos: 2})
	c.write(pack(0x50, got.id, 0x97, props{}))
	c.acknowledge(c.message("two")) // there was room for one
	c.disconnect()
	s.connect(o).silent()
}

// refusedIsForgotten: after PUBREC with an error the identifier stands for a new
// message. A client may not publish below $SYS, which may give such a PUBREC.
func refusedIsForgotten(s *suite) {
	topic := s.topic("t")
	watcher := s.newcomer().listen(topic, 2)
	c := s.newcomer()
	c.send(msg{topic: "$SYS/" + topic, payload: "refused", qos: 2, id: 9})
	p, err := c.take(c.patience)
	if err != nil || p.kind != PUBREC || p.code < 0x80 {
		s.skipf("the server answers with %v", p)
	}
	c.publish(msg{topic: topic, payload: "m", qos: 2, id: 9})
	watcher.acknowledge(watcher.message("m"))
	watcher.silent()
}

func errorEndsQoS1(s *suite) {
	o := persistent(s.id(""))
	o.props = props{num(receiveMaximum, 1)}
	topic := s.topic("t")
	c := s.connect(o).listen(topic, 1)
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "one", qos: 1})
	got := c.message("one")
	p.publish(msg{topic: topic, payload: "two", qos: 1})
	c.write(pack(0x40, got.id, 0x83, props{}))
	c.acknowledge(c.message("two"))
	c.disconnect()
	s.connect(o).silent()
}

// sentDoesNotExpire: a message that was sent once is sent again although it has
// expired.
func sentDoesNotExpire(s *suite) {
	o := persistent(s.id(""))
	topic := s.topic("t")
	c := s.connect(o).listen(topic, 2)
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "m", qos: 2, props: props{num(messageExpiry, 1)}})
	first := c.message("m")
	s.pass(2200 * time.Millisecond)
	c.drop()
	c = s.connect(o)
	again := c.message("m")
	equal(s, "identifier", again.id, first.id)
	c.acknowledge(again)
}

// expiredIsCompleted: the receiver of QoS 2 goes on to the end with a message that
// expires meanwhile.
func expiredIsCompleted(s *suite) {
	c := s.newcomer()
	id := c.send(msg{topic: s.topic("t"), payload: "m", qos: 2, props: props{num(messageExpiry, 1)}})
	equal(s, "PUBREC", c.expect(PUBREC).code, 0)
	s.pass(1500 * time.Millisecond)
	c.write(pack(0x62, id))
	ack := c.expect(PUBCOMP)
	equal(s, "PUBCOMP", ack.id, id)
	equal(s, "code", ack.code, 0)
}

func addedToEachSession(s *suite) {
	topic := s.topic("t")
	var away []connect
	var here []*client
	for range 3 {
		o := persistent(s.id(""))
		away = append(away, o)
		s.connect(o).listen(topic, 1).disconnect()
		here = append(here, s.newcomer().listen(topic, 1))
	}
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1})
	for i := range away {
		here[i].acknowledge(here[i].message("m"))
		c := s.connect(away[i])
		c.acknowledge(c.message("m"))
		c.silent()
	}
}

// resentInOrder: what was sent and not acknowledged comes again in its order.
func resentInOrder(s *suite) {
	o := persistent(s.id(""))
	topic := s.topic("t")
	c := s.connect(o).listen(topic, 2)
	p := s.newcomer()
	var want []string
	for i := range 12 {
		want = append(want, fmt.Sprint(i))
		p.publish(msg{topic: topic, payload: want[i], qos: 1 + byte(i/3)%2})
		c.message(want[i])
	}
	c.drop()
	c = s.connect(o)
	for _, payload := range want {
		got := c.message(payload)
		equal(s, "DUP", got.dup(), true)
		c.acknowledge(got)
	}
}

// inOrder: messages of one client reach a subscriber in their order.
func inOrder(s *suite) {
	for qos := range byte(3) {
		topic := s.topic("t")
		c := s.newcomer().listen(topic, qos)
		p := s.newcomer()
		const n = 60
		for i := range n {
			p.send(msg{topic: topic, payload: fmt.Sprint(i), qos: qos})
			if qos == 2 {
				p.write(pack(0x62, p.await(PUBREC).id))
			}
			// Never more than a few on the way, so that a server need drop none.
			got := c.message(fmt.Sprint(i))
			c.acknowledge(got)
		}
	}
}

// burstInOrder: without waiting for each other.
func burstInOrder(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 1)
	p := s.newcomer()
	const n = 20
	for i := range n {
		p.send(msg{topic: topic, payload: fmt.Sprint(i), qos: 1})
	}
	for i := range n {
		c.acknowledge(c.message(fmt.Sprint(i)))
	}
	for i := range n {
		equal(s, "PUBACK", p.await(PUBACK).id, uint16(i+1))
	}
}

// windowed publishes n messages to a client that takes limit at a time.
func windowed(limit, n int, qos byte) func(*suite) {
	return func(s *suite) {
		topic := s.topic("t")
		c := s.connect(connect{props: props{num(receiveMaximum, uint32(limit))}}).listen(topic, qos)
		p := s.newcomer()
		for i := range n {
			p.publish(msg{topic: topic, payload: fmt.Sprint(i), qos: qos})
		}
		var sent []packet
		for i := range limit {
			sent = append(sent, c.message(fmt.Sprint(i)))
		}
		c.silent() // and it answers SUBSCRIBE and PUBLISH all the while
		c.ping()
		for i := range n {
			c.acknowledge(sent[i])
			if i+limit < n {
				sent = append(sent, c.message(fmt.Sprint(i+limit)))
			}
		}
		c.silent()
	}
}

// receiveMaximumExceeded: who sends more than the server takes is disconnected.
func receiveMaximumExceeded(s *suite) {
	c := s.newcomer()
	if !c.connack.props.has(receiveMaximum) {
		s.skipf("the server takes 65535")
	}
	limit := int(c.connack.props.number(receiveMaximum))
	topic := s.topic("t")
	for i := range limit + 1 {
		c.send(msg{topic: topic, qos: 2, id: uint16(i + 1)})
	}
	for i, p := range c.ended() {
		if p.kind == DISCONNECT {
			equal(s, "reason code", p.code, 0x93)
		} else if p.kind != PUBREC || i >= limit {
			s.fatalf("%v as answer %d", p, i)
		}
	}
}
