package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// expand replaces the variables in the texts of a value. Whatever comes of it, only
// the text of the value changes, never what it is a value of.
func (r *reader) expand(v value) (value, []fault) {
	var faults []fault
	for i := range v.items {
		item, wrong := r.expand(v.items[i])
		v.items[i], faults = item, append(faults, wrong...)
		v.secrets = append(v.secrets, item.secrets...)
	}
	if v.kind != unstable.String || v.given || !strings.Contains(v.text, "${") {
		return v, faults
	}
	from := v.at.from
	text, err := expand(v.text, func(name string) (string, bool) {
		value, set := r.environ[name]
		if value != "" && secretAt(name) >= 0 {
			v.secrets = append(v.secrets, value)
		}
		return value, set
	})
	if wrong, ok := errors.AsType[*variableError](err); ok {
		at := v.at
		// Escapes may hide it; then the whole value is meant.
		if n := strings.Index(string(r.doc.src[from:v.at.to]), wrong.text); n >= 0 {
			at = span{from + n, from + n + len(wrong.text)}
		}
		return v, append(faults, fault{at: at, message: wrong.reason, hint: wrong.hint})
	}
	v.raw, v.text, v.given = v.text, text, true
	return v, faults
}

// withoutSecrets returns a text about v without what its secret variables say.
func (v value) withoutSecrets(s string) string {
	for _, secret := range v.secrets {
		s = strings.ReplaceAll(s, secret, "...")
	}
	return s
}

// A variableError is a variable that cannot be replaced.
type variableError struct{ text, reason, hint string }

func (e *variableError) Error() string { return e.text + ": " + e.reason }

// expand replaces ${NAME} by its value, and ${NAME:-default} by default if NAME is
// not set or empty. $${ is a ${ that stays. A value is taken as it is: what looks
// like a variable in it is none.
func expand(s string, lookup func(name string) (value string, set bool)) (string, error) {
	var b strings.Builder
	for {
		at := strings.Index(s, "${")
		if at < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		if at > 0 && s[at-1] == '$' {
			b.WriteString(s[:at-1] + "${")
			s = s[at+2:]
			continue
		}
		b.WriteString(s[:at])
		inside, rest, closed := strings.Cut(s[at+2:], "}")
		text := s[at : len(s)-len(rest)]
		const escaped = "write $${ for a ${ that is no variable"
		if !closed {
			return "", &variableError{text, "a variable ends with '}', and this one does not", escaped}
		}
		name, otherwise, hasDefault := strings.Cut(inside, ":-")
		if !isVariable(name) {
			return "", &variableError{text, fmt.Sprintf("%q is not the name of a variable", name), "${NAME} or ${NAME:-default}; " + escaped}
		}
		value, set := lookup(name)
		switch {
		case value == "" && hasDefault:
			value = otherwise
		case !set:
			return "", &variableError{text, fmt.Sprintf("the environment has no variable %s", name), fmt.Sprintf("set it, or write ${%s:-default}", name)}
		case !utf8.ValidString(value):
			return "", &variableError{text, fmt.Sprintf("the variable %s is not UTF-8 text", name), ""}
		}
		b.WriteString(value)
		s = rest
	}
}

// isVariable says whether s is what a shell takes as the name of a variable.
func isVariable(s string) bool {
	for i, c := range s {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
