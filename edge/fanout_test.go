package edge_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// A listener is a subscriber that acknowledges what it gets.
type listener struct {
	*wire

	held map[uint16]bool // QoS 2 that is not released
}

// listen connects a client and subscribes.
func (s *site) listen(id string, clean byte, filter string, qos byte) *listener {
	s.t.Helper()
	l := &listener{s.connect(id, clean), map[uint16]bool{}}
	if filter != "" {
		l.follow(filter, qos)
	}
	return l
}

// message returns the next message, and the QoS with which it came.
func (l *listener) message() (payload string, qos byte) {
	l.t.Helper()
	for {
		head, body := l.packet()
		switch head >> 4 {
		case 3:
			at := 2 + int(body[0])<<8 + int(body[1])
			if qos = head >> 1 & 3; qos > 0 {
				id := body[at : at+2]
				at += 2
				if qos == 1 {
					l.send(0x40, id)
				} else if l.send(0x50, id); head&8 != 0 && l.held[uint16(id[0])<<8|uint16(id[1])] {
					continue // it has this one
				} else {
					l.held[uint16(id[0])<<8|uint16(id[1])] = true
				}
			}
			return string(body[at+1+int(body[at]):]), qos
		case 6:
			delete(l.held, uint16(body[0])<<8|uint16(body[1]))
			l.send(0x70, body[:2])
		default:
			l.t.Fatalf("got %02x %x, want a message", head, body)
		}
	}
}

// want takes the next message.
func (l *listener) want(payload string) {
	l.t.Helper()
	if got, _ := l.message(); got != payload {
		l.t.Fatalf("got message %q, want %q", got, payload)
	}
}

// reaches publishes until a listener elsewhere hears of it: from then on it hears all.
func (w *wire) reaches(topic string, all ...*listener) {
	w.t.Helper()
	for n, l := range all {
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			for {
				if head, _, err := l.next(); err != nil || head>>4 == 3 {
					return
				}
			}
		}()
		tick := time.NewTicker(50 * time.Millisecond)
		for done := false; !done; {
			w.publish(0, 0, 0, topic, "hello")
			select {
			case <-heard:
				done = true
			case <-tick.C:
			}
		}
		tick.Stop()
		w.publish(0, 0, 0, topic, fmt.Sprint("go ", n))
		for {
			if got, _ := l.message(); got == fmt.Sprint("go ", n) {
				break
			}
		}
		for _, before := range all[:n] {
			for {
				if got, _ := before.message(); got == fmt.Sprint("go ", n) {
					break
				}
			}
		}
	}
}

// say publishes with QoS 1 and waits for the acknowledgements.
func (w *wire) say(topic string, from, to int) {
	w.t.Helper()
	for n := from; n < to; n++ {
		w.publish(1, 0, uint16(1+n%60000), topic, fmt.Sprint(n))
		w.expect(0x40, uint16(1+n%60000))
	}
}

// M1: a subscriber of any gateway gets what any gateway takes, of each QoS once, and in
// the order of its publisher. It is in Kafka once.
func TestSubscribersElsewhere(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	var all []*listener
	for i, s := range []*site{a, b} {
		for qos := range byte(3) {
			all = append(all, s.listen(fmt.Sprint("sub", i, qos), 1, "t/#", qos))
		}
	}
	ofA, ofB := a.connect("a", 1), b.connect("b", 1)
	ofA.reaches("t/a", all...)
	ofB.reaches("t/b", all...)
	const sent = 100
	for n := range uint16(sent) {
		for _, w := range []*wire{ofA, ofB} {
			w.publish(2, 0, n+1, "t/x", fmt.Sprint(n))
			w.expect(0x50, n+1)
			w.send(0x62, []byte{byte((n + 1) >> 8), byte(n + 1)})
			w.expect(0x70, n+1)
		}
	}
	ofA.publish(0, 0, 0, "t/a", "end")
	ofB.publish(0, 0, 0, "t/b", "end")
	for i, l := range all {
		var got [sent]int
		for ends, last := 0, -1; ends < 2; {
			payload, qos := l.message()
			if payload == "end" {
				ends++
				continue
			}
			var n int
			if _, err := fmt.Sscan(payload, &n); err != nil || int(qos) != i%3 {
				t.Fatalf("listener %d got %q with QoS %d", i, payload, qos)
			}
			if got[n]++; n < last-sent/2 {
				t.Errorf("listener %d got %d after %d", i, n, last)
			}
			last = max(last, n)
		}
		for n, times := range got {
			if times != 2 {
				t.Fatalf("listener %d got message %d of the two %d times", i, n, times)
			}
		}
	}
	if in := a.committed("mqtt", 2*sent); len(in) < 2*sent {
		t.Errorf("%d in Kafka", len(in))
	}
}

// M1: the first message that a gateway takes in its life is news as well.
func TestFirstMessageElsewhere(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	sub := b.listen("sub", 1, "t", 1)
	b.until("the other gateway", func(status.Report) bool { return b.Follows() })
	a.connect("pub", 1).say("t", 0, 3)
	for n := range 3 {
		sub.want(fmt.Sprint(n))
	}
}

