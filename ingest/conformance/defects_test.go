//go:build conformance

package conformance

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"
)

// What went wrong in servers that we know. The two versions share most cases.

func defectsOfBoth() []entry {
	return []entry{
		{"burst of 100", burstOf100},
		{"packet identifiers of both directions are independent", identifiersIndependent},
		{"redelivery is in order and has DUP", resentInOrder},
		{"first delivery after being offline has no DUP", each(firstIsNoDup(1), firstIsNoDup(2))},
		{"20 queued arrive in order", queuedInOrder},
		{"wildcard after a parent level", parentLevel},
		{"retained messages do not expire by themselves", retainedStays},
		{"an empty will is published", emptyWill},
		{"publishing below $ leaks no window", publishToSys},
		{"an unsuitable protocol level is answered", protocolLevel},
		{"a stalled subscriber stops nobody", stalledSubscriber},
		{"takeover leaves one connection", takeoverRace},
		{"queued messages survive a takeover", queuedOverTakeover},
		{"packet type 0 ends the connection", badPacket(0x00, 0)},
		{"a remaining length of five bytes ends the connection", badPacket(0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0x01)},
		{"an acknowledgement of one byte ends the connection", badPacket(0x40, 1, 1)},
		{"a PINGREQ with a body ends the connection", badPacket(0xC0, 1, 1)},
	}
}

func defects311() []entry {
	return append(defectsOfBoth(),
		entry{"MQTT 3.1 is accepted", mqisdp},
		entry{"a server says no DISCONNECT", secondConnect},
	)
}

func defects5() []entry {
	return append(defectsOfBoth(),
		entry{"receive maximum of the client holds in a burst of 100", windowed(10, 100, 1)},
		entry{"receive maximum of the client holds in a burst of 100 of QoS 2", windowed(10, 100, 2)},
		entry{"receive maximum holds over connections", windowOverConnections},
		entry{"an unknown topic alias is refused", unknownAlias},
		entry{"an empty topic without an alias is refused", emptyTopic},
		entry{"message expiry is not invented", expiryNotInvented},
		entry{"PUBACK does not echo user properties", noEcho},
		entry{"DISCONNECT 0x04 of one byte sends the will", willReason4Short},
		entry{"DISCONNECT 0x04 with properties sends the will", willWithReason4},
		entry{"an unknown authentication method is refused", unknownAuthMethod},
		entry{"all properties of a will are kept", willProperties},
		entry{"a will without delay has no expiry", willNoExpiry},
		entry{"CONNACK announces what the server keeps to", limitsAnnounced},
		entry{"a QoS 2 message repeated gets PUBREC again, without an error", receiverQoS2},
		entry{"authentication data without a method is refused", authDataAlone},
		entry{"a will with a delay goes when its session ends", willAtSessionEnd},
	)
}

func badPacket(b ...byte) func(*suite) {
	return func(s *suite) {
		c := s.newcomer()
		c.write(b)
		c.closed()
		s.raw(b).refused()
	}
}

func authDataAlone(s *suite) {
	s.attempt(connect{props: props{text(authData, "\x01")}}).refused()
}

// burstOf100 has no acknowledgement until all have come that the server sends.
func burstOf100(s *suite) {
	topic := s.topic("t")
	c := s.newcomer().listen(topic, 1)
	p := s.newcomer()
	for i := range 100 {
		p.publish(msg{topic: topic, payload: fmt.Sprint(i), qos: 1})
	}
	for i := range 100 {
		c.acknowledge(c.message(fmt.Sprint(i)))
	}
	c.silent()
}

