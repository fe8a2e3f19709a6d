//go:build conformance

package conformance

import (
	"slices"
	"time"
)

// Section 3.1 and 3.2: CONNECT and CONNACK.

// raw opens a connection and writes bytes in place of a CONNECT.
func (s *suite) raw(b []byte) *client {
	c := s.dial()
	c.write(b)
	return c
}

// none is the Property Length of a packet without properties, which only MQTT 5 has.
func (s *suite) none() []byte {
	if s.v == 5 {
		return []byte{0}
	}
	return nil
}

// hello is a CONNECT with these flags and this payload.
func (s *suite) hello(flags byte, payload ...any) *client {
	return s.raw(pack(0x10, "MQTT", s.v, flags, uint16(0), s.none(), join(payload...)))
}

func firstIsConnect(s *suite) {
	first := [][]byte{
		msg{topic: s.topic("t")}.bytes(s.v), pack(0x82, uint16(1), s.none(), s.topic("t"), 0), pack(0xC0), pack(0xE0),
	}
	for _, b := range first {
		s.raw(b).refused()
	}
}

func secondConnect(s *suite) {
	c := s.newcomer()
	c.write(connect{id: s.id("")}.bytes(s.v))
	c.closed(0x82)
}

func protocolName(s *suite) {
	for _, name := range []string{"MQTX", "mqtt", "", "MQTTT"} {
		s.raw(pack(0x10, name, s.v, 2, uint16(0), s.none(), s.id(""))).refused(1, 0x84, 0x81, 0x82)
	}
}

func protocolLevel(s *suite) {
	for _, level := range []int{0, 1, 2, 6, 127} {
		c := s.raw(pack(0x10, "MQTT", level, 2, uint16(0), s.none(), s.id("")))
		if s.v != 5 {
			equal(s, "return code", c.expect(CONNACK).code, 1)
		}
		c.refused(1, 0x84)
	}
}

func reservedConnectFlag(s *suite) { s.hello(3, s.id("")).refused() }

func cleanDiscards(s *suite) {
	id, topic := s.id(""), s.topic("t")
	c := s.connect(persistent(id)).listen(topic, 1)
	c.disconnect()
	s.newcomer().publish(msg{topic: topic, payload: "queued", qos: 1})
	c = s.connect(connect{id: id})
	equal(s, "session present", c.connack.present, false)
	s.newcomer().publish(msg{topic: topic, payload: "later", qos: 1})
	c.silent()
	c.disconnect()
	equal(s, "session present after a clean session", s.connect(persistent(id)).connack.present, false)
}

func resumes(s *suite) {
	id, topic := s.id(""), s.topic("t")
	c := s.connect(persistent(id)).listen(topic, 1)
	equal(s, "session present at first", c.connack.present, false)
	c.disconnect()
	c = s.connect(persistent(id))
	equal(s, "session present", c.connack.present, true)
	s.newcomer().publish(msg{topic: topic, payload: "m", qos: 1})
	c.acknowledge(c.message("m"))
}

func queues(s *suite) {
	id, topic := s.id(""), s.topic("t")
	c := s.connect(persistent(id)).listen(topic, 2)
	c.disconnect()
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "one", qos: 1})
	p.publish(msg{topic: topic, payload: "two", qos: 2})
	c = s.connect(persistent(id))
	for i, payload := range []string{"one", "two"} {
		got := c.expect(PUBLISH)
		equal(s, "payload", got.payload, payload)
		equal(s, "QoS", got.qos(), byte(i+1))
		c.acknowledge(got)
	}
	c.silent()
}

func newSessionIsNotPresent(s *suite) {
	equal(s, "session present", s.connect(persistent(s.id(""))).connack.present, false)
}

func retainedOutlivesSession(s *suite) {
	topic := s.topic("t")
	p := s.newcomer()
	p.publish(msg{topic: topic, payload: "kept", qos: 1, retain: true})
	p.disconnect()
	s.newcomer().listen(topic, 1).message("kept")
}

