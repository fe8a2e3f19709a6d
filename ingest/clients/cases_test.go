package clients

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"testing"
)

func clientID(test, what string) string {
	h := fnv.New64a()
	fmt.Fprint(h, test)
	return fmt.Sprintf("%012x-%s", h.Sum64()&(1<<48-1), what)
}

// same fails the test unless the messages are those that were published.
func same(t *testing.T, got, want []message) {
	t.Helper()
	for i := range want {
		if !reflect.DeepEqual(withBytes(got[i]), withBytes(want[i])) {
			t.Fatalf("message %d of %d: got %v, want %v", i+1, len(want), got[i], want[i])
		}
	}
}

// withBytes makes no difference between the ways to have no bytes.
func withBytes(m message) message {
	m.Payload = append([]byte{}, m.Payload...)
	return m
}

// numbered returns n messages that can be told from each other.
func numbered(topic string, n int, qos byte) (list []message) {
	for i := range n {
		list = append(list, message{Topic: topic, Payload: fmt.Appendf(nil, "message %d", i), QoS: qos})
	}
	return list
}

var everywhere = []string{tcp, secure, webSocket, secureWeb}

// TestExchange publishes and subscribes with every QoS: a few bytes, none, all that
// there are, and 200 KiB.
func TestExchange(t *testing.T) {
	allBytes := make([]byte, 256)
	for i := range allBytes {
		allBytes[i] = byte(i)
	}
	overAll(t, settings(everywhere...), func(t *testing.T, s *setting) {
		t.Helper()
		sub, pub := s.start(t, s.options(t, "sub")), s.start(t, s.options(t, "pub"))
		sub.subscribe(topic(t, "#"), 2)
		for qos := range byte(3) {
			for i, payload := range [][]byte{[]byte("21.5 °C"), {}, allBytes, bytes.Repeat([]byte("0123456789abcdef"), 200<<10/16)} {
				m := message{Topic: topic(t, fmt.Sprintf("%d/%d", qos, i)), Payload: payload, QoS: qos}
				pub.publish(m)
				same(t, sub.receive(1), []message{m})
			}
		}
		pub.disconnect()
		sub.disconnect()
	})
}

// TestGranted subscribes with each QoS to what is published with each: the lower
// one counts.
func TestGranted(t *testing.T) {
	overAll(t, settings(tcp), func(t *testing.T, s *setting) {
		t.Helper()
		pub := s.start(t, s.options(t, "pub"))
		for granted := range byte(3) {
			sub := s.start(t, s.options(t, fmt.Sprint("sub", granted)))
			sub.subscribe(topic(t, "a"), granted)
			for qos := range byte(3) {
				m := message{Topic: topic(t, "a"), Payload: []byte("x"), QoS: qos}
				pub.publish(m)
				m.QoS = min(qos, granted)
				same(t, sub.receive(1), []message{m})
			}
			sub.disconnect()
		}
		pub.disconnect()
	})
}

// TestOrder publishes 200 messages ahead of their acknowledgements, with every QoS.
func TestOrder(t *testing.T) {
	overAll(t, settings(everywhere...), func(t *testing.T, s *setting) {
		t.Helper()
		sub, pub := s.start(t, s.options(t, "sub")), s.start(t, s.options(t, "pub"))
		sub.subscribe(topic(t, "+"), 2)
		for qos := range byte(3) {
			list := numbered(topic(t, fmt.Sprint(qos)), 200, qos)
			pub.publish(list...)
			same(t, sub.receive(len(list)), list)
		}
		pub.disconnect()
		sub.disconnect()
	})
}

// TestPassword connects with a name and a password over TLS, and TCP.
func TestPassword(t *testing.T) {
	overAll(t, settings(tcp, secure), func(t *testing.T, s *setting) {
		t.Helper()
		o := s.options(t, "user")
		o.User, o.Password = user, password
		c := s.start(t, o)
		c.subscribe(topic(t, "a"), 1)
		m := message{Topic: topic(t, "a"), Payload: []byte("x"), QoS: 1}
		c.publish(m)
		same(t, c.receive(1), []message{m})
		c.disconnect()
		o.Password = "another"
		s.launch(t, o).refused()
		o.User, o.Password = "nobody", password
		s.launch(t, o).refused()
	})
}

