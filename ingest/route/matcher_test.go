package route

import "testing"

func TestMatcher(t *testing.T) {
	for filter, topics := range map[string]map[string]bool{
		"#":      {"a": true, "a/b": true, "$SYS/x": false},
		"a/+/c":  {"a/b/c": true, "a//c": true, "a/b": false, "a/b/c/d": false},
		"a/b/#":  {"a/b": true, "a/b/c/d": true, "a/bc": false},
		"+/{n}":  {"a/b": true, "a": false},
		"$SYS/#": {"$SYS/x": true},
	} {
		m, err := NewMatcher(filter)
		if err != nil {
			t.Fatal(filter, err)
		}
		for topic, want := range topics {
			if got := m.Matches(topic); got != want {
				t.Errorf("%q matches %q: %v, want %v", filter, topic, got, want)
			}
		}
	}
	if _, err := NewMatcher("a/#/b"); err == nil {
		t.Error("a filter with '#' in the middle is taken")
	}
}
