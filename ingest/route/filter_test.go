package route

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// naiveMatch is MQTT 5, 4.7 word for word, by recursion over the levels.
func naiveMatch(filterText, topic string) bool {
	f, t := strings.Split(filterText, "/"), strings.Split(topic, "/")
	wild := f[0] == "#" || f[0] == "+" || strings.HasPrefix(f[0], "{")
	if wild && strings.HasPrefix(topic, "$") {
		return false
	}
	return naiveLevels(f, t)
}

func naiveLevels(f, t []string) bool {
	switch {
	case len(f) == 0:
		return len(t) == 0
	case f[0] == "#":
		return true
	case len(t) == 0:
		return false
	case f[0] == "+" || strings.HasPrefix(f[0], "{") || f[0] == t[0]:
		return naiveLevels(f[1:], t[1:])
	}
	return false
}

// pathsOf returns every path of 1 to depth levels from alphabet.
func pathsOf(alphabet []string, depth int) []string {
	last := alphabet
	all := slices.Clone(last)
	for range depth - 1 {
		var next []string
		for _, p := range last {
			for _, s := range alphabet {
				next = append(next, p+"/"+s)
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

// Every filter of a small world against every topic of it, and every pair of
// filters: the matcher agrees with the naive one, and covers is exactly "matches
// all that the other matches".
func TestFilterAgainstNaive(t *testing.T) {
	topics := pathsOf([]string{"", "a", "b", "$x"}, 4)
	var filters []filter
	var names []string
	var taken [][]bool
	for _, s := range pathsOf([]string{"", "a", "$x", "+", "#", "{n}"}, 3) {
		f, err := parseFilter(s)
		if err != nil {
			continue
		}
		matches := make([]bool, len(topics))
		for i, topic := range topics {
			matches[i] = f.matches(topic)
			if want := naiveMatch(s, topic); matches[i] != want {
				t.Errorf("filter %q, topic %q: %v, want %v", s, topic, matches[i], want)
			}
		}
		filters, names, taken = append(filters, f), append(names, s), append(taken, matches)
	}
	if len(filters) < 100 {
		t.Fatalf("only %d filters are legal; the test does not test", len(filters))
	}
	for i := range filters {
		for j := range filters {
			want := true
			for k := range topics {
				want = want && (taken[i][k] || !taken[j][k])
			}
			if got := filters[i].covers(filters[j]); got != want {
				t.Errorf("%q covers %q: %v, want %v", names[i], names[j], got, want)
			}
		}
	}
}

func TestFilterAgainstNaiveRandom(t *testing.T) {
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("repeat with rand.NewPCG(%d, 0)", seed)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 0))
	pick := func(words []string, n int) string {
		path := make([]string, 1+rng.IntN(n))
		for i := range path {
			path[i] = words[rng.IntN(len(words))]
		}
		return strings.Join(path, "/")
	}
	hits := 0
	for range 50_000 {
		s := pick([]string{"a", "b", "+", "+", "#", "", "$x", "{n}", "{m}"}, 8)
		topic := pick([]string{"a", "b", "", "$x", "ab"}, 9)
		f, err := parseFilter(s)
		if err != nil {
			continue
		}
		want := naiveMatch(s, topic)
		if want {
			hits++
		}
		if got := f.matches(topic); got != want {
			t.Fatalf("filter %q, topic %q: %v, want %v", s, topic, got, want)
		}
	}
	if hits < 1000 {
		t.Errorf("only %d pairs matched; the test does not test", hits)
	}
}

func TestTopicLevel(t *testing.T) {
	for _, topic := range []string{"a", "a/b", "/", "//", "a//b/", "/a"} {
		parts := strings.Split(topic, "/")
		got := make([]string, len(parts))
		for i := range parts {
			got[i] = topicLevel(topic, i)
		}
		if !slices.Equal(got, parts) {
			t.Errorf("%q has levels %q, want %q", topic, got, parts)
		}
	}
}