// TestRetained publishes a retained message, which comes as one to who subscribes
// later, and not to who has subscribed; and takes it back.
func TestRetained(t *testing.T) {
	overAll(t, settings(tcp), func(t *testing.T, s *setting) {
		t.Helper()
		for qos := range byte(3) {
			early, pub := s.start(t, s.options(t, fmt.Sprint("early", qos))), s.start(t, s.options(t, fmt.Sprint("pub", qos)))
			here := topic(t, fmt.Sprint(qos))
			early.subscribe(here, 2)
			kept := message{Topic: here, Payload: []byte("kept"), QoS: qos, Retain: true}
			live := kept
			live.Retain = false
			pub.publish(kept)
			same(t, early.receive(1), []message{live})

			late := s.start(t, s.options(t, fmt.Sprint("late", qos)))
			late.subscribe(here, 2)
			same(t, late.receive(1), []message{kept})
			late.disconnect()

			none := message{Topic: here, QoS: qos, Retain: true}
			gone := none
			gone.Retain = false
			pub.publish(none)
			same(t, early.receive(1), []message{gone})
			last := s.start(t, s.options(t, fmt.Sprint("last", qos)))
			last.subscribe(here, 2)
			other := message{Topic: here, Payload: []byte("not kept"), QoS: qos}
			pub.publish(other)
			same(t, last.receive(1), []message{other})
			last.disconnect()
			early.receive(1)
			early.disconnect()
			pub.disconnect()
		}
	})
}

// TestWill kills a client that has a will, and lets one go in good order, whose will
// nobody gets.
func TestWill(t *testing.T) {
	overAll(t, settings(tcp), func(t *testing.T, s *setting) {
		t.Helper()
		watch := s.start(t, s.options(t, "watch"))
		watch.subscribe(topic(t, "#"), 2)
		for qos := range byte(3) {
			o := s.options(t, fmt.Sprint("dying", qos))
			o.Will = &message{Topic: topic(t, fmt.Sprint(qos)), Payload: []byte("dead"), QoS: qos, Retain: true}
			s.start(t, o).kill()
			want := *o.Will
			want.Retain = false
			same(t, watch.receive(1), []message{want})

			o = s.options(t, fmt.Sprint("leaving", qos))
			o.Will = &message{Topic: topic(t, "leaving"), Payload: []byte("dead"), QoS: qos}
			s.start(t, o).disconnect()
			if s.name == "mosquitto" && s.version == 5 { // it leaves with the reason "disconnect with will message", 0x04
				same(t, watch.receive(1), []message{*o.Will})
			}
		}
		watch.disconnect()
		heir := s.start(t, s.options(t, "heir"))
		heir.subscribe(topic(t, "2"), 2)
		same(t, heir.receive(1), []message{{Topic: topic(t, "2"), Payload: []byte("dead"), QoS: 2, Retain: true}})
		heir.disconnect()
	})
}

// byQoS orders messages by their QoS alone: there is no order between a message of
// QoS 1 and one of QoS 2, which many clients show when it is released.
func byQoS(list []message) []message {
	slices.SortStableFunc(list, func(a, b message) int { return int(a.QoS) - int(b.QoS) })
	return list
}

// lasting makes a client keep its session.
func lasting(o *options) *options {
	o.Clean, o.Expiry = false, 600
	return o
}

// TestSession queues messages for a client that is away, because it has left and then
// because it was killed.
func TestSession(t *testing.T) {
	overAll(t, settings(tcp), func(t *testing.T, s *setting) {
		t.Helper()
		pub := s.start(t, s.options(t, "pub"))
		o := lasting(s.options(t, "sub"))
		away := s.start(t, o)
		away.subscribe(topic(t, "+"), 2)
		away.disconnect()
		list := append(numbered(topic(t, "a"), 20, 1), numbered(topic(t, "a"), 20, 2)...)
		pub.publish(list...)
		back := s.resume(t, o)
		same(t, byQoS(back.receive(len(list))), list)
		back.kill()
		more := append(numbered(topic(t, "b"), 20, 2), numbered(topic(t, "b"), 20, 1)...)
		pub.publish(more...)
		back = s.resume(t, o)
		got, again := []message{}, map[string]bool{} // again: it was killed before it had acknowledged the last ones
		for len(got) < len(more) {
			m := back.receive(1)[0]
			key := m.String()
			switch {
			case m.Topic == more[0].Topic:
				got = append(got, m)
			case again[key]:
				t.Fatalf("came three times: %v", m)
			default:
				again[key] = true
			}
		}
		same(t, byQoS(got), byQoS(more))
		back.disconnect()
		pub.disconnect()
	})
}

