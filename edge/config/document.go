package config

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// A span is a piece of a document: the bytes [from, to).
type span struct{ from, to int }

// A document is all that a configuration is read from, one part behind the other,
// so that one number says where in which of them something stands. Between two
// parts is a byte that belongs to neither.
type document struct {
	src   []byte
	parts []part
}

// A part is one file, or one setting of the environment or the command line.
type part struct {
	name string // people know it by
	at   span
	file bool // it is TOML
}

// add puts a text behind what is there. src is copied.
func (d *document) add(name string, src []byte, file bool) {
	if len(d.parts) > 0 {
		d.src = append(d.src, '\n')
	}
	from := len(d.src)
	d.src = append(d.src, src...)
	d.parts = append(d.parts, part{name, span{from, len(d.src)}, file})
}

// index returns which part has offset, or ends there. There is one at least.
func (d *document) index(offset int) int {
	for i := len(d.parts) - 1; i > 0; i-- {
		if d.parts[i].at.from <= offset {
			return i
		}
	}
	return 0
}

// part returns the one at index.
func (d *document) part(offset int) *part { return &d.parts[d.index(offset)] }

// line returns the number in its part, from 1, and the bytes of the line that has
// offset, without its end.
func (d *document) line(offset int) (number int, of span) {
	in := d.part(offset).at
	start := in.from + bytes.LastIndexByte(d.src[in.from:offset], '\n') + 1
	end := in.to
	if n := bytes.IndexByte(d.src[start:end], '\n'); n >= 0 {
		end = start + n
	}
	if end > start && d.src[end-1] == '\r' {
		end--
	}
	return 1 + bytes.Count(d.src[in.from:start], []byte{'\n'}), span{start, end}
}

// charStart moves an offset in the middle of a character to its start. Bytes that
// are no character stand for themselves.
func (d *document) charStart(offset int) int {
	for back := 1; back < utf8.UTFMax && back <= offset; back++ {
		if _, size := utf8.DecodeRune(d.src[offset-back:]); size > back {
			return offset - back
		}
	}
	return offset
}

// span returns the place in a part of a line and a column that count from 1, the
// column in bytes.
func (p *part) span(src []byte, line, column int) span {
	at := p.at.from
	for range line - 1 {
		at = nextLine(src[:p.at.to], at)
	}
	at = min(at+column-1, p.at.to)
	return span{at, at + 1}
}

// where says where an offset is to somebody who looks at another one.
func (d *document) where(offset, seenFrom int) string {
	line, _ := d.line(offset)
	if p := d.part(offset); p != d.part(seenFrom) {
		return fmt.Sprintf("line %d of %s", line, p.name)
	}
	return fmt.Sprintf("line %d", line)
}