func identifiersIndependent(s *suite) {
	o := persistent(s.id(""))
	topic, other := s.topic("t"), s.topic("other")
	c := s.connect(o).listen(topic, 2)
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "command", qos: 1})
	p.publish(msg{topic: topic, payload: "command 2", qos: 2})
	one, two := c.message("command"), c.message("command 2")
	// The client has the same identifiers for what it sends.
	c.publish(msg{topic: other, qos: 1, id: one.id})
	c.publish(msg{topic: other, qos: 2, id: one.id})
	c.publish(msg{topic: other, qos: 1, id: two.id})
	c.publish(msg{topic: other, qos: 2, id: two.id})
	c.drop()
	c = s.connect(o)
	for _, payload := range []string{"command", "command 2"} {
		got := c.message(payload)
		equal(s, "DUP", got.dup(), true)
		c.acknowledge(got)
	}
}

func queuedInOrder(s *suite) {
	o := persistent(s.id(""))
	topic := s.topic("t")
	s.connect(o).listen(topic, 2).disconnect()
	p := s.newcomer()
	for i := range 20 {
		p.publish(msg{topic: topic, payload: fmt.Sprint(i), qos: 1 + byte(i/4)%2})
	}
	c := s.connect(o)
	for i := range 20 {
		got := c.message(fmt.Sprint(i))
		equal(s, "DUP", got.dup(), false)
		c.acknowledge(got)
	}
	c.silent()
}

func parentLevel(s *suite) {
	matches("a/+/#", []string{"a/b", "a/b/c", "a/"}, []string{"a", "b/b"})(s)
	matches("+/#", []string{"a", "a/b"}, nil)(s)
	matches("a/b/#", []string{"a/b", "a/b/"}, []string{"a", "a/bc"})(s)
}

func retainedStays(s *suite) {
	topic := s.topic("t")
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1, retain: true})
	s.pass(1200 * time.Millisecond)
	for range 2 {
		got := s.newcomer().listen(topic, 1).message("m")
		equal(s, "has an expiry", got.props.has(messageExpiry), false)
	}
}

func emptyWill(s *suite) {
	watcher, c := s.willed(connect{}, msg{qos: 1})
	c.drop()
	watcher.message("")
}

// publishToSys: what is published below $SYS is acknowledged, with or without an
// error, or the connection ends; and it takes no place in the window.
func publishToSys(s *suite) {
	c := s.newcomer()
	n := 30
	if c.connack.props.has(receiveMaximum) {
		n = int(c.connack.props.number(receiveMaximum)) + 5
	}
	for range min(n, 1100) {
		id := c.send(msg{topic: "$SYS/" + s.run, qos: 1})
		p, err := c.take(c.patience)
		if err != nil || p.kind == DISCONNECT && p.code >= 0x80 {
			c.closed()
			return
		}
		if p.kind != PUBACK || p.id != id {
			s.fatalf("%v for a message below $SYS", p)
		}
	}
	c.publish(msg{topic: s.topic("t"), qos: 1})
}

// stalledSubscriber: one reads nothing, and many others go on all the same.
func stalledSubscriber(s *suite) {
	topic := s.topic("t")
	stalled := s.newcomer().listen(topic, 1)
	if err := stalled.conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		s.fatalf("%v", err)
	}
	live := s.newcomer().listen(topic, 1)
	p, q := s.newcomer(), s.newcomer()
	for i := range 300 { // 18 MB: more than the sockets between hold
		payload := fmt.Sprint(i)
		p.publish(msg{topic: topic, payload: payload + " " + longText(60_000), qos: 1})
		got := live.expect(PUBLISH)
		equal(s, "payload", got.payload[:len(payload)+1], payload+" ")
		live.acknowledge(got)
		if i%100 == 0 {
			q.publish(msg{topic: s.topic("other"), qos: 2})
			s.newcomer().ping()
		}
	}
}

// takeoverRace: of many who come with one identifier at once, one stays.
func takeoverRace(s *suite) {
	id := s.id("")
	var all []*client
	for range 8 {
		all = append(all, s.attempt(connect{id: id}))
	}
	for end := time.Now().Add(patience); len(all) > 1; {
		all = slices.DeleteFunc(all, func(c *client) bool {
			p, err := c.take(50 * time.Millisecond)
			if p.kind == DISCONNECT {
				equal(s, "reason code", p.code, 0x8E)
			}
			return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
		})
		if time.Now().After(end) {
			s.fatalf("%d connections are left", len(all))
		}
	}
	if len(all) == 0 {
		s.fatalf("no connection is left")
	}
	all[0].write(pack(0xC0))
	all[0].await(PINGRESP)
}

