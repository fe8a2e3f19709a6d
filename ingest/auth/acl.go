package auth

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// An accessList is an ACL file, compiled. It means what the file means to Mosquitto
// 2, with four exceptions that all give less: what is said with SUBSCRIBE in
// Guard.Allows; a client id or user name with a '/' in it gets nothing from a
// pattern that has it put in; a pattern that begins with "%c" or "%u" gives no topic
// that begins with '$'; and a client without a name gets nothing from a pattern
// with that name.
//
// As in Mosquitto, a user's own lines are asked first. There, and then again in the
// patterns, a deny comes before every grant. What nothing grants is denied.
type accessList struct {
	users     map[string]*rules
	anonymous rules // the topic lines before the first user line
	patterns  rules // for everybody
}

type rules struct {
	deny, grant []rule
}

// A rule is one topic or pattern line.
type rule struct {
	filter []byte // as it stands in the file
	parts  []part // nil, unless it is a pattern with names in it
	access Access // Read, Write or both; 0: deny
}

// A part of a pattern is text, or one of the names that stand for themselves.
type part struct {
	text []byte
	name nameKind
}

type nameKind byte

const (
	clientName nameKind = 'c' // %c
	userName   nameKind = 'u' // %u
)

func loadAccess(path string) (*accessList, error) {
	src, err := readFile(path, maxFileBytes)
	if err != nil {
		return nil, err
	}
	return parseAccess(path, src)
}

// parseAccess reads an ACL file. Any line that is wrong is an error, with its place:
// a deny that is not understood must not be a grant.
func parseAccess(path string, src []byte) (*accessList, error) {
	l := &accessList{users: map[string]*rules{}}
	own := &l.anonymous
	var errs faults
	for i, line := range lines(src) {
		if err := l.parseLine(line, &own); err != nil {
			errs.add(path, i+1, err)
		}
	}
	if err := errs.err(); err != nil {
		return nil, err
	}
	return l, nil
}

// parseLine reads one line. own are the rules of the user that the line is about;
// a user line changes it. Only spaces separate words, and only a '#' in the first
// column makes a comment, as in Mosquitto.
func (l *accessList) parseLine(line string, own **rules) error {
	if strings.HasPrefix(line, "#") || trim(line) == "" {
		return nil
	}
	if !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
		return errors.New("this is not UTF-8 text")
	}
	word, rest, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
	rest = trim(rest)
	switch word {
	case "user":
		if rest == "" {
			return errors.New("the name of the user is missing")
		}
		if l.users[rest] == nil {
			l.users[rest] = &rules{}
		}
		*own = l.users[rest]
		return nil
	case "topic", "pattern":
		r, err := parseRule(rest)
		if err != nil {
			return err
		}
		list := *own
		if word == "pattern" {
			r.parts = patternParts(string(r.filter))
			list = &l.patterns
		}
		if r.access == 0 {
			list.deny = append(list.deny, r)
		} else {
			list.grant = append(list.grant, r)
		}
		return nil
	}
	return fmt.Errorf("%.40q is none of user, topic and pattern; names and topics follow after spaces", word)
}

// parseRule reads "[read|write|readwrite|deny] topic". A word that stands alone is
// the topic; a topic with a space in it needs the first word.
func parseRule(text string) (rule, error) {
	first, topic, two := strings.Cut(text, " ")
	r := rule{access: Read | Write}
	if two {
		switch first {
		case "read":
			r.access = Read
		case "write":
			r.access = Write
		case "readwrite":
		case "deny":
			r.access = 0
		default:
			return rule{}, fmt.Errorf("%.40q is none of read, write, readwrite and deny", first)
		}
	} else {
		topic = first
	}
	topic = trim(topic)
	if err := checkFilter(topic); err != nil {
		return rule{}, fmt.Errorf("topic %.100q: %w", topic, err)
	}
	r.filter = []byte(topic)
	return r, nil
}

// patternParts takes a pattern apart; it returns nil if it has no names in it.
func patternParts(pattern string) (parts []part) {
	text := pattern
	for i := 0; i+1 < len(text); i++ {
		name := nameKind(text[i+1])
		if text[i] != '%' || name != clientName && name != userName {
			continue
		}
		parts = append(parts, part{text: []byte(text[:i])}, part{name: name})
		text, i = text[i+2:], -1
	}
	if parts == nil {
		return nil
	}
	return append(parts, part{text: []byte(text)})
}

// A question is what Allows was asked.
type question struct {
	user, client string
	access       Access
	topic        string
}

type verdict byte

const (
	silent verdict = iota
	denied
	granted
)

func (l *accessList) allows(user, client string, a Access, topic string) bool {
	q := question{user, client, a, topic}
	own := &l.anonymous
	if user != "" {
		own = l.users[user]
	}
	if own != nil {
		if v := own.judge(&q); v != silent {
			return v == granted
		}
	}
	// Wildcards in a name would widen what patterns give; Mosquitto refuses such
	// clients everything that their own lines do not say.
	if strings.ContainsAny(user, "+#") || strings.ContainsAny(client, "+#") {
		return false
	}
	return l.patterns.judge(&q) == granted
}

func (l *rules) judge(q *question) verdict {
	var room [512]byte
	for i := range l.deny {
		if filter := l.deny[i].with(q, room[:0]); filter != nil && denies(filter, q) {
			return denied
		}
	}
	want := q.access
	if want == Subscribe {
		want = Read
	}
	for i := range l.grant {
		r := &l.grant[i]
		if r.access&want != want || q.topic[0] == '$' && r.filter[0] != '$' || r.parts != nil && q.hasSlash(r) {
			continue
		}
		if filter := r.with(q, room[:0]); filter != nil && grants(filter, q) {
			return granted
		}
	}
	return silent
}

// denies reports whether a deny of filter leaves nothing of what is asked for.
func denies(filter []byte, q *question) bool {
	if q.access == Subscribe {
		return covers(filter, q.topic)
	}
	return matches(filter, q.topic)
}

// grants reports whether a grant of filter gives any of what is asked for.
func grants(filter []byte, q *question) bool {
	if q.access == Subscribe {
		return overlaps(filter, q.topic)
	}
	return matches(filter, q.topic)
}

// with returns the rule's filter with the names put in, in room if it fits; nil if
// there is no such name.
func (r *rule) with(q *question, room []byte) []byte {
	if r.parts == nil {
		return r.filter
	}
	for i := range r.parts {
		p := &r.parts[i]
		if p.name == 0 {
			room = append(room, p.text...)
			continue
		}
		name := q.name(p.name)
		if name == "" {
			return nil
		}
		room = append(room, name...)
	}
	return room
}

// hasSlash reports whether a name that the rule puts in would be more than a level.
func (q *question) hasSlash(r *rule) bool {
	for i := range r.parts {
		if r.parts[i].name != 0 && strings.Contains(q.name(r.parts[i].name), "/") {
			return true
		}
	}
	return false
}

func (q *question) name(kind nameKind) string {
	if kind == userName {
		return q.user
	}
	return q.client
}
