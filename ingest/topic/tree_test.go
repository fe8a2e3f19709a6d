package topic

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestOverlapping(t *testing.T) {
	tree := NewTree[string]()
	for _, sub := range []Subscription{
		{Filter: "a/b", QoS: 1, NoLocal: true, ID: 7},
		{Filter: "a/+", QoS: 2, NoLocal: true, RetainAsPublished: true},
		{Filter: "a/#", QoS: 0, NoLocal: true, ID: 3},
		{Filter: "+/b", QoS: 0, NoLocal: true, ID: 7},
		{Filter: "other", QoS: 2, ID: 9},
	} {
		tree.Subscribe("s", sub)
	}
	want := []Match[string]{{"s", 2, true, true, []uint32{3, 7, 7}}}
	first := tree.Match("a/b")
	if !reflect.DeepEqual(first.Matches, want) {
		t.Errorf("got %v", first.Matches)
	}

	if !tree.Subscribe("s", Subscription{Filter: "a/+", QoS: 1}) {
		t.Error("the filter existed")
	}
	changed := []Match[string]{{"s", 1, false, false, []uint32{3, 7, 7}}}
	if got := tree.Match("a/b").Matches; !reflect.DeepEqual(got, changed) {
		t.Errorf("after the change got %v", got)
	}
	tree.Subscribe("s", Subscription{Filter: "a/b", ID: 1000})
	tree.Unsubscribe("s", "a/#")
	if !reflect.DeepEqual(first.Matches, want) {
		t.Errorf("a result changed with the tree: %v", first.Matches)
	}
	if n := tree.Len(); n != 4 {
		t.Errorf("%d subscriptions", n)
	}
}

// A result of one filter alone is shared by topics, and stays what it was too.
func TestResultStays(t *testing.T) {
	tree := NewTree[string]()
	tree.Subscribe("s", Subscription{Filter: "#", QoS: 1, ID: 5})
	r := tree.Match("x")
	if tree.Match("y") != r || tree.MatchBytes([]byte("z")) != r {
		t.Error("topics with the same filter do not share a result")
	}
	tree.Subscribe("s", Subscription{Filter: "#", QoS: 2, ID: 6})
	tree.Subscribe("s", Subscription{Filter: "y", ID: 1})
	tree.Subscribe("u", Subscription{Filter: "+/#"})
	if two := tree.Match("z"); tree.Match("z/z") != two || len(two.Matches) != 2 {
		t.Error("topics with the same two filters do not share a result")
	}
	tree.Unsubscribe("u", "+/#")
	if got := tree.Match("y").Matches; !reflect.DeepEqual(got, []Match[string]{{"s", 2, false, false, []uint32{1, 6}}}) {
		t.Errorf("y has %v", got)
	}
	if got := tree.Match("x").Matches; !reflect.DeepEqual(got, []Match[string]{{"s", 2, false, false, []uint32{6}}}) {
		t.Errorf("x has %v", got)
	}
	if !reflect.DeepEqual(r.Matches, []Match[string]{{"s", 1, false, false, []uint32{5}}}) {
		t.Errorf("a result changed with the tree: %v", r.Matches)
	}
}

// A shared subscription is its name and its filter (MQTT 5, 4.8.2).
func TestGroups(t *testing.T) {
	tree := NewTree[string]()
	for _, s := range []struct{ s, filter string }{
		{"a", "$share/g/x/#"}, {"b", "$share/g/x/#"}, {"a", "$share/g/x/+"}, {"c", "$share/h/x/#"}, {"a", "x/#"}, {"d", "$share/g/$SYS/#"},
	} {
		if tree.Subscribe(s.s, Subscription{Filter: s.filter, QoS: 1, ID: 4}) {
			t.Errorf("%v existed", s)
		}
	}
	only := func(names ...string) (list []Match[string]) {
		for _, name := range names {
			list = append(list, Match[string]{name, 1, false, false, []uint32{4}})
		}
		return list
	}
	check := func(topic string, want Result[string]) {
		t.Helper()
		if got := sorted(tree.Match(topic)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", topic, got, want)
		}
	}
	check("x/y", Result[string]{only("a"), []Group[string]{
		{"g", "x/#", only("a", "b")}, {"g", "x/+", only("a")}, {"h", "x/#", only("c")},
	}})
	check("x", Result[string]{only("a"), []Group[string]{{"g", "x/#", only("a", "b")}, {"h", "x/#", only("c")}}})
	check("$SYS/uptime", Result[string]{nil, []Group[string]{{"g", "$SYS/#", only("d")}}})
	check("y", Result[string]{})

	if tree.Unsubscribe("b", "x/#") || tree.Unsubscribe("b", "$share/h/x/#") || tree.Unsubscribe("e", "x/#") {
		t.Error("what did not exist was removed")
	}
	if !tree.Unsubscribe("a", "$share/g/x/#") || !tree.Unsubscribe("c", "$share/h/x/#") {
		t.Error("what existed was not removed")
	}
	check("x", Result[string]{only("a"), []Group[string]{{"g", "x/#", only("b")}}})
}

