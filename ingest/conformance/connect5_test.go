//go:build conformance

package conformance

import (
	"fmt"
	"time"
)

// What only MQTT 5 has of CONNECT and CONNACK.

func willDelayed(s *suite) {
	o := persistent(s.id(""))
	watcher, c := s.willed(o, msg{payload: "gone", qos: 1, props: props{num(willDelay, 1)}})
	began := time.Now()
	c.drop()
	watcher.message("gone")
	if after := time.Since(began); after < 900*time.Millisecond {
		s.fatalf("the will with a delay of 1 s came after %v", after)
	}
}

// willAtSessionEnd: a session that ends before the delay ends it.
func willAtSessionEnd(s *suite) {
	watcher, c := s.willed(connect{}, msg{payload: "gone", qos: 1, props: props{num(willDelay, 3600)}})
	c.drop()
	watcher.message("gone")
}

func willCancelledByReconnect(s *suite) {
	o := persistent(s.id(""))
	watcher, c := s.willed(o, msg{payload: "gone", qos: 1, props: props{num(willDelay, 1)}})
	c.drop()
	c = s.connect(o)
	s.pass(2500 * time.Millisecond)
	c.ping()
	watcher.silent()
}

func willWithReason4(s *suite) {
	watcher, c := s.willed(connect{}, msg{payload: "gone", qos: 1})
	c.write(pack(0xE0, 0x04, 0))
	c.ended()
	watcher.message("gone")
}

func willProperties(s *suite) {
	sent := props{
		num(payloadFormat, 1), text(contentType, "text/plain"), text(responseTopic, "answers"), text(correlationData, "\x00\x01"),
		pair("b", "1"), pair("a", "2"), pair("b", "0"),
	}
	watcher, c := s.willed(connect{}, msg{payload: "gone", qos: 1, props: sent})
	c.drop()
	s.sameProps(watcher.message("gone").props, sent)
}

// sameProps fails the case unless the message has what was sent with it: each
// property, and the user properties in their order.
func (s *suite) sameProps(got, want props) {
	var pairs, wantPairs props
	for _, p := range got {
		if p.id == userProperty {
			pairs = append(pairs, p)
		}
	}
	for _, p := range want {
		if p.id == userProperty {
			wantPairs = append(wantPairs, p)
		} else if got.first(p.id) != p {
			s.fatalf("property 0x%02x is %v, want %v", p.id, got.first(p.id), p)
		}
	}
	if fmt.Sprint(pairs) != fmt.Sprint(wantPairs) {
		s.fatalf("user properties %v, want %v", pairs, wantPairs)
	}
}

func maximumPacketSizeKept(s *suite) {
	topic := s.topic("t")
	c := s.connect(connect{props: props{num(maximumPacketSize, 200)}}).listen(topic, 1)
	p := s.newcomer()
	for qos := range byte(3) {
		p.publish(msg{topic: topic, payload: longText(300), qos: qos})
	}
	p.publish(msg{topic: topic, payload: "fits", qos: 1})
	c.message("fits") // client.take has looked at the size
	c.silent()
}

// tooLargeTakesNoRoom: what is too large counts as sent and done with.
func tooLargeTakesNoRoom(s *suite) {
	topic := s.topic("t")
	c := s.connect(connect{props: props{num(maximumPacketSize, 200), num(receiveMaximum, 1)}}).listen(topic, 2)
	p := s.newcomer()
	for i := range 3 {
		p.publish(msg{topic: topic, payload: longText(300), qos: 1 + byte(i)%2})
		payload := fmt.Sprint(i)
		p.publish(msg{topic: topic, payload: payload, qos: 1})
		c.acknowledge(c.message(payload))
	}
}

// exactly checks that a message as large as the client takes is sent.
func exactly(s *suite) {
	topic := s.topic("t")
	m := msg{topic: topic, payload: longText(40)}
	c := s.connect(connect{props: props{num(maximumPacketSize, uint32(len(m.bytes(5))))}}).listen(topic, 0)
	s.newcomer().publish(m)
	c.message(m.payload)
}

func serverAliases(limit uint32) func(*suite) {
	return func(s *suite) {
		o := connect{}
		if limit > 0 {
			o.props = props{num(topicAliasMaximum, limit)}
		}
		c := s.connect(o)
		p := s.newcomer()
		topics := []string{s.topic("a"), s.topic("b"), s.topic("c")}
		for _, topic := range topics {
			c.listen(topic, 1)
		}
		for i := range 9 {
			topic, payload := topics[i%3], fmt.Sprint(i)
			p.publish(msg{topic: topic, payload: payload, qos: 1})
			got := c.message(payload)
			equal(s, "topic", got.topic, topic)
			if a := got.props.number(topicAlias); a > limit || got.props.has(topicAlias) && a == 0 {
				s.fatalf("topic alias %d; the client takes %d", a, limit)
			}
			c.acknowledge(got)
		}
	}
}

func noResponseInformation(s *suite) {
	for _, o := range []connect{{}, {props: props{num(requestResponse, 0)}}} {
		equal(s, "response information", s.connect(o).connack.props.has(responseInfo), false)
	}
}

