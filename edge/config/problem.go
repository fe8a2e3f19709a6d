package config

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Severity is how bad a Problem is.
type Severity int

// An Error keeps a node from starting; a Warning does not.
const (
	Error Severity = iota
	Warning
)

// String returns what a person reads: "error" or "warn".
func (s Severity) String() string {
	if s == Warning {
		return "warn"
	}
	return "error"
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Problem is one thing that is wrong or doubtful, and where.
type Problem struct {
	File     string   `json:"file"`  // or "environment" or "--set"
	Line     int      `json:"line"`  // from 1
	Col      int      `json:"col"`   // from 1, in characters
	Width    int      `json:"width"` // how many characters are meant
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Source   string   `json:"source"` // the line, safe to print on a terminal; empty at the end of the file
	Hint     string   `json:"hint"`   // what to write instead; may be empty
}

// String returns the problem as lines for a person, with a newline at the end:
//
//	tributary.toml:9:1  error  unknown key "lsten" in [mqtt] (did you mean "listen"?)
//	  9 | lsten = ["0.0.0.0:1883"]
//	    | ~~~~~
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d  %-5s  %s\n", p.File, p.Line, p.Col, p.Severity, p.Message)
	if p.Source != "" {
		fmt.Fprintf(&b, "%3d | %s\n", p.Line, p.Source)
		space := max(0, p.Col-1)
		room := utf8.RuneCountInString(p.Source) - space
		if room >= 0 { // at 0 something is missing behind the line's end
			fmt.Fprintf(&b, "    | %s%s\n", strings.Repeat(" ", space), strings.Repeat("~", max(1, min(room, p.Width))))
		}
	}
	if p.Hint != "" {
		fmt.Fprintf(&b, "    hint: %s\n", p.Hint)
	}
	return b.String()
}

// Sentence returns the problem on one line, with its place and its hint.
func (p Problem) Sentence() string {
	s := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Col, p.Message)
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// How much is shown of a long line and of a long text about it.
const (
	maxSourceChars  = 160
	maxMessageChars = 400
)

// problem returns a Problem at a place, which it cuts to the file and to the
// place's first line.
func (d *document) problem(at span, severity Severity, message, hint string) Problem {
	at.from = min(at.from, len(d.src))
	number, line := d.line(at.from)
	at.from = d.charStart(min(at.from, line.to))
	at.to = d.charStart(min(max(at.to, at.from), line.to))
	return Problem{
		File:     d.part(at.from).name,
		Line:     number,
		Col:      1 + utf8.RuneCount(d.src[line.from:at.from]),
		Width:    utf8.RuneCount(d.src[at.from:at.to]),
		Severity: severity,
		Message:  printable(message, maxMessageChars),
		Source:   printable(withoutSecret(string(d.src[line.from:min(line.to, line.from+maxSourceChars*utf8.UTFMax+1)])), maxSourceChars),
		Hint:     printable(hint, maxMessageChars),
	}
}

// printable returns the first limit characters of s, each as one visible one, so
// that a file cannot steer a terminal and underlines stay in place.
func printable(s string, limit int) string {
	var b strings.Builder
	count := 0
	for _, r := range strings.TrimRightFunc(s, unicode.IsSpace) {
		if count++; count > limit {
			return b.String() + "..."
		}
		switch {
		case r == '\t':
			r = ' '
		case !unicode.IsPrint(r):
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// withoutSecret returns line without the value of a key that may hold a secret:
// what check prints ends up in tickets.
func withoutSecret(line string) string {
	at := secretAt(line)
	if at < 0 {
		return line
	}
	end := strings.IndexAny(line[at:], "=:")
	if end < 0 {
		return line
	}
	return line[:at+end+1] + " ..."
}

// secretAt returns where s has a word that a secret is usually called by, or -1.
// The names of files are no secrets.
func secretAt(s string) int {
	for at := range len(s) {
		for _, word := range []string{"pass", "secret", "token"} {
			if hasPrefixFold(s[at:], word) && !hasPrefixFold(s[at:], "password_file") {
				return at
			}
		}
	}
	return -1
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
