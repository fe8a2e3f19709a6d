//go:build kafka

package edgetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A deed is what the script does at a moment.
type deed string

const (
	killNode   deed = "kill the node"
	killSender deed = "kill the node while it forwards"
	killReborn deed = "kill the node while it starts"
	startNode  deed = "start the node"
	killKafka  deed = "kill Kafka"
	startKafka deed = "start Kafka"
	cutUplink  deed = "the uplink becomes a black hole"
	healUplink deed = "the uplink is well again"
)

// A fault is a line of the script.
type fault struct {
	at time.Duration // since the script began
	do deed
}

// A script is a list of faults in the order of time.
type script []fault

// newScript draws up a script with so many faults of each kind at least; the
// same rng gives the same script. Kafka is killed or out of reach, one at a
// time. Meanwhile, whatever the state of Kafka, the node is killed again and
// again: in the middle of its transactions most of the time when Kafka is
// there, and now and then before it has finished starting.
func newScript(rng *rand.Rand, kills, kafkaKills, cuts int) script {
	between := func(from, to time.Duration) time.Duration {
		return from + time.Duration(rng.Int64N(int64(to-from)))
	}
	var s script
	upstream := slices.Concat(slices.Repeat([]deed{killKafka}, kafkaKills), slices.Repeat([]deed{cutUplink}, cuts))
	rng.Shuffle(len(upstream), func(i, j int) { upstream[i], upstream[j] = upstream[j], upstream[i] })
	end := 3 * time.Second
	for _, do := range upstream {
		s = append(s, fault{end, do})
		if do == killKafka {
			end += between(500*time.Millisecond, 5*time.Second)
			s = append(s, fault{end, startKafka})
		} else {
			end += between(5*time.Second, 20*time.Second)
			s = append(s, fault{end, healUplink})
		}
		end += between(5*time.Second, 10*time.Second)
	}
	slot := max(end/time.Duration(max(1, kills)), 3*time.Second)
	for i := range kills {
		at := time.Duration(i)*slot + between(0, slot/2)
		s = append(s, fault{at, killNode})
		at += between(0, time.Second)
		s = append(s, fault{at, startNode})
		if rng.IntN(4) == 0 {
			at += between(0, 300*time.Millisecond)
			s = append(s, fault{at, killReborn}, fault{at, startNode})
		}
	}
	slices.SortStableFunc(s, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	reachable := true
	for i := range s {
		switch s[i].do {
		case killKafka, cutUplink:
			reachable = false
		case startKafka, healUplink:
			reachable = true
		case killNode:
			if reachable && rng.IntN(3) > 0 {
				s[i].do = killSender
			}
		case killSender, killReborn, startNode:
		}
	}
	return s
}

// length is about how long the script takes.
func (s script) length() time.Duration {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].at + time.Duration(s.count(killSender, killKafka, cutUplink))*2*time.Second
}

// count says how often the script does one of these.
func (s script) count(deeds ...deed) (n int) {
	for _, f := range s {
		if slices.Contains(deeds, f.do) {
			n++
		}
	}
	return n
}

func (s script) String() string {
	var b strings.Builder
	for _, f := range s {
		fmt.Fprintf(&b, "\n  %6.1fs  %s", f.at.Seconds(), f.do)
	}
	return b.String()
}

// play does to a node and a Kafka what the script says. In the end both run,
// and the uplink is well. A node has to have come as far as the script wants
// before it is killed; the time it takes for that puts off the rest.
func (s script) play(t *testing.T, k *kafka, n *node) {
	t.Helper()
	began, late := time.Now(), time.Duration(0)
	for _, f := range s {
		pass(time.Until(began.Add(f.at + late)))
		waiting := time.Now()
		switch f.do {
		case killNode:
			n.awaitReady(t)
		case killSender:
			n.awaitSending(t)
		case killKafka, cutUplink:
			if n.running() {
				n.awaitSending(t)
			}
		case killReborn, startNode, startKafka, healUplink:
		}
		late += time.Since(waiting)
		t.Logf("%6.1fs  %s", time.Since(began).Seconds(), f.do)
		switch f.do {
		case killNode, killSender, killReborn:
			n.kill(t)
		case startNode:
			n.start(t)
		case killKafka:
			k.kill(t)
		case startKafka:
			k.start(t)
		case cutUplink:
			blackHole(t)
		case healUplink:
			lift(t, "hole")
		}
	}
	k.awaitAnswer(t)
	n.awaitReady(t)
}

// TestScript makes sure that every script is fit to be played: what is killed
// runs at that moment, what is started does not.
func TestScript(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		kills, kafkaKills, cuts := rng.IntN(30), rng.IntN(6), rng.IntN(6)
		s := newScript(rng, kills, kafkaKills, cuts)
		if s.count(killNode, killSender) != kills || s.count(killKafka) != kafkaKills || s.count(cutUplink) != cuts {
			t.Fatalf("seed %d: not %d, %d, %d faults:%v", seed, kills, kafkaKills, cuts, s)
		}
		node, broker, uplink := true, true, true
		change := func(f fault, what *bool, from bool) {
			if *what != from {
				t.Fatalf("seed %d: at %v it cannot be that %s:%v", seed, f.at, f.do, s)
			}
			*what = !from
		}
		for _, f := range s {
			switch f.do {
			case killNode, killSender, killReborn:
				change(f, &node, true)
			case startNode:
				change(f, &node, false)
			case killKafka:
				change(f, &broker, true)
			case startKafka:
				change(f, &broker, false)
			case cutUplink:
				change(f, &uplink, true)
			case healUplink:
				change(f, &uplink, false)
			}
			if f.do == killSender && !(broker && uplink) {
				t.Fatalf("seed %d: at %v the node cannot forward:%v", seed, f.at, s)
			}
			if !broker && !uplink {
				t.Fatalf("seed %d: at %v Kafka is dead and cut off at once:%v", seed, f.at, s)
			}
		}
		if !node || !broker || !uplink {
			t.Fatalf("seed %d: in the end not all is well:%v", seed, s)
		}
	}
}
