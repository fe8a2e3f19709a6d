package route

import (
	"fmt"
	"strings"
)

// The kinds of template parts. Zero is no variable.
const (
	text = iota + 1
	topicLevelOf
	clientID
	username
	wholeTopic
	node
	site
)

// A template is a text with variables. {node} and {site} are already text here,
// and neighbouring texts are one part.
type template []part

type part struct {
	kind  int
	text  string // of text
	level int    // of topicLevelOf
}

// A message is what the variables of a template are filled from.
type message struct {
	topic, clientID, username string
}

// builtin returns the kind of the variable that exists without being named in a
// filter, or 0.
func builtin(name string) int {
	switch name {
	case "client_id":
		return clientID
	case "username":
		return username
	case "topic":
		return wholeTopic
	case "node":
		return node
	case "site":
		return site
	}
	return 0
}

// parseTemplate reads a template that may use the names of match and the
// variables that come with a message.
func parseTemplate(s string, match filter, facts Facts) (template, error) {
	var t template
	for s != "" {
		open := strings.IndexAny(s, "{}")
		if open < 0 {
			return t.with(part{kind: text, text: s}), nil
		}
		end := strings.IndexByte(s[open:], '}') + open
		if s[open] == '}' || end < open {
			return nil, fmt.Errorf("the braces in %q do not pair up", s)
		}
		v, err := variable(s[open+1:end], match, facts)
		if err != nil {
			return nil, err
		}
		t = t.with(part{kind: text, text: s[:open]}).with(v)
		s = s[end+1:]
	}
	return t, nil
}

func variable(name string, match filter, facts Facts) (part, error) {
	switch kind := builtin(name); kind {
	case 0:
		if n := match.levelNamed(name); n >= 0 && name != "" {
			return part{kind: topicLevelOf, level: n}, nil
		}
		return part{}, fmt.Errorf("there is no variable {%s} here; there are %s", name, variables(match))
	case node:
		return part{kind: text, text: facts.Node}, nil
	case site:
		return part{kind: text, text: facts.Site}, nil
	default:
		return part{kind: kind}, nil
	}
}

// variables lists what a template beside match may use, for a person.
func variables(match filter) string {
	var b strings.Builder
	for _, l := range match {
		if l.name != "" {
			fmt.Fprintf(&b, "{%s}, ", l.name)
		}
	}
	return b.String() + "{client_id}, {username}, {topic}, {node} and {site}"
}

// with returns t and p behind it; two texts become one.
func (t template) with(p part) template {
	if p.kind != text {
		return append(t, p)
	}
	if last := len(t) - 1; last >= 0 && t[last].kind == text {
		t[last].text += p.text
		return t
	}
	if p.text == "" {
		return t
	}
	return append(t, p)
}

// constant returns the text of a template without variables.
func (t template) constant() (s string, ok bool) {
	switch {
	case len(t) == 0:
		return "", true
	case len(t) == 1 && t[0].kind == text:
		return t[0].text, true
	}
	return "", false
}

// value returns what p stands for. It shares the memory of m or of p.
func (p *part) value(m *message) string {
	switch p.kind {
	case topicLevelOf:
		return topicLevel(m.topic, p.level)
	case clientID:
		return m.clientID
	case username:
		return m.username
	case wholeTopic:
		return m.topic
	}
	return p.text
}

// size returns how many bytes t has for m.
func (t template) size(m *message) int {
	n := 0
	for i := range t {
		n += len(t[i].value(m))
	}
	return n
}