func queuedOverTakeover(s *suite) {
	o := persistent(s.id(""))
	topic := s.topic("t")
	c := s.connect(o).listen(topic, 1)
	p := s.newcomer()
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprint(i))
		p.publish(msg{topic: topic, payload: want[i], qos: 1})
		c = s.connect(o) // the one before is taken over, and has not acknowledged
	}
	var got []string
	for range want {
		m := c.expect(PUBLISH)
		got = append(got, m.payload)
		c.acknowledge(m)
	}
	if !slices.Equal(got, want) {
		s.fatalf("got %q", got)
	}
}

func windowOverConnections(s *suite) {
	o := persistent(s.id(""))
	o.props = props{num(receiveMaximum, 3)}
	topic := s.topic("t")
	s.connect(o).listen(topic, 2).disconnect()
	p := s.newcomer()
	for i := range 12 {
		p.publish(msg{topic: topic, payload: fmt.Sprint(i), qos: 1 + byte(i)%2})
	}
	var c *client
	for range 2 {
		c = s.connect(o)
		for i := range 3 {
			c.message(fmt.Sprint(i))
		}
		c.silent()
		c.drop()
	}
	c = s.connect(o)
	for i := range 12 {
		c.acknowledge(c.message(fmt.Sprint(i)))
	}
	c.silent()
}

func unknownAlias(s *suite) {
	c := s.newcomer()
	c.send(msg{qos: 1, props: props{num(topicAlias, 1)}})
	c.closed(0x82, 0x94)
}

func expiryNotInvented(s *suite) {
	topic := s.topic("t")
	o := persistent(s.id(""))
	s.connect(o).listen(topic, 1).disconnect()
	c := s.newcomer().listen(topic, 1)
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1, retain: true})
	for _, c := range []*client{c, s.connect(o), s.newcomer().listen(topic, 1)} {
		equal(s, "has an expiry", c.message("m").props.has(messageExpiry), false)
	}
}

func noEcho(s *suite) {
	topic := s.topic("t")
	user := props{pair("name", "value")}
	c := s.newcomer()
	for range 2 { // without a subscriber, and with one
		for qos := byte(1); qos < 3; qos++ {
			ack := c.publish(msg{topic: topic, qos: qos, props: user})
			equal(s, "has user properties", ack.props.has(userProperty), false)
			if ack.code != 0 && ack.code != 0x10 {
				s.fatalf("%v", ack)
			}
		}
		s.newcomer().listen(topic, 0)
	}
}

func willReason4Short(s *suite) {
	watcher, c := s.willed(connect{}, msg{payload: "gone", qos: 1})
	c.write(pack(0xE0, 0x04))
	c.ended()
	watcher.message("gone")
}

func willNoExpiry(s *suite) {
	for _, ps := range []props{nil, {num(willDelay, 1)}} {
		o := persistent(s.id(""))
		watcher, c := s.willed(o, msg{payload: "gone", qos: 1, props: ps})
		c.drop()
		equal(s, "has an expiry", watcher.message("gone").props.has(messageExpiry), false)
	}
}

// limitsAnnounced: a limit that is announced is no more than what follows from
// silence, and retaining, wildcards and the like work unless they are announced not
// to.
func limitsAnnounced(s *suite) {
	ps := s.newcomer().connack.props
	for _, id := range []byte{receiveMaximum, maximumPacketSize} {
		if ps.has(id) && ps.number(id) == 0 {
			s.fatalf("property 0x%02x is 0", id)
		}
	}
	for _, id := range []byte{retainAvailable, wildcardAvailable, subIDsAvailable, sharedAvailable} {
		if ps.number(id) > 1 {
			s.fatalf("property 0x%02x is %d", id, ps.number(id))
		}
	}
}
