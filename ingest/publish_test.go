package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
)

// D1: no PUBACK and no PUBREC before the group is durable; then all of one
// connection, in order. A1: none of 8 messages in flight waits for another's
// commit.
func TestAcksComeAfterTheCommit(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			c := pipe(t, d).enter(dialled{id: "dev", v5: v5})
			for pid := uint16(1); pid <= 4; pid++ {
				c.publish(1, pid, "a/b", fmt.Sprint(pid))
				c.publish(2, pid+100, "a/b", fmt.Sprint(pid+100))
			}
			c.publish(0, 0, "a/b", "q0")
			c.wantNothing()
			if got, want := l.payloads(), "1 101 2 102 3 103 4 104 q0"; got != want {
				t.Fatalf("log has %q, want %q", got, want)
			}
			l.commit(nil)
			for pid := byte(1); pid <= 4; pid++ {
				c.want(0x40, 2, 0, pid)
				c.want(0x50, 2, 0, pid+100)
			}
			c.send(0x62, 2, 0, 101)
			c.want(0x70, 2, 0, 101) // the session ends with the connection, so the log knows nothing to release
			c.wantNothing()
			if s := d.Stats(); s.Received != [3]uint64{1, 4, 4} || s.Logged != s.Received {
				t.Errorf("stats: %+v", s)
			}
		})
	})
}

// Acknowledgements of one connection and one group leave in one write.
func TestOneWritePerConnectionAndGroup(t *testing.T) {
	bubble(t, func(o *Options) { o.ReceiveMaximum = 200 }, func(t *testing.T, d *Door, l *fakeLog) {
		near, far := bufferedPipe()
		go d.EstablishConnection(far)
		c := speak(t, near).enter(dialled{id: "dev"})
		for group := range 3 {
			for pid := range uint16(100) {
				c.publish(1, pid+1, "t", "x")
			}
			synctest.Wait()
			before := far.writes.Load()
			l.commit(nil)
			for pid := range byte(100) {
				c.want(0x40, 2, 0, pid+1)
			}
			if n := far.writes.Load() - before; n != 1 {
				t.Errorf("group %d: %d writes for 100 PUBACKs, want 1", group, n)
			}
		}
	})
}

// D2: when the log is full or has failed, nothing is acknowledged: MQTT 5 is
// told why, 3.1.1 is sent away, and so is QoS 2 when the log has failed. QoS 0 is
// lost, and counted.
func TestRefusal(t *testing.T) {
	for _, test := range []struct {
		err  error
		code byte
	}{{errFull, 0x97}, {errDead, 0x83}} {
		t.Run(test.err.Error(), func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
				five := pipe(t, d).enter(dialled{id: "five", v5: true})
				old := pipe(t, d).enter(dialled{id: "old"})
				five.publish(1, 1, "t", "before")
				synctest.Wait()
				l.setFail(test.err)
				five.publish(1, 2, "t", "x")
				five.publish(0, 0, "t", "x")
				five.publish(2, 3, "t", "x")
				five.wantNothing() // the refusals do not overtake the PUBACK that is due
				l.commit(nil)
				five.want(0x40, 2, 0, 1)
				five.want(0x40, 3, 0, 2, test.code)
				if errors.Is(test.err, errDead) { // the log may hold the packet id
					five.want(0xe0, 2, test.code, 0)
					five.wantEnd()
				} else {
					five.want(0x50, 3, 0, 3, test.code)
				}
				old.publish(1, 1, "t", "x")
				old.wantEnd()
				synctest.Wait()
				s := d.Stats().Refused
				if n := s.Full + s.Failed; n != 4 || s.Full != 0 && s.Failed != 0 {
					t.Errorf("refused: %+v, want 4 of one kind", s)
				}
				if errors.Is(test.err, errDead) {
					return
				}
				l.setFail(nil) // the packet ids are free
				five.publish(2, 3, "t", "again")
				synctest.Wait()
				l.commit(nil)
				five.want(0x50, 2, 0, 3)
			})
		})
	}
}