// willed returns a watcher of a topic, and a client that has its will there.
func (s *suite) willed(o connect, w msg) (watcher, c *client) {
	w.topic = s.topic("will")
	watcher = s.newcomer().listen(w.topic, 2)
	o.will = &w
	return watcher, s.connect(o)
}

func willIsPublished(s *suite) {
	for qos := range byte(3) {
		watcher, c := s.willed(connect{}, msg{payload: "gone", qos: qos})
		watcher.silent()
		c.drop()
		got := watcher.message("gone")
		equal(s, "QoS", got.qos(), qos)
		equal(s, "RETAIN", got.retain(), false)
		watcher.acknowledge(got)
	}
}

func willOnProtocolError(s *suite) {
	watcher, c := s.willed(connect{}, msg{payload: "gone"})
	c.violate()
	c.closed()
	watcher.message("gone")
}

func willNeedsFields(s *suite) {
	s.hello(0x06, s.id("")).refused()
	if s.v == 5 {
		s.hello(0x06, s.id(""), props{}, s.topic("t")).refused()
		return
	}
	s.hello(0x06, s.id(""), s.topic("t")).refused()
}

func willIsRemoved(s *suite) {
	id := s.id("")
	o := persistent(id)
	watcher, c := s.willed(o, msg{payload: "gone", qos: 1})
	c.drop()
	watcher.acknowledge(watcher.message("gone"))
	c = s.connect(o)
	c.violate() // so that the connection ends without a DISCONNECT of the client
	c.closed()
	watcher.silent()

	watcher, c = s.willed(connect{}, msg{payload: "gone", qos: 1})
	c.disconnect()
	watcher.silent()
}

func noWillWithoutFlag(s *suite) {
	id := s.id("")
	watcher, c := s.willed(connect{id: id}, msg{payload: "gone"})
	c.disconnect()
	c = s.connect(connect{id: id})
	c.violate()
	c.closed()
	watcher.silent()
}

func willFlags(flags byte) func(*suite) {
	return func(s *suite) {
		if flags&4 == 0 {
			s.hello(flags, s.id("")).refused()
			return
		}
		s.hello(flags, s.id(""), s.none(), s.topic("t"), "will").refused()
	}
}

func willNotRetained(s *suite) {
	watcher, c := s.willed(connect{}, msg{payload: "gone", qos: 1})
	c.drop()
	got := watcher.message("gone")
	equal(s, "RETAIN", got.retain(), false)
	s.newcomer().listen(got.topic, 1).silent()
}

func willRetained(s *suite) {
	watcher, c := s.willed(connect{}, msg{payload: "gone", qos: 1, retain: true})
	c.drop()
	got := watcher.message("gone")
	equal(s, "RETAIN for whom had subscribed", got.retain(), false)
	got = s.newcomer().listen(got.topic, 1).message("gone")
	equal(s, "RETAIN for who subscribes", got.retain(), true)
}

func userNotAnnounced(s *suite)     { s.hello(2, s.id(""), "user").refused() }
func userMissing(s *suite)          { s.hello(0x82, s.id("")).refused() }
func passwordNotAnnounced(s *suite) { s.hello(0x82, s.id(""), "user", "password").refused() }
func passwordMissing(s *suite)      { s.hello(0xC2, s.id(""), "user").refused() }
func passwordWithoutUser(s *suite)  { s.hello(0x42, s.id(""), "password").refused() }

func keepAliveEnds(s *suite) {
	watcher, c := s.willed(connect{keepAlive: 1}, msg{payload: "gone"})
	s.pass(700 * time.Millisecond)
	c.ping()
	s.pass(700 * time.Millisecond)
	c.ping() // 1.4 s after the CONNECT, and yet in time
	if s.v == 5 && c.connack.props.has(serverKeepAlive) {
		s.skipf("the server has its own keep alive")
	}
	// Some look only now and then.
	c.patience, watcher.patience = 12*time.Second, 12*time.Second
	c.closed(0x8D)
	watcher.message("gone")
}