// resume connects a client that has a session. mosquitto_sub does not connect
// without subscribing to something.
func (s *setting) resume(t *testing.T, o *options) client {
	t.Helper()
	c := s.start(t, o)
	if s.name == "mosquitto" {
		c.subscribe("clients/nothing", 2)
	}
	return c
}

// TestRestart kills the node while clients are away. What was acknowledged comes to
// them, in order, and so does the retained message to who is new.
func TestRestart(t *testing.T) {
	n, err := newNode(subject.binary, t.TempDir())
	if err == nil {
		err = n.start()
	}
	if err != nil {
		t.Fatal(err)
	}
	everybody := settings(tcp)
	connection := func(i int) *options {
		return lasting(n.options(tcp, everybody[i].version, clientID(t.Name(), fmt.Sprint(i))))
	}
	for i, s := range everybody {
		c := s.start(t, connection(i))
		c.subscribe(topic(t, "#"), 2)
		c.disconnect()
	}
	list := numbered(topic(t, "1"), 20, 1)
	list = append(list, numbered(topic(t, "2"), 20, 2)...)
	kept := message{Topic: topic(t, "kept"), Payload: []byte("kept"), QoS: 1, Retain: true}
	list = append(list, kept)
	list[len(list)-1].Retain = false
	pub := everybody[0].start(t, n.options(tcp, everybody[0].version, clientID(t.Name(), "pub")))
	pub.publish(list[:len(list)-1]...)
	pub.publish(kept)
	pub.disconnect()
	n.kill()
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	for i, s := range everybody {
		c := s.resume(t, connection(i))
		same(t, byQoS(c.receive(len(list))), byQoS(list))
		c.disconnect()
		o := n.options(tcp, s.version, clientID(t.Name(), fmt.Sprint("new", i)))
		c = s.start(t, o)
		c.subscribe(kept.Topic, 2)
		same(t, c.receive(1), []message{kept})
		c.disconnect()
	}
	if err := n.stop(); err != nil {
		t.Errorf("the node does not end as it should: %v\n%s", err, n.tail())
	}
}

// TestUserProperties sends user properties of MQTT 5 and gets them back, in their
// order, also those of the same name.
func TestUserProperties(t *testing.T) {
	five := slices.DeleteFunc(settings(tcp), func(s setting) bool { return s.version != 5 })
	overAll(t, five, func(t *testing.T, s *setting) {
		t.Helper()
		c := s.start(t, s.options(t, "both"))
		c.subscribe(topic(t, "+"), 2)
		for qos := range byte(3) {
			m := message{
				Topic: topic(t, fmt.Sprint(qos)), Payload: []byte("21.5"), QoS: qos,
				User: [][2]string{{"unit", "°C"}, {"site", "south"}, {"site", "north"}, {"empty", ""}},
			}
			c.publish(m)
			same(t, c.receive(1), []message{m})
		}
		c.disconnect()
	})
}

// TestTogether has all clients in one place: what each publishes with each QoS, all
// get.
func TestTogether(t *testing.T) {
	everybody := settings(everywhere...)
	var all []client
	for i, s := range everybody {
		c := s.start(t, s.options(t, fmt.Sprint(i)))
		c.subscribe(topic(t, "#"), 2)
		all = append(all, c)
	}
	for i, s := range everybody {
		for qos := range byte(3) {
			m := message{Topic: topic(t, fmt.Sprintf("%d/%d", i, qos)), Payload: []byte(s.String()), QoS: qos}
			all[i].publish(m)
			for j, c := range all {
				got := c.receive(1)
				if !reflect.DeepEqual(got[0], m) {
					t.Fatalf("%v got %v, want %v", &everybody[j], got[0], m)
				}
			}
		}
	}
	for _, c := range all {
		c.disconnect()
	}
}
