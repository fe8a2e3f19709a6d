package auth

import (
	"bytes"
	"errors"
	"strings"
	"unicode"
)

// The filters of this file are well-formed: '+' and '#' fill a level, '#' the last.
// Wildcards at the start take no topic that begins with '$' (MQTT 5, section 4.7.2).

// matches reports whether filter takes the topic.
func matches(filter []byte, topic string) bool {
	if topic[0] == '$' && filter[0] != '$' {
		return false
	}
	t := 0
	for f := range filter {
		switch {
		case filter[f] == '#':
			return true
		case filter[f] == '+':
			for t < len(topic) && topic[t] != '/' {
				t++
			}
		case t == len(topic):
			return string(filter[f:]) == "/#" // a/# takes a as well
		case filter[f] != topic[t]:
			return false
		default:
			t++
		}
	}
	return t == len(topic)
}

// overlaps reports whether there is a topic that both filters take.
func overlaps(filter []byte, other string) bool {
	if (filter[0] == '$') != (other[0] == '$') {
		return false
	}
	for {
		a, filterRest, filterGoesOn := bytes.Cut(filter, []byte("/"))
		b, otherRest, otherGoesOn := strings.Cut(other, "/")
		switch {
		case string(a) == "#" || b == "#":
			return true
		case string(a) != "+" && b != "+" && string(a) != b:
			return false
		case !filterGoesOn || !otherGoesOn:
			return filterGoesOn == otherGoesOn || string(filterRest) == "#" || otherRest == "#"
		}
		filter, other = filterRest, otherRest
	}
}

// covers reports whether filter takes every topic that other takes.
func covers(filter []byte, other string) bool {
	if (filter[0] == '$') != (other[0] == '$') {
		return false
	}
	for {
		if string(filter) == "#" {
			return true
		}
		a, filterRest, filterGoesOn := bytes.Cut(filter, []byte("/"))
		b, otherRest, otherGoesOn := strings.Cut(other, "/")
		if b == "#" || string(a) != "+" && string(a) != b {
			return false
		}
		if !filterGoesOn || !otherGoesOn {
			return filterGoesOn == otherGoesOn || string(filterRest) == "#"
		}
		filter, other = filterRest, otherRest
	}
}

// checkFilter judges a topic or filter in an ACL file.
func checkFilter(filter string) error {
	if filter == "" || len(filter) > maxNameBytes {
		return errors.New("a topic has 1 to 65535 bytes")
	}
	if strings.ContainsFunc(filter, unicode.IsControl) {
		return errors.New("it has a tab or another control character in it; words are kept apart by spaces")
	}
	rest := filter
	for goesOn := true; goesOn; {
		var level string
		level, rest, goesOn = strings.Cut(rest, "/")
		switch {
		case level == "#" && goesOn:
			return errors.New("'#' must be the last level")
		case level != "+" && level != "#" && strings.ContainsAny(level, "+#"):
			return errors.New("'+' and '#' must fill a level")
		}
	}
	return nil
}
