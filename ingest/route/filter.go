package route

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxTopicBytes is the longest MQTT topic or filter (MQTT 5, 1.5.4).
const maxTopicBytes = 65535

// The kinds of filter levels.
const (
	literal = iota
	single  // '+' or {name}
	multi   // '#'
)

// A filter is an MQTT topic filter, level by level. Only its last level is ever
// multi, so the n-th level of a filter always stands for the n-th of a topic.
type filter []level

type level struct {
	kind int
	text string // of a literal
	name string // of a {name}; empty for '+'
}

// parseFilter reads an MQTT topic filter with named levels (MQTT 5, 4.7.1).
func parseFilter(s string) (filter, error) {
	switch {
	case s == "":
		return nil, errors.New(`is empty; "#" matches every topic`)
	case len(s) > maxTopicBytes:
		return nil, fmt.Errorf("has %d bytes; MQTT allows %d", len(s), maxTopicBytes)
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return nil, errors.New("is not text that MQTT allows")
	case strings.HasPrefix(s, "$share/"):
		return nil, errors.New("$share is for subscriptions; write the filter that follows it")
	}
	parts := strings.Split(s, "/")
	f := make(filter, len(parts))
	for i, part := range parts {
		l, err := parseLevel(part)
		if err != nil {
			return nil, err
		}
		if l.kind == multi && i != len(parts)-1 {
			return nil, errors.New("'#' must be the last level")
		}
		if l.name != "" && f[:i].levelNamed(l.name) >= 0 {
			return nil, fmt.Errorf("{%s} stands twice", l.name)
		}
		f[i] = l
	}
	return f, nil
}

func parseLevel(s string) (level, error) {
	switch {
	case s == "#":
		return level{kind: multi}, nil
	case s == "+":
		return level{kind: single}, nil
	case strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}"):
		name := s[1 : len(s)-1]
		if !legalName(name) {
			return level{}, fmt.Errorf("%q is not a name: use letters, digits and '_', with a letter first", name)
		}
		if builtin(name) != 0 {
			return level{}, fmt.Errorf("{%s} has a meaning already; choose another name", name)
		}
		return level{kind: single, name: name}, nil
	case strings.ContainsAny(s, "+#{}"):
		return level{}, fmt.Errorf("level %q mixes text with a wildcard; '+', '#' and {name} each take a whole level", s)
	}
	return level{kind: literal, text: s}, nil
}

func legalName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// levelNamed returns the number of the level called name, or -1.
func (f filter) levelNamed(name string) int {
	for i := range f {
		if f[i].name == name {
			return i
		}
	}
	return -1
}

// matches follows MQTT 5, 4.7: '#' takes its parent too ("a/#" matches "a"), and
// a leading wildcard does not take topics that start with '$' (4.7.2).
func (f filter) matches(topic string) bool {
	if f[0].kind != literal && strings.HasPrefix(topic, "$") {
		return false
	}
	rest, more := topic, true
	for i := range f {
		if f[i].kind == multi {
			return true
		}
		if !more {
			return false
		}
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if f[i].kind == literal && f[i].text != part {
			return false
		}
	}
	return !more
}

// covers reports whether f matches every topic that g matches.
func (f filter) covers(g filter) bool {
	if f[0].kind != literal && g[0].kind == literal && strings.HasPrefix(g[0].text, "$") {
		return false
	}
	for i := range f {
		if f[i].kind == multi {
			return true
		}
		if i == len(g) {
			return false
		}
		switch g[i].kind {
		case multi:
			// '#' also stands for nothing at all, except at the very start.
			return i == 0 && f[0].kind == single && len(f) == 2 && f[1].kind == multi
		case single:
			if f[i].kind != single {
				return false
			}
		default:
			if f[i].kind == literal && f[i].text != g[i].text {
				return false
			}
		}
	}
	return len(f) == len(g)
}

// topicLevel returns the n-th level of topic, from 0. The caller has matched
// topic against a filter that has that level.
func topicLevel(topic string, n int) string {
	for range n {
		_, topic, _ = strings.Cut(topic, "/")
	}
	first, _, _ := strings.Cut(topic, "/")
	return first
}