// M1: a session that is away is owed what another gateway takes, while its own gateway
// is killed, and while it is down.
func TestSubscriberAwayFromAnother(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	one, two := b.listen("one", 0, "t", 1), b.listen("two", 0, "t", 2)
	pub := a.connect("pub", 1)
	pub.reaches("t", one, two)
	_, _ = one.Close(), two.Close()
	pub.say("t", 0, 20)
	b.crash()
	pub.say("t", 20, 25) // the first after a while, without a copy
	b.start()
	b.until("the copy", copiesOf(a))
	one, two = b.listen("one", 0, "", 0), b.listen("two", 0, "", 0)
	pub.say("t", 25, 40)
	for n := range 40 {
		one.want(fmt.Sprint(n))
		two.want(fmt.Sprint(n))
	}
	pub.say("t", 40, 41)
	one.want("40")
	two.want("40")
}

// copiesOf says when a gateway has a copy of all that another one has.
func copiesOf(other *site) func(r status.Report) bool {
	return func(r status.Report) bool {
		o := other.Report()
		for _, c := range r.Gateways.Copies {
			if c.Ledger == o.Log.Ledger && c.To >= o.Log.Durable {
				return true
			}
		}
		return false
	}
}

// M1: a publisher's gateway is killed, and comes back with another ledger. Its
// subscribers elsewhere get all that was acknowledged, once and in order.
func TestPublishersGatewayDies(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	sub := b.listen("sub", 1, "t", 2)
	pub := a.connect("pub", 1)
	pub.reaches("t", sub)
	for life := range 3 {
		pub.say("t", 20*life, 20*life+20)
		a.crash()
		for n := range 20 {
			sub.want(fmt.Sprint(20*life + n))
		}
		a.start()
		a.until("the other node", func(r status.Report) bool { return len(r.Gateways.Peers) == 1 && !r.Gateways.Short })
		pub = a.connect("pub", 1)
	}
	pub.say("t", 60, 61)
	sub.want("60")
}

// M1: with one copy in a site of three, the third gateway has no copy of what the first
// takes until somebody subscribes there.
func TestSubscribersOfThree(t *testing.T) {
	a, b := newPair(t, "")
	c := a.third(b)
	b.pairWith(a)
	c.join(a)
	c.start()
	for _, s := range []*site{a, b, c} {
		s.until("two others", func(r status.Report) bool { return r.Gateways != nil && len(r.Gateways.Peers) == 2 })
	}
	nodes := []*site{a, b, c}
	var pubs []*wire
	var subs []*listener
	for i, s := range nodes {
		pubs = append(pubs, s.connect(fmt.Sprint("pub", i), 1))
		subs = append(subs, s.listen(fmt.Sprint("sub", i), 1, "t/+", 1))
	}
	for i, w := range pubs {
		w.reaches(fmt.Sprint("t/", i), subs...)
	}
	for n := range 30 {
		for i, w := range pubs {
			w.say(fmt.Sprint("t/", i), n, n+1)
		}
	}
	for i, l := range subs {
		counts := map[string]int{}
		for range 90 {
			payload, _ := l.message()
			counts[payload]++
		}
		for n := range 30 {
			if counts[fmt.Sprint(n)] != 3 {
				t.Fatalf("listener %d got message %d %d times", i, n, counts[fmt.Sprint(n)])
			}
		}
	}
}

// third returns another gateway for the pair.
func (s *site) third(b *site) *site {
	_, after, _ := strings.Cut(b.extra, ".2:7882")
	before, _, _ := strings.Cut(b.extra, ".2:7882")
	return &site{t: s.t, dir: s.t.TempDir(), kafka: s.kafka, addr: s.addr, extra: before + ".3:7882" + after, hurry: true, late: s.late}
}

// T30, M1, M2: two gateways do not hear of one another for a while. When they do again, the
// subscribers of each get what the other took meanwhile, once and in order, and both
// retain the same.
func TestSubscribersOverACut(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	nodes := []*site{a, b}
	var pubs []*wire
	var subs []*listener
	for i, s := range nodes {
		pubs = append(pubs, s.connect(fmt.Sprint("pub", i), 1))
		subs = append(subs, s.listen(fmt.Sprint("sub", i), 1, "t/+", 2))
	}
	for i, w := range pubs {
		w.reaches(fmt.Sprint("t/", i), subs...)
	}
	heal := []func(){a.Hush(), b.Hush()}
	for i, w := range pubs {
		w.say(fmt.Sprint("t/", i), 100*i, 100*i+20)
		w.keep("t/kept", fmt.Sprint("by ", i))
	}
	for _, h := range heal {
		h()
	}
	for i, l := range subs {
		var next [2]int
		for next[0]+next[1] < 42 {
			payload, _ := l.message() // what was on its way may still come while the others are away
			var of, n int
			if _, err := fmt.Sscanf(payload, "by %d", &of); err == nil {
				n = 20
			} else {
				n = number(t, payload)
				of, n = n/100, n%100
			}
			if next[of] != n {
				t.Fatalf("listener %d got %q after %v", i, payload, next)
			}
			next[of]++
		}
	}
	a.untilKept("t/kept=by 1 ")
	b.untilKept("t/kept=by 1 ")
}

func number(t *testing.T, payload string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(payload, &n); err != nil {
		t.Fatalf("got %q", payload)
	}
	return n
}
