package edge_test

import (
	"fmt"
	"testing"
	"time"
)

// keep retains a message, or clears its topic.
func (w *wire) keep(topic, payload string) {
	w.t.Helper()
	b := append([]byte{0, byte(len(topic))}, topic...)
	w.send(0x33, append(append(b, 0, 1, 0), payload...))
	w.expect(0x40, 1)
}

// untilKept asks a gateway for the retained messages of t/# until they are what is wanted.
func (s *site) untilKept(want string) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	got := ""
	for range 300 {
		w, code := s.tryConnect("asks", 1)
		if code == 0x89 { // it was elsewhere a moment ago, and this gateway has just started
			_ = w.Close()
			<-tick.C
			continue
		}
		if code != 0 {
			s.t.Fatalf("CONNACK with %#x", code)
		}
		l := &listener{wire: w}
		l.follow("t/#", 0)
		l.send(0xc0, nil)
		got = ""
		for {
			head, body := l.packet()
			if head == 0xd0 {
				break
			}
			at := 2 + int(body[1])
			got += fmt.Sprintf("%s=%s ", body[2:at], body[at+1+int(body[at]):])
		}
		_ = l.Close()
		if got == want {
			return
		}
		<-tick.C
	}
	s.t.Fatalf("retained are %q, want %q", got, want)
}

// T30, R52, M2: what is retained or cleared on one gateway is so on all: at once, on one that
// was away, and on one that is new; and again after it was killed.
func TestRetainedElsewhere(t *testing.T) {
	a, b := newPair(t, "")
	b.pairWith(a)
	ofA, ofB := a.connect("a", 1), b.connect("b", 1)
	ofA.keep("t/1", "a")
	ofB.keep("t/2", "b")
	for _, s := range []*site{a, b} {
		s.untilKept("t/1=a t/2=b ")
	}
	ofB.keep("t/1", "later")
	a.untilKept("t/1=later t/2=b ")
	b.crash()
	ofA.keep("t/1", "last")
	ofA.keep("t/2", "")
	ofA.keep("t/3", "new")
	b.start()
	b.untilKept("t/1=last t/3=new ")
	c := a.third(b)
	c.join(a)
	c.start()
	c.untilKept("t/1=last t/3=new ")
	c.connect("c", 1).keep("t/3", "")
	a.untilKept("t/1=last ")
	b.untilKept("t/1=last ")
}
