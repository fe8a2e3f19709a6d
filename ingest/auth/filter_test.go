package auth

import (
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "aa", false},
		{"aa", "a", false},
		{"a/b", "a/b", true},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"a/#", "a", true},
		{"a/#", "a/", true},
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"#", "a", true},
		{"#", "/", true},
		{"+", "a", true},
		{"+", "/a", false},
		{"+/+", "/a", true},
		{"+/+", "a/", true},
		{"/+", "/a", true},
		{"+/#", "a", true},
		{"+/#", "a/b", true},
		{"a/+", "a", false},
		{"a/+", "a/", true},
		{"a/+", "a/b/c", false},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a//c", true},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"#", "$SYS/a", false},
		{"+/a", "$SYS/a", false},
		{"$SYS/#", "$SYS/a", true},
		{"$SYS/+", "$SYS/a", true},
		{"a/#", "a/$SYS", true},
		{"ä/+", "ä/ö", true},
	} {
		if got := matches([]byte(c.filter), c.topic); got != c.want {
			t.Errorf("%q takes %q: %v, want %v", c.filter, c.topic, got, c.want)
		}
	}
}

// every returns all texts of up to depth levels out of levels.
func every(depth int, levels ...string) (all []string) {
	last := levels
	for range depth {
		all = append(all, last...)
		var next []string
		for _, l := range last {
			for _, level := range levels {
				next = append(next, l+"/"+level)
			}
		}
		last = next
	}
	return all
}

// naiveMatches is the specification, level by level.
func naiveMatches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i := range f {
		switch {
		case f[i] == "#":
			return true
		case i == len(t):
			return false
		case f[i] != "+" && f[i] != t[i]:
			return false
		}
	}
	return len(f) == len(t) || len(f) == len(t)+1 && f[len(f)-1] == "#"
}

// Over all small filters and topics, the three answers about filters are those that
// asking each topic gives.
func TestFiltersAgainstEveryTopic(t *testing.T) {
	var filters []string
	for _, f := range every(3, "a", "", "+", "#", "$s") {
		if checkFilter(f) == nil {
			filters = append(filters, f)
		}
	}
	var topics []string
	for _, topic := range every(4, "a", "", "$s", "other") {
		if topic != "" {
			topics = append(topics, topic)
		}
	}
	takes := map[string][]bool{}
	for _, f := range filters {
		for _, topic := range topics {
			got := matches([]byte(f), topic)
			if got != naiveMatches(f, topic) {
				t.Fatalf("%q takes %q: %v", f, topic, got)
			}
			takes[f] = append(takes[f], got)
		}
	}
	if len(filters) < 50 || len(topics) < 200 {
		t.Fatalf("%d filters and %d topics are too few to show anything", len(filters), len(topics))
	}
	for _, a := range filters {
		for _, b := range filters {
			some, all := false, true
			for i := range topics {
				some = some || takes[a][i] && takes[b][i]
				all = all && (takes[a][i] || !takes[b][i])
			}
			// The empty topic is none, but the filters do not know: a subscription more.
			both := naiveMatches(a, "") && naiveMatches(b, "")
			if got := overlaps([]byte(a), b); got != some && !both {
				t.Errorf("%q overlaps %q: %v, want %v", a, b, got, some)
			}
			// That +/# covers # is not seen, nor the empty topic: a subscription more.
			missed := a == "+/#" && b == "#" || !naiveMatches(a, "") && naiveMatches(b, "")
			if got := covers([]byte(a), b); got != all && (got || !missed) {
				t.Errorf("%q covers %q: %v, want %v", a, b, got, all)
			}
		}
	}
}