func payloadOrder(s *suite) {
	user, password := "user", "secret"
	watcher, c := s.willed(connect{user: &user, password: &password}, msg{payload: "gone"})
	c.drop()
	watcher.message("gone")
}

func identifierIsTheSession(s *suite) {
	a, b := s.id("a"), s.id("b")
	s.connect(persistent(a)).disconnect()
	equal(s, "another's session present", s.connect(persistent(b)).connack.present, false)
	equal(s, "the own session present", s.connect(persistent(a)).connack.present, true)
	// Identifiers are compared byte by byte.
	equal(s, "one in capitals present", s.connect(persistent(a[:len(a)-1]+"A")).connack.present, false)
}

func identifierMissing(s *suite) { s.hello(2).refused() }

func identifierText(s *suite) {
	for _, id := range illFormed {
		s.hello(2, id).refused(2, 0x81, 0x82, 0x85)
	}
}

func identifierOf23(s *suite) {
	for _, alphabet := range []string{"0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} {
		id := s.id("")
		for i := 0; len(id) < 23; i++ {
			id += string(alphabet[i%len(alphabet)])
		}
		s.connect(connect{id: id}).ping()
	}
	s.connect(connect{id: "z"}).ping()
}

func identifierAssigned(s *suite) {
	a, b := s.attempt(connect{unnamed: true}), s.attempt(connect{unnamed: true})
	for _, c := range []*client{a, b} {
		c.connack = c.expect(CONNACK)
		if c.connack.code == 2 || c.connack.code == 0x85 {
			c.ended()
			s.skipf("the server asks for client identifiers")
		}
		equal(s, "return code", c.connack.code, 0)
	}
	// Had they the same identifier, a would have been disconnected.
	a.ping()
	b.ping()
	if s.v != 5 {
		return
	}
	first, second := a.connack.props.text(assignedClientID), b.connack.props.text(assignedClientID)
	if first == "" || first == second {
		s.fatalf("assigned %q and %q", first, second)
	}
}

func identifierAssignedIsUsed(s *suite) {
	o := connect{unnamed: true, expiry: 3600}
	c := s.connect(o)
	c.disconnect()
	again := s.connect(persistent(c.connack.props.text(assignedClientID)))
	equal(s, "session present", again.connack.present, true)
}

func emptyIdentifierNeedsClean(s *suite) {
	c := s.attempt(connect{unnamed: true, resume: true})
	equal(s, "return code", c.expect(CONNACK).code, 2)
	c.refused()
}

// strangeIdentifier is one that a server may refuse; then it has to say so.
func strangeIdentifier(s *suite) {
	for _, id := range []string{s.id("/+#"), s.id("ä €"), s.id("") + longText(60_000)} {
		c := s.attempt(connect{id: id})
		ack := c.expect(CONNACK)
		if ack.code == 0 {
			c.ping()
			continue
		}
		if ack.code != 2 && ack.code != 0x85 {
			s.fatalf("refused with 0x%02x", ack.code)
		}
		c.refused()
	}
}

func willTopicText(s *suite) {
	for _, topic := range illFormed {
		s.hello(0x06, s.id(""), s.none(), topic, "gone").refused()
	}
}

func userNameText(s *suite) {
	for _, user := range illFormed {
		c := s.hello(0x82, s.id(""), user)
		if s.v == 5 {
			c.refused()
			continue
		}
		c.refused(4) // the data in the user name or password is malformed
	}
}

func malformedConnect(s *suite) {
	whole := connect{id: s.id("")}.bytes(s.v)
	s.raw(append([]byte{whole[0], whole[1] + 1}, append(whole[2:], 0)...)).refused() // a byte too many
	s.raw(append([]byte{0x11}, whole[1:]...)).refused()                              // reserved flags
	if s.v != 5 {
		return
	}
	for _, ps := range []props{
		{num(receiveMaximum, 0)},
		{num(maximumPacketSize, 0)},
		{num(sessionExpiry, 1), num(sessionExpiry, 1)},
		{num(requestProblem, 2)},
		{num(requestResponse, 2)},
		{text(0x7F, "unknown")},
		{num(topicAlias, 1)},
	} {
		s.attempt(connect{props: ps}).refused()
	}
}

