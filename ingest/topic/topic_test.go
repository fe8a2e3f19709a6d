package topic

import (
	"strings"
	"testing"
)

// matchTable has the examples of MQTT 5, 4.7, and the corners around them.
var matchTable = []struct {
	filter, topic string
	want          bool
}{
	// 4.7.1.2, the multi-level wildcard
	{"sport/tennis/player1/#", "sport/tennis/player1", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
	{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
	{"sport/tennis/player1/#", "sport/tennis/player10", false},
	{"sport/#", "sport", true},
	{"#", "sport/tennis", true},
	{"sport/tennis/#/ranking", "sport/tennis/x/ranking", false},
	{"sport/tennis/#/ranking", "sport/tennis/#/ranking", false},
	{"sport/tennis#", "sport/tennis", false},
	{"a/+/#", "a/b", true},
	{"a/+/#", "a/b/c/d", true},
	{"a/+/#", "a", false},
	{"+/#", "a", true},
	{"+/#", "a/b", true},
	{"#", "/", true},
	{"/#", "/", true},
	{"/#", "a", false},
	{"a/#", "a/", true},

	// 4.7.1.3, the single-level wildcard
	{"sport/tennis/+", "sport/tennis/player1", true},
	{"sport/tennis/+", "sport/tennis/player1/ranking", false},
	{"sport/+", "sport", false},
	{"sport/+", "sport/", true},
	{"+", "sport", true},
	{"+", "sport/", false},
	{"+/tennis/#", "sport/tennis", true},
	{"sport/+/player1", "sport/tennis/player1", true},
	{"sport/+/player1", "sport//player1", true},
	{"sport+", "sport+", true},
	{"sport+", "sport1", false},
	{"+/+", "/finance", true},
	{"/+", "/finance", true},
	{"+", "/finance", false},

	// 4.7.2, topics that start with $
	{"#", "$SYS/uptime", false},
	{"+/monitor/Clients", "$SYS/monitor/Clients", false},
	{"+/#", "$SYS/uptime", false},
	{"+", "$SYS", false},
	{"$SYS/#", "$SYS/monitor", true},
	{"$SYS/#", "$SYS", true},
	{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
	{"$SYS/+", "$SYS/$x", true},
	{"a/#", "a/$SYS", true},
	{"a/+", "a/$SYS", true},
	{"/#", "/$SYS", true},
	{"+/+", "/$SYS", true},

	// 4.7.3, names are told apart by each byte
	{"ACCOUNTS", "Accounts", false},
	{"Accounts payable", "Accounts payable", true},
	{"/finance", "finance", false},
	{"finance/", "finance", false},
	{"a//b", "a/b", false},
	{"a/+/b", "a//b", true},
	{"//", "//", true},
	{"a", "a/b", false},
	{"a/b", "a", false},
}

func TestMatches(t *testing.T) {
	for _, tc := range matchTable {
		if got := Matches(tc.filter, tc.topic); got != tc.want {
			t.Errorf("Matches(%q, %q) is %v", tc.filter, tc.topic, got)
		}
		if got := naive(tc.filter, tc.topic); got != tc.want {
			t.Errorf("naive(%q, %q) is %v", tc.filter, tc.topic, got)
		}
		tree := NewTree[string]()
		tree.Subscribe("s", Subscription{Filter: tc.filter})
		if got := len(tree.Match(tc.topic).Matches) == 1; got != tc.want {
			t.Errorf("a tree with %q has %v for %q", tc.filter, got, tc.topic)
		}
		if strings.ContainsAny(tc.topic, "+#") {
			continue // nobody may publish to it
		}
		messages, got := NewRetained[int](), false
		messages.Set(tc.topic, 1)
		messages.Match(tc.filter, func(string, int) bool { got = true; return true })
		if got != tc.want {
			t.Errorf("%q gives %v of the message retained for %q", tc.filter, got, tc.topic)
		}
	}
}

// naive says level by level what MQTT 5, 4.7 says.
func naive(filter, topic string) bool {
	f, n := strings.Split(filter, "/"), strings.Split(topic, "/")
	if (f[0] == "+" || f[0] == "#") && strings.HasPrefix(topic, "$") {
		return false
	}
	for i := range f {
		switch {
		case f[i] == "#":
			return i == len(f)-1
		case i >= len(n):
			return false
		case f[i] != "+" && f[i] != n[i]:
			return false
		}
	}
	return len(f) == len(n)
}

// Matches, a tree and the retained messages agree with the plain definition.
func FuzzMatches(f *testing.F) {
	for _, tc := range matchTable {
		f.Add(tc.filter, tc.topic)
	}
	f.Add("", "")
	f.Add("$share/g/a/#", "a")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		want := naive(filter, topic)
		if got := Matches(filter, topic); got != want {
			t.Fatalf("Matches(%q, %q) is %v", filter, topic, got)
		}

		tree := NewTree[int]()
		tree.Subscribe(1, Subscription{Filter: filter})
		_, rest, shared := SplitShare(filter)
		r := tree.Match(topic)
		if (len(r.Matches) == 1) != (want && !shared) {
			t.Fatalf("filter %q gives %v of topic %q", filter, r.Matches, topic)
		}
		if (len(r.Groups) == 1) != (shared && naive(rest, topic)) {
			t.Fatalf("filter %q gives groups %v of topic %q", filter, r.Groups, topic)
		}
		if !tree.Unsubscribe(1, filter) || !tree.root.leaf() {
			t.Fatalf("%q is not gone", filter)
		}

		if strings.ContainsAny(topic, "+#") {
			return // nobody may publish to it
		}
		messages, got := NewRetained[int](), false
		messages.Set(topic, 1)
		messages.Match(filter, func(string, int) bool { got = true; return true })
		if got != (want && !shared) {
			t.Fatalf("filter %q gives %v of the message retained for %q", filter, got, topic)
		}
		if _, existed := messages.Delete(topic); !existed || !messages.root.leaf() {
			t.Fatalf("%q is not gone", topic)
		}
	})
}

func TestSplitShare(t *testing.T) {
	for _, tc := range []struct {
		filter, group, rest string
		shared              bool
	}{
		{"$share/g/a/b", "g", "a/b", true},
		{"$share/g/#", "g", "#", true},
		{"$share/g//", "g", "/", true},
		{"$share/g/$share/h/a", "g", "$share/h/a", true},
		{"$share/g/", "", "$share/g/", false},
		{"$share/g", "", "$share/g", false},
		{"$share//a", "", "$share//a", false},
		{"$share", "", "$share", false},
		{"$SHARE/g/a", "", "$SHARE/g/a", false},
		{"a/$share/g/b", "", "a/$share/g/b", false},
	} {
		group, rest, shared := SplitShare(tc.filter)
		if group != tc.group || rest != tc.rest || shared != tc.shared {
			t.Errorf("%q is group %q, filter %q, shared %v", tc.filter, group, rest, shared)
		}
	}
}

// Topics and filters of as many levels as MQTT allows take their time once, and
// not once for each level: with their square this test would take minutes.
func TestManyLevels(t *testing.T) {
	topic := strings.Repeat("a/", 32767) + "b"
	filters := []string{
		topic, strings.Repeat("+/", 32767) + "#", strings.Repeat("/", 65535), strings.Repeat("+/", 32767) + "b",
		strings.Repeat("a/", 32766) + "+/#", "a/#",
	}
	tree, messages := NewTree[int](), NewRetained[int]()
	messages.Set(topic, 1)
	for i, filter := range filters {
		tree.Subscribe(i, Subscription{Filter: filter})
		want, got := naive(filter, topic), 0
		messages.Match(filter, func(string, int) bool { got++; return true })
		if (got == 1) != want || Matches(filter, topic) != want {
			t.Errorf("filter %d gives %d retained messages", i, got)
		}
	}
	if got := len(tree.Match(topic).Matches); got != 5 {
		t.Errorf("%d match, not 5", got)
	}
	for i, filter := range filters {
		tree.Unsubscribe(i, filter)
	}
	messages.Delete(topic)
	if !tree.root.leaf() || !messages.root.leaf() {
		t.Error("levels are left")
	}
}