// D2: a group that fails is not acknowledged. QoS 2 must not be refused with a
// code either: the record may be found again at the next start.
func TestFailedGroup(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		one := pipe(t, d).enter(dialled{id: "one", v5: true})
		two := pipe(t, d).enter(dialled{id: "two", v5: true, resume: true, expiry: 60})
		old := pipe(t, d).enter(dialled{id: "old"})
		one.publish(1, 1, "t", "x")
		two.publish(2, 1, "t", "x")
		old.publish(1, 1, "t", "x")
		synctest.Wait()
		l.commit(errDead)
		one.want(0x40, 3, 0, 1, 0x83)
		two.want(0xe0, 2, 0x83, 0)
		two.wantEnd()
		old.wantEnd()
		if s := d.Stats(); s.Logged != [3]uint64{} || s.Refused.Failed != 3 {
			t.Errorf("stats: %+v", s)
		}
		l.setFail(errDead) // for good; a client that sends again is not left without an answer
		two = pipe(t, d).enter(dialled{id: "two", v5: true, resume: true, expiry: 60})
		two.send(publishPacket(true, 2<<1|8, 1, "t", "x")...)
		two.want(0xe0, 2, 0x83, 0)
		two.wantEnd()
	})
}

// MQTT 5, 3.3.4: more in flight than announced ends the connection. 3.1.1 has
// no such rule: there the reader waits, and goes on.
func TestReceiveMaximum(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		five := pipe(t, d)
		ack := five.connect(dialled{id: "five", v5: true})
		if !bytes.Contains(ack, []byte{0x21, 0, 8}) || !bytes.Contains(ack, []byte{0x22, 0, 32}) || !bytes.Contains(ack, []byte{0x27, 0, 2, 0, 0}) {
			t.Errorf("CONNACK % x does not announce receive maximum 8, 32 topic aliases, 128 KiB packets", ack)
		}
		old := pipe(t, d).enter(dialled{id: "old"})
		for pid := uint16(1); pid <= 9; pid++ {
			five.publish(1+byte(pid%2), pid, "five", "x")
			old.publish(1+byte(pid%2), pid, "old", "x")
		}
		five.want(0xe0, 2, 0x93, 0)
		five.wantEnd()
		synctest.Wait()
		if n := len(l.records()); n != 16 {
			t.Errorf("%d records in the log, want 8 of each", n)
		}
		l.commit(nil)
		synctest.Wait()
		if n := len(l.records()); n != 17 {
			t.Errorf("%d records in the log; the 3.1.1 reader should have gone on", n)
		}
		old.publish(1, 10, "old", "x")
		synctest.Wait()
		l.commit(nil)
		for range 10 {
			old.next()
		}
		old.wantNothing()
	})
}

// A v5 QoS 2 message keeps its place until PUBCOMP; 3.1.1 gets it back at
// PUBREC, because its PUBREL would wait behind the PUBLISH that waits. Both
// end the connection when they go on without releasing.
func TestWindowOfQoS2(t *testing.T) {
	versions(t, func(t *testing.T, v5 bool) {
		bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
			c := pipe(t, d).enter(dialled{id: "dev", v5: v5, resume: true, expiry: 60})
			for round := range 3 {
				for pid := byte(1); pid <= 8; pid++ {
					c.publish(2, uint16(pid), "t", "x")
				}
				synctest.Wait()
				l.commit(nil)
				for pid := byte(1); pid <= 8; pid++ {
					c.want(0x50, 2, 0, pid)
					c.send(0x62, 2, 0, pid)
				}
				c.wantNothing() // PUBCOMP waits for the release to be durable
				l.commit(nil)
				for pid := byte(1); pid <= 8; pid++ {
					c.want(0x70, 2, 0, pid)
				}
				if n := len(l.records()); n != 16*(round+1) {
					t.Fatalf("round %d: %d records, want 16 per round", round, n)
				}
			}
			for pid := byte(1); pid <= 8; pid++ {
				c.publish(2, uint16(pid), "t", "x")
			}
			synctest.Wait()
			l.commit(nil)
			for range 8 {
				c.next()
			}
			c.publish(2, 9, "t", "x")
			if v5 {
				c.want(0xe0, 2, 0x93, 0)
			}
			c.wantEnd()
		})
	})
}