// noProblemInformation: with Request Problem Information 0, no packet but PUBLISH,
// CONNACK and DISCONNECT has a reason string or user properties.
func noProblemInformation(s *suite) {
	c := s.connect(connect{props: props{num(requestProblem, 0)}})
	user := pair("name", "value")
	quiet := func(p packet) {
		if p.props.has(reasonString) || p.props.has(userProperty) {
			s.fatalf("%v", p)
		}
	}
	topic := s.topic("t")
	quiet(c.offer(msg{topic: topic, qos: 1, props: props{user}}))
	quiet(c.offer(msg{topic: topic, qos: 2, props: props{user}}))
	c.write(pack(0x62, uint16(777)))
	quiet(c.expect(PUBCOMP))
	c.write(pack(0x82, uint16(50), props{user}, "bad/#/filter", 0))
	if p, err := c.take(c.patience); err == nil && p.kind != DISCONNECT {
		quiet(p) // or the connection ends, and DISCONNECT says what it likes
	}
	c = s.connect(connect{props: props{num(requestProblem, 0)}})
	quiet(c.unsubscribe(topic))
}

func maximumQoSAnnounced(s *suite) {
	c := s.newcomer()
	if !c.connack.props.has(maximumQoS) {
		c.publish(msg{topic: s.topic("t"), qos: 2})
		return
	}
	if q := c.connack.props.number(maximumQoS); q > 1 {
		s.fatalf("Maximum QoS %d", q)
	}
}

func subscribeAnyQoS(s *suite) {
	c := s.newcomer()
	for qos := range byte(3) {
		if code := c.subscribe(s.topic("t"), qos); code > qos {
			s.fatalf("SUBACK 0x%02x for QoS %d", code, qos)
		}
	}
}

func willQoSAbove(s *suite) {
	limit := byte(2)
	if ack := s.newcomer().connack.props; ack.has(maximumQoS) {
		limit = byte(ack.number(maximumQoS))
	}
	for qos := range byte(3) {
		c := s.attempt(connect{will: &msg{topic: s.topic("t"), payload: "gone", qos: qos}})
		if qos > limit {
			c.refused(0x9B)
			continue
		}
		equal(s, "reason code", c.expect(CONNACK).code, 0)
	}
}

func willRetainUnavailable(s *suite) {
	ack := s.newcomer().connack.props
	c := s.attempt(connect{will: &msg{topic: s.topic("t"), payload: "gone", retain: true}})
	if ack.has(retainAvailable) && ack.number(retainAvailable) == 0 {
		c.refused(0x9A)
		return
	}
	equal(s, "reason code", c.expect(CONNACK).code, 0)
}

// tooLarge: a packet above the server's limit ends the connection; it has not to
// be sent whole for that.
func tooLarge(s *suite) {
	c := s.newcomer()
	limit := c.connack.props.number(maximumPacketSize)
	if limit == 0 {
		s.skipf("the server takes packets of every size")
	}
	c.write(append(appendVariable([]byte{0x30}, int(limit)), join(s.topic("t"), props{})...))
	c.closed(0x95)
}

func smallConnack(s *suite) {
	c := s.connect(connect{props: props{num(maximumPacketSize, 100)}})
	equal(s, "reason code", c.connack.code, 0)
	s.attempt(connect{props: props{num(maximumPacketSize, 30), text(authMethod, "no such method")}}).refused()
}

func aliasAboveMaximum(s *suite) {
	c := s.newcomer()
	limit := c.connack.props.number(topicAliasMaximum)
	if limit == 65535 {
		s.skipf("every alias is allowed")
	}
	c.send(msg{topic: s.topic("t"), qos: 1, props: props{num(topicAlias, limit+1)}})
	c.closed(0x94)
}

func unknownAuthMethod(s *suite) {
	s.attempt(connect{props: props{text(authMethod, "no such method")}}).refused(0x8C, 0x87)
	s.attempt(connect{props: props{text(authMethod, "no such method"), text(authData, "\x01")}}).refused(0x8C, 0x87)
}

// noAuthentication: a client that asks for none gets neither AUTH nor a method.
func noAuthentication(s *suite) {
	c := s.newcomer()
	equal(s, "authentication method", c.connack.props.has(authMethod), false)
	c.ping()
}

func unaskedAuth(s *suite) {
	c := s.newcomer()
	c.write(pack(0xF0, 0x18, props{text(authMethod, "m")}))
	c.closed(0x82)
	c = s.newcomer()
	c.write(pack(0xF0))
	c.closed(0x82)
}

func authFlags(s *suite) {
	c := s.newcomer()
	c.write(pack(0xF1, 0x18, props{text(authMethod, "m")}))
	c.closed(0x81, 0x82)
}

func sessionExpires(s *suite) {
	id := s.id("")
	s.connect(connect{id: id, expiry: 1}).disconnect()
	equal(s, "session present before it expires", s.connect(connect{id: id, resume: true, expiry: 1}).connack.present, true)
	again := s.connect(connect{id: id, resume: true, expiry: 1})
	again.disconnect()
	s.pass(2500 * time.Millisecond)
	equal(s, "session present after it expired", s.connect(persistent(id)).connack.present, false)
}

// noExpiry: without a Session Expiry Interval a session ends with its connection.
func noExpiry(s *suite) {
	id := s.id("")
	c := s.connect(connect{id: id, resume: true})
	c.disconnect()
	equal(s, "session present", s.connect(connect{id: id, resume: true}).connack.present, false)
}

func expiryAtDisconnect(s *suite) {
	id := s.id("")
	c := s.connect(persistent(id))
	c.write(pack(0xE0, 0, props{num(sessionExpiry, 0)}))
	c.ended()
	equal(s, "session present", s.connect(persistent(id)).connack.present, false)
	// A session that was to end cannot be made to last by a DISCONNECT.
	c = s.connect(connect{id: id})
	c.write(pack(0xE0, 0, props{num(sessionExpiry, 10)}))
	c.closed(0x82)
}
