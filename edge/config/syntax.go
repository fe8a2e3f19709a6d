package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// syntax turns what the parser says into what a person can use. Most broken
// statements are one of four slips, which get their own words.
func (r *reader) syntax(broken syntaxError) {
	r.partial = true
	if r.doc.src[broken.start] == '[' {
		r.skipSection()
	}
	startLine, statement := r.doc.line(broken.start)
	errorLine, _ := r.doc.line(min(broken.at.from, len(r.doc.src)))
	line := r.doc.src[broken.start:statement.to]
	key, rest, found := bytes.Cut(line, []byte("="))
	bare := bytes.TrimSpace(uncommented(rest))
	switch {
	case errorLine > startLine:
		r.errorAt(broken.at, "this does not fit into the value that starts on line "+fmt.Sprint(startLine)+": "+plain(broken.message),
			"close the value on line "+fmt.Sprint(startLine)+" with its bracket or quotes")
	case found && len(bare) == 0:
		r.errorAt(span{broken.start, statement.to}, fmt.Sprintf("%s has no value", bytes.TrimSpace(key)), "write one, or leave the key out for its default")
	case found && isWord(bare) && !r.startsNewWord(broken, rest):
		from := broken.start + len(key) + 1 + bytes.Index(rest, bare)
		at := span{from, from + len(bare)}
		if slices.Contains([]string{"yes", "no", "on", "off", "true", "false"}, strings.ToLower(string(bare))) {
			r.errorAt(at, fmt.Sprintf("%s is not a value here", bare), "write true or false")
			return
		}
		r.errorAt(at, "text, sizes and durations stand in quotes", withoutSecret(fmt.Sprintf("%s = %q", bytes.TrimSpace(key), bare)))
	case strings.HasPrefix(broken.message, "expected '=' after key"):
		r.errorAt(span{broken.start, statement.to}, "this is not \"key = value\"", "write a '=' between the key and its value")
	case strings.HasPrefix(broken.message, "invalid escape"):
		r.errorAt(broken.at, "this is not TOML: "+plain(broken.message), `single quotes take a backslash as it is: 'C:\ca.pem'`)
	default:
		r.errorAt(broken.at, "this is not TOML: "+plain(broken.message), tomlHint)
	}
}

// tomlHint is what most slips come down to.
const tomlHint = `one setting a line: key = "text", key = 5, key = true or key = ["text", "text"]`

// startsNewWord reports whether the parser was content with the first word of
// rest and stumbled over the next.
func (r *reader) startsNewWord(broken syntaxError, rest []byte) bool {
	at := min(broken.at.from, len(r.doc.src))
	_, restEnd := r.doc.line(at)
	firstWord := restEnd.to - len(bytes.TrimLeft(rest, " \t"))
	return at > firstWord && (r.doc.src[at-1] == ' ' || r.doc.src[at-1] == '\t')
}

// isWord reports whether s is a value that only lacks its quotes.
func isWord(s []byte) bool {
	return !bytes.ContainsAny(s, "\"'[]{},")
}

// uncommented returns s without the comment at its end. s has no quotes when it
// matters.
func uncommented(s []byte) []byte {
	before, _, _ := bytes.Cut(s, []byte("#"))
	return before
}

// plain returns a message of the parser in plainer words.
func plain(message string) string {
	switch {
	case strings.HasSuffix(message, "cannot have new lines"), strings.HasPrefix(message, "unterminated"):
		return "the quote at its end is missing"
	case strings.HasPrefix(message, "expected ']' to close"), strings.HasPrefix(message, "expected ']]' to close"):
		return "the bracket at its end is missing"
	}
	// "expected newline but got U+0066 'f'": the character is enough.
	before, after, found := strings.Cut(message, "U+")
	quote := strings.IndexByte(after, '\'')
	if !found || quote < 0 {
		return message
	}
	if strings.HasPrefix(message, "expected newline") {
		return after[quote:] + " is too much on this line"
	}
	return before + after[quote:]
}