// S1: topics of the server's own, and topics too deep, are not logged. MQTT 5
// is told; 3.1.1 is not acknowledged, for that would be a lie, and QoS 2 not
// refused by PUBREC.
func TestForbiddenTopics(t *testing.T) {
	deep := string(bytes.Repeat([]byte("a/"), 40))
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		five := pipe(t, d).enter(dialled{id: "five", v5: true})
		for _, topic := range []string{"$SYS/x", "$other", "$share/g/t"} {
			five.publish(1, 1, topic, "x")
			five.want(0x40, 3, 0, 1, 0x87)
			five.publish(0, 0, topic, "x")
			two := pipe(t, d).enter(dialled{id: "two", v5: true})
			two.publish(2, 1, topic, "x") // the log may hold the packet id
			two.want(0xe0, 2, 0x87, 0)
			two.wantEnd()
		}
		five.publish(1, 1, deep, "x")
		five.want(0x40, 3, 0, 1, 0x90)
		old := pipe(t, d).enter(dialled{id: "old"})
		old.publish(0, 0, "$SYS/x", "x")
		old.wantNothing()
		old.publish(1, 1, "$SYS/x", "x")
		old.wantEnd()
		if got := l.payloads(); got != "" || d.Stats().Refused.Topic != 12 {
			t.Errorf("log has %q, refused %+v", got, d.Stats().Refused)
		}
	})
}

// Topic aliases: MQTT 5, 3.3.2.3.4.
func TestTopicAlias(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev", v5: true})
		c.publish(0, 0, "first", "1", 0x23, 0, 1)
		c.publish(0, 0, "second", "2", 0x23, 0, 32)
		c.publish(0, 0, "", "3", 0x23, 0, 1)
		c.publish(0, 0, "third", "4", 0x23, 0, 1)
		c.publish(0, 0, "", "5", 0x23, 0, 1)
		c.publish(0, 0, "", "6", 0x23, 0, 32)
		synctest.Wait()
		var topics []string
		for _, e := range l.records() {
			topics = append(topics, string(e.Header(headerTopic)))
		}
		if want := []string{"first", "second", "first", "third", "third", "second"}; !slices.Equal(topics, want) {
			t.Errorf("topics %q, want %q", topics, want)
		}
		c.publish(0, 0, "", "x", 0x23, 0, 7)
		c.want(0xe0, 2, 0x94, 0)
		c.wantEnd()
		over := pipe(t, d).enter(dialled{id: "over", v5: true})
		over.publish(0, 0, "t", "x", 0x23, 0, 33)
		if p := over.next(); len(p) < 3 || p[0] != 0xe0 || p[2] != 0x94 {
			t.Errorf("got % x, want DISCONNECT 0x94", p)
		}
	})
}

// The door leaves the time of a record to the log, which alone knows how far its
// clock can be trusted.
func TestTimeIsTheLogs(t *testing.T) {
	bubble(t, nil, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev", v5: true, resume: true, expiry: 60})
		c.publish(0, 0, "t", "0")
		for pid := byte(1); pid <= 2; pid++ {
			c.publish(2, uint16(pid), "t", fmt.Sprint(pid))
			synctest.Wait()
			l.commit(nil)
			c.want(0x50, 2, 0, pid)
		}
		c.send(0x62, 2, 0, 1)
		synctest.Wait()
		l.commit(nil)
		c.want(0x70, 2, 0, 1)
		pipe(t, d).enter(dialled{id: "dev", v5: true}) // forgets 2
		if got, want := l.payloads(), "0 1 2 [qos2.release] [qos2.clean]"; got != want {
			t.Fatalf("log has %q, want %q", got, want)
		}
		for i, e := range l.records() {
			if e.Millis != fakeLogMillis() { // time stands still in the bubble
				t.Errorf("record %d has a time of its own: %d", i, e.Millis)
			}
		}
	})
}

// U4: what has no route is in the dead-letter stream, with the reason. What
// stays here has no key, so that no device can write control records (S1).
func TestRouting(t *testing.T) {
	route := func(topic, clientID, username string) (Destination, error) {
		switch topic {
		case "bad":
			return Destination{}, errors.New("no device level")
		case "local":
			return Destination{Key: []byte("qos2.release")}, nil
		}
		return Destination{Stream: "s." + topic, Key: []byte(clientID + username)}, nil
	}
	bubble(t, func(o *Options) { o.Router = routeFunc(route) }, func(t *testing.T, d *Door, l *fakeLog) {
		c := pipe(t, d).enter(dialled{id: "dev"})
		for range 2 {
			for _, topic := range []string{"bad", "local", "good"} {
				c.publish(0, 0, topic, topic)
			}
		}
		synctest.Wait()
		for i, e := range l.records() {
			switch got := fmt.Sprintf("%s %q %s", e.Stream, e.Key, e.Header(headerDeadReason)); got {
			case []string{`dead "dev" no device level`, ` "" `, `s.good "dev" `}[i%3]:
			default:
				t.Errorf("record %d: %s", i, got)
			}
		}
	})
}