// Random subscriptions, looked at through random topics, against a list of them.
func TestAgainstList(t *testing.T) {
	for seed := range uint64(200) {
		againstList(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d; the run is the same each time", seed)
		}
	}
}

type held struct{ s, filter string }

func againstList(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	tree, list := NewTree[string](), map[held]Subscription{}
	for range 300 {
		h := held{fmt.Sprint("s", rng.IntN(6)), randomFilter(rng)}
		_, had := list[h]
		before := tree.Generation()
		switch rng.IntN(6) {
		case 0, 1:
			sub := Subscription{Filter: h.filter, QoS: byte(rng.IntN(3)), NoLocal: rng.IntN(2) == 0, RetainAsPublished: rng.IntN(2) == 0, ID: rng.Uint32N(4)}
			if existed := tree.Subscribe(h.s, sub); existed != had {
				t.Errorf("Subscribe of %v: existed is %v", h, existed)
			}
			list[h] = sub
			if tree.Generation() == before {
				t.Errorf("Subscribe of %v: the generation stays", h)
			}
		case 2:
			if existed := tree.Unsubscribe(h.s, h.filter); existed != had {
				t.Errorf("Unsubscribe of %v: existed is %v", h, existed)
			}
			delete(list, h)
			if had && tree.Generation() == before {
				t.Errorf("Unsubscribe of %v: the generation stays", h)
			}
		default:
			topic := randomPath(rng, "a", "b", "", "$x")
			want := listMatch(list, topic)
			if got := sorted(tree.Match(topic)); !reflect.DeepEqual(got, want) {
				t.Errorf("%q: got %v, want %v", topic, got, want)
			}
			if tree.MatchBytes([]byte(topic)) != tree.Match(topic) {
				t.Errorf("%q: MatchBytes is not Match", topic)
			}
		}
		if tree.Len() != len(list) {
			t.Errorf("%d subscriptions, not %d", tree.Len(), len(list))
		}
	}
	for h := range list {
		tree.Unsubscribe(h.s, h.filter)
	}
	checkEmpty(t, tree)
}

func checkEmpty(t *testing.T, tree *Tree[string]) {
	t.Helper()
	if tree.Len() != 0 || len(tree.subscribers) != 0 || len(tree.known) != 0 || len(tree.merges) != 0 || !tree.root.leaf() || tree.root.value != nil {
		t.Errorf("left: %d subscriptions, %d subscribers, %d topics, levels %+v", tree.Len(), len(tree.subscribers), len(tree.known), tree.root)
	}
}

func randomPath(rng *rand.Rand, names ...string) string {
	levels := make([]string, 1+rng.IntN(4))
	for i := range levels {
		levels[i] = names[rng.IntN(len(names))]
	}
	return strings.Join(levels, "/")
}

func randomFilter(rng *rand.Rand) string {
	filter := randomPath(rng, "a", "b", "", "$x", "+", "+")
	switch rng.IntN(4) {
	case 0:
		filter += "/#"
	case 1:
		filter = []string{"#", "+/#", "+"}[rng.IntN(3)]
	}
	if rng.IntN(3) == 0 {
		return fmt.Sprint("$share/", rng.IntN(2), "/", filter)
	}
	return filter
}

// listMatch says what a Result says, sorted, by looking at each subscription.
func listMatch(list map[held]Subscription, topic string) (want Result[string]) {
	matches, groups := map[string]Match[string]{}, map[[2]string][]Match[string]{}
	for h, sub := range list {
		group, rest, shared := SplitShare(h.filter)
		if !naive(rest, topic) {
			continue
		}
		m, old := matches[h.s]
		if shared || !old {
			m = Match[string]{Subscriber: h.s, NoLocal: true}
		}
		m.QoS = max(m.QoS, sub.QoS)
		m.NoLocal = m.NoLocal && sub.NoLocal
		m.RetainAsPublished = m.RetainAsPublished || sub.RetainAsPublished
		if sub.ID != 0 {
			m.IDs = append(m.IDs, sub.ID)
		}
		if shared {
			key := [2]string{group, rest}
			groups[key] = append(groups[key], m)
		} else {
			slices.Sort(m.IDs)
			matches[h.s] = m
		}
	}
	for _, m := range matches {
		want.Matches = append(want.Matches, m)
	}
	for key, members := range groups {
		want.Groups = append(want.Groups, Group[string]{key[0], key[1], members})
	}
	return sorted(&want)
}