func takeover(s *suite) {
	id := s.id("")
	first := s.connect(connect{id: id})
	second := s.connect(connect{id: id})
	first.closed(0x8E)
	second.ping()
}

func acceptedIsZero(s *suite) {
	c := s.newcomer()
	equal(s, "return code", c.connack.code, 0)
	c.ping()
}

// unwelcome is a CONNECT that a server refuses although it is well-formed.
func (s *suite) unwelcome(id string) []byte {
	if s.v == 5 {
		return connect{id: id, props: props{text(authMethod, "no such method")}}.bytes(5)
	}
	return pack(0x10, "MQTT", 4, 0, uint16(0), "") // without an identifier, and no clean session
}

func nothingAfterRefusal(s *suite) {
	topic := s.topic("t")
	watcher := s.newcomer().listen(topic, 1)
	s.raw(slices.Concat(s.unwelcome(s.id("")), msg{topic: topic, payload: "m", qos: 1, id: 1}.bytes(s.v))).refused(2, 0x8C, 0x87)
	watcher.silent()
	s.newcomer().listen(topic, 1).silent()
}

func connackFirst(s *suite) {
	id, topic := s.id(""), s.topic("t")
	s.connect(persistent(id)).listen(topic, 1).disconnect()
	s.newcomer().publish(msg{topic: topic, payload: "queued", qos: 1})
	// A client need not wait for the CONNACK either.
	c := s.raw(slices.Concat(persistent(id).bytes(s.v), pack(0xC0), msg{topic: topic, payload: "own", qos: 1, id: 1}.bytes(s.v)))
	c.expect(CONNACK)
	c.await(PINGRESP)
	c.await(PUBACK)
	c.message("queued")
}

func oneConnack(s *suite) {
	c := s.newcomer()
	c.write(connect{id: s.id("")}.bytes(s.v))
	for _, p := range c.ended() {
		if p.kind == CONNACK {
			s.fatalf("a second CONNACK: %v", p)
		}
	}
}

// refusalForgetsPresent: the flags of a CONNACK that refuses are 0, also when
// there is a session.
func refusalForgetsPresent(s *suite) {
	id := s.id("")
	s.connect(persistent(id)).disconnect()
	o := persistent(id)
	if s.v == 5 {
		o.props = props{text(authMethod, "no such method")}
		s.attempt(o).refused()
		return
	}
	c := s.raw(pack(0x10, "MQTT", 99, 0, uint16(0), id))
	p := c.expect(CONNACK)
	equal(s, "return code", p.code, 1)
	equal(s, "session present", p.present, false)
}

func refusalCloses(s *suite) { s.raw(s.unwelcome(s.id(""))).refused(2, 0x8C, 0x87) }

// undefinedReason: for what no return code names there is none.
func undefinedReason(s *suite) { s.hello(3, s.id("")).refused() }

// mqisdp: old clients say MQIsdp, level 3. No standard asks for it; devices do.
func mqisdp(s *suite) {
	topic := s.topic("t")
	c := s.raw(pack(0x10, "MQIsdp", 3, 2, uint16(0), s.id("")))
	equal(s, "return code", c.expect(CONNACK).code, 0)
	c.listen(topic, 1)
	c.publish(msg{topic: topic, payload: "m", qos: 1})
	c.acknowledge(c.message("m"))
}

// illFormed is no UTF-8, or has the null character.
var illFormed = []string{
	"a\x00b", "\xED\xA0\x80", "\xC0\xAF", "a\xFF", "\xE2\x82", "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80",
}

func longText(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return string(b)
}
