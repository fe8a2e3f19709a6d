package config

import (
	"bytes"
	"errors"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A value is what stands behind a '=', with its place.
type value struct {
	kind    unstable.Kind
	text    string  // of a scalar: strings without quotes, all else as written
	items   []value // of an array
	entries []entry // of an inline table
	at      span

	given   bool     // text that is not TOML: from outside the files, or out of variables
	raw     string   // text with its variables; "" if it has none
	secrets []string // values of variables whose names say that they are secret
}

// An entry is one key = value. The key may have several parts: a.b = 1.
type entry struct {
	key []name
	val value
}

// A name is one part of a key, or of a header in brackets, with its place.
type name struct {
	text string
	at   span
}

// covering returns the place from the first name to the last.
func covering(names []name) span {
	return span{names[0].at.from, names[len(names)-1].at.to}
}

// A consumer is told what the file says, in the order of the file.
type consumer interface {
	header(path []name, isArray bool) // [path] or [[path]]
	entry(e entry)
	syntax(broken syntaxError)
}

// A syntaxError is a place where the file is no TOML. The statement it is in
// starts at start.
type syntaxError struct {
	start   int
	at      span
	message string // as the parser says it
}

// maxSyntaxErrors is where walk gives up: the file is something else.
const maxSyntaxErrors = 20

// walk reads src from an offset to its end. After a syntax error it goes on at the next line that looks
// like a statement, so that one slip does not hide the others.
func walk(src []byte, from int, to consumer) {
	base, done := from, from // where the parser started; where its last statement ended
	var p unstable.Parser
	p.Reset(src[from:])
	for range maxSyntaxErrors {
		for p.NextExpression() {
			done = base + deliver(&p, base, to)
		}
		if p.Error() == nil {
			return
		}
		broken := syntaxError{at: span{len(src), len(src)}, message: p.Error().Error()}
		if detail, ok := errors.AsType[*unstable.ParserError](p.Error()); ok {
			r := p.Range(detail.Highlight)
			broken.at.from = base + int(r.Offset)
			broken.at.to = broken.at.from + int(r.Length)
		}
		broken.start = min(statementFrom(src, done, done > from), broken.at.from) // a comment can be broken too
		to.syntax(broken)
		if base = resumeFrom(src, broken); base == len(src) {
			return
		}
		done = base - 1 // the line's end before it
		p.Reset(src[base:])
	}
}

// deliver passes the parser's current statement on and returns where it ends,
// counted from the parser's start.
func deliver(p *unstable.Parser, base int, to consumer) (end int) {
	node := p.Expression()
	switch node.Kind { //nolint:exhaustive // a statement is one of these; see Parser.NextExpression
	case unstable.Table, unstable.ArrayTable:
		path := namesOf(node.Key(), base)
		to.header(path, node.Kind == unstable.ArrayTable)
		return path[len(path)-1].at.to - base
	case unstable.KeyValue:
		to.entry(entryOf(p, node, base))
		return int(node.Raw.Offset + node.Raw.Length)
	}
	return 0
}

func namesOf(keys unstable.Iterator, base int) (path []name) {
	for keys.Next() {
		node := keys.Node()
		path = append(path, name{string(node.Data), spanOf(node, base)})
	}
	return path
}

func entryOf(p *unstable.Parser, node *unstable.Node, base int) entry {
	e := entry{key: namesOf(node.Key(), base)}
	// Arrays and tables do not know their place: it is from behind the '=' to the
	// end of the entry.
	whole := spanOf(node, base)
	src := p.Data()
	from := e.key[len(e.key)-1].at.to
	from += bytes.IndexByte(src[from-base:], '=') + 1
	for from < whole.to && (src[from-base] == ' ' || src[from-base] == '\t') {
		from++
	}
	e.val = valueOf(p, node.Value(), base, span{from, whole.to})
	return e
}

// valueOf copies a value out of the parser's memory. at is its place if it does
// not know it.
func valueOf(p *unstable.Parser, node *unstable.Node, base int, at span) value {
	v := value{kind: node.Kind, text: string(node.Data), at: at}
	children := node.Children()
	switch node.Kind { //nolint:exhaustive // all others are scalars
	case unstable.Array:
		for children.Next() {
			v.items = append(v.items, valueOf(p, children.Node(), base, at))
		}
	case unstable.InlineTable:
		for children.Next() {
			v.entries = append(v.entries, entryOf(p, children.Node(), base))
		}
	default:
		v.at = spanOf(node, base)
	}
	return v
}

func spanOf(node *unstable.Node, base int) span {
	from := base + int(node.Raw.Offset)
	return span{from, from + int(node.Raw.Length)}
}

// statementFrom returns where the first statement starts from done on, or on the
// lines after the one of offset done if a statement ended there.
func statementFrom(src []byte, done int, ended bool) int {
	at := done
	if ended {
		at = nextLine(src, done)
	}
	for at < len(src) {
		rest := bytes.TrimLeft(src[at:], " \t\r")
		if len(rest) > 0 && rest[0] != '\n' && rest[0] != '#' {
			return len(src) - len(rest)
		}
		at = nextLine(src, at)
	}
	return at
}

// nextLine returns where the line after the one of offset at starts.
func nextLine(src []byte, at int) int {
	if n := bytes.IndexByte(src[at:], '\n'); n >= 0 {
		return at + n + 1
	}
	return len(src)
}

// resumeFrom returns the start of a line to go on with after broken. It lies
// behind the line that broken.start is on: walk comes to an end.
func resumeFrom(src []byte, broken syntaxError) int {
	at := nextLine(src, broken.start)
	if line := bytes.LastIndexByte(src[:min(broken.at.from, len(src))], '\n') + 1; line > at {
		at = line
	}
	for at < len(src) && !looksLikeStatement(src[at:]) {
		at = nextLine(src, at)
	}
	return at
}

// looksLikeStatement reports whether the first line of src starts with a header
// or with a bare key and what may be meant to separate it from its value.
func looksLikeStatement(src []byte) bool {
	line := bytes.TrimLeft(src[:nextLine(src, 0)], " \t")
	if len(line) > 1 && line[0] == '[' {
		return line[1] == '[' || 'a' <= line[1] && line[1] <= 'z'
	}
	end := bytes.IndexFunc(line, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') })
	return end > 0 && bytes.IndexByte([]byte("=: \t"), line[end]) >= 0
}