// sorted returns a copy of r in order, with nil for what is empty. The order of IDs
// is a promise: it stays.
func sorted(r *Result[string]) (s Result[string]) {
	byName := func(a, b Match[string]) int { return cmp.Compare(a.Subscriber, b.Subscriber) }
	s.Matches = append(s.Matches, r.Matches...)
	slices.SortFunc(s.Matches, byName)
	for _, g := range r.Groups {
		g.Members = slices.SortedFunc(slices.Values(g.Members), byName)
		s.Groups = append(s.Groups, g)
	}
	slices.SortFunc(s.Groups, func(a, b Group[string]) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Filter, b.Filter))
	})
	return s
}

// What a tree remembers is bounded in topics and in bytes, and is right beyond them.
func TestBounds(t *testing.T) {
	tree := NewTree[string]()
	tree.Subscribe("s", Subscription{Filter: "#"})
	for i := range 3 * maxKnown {
		tree.Match(fmt.Sprint("a/", i))
		if len(tree.known) > maxKnown {
			t.Fatalf("%d topics are known", len(tree.known))
		}
	}
	if len(tree.known) != maxKnown {
		t.Errorf("%d topics are known; dropped although there was room", len(tree.known))
	}
	for i := range 500 { // of many bytes each
		tree.Match(fmt.Sprint(strings.Repeat("x", 65530), i))
		if most := maxKnownBytes/65530 + maxKnown; len(tree.known) > most || tree.knownBytes > maxKnownBytes {
			t.Fatalf("%d topics are known, %d bytes", len(tree.known), tree.knownBytes)
		}
	}
	for i := range maxKnownBytes/matchBytes + 1 { // one result of too many bytes
		tree.Subscribe(fmt.Sprint(i), Subscription{Filter: "a/+"})
	}
	tree.Match("other")
	for range 2 {
		if got := len(tree.Match("a/b").Matches); got != maxKnownBytes/matchBytes+2 {
			t.Fatalf("%d matches", got)
		}
	}
	if len(tree.merges) != 0 || tree.knownBytes > maxKnownBytes || tree.known["other"] == nil {
		t.Error("a result of more bytes than the bound is remembered, or took the place of others")
	}
}

func TestAtOnce(t *testing.T) {
	tree := NewTree[int]()
	tree.Subscribe(-1, Subscription{Filter: "#", ID: 1})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			mine := fmt.Sprint("w/", w)
			for i := range 500 {
				tree.Subscribe(w, Subscription{Filter: mine, QoS: 1, ID: uint32(i + 2)})
				tree.Subscribe(w, Subscription{Filter: "$share/g/w/#", QoS: 1})
				r := tree.MatchBytes([]byte(mine))
				if len(r.Matches) != 2 || len(r.Groups) != 1 {
					t.Errorf("worker %d gets %v", w, r)
				}
				for _, m := range r.Matches {
					if m.Subscriber == w && m.IDs[0] != uint32(i+2) {
						t.Errorf("worker %d gets %v in round %d", w, m, i)
					}
				}
				tree.Unsubscribe(w, mine)
				tree.Unsubscribe(w, "$share/g/w/#")
				if r := tree.Match(mine); len(r.Matches) != 1 {
					t.Errorf("worker %d gets %v after it left", w, r)
				}
				_, _ = tree.Len(), tree.Generation()
			}
		})
	}
	wg.Wait()
	if tree.Len() != 1 {
		t.Errorf("%d subscriptions", tree.Len())
	}
}

func TestMatchAllocations(t *testing.T) {
	tree := NewTree[int]()
	for i := range 10 {
		tree.Subscribe(i, Subscription{Filter: "a/+/c", ID: 1})
		tree.Subscribe(i, Subscription{Filter: "a/#", ID: 2})
		tree.Subscribe(i, Subscription{Filter: "$share/g/#", ID: 2})
	}
	inBuffer, text := []byte("xa/b/cx")[1:6], "a/b/c"
	tree.Match(text)
	n := testing.AllocsPerRun(100, func() {
		if len(tree.MatchBytes(inBuffer).Matches) != 10 || len(tree.Match(text).Groups) != 1 {
			t.Error("wrong matches")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a topic that is known", n)
	}
	n = testing.AllocsPerRun(100, func() { Matches("a/+/#", text) })
	if n != 0 {
		t.Errorf("%v allocations in Matches", n)
	}
}
