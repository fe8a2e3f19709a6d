package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/tributary-edge/tributary/ingest/route"
)

// A reader takes a configuration apart, fills a Config and collects the problems.
type reader struct {
	doc      document
	config   *Config
	sections []section
	environ  map[string]string // for ${NAME}
	problems []found
	count    [Warning + 1]int // of problems found, by severity
	partial  bool             // there is a part that nobody understood: what is missing may be in it

	current *section        // what plain keys belong to; nil under a header nobody knows
	atTop   bool            // no header yet
	local   map[string]span // "[kafka]" and "kafka.brokers": where the part that is being read sets each
	seen    map[string]span // the same of all parts: the last one counts, of headers the first
	wrong   map[string]bool // "kafka.brokers", "route[0].match": misspelt, or its value has an error
	routes  []*routeRead

	settings map[string]*Setting // by the keys of seen
}

// A found is a Problem, with what puts it in order.
type found struct {
	Problem
	part int    // which one of the document it is in
	key  string // the key of seen whose value has it; "" if it is not of one value
}

// A routeRead is one [[route]] while it is read.
type routeRead struct {
	at    span // of the header
	seen  map[string]span
	wrong bool // a key of it has an error already
}

func newReader(from sources, c *Config) *reader {
	r := &reader{
		config: c, sections: sectionsOf(c, from.in), environ: variables(from.environ),
		seen: map[string]span{}, wrong: map[string]bool{}, settings: map[string]*Setting{},
	}
	for _, f := range from.files {
		r.doc.add(f.name, bytes.TrimPrefix(f.src, []byte("\uFEFF")), true) // some editors put a mark there
	}
	return r
}

// readText reads all files and what replaces their values. It returns false when one
// is no text.
func (r *reader) readText(from sources) bool {
	for i := range r.doc.parts {
		if !r.isText(r.doc.parts[i].at) {
			return false
		}
	}
	for i := range r.doc.parts {
		r.atTop, r.current, r.local = true, nil, map[string]span{}
		at := r.doc.parts[i].at
		walk(r.doc.src[:at.to], at.from, r)
	}
	r.replace(from)
	return true
}

// isText says whether a piece of the document is UTF-8 without zeros, and where not.
func (r *reader) isText(of span) bool {
	what := "this"
	if r.doc.part(of.from).file {
		what = "the file"
	}
	for at := of.from; at < of.to; {
		c, size := utf8.DecodeRune(r.doc.src[at:of.to])
		if c == utf8.RuneError && size <= 1 || c == 0 {
			r.errorAt(span{at, at + 1}, what+" is not UTF-8 text", "save it as UTF-8")
			return false
		}
		at += size
	}
	return true
}

// maxProblems is how many problems of one severity are worth telling: with more
// the file is not a configuration.
const maxProblems = 200

func (r *reader) add(at span, severity Severity, message, hint string) {
	r.addOf("", at, severity, message, hint)
}

// addOf is add for what is wrong with the value of key.
func (r *reader) addOf(key string, at span, severity Severity, message, hint string) {
	r.count[severity]++
	switch n := r.count[severity]; {
	case n > maxProblems:
		return
	case n == maxProblems:
		message, hint = "there is more wrong with this file than is worth telling", "is it the right file?"
	}
	r.problems = append(r.problems, found{r.doc.problem(at, severity, message, hint), r.doc.index(at.from), key})
}

func (r *reader) errorAt(at span, message, hint string) { r.add(at, Error, message, hint) }

func (r *reader) warnAt(at span, message, hint string) { r.add(at, Warning, message, hint) }

func (r *reader) failed() bool { return r.count[Error] > 0 }

// sorted returns the problems in the order of their places.
func (r *reader) sorted() []Problem {
	slices.SortStableFunc(r.problems, func(a, b found) int {
		return cmp.Or(a.part-b.part, a.Line-b.Line, a.Col-b.Col)
	})
	var all []Problem
	for i := range r.problems {
		all = append(all, r.problems[i].Problem)
	}
	return all
}

// section returns the section called name, or nil.
func (r *reader) section(name string) *section {
	for i := range r.sections {
		if r.sections[i].name == name {
			return &r.sections[i]
		}
	}
	return nil
}

// header handles [path] and [[path]].
func (r *reader) header(path []name, isArray bool) {
	r.atTop = false
	at, title := covering(path), path[0].text
	r.current = r.section(title)
	switch {
	case r.current == nil:
		r.unknownSection(path[0])
	case len(path) > 1:
		r.errorAt(at, fmt.Sprintf("[%s] has no parts of its own", title), "write its keys under ["+title+"]")
		r.skipSection()
	case r.current.repeats && !isArray:
		r.errorAt(at, "each "+title+" needs two brackets", "[["+title+"]]")
		r.skipSection()
	case !r.current.repeats && isArray:
		r.errorAt(at, fmt.Sprintf("there is only one [%s]", title), "["+title+"]")
		r.skipSection()
	case isArray:
		r.startRoute(at)
	default:
		r.once("["+title+"]", at, "["+title+"] stands twice")
	}
}

// skipSection passes over the keys up to the next header.
func (r *reader) skipSection() {
	r.atTop, r.current, r.partial = false, nil, true
}

func (r *reader) unknownSection(title name) {
	r.skipSection()
	var names, titles []string
	for i := range r.sections {
		names, titles = append(names, r.sections[i].name), append(titles, r.sections[i].title())
	}
	message, hint := fmt.Sprintf("unknown section [%s]", title.text), "there are "+strings.Join(titles, " ")
	if near := closest(title.text, names); near != "" {
		message, hint = fmt.Sprintf("%s (did you mean %s?)", message, r.section(near).title()), ""
	}
	r.errorAt(title.at, message, hint)
}

// once notes that key is set at a place, and reports whether that is the first time
// in this part of the document.
func (r *reader) once(key string, at span, message string) bool {
	if first, again := r.local[key]; again {
		line, _ := r.doc.line(first.from)
		r.errorAt(at, fmt.Sprintf("%s; the first is on line %d", message, line), "")
		return false
	}
	r.local[key] = at
	if _, again := r.seen[key]; !again {
		r.seen[key] = at
	}
	return true
}

// startRoute makes the keys that follow those of a new route.
func (r *reader) startRoute(at span) {
	r.routes = append(r.routes, &routeRead{at: at, seen: map[string]span{}})
	r.config.Routes = append(r.config.Routes, route.Rule{Key: route.DefaultKey})
}

// entry handles a key = value, wherever it stands.
func (r *reader) entry(e entry) {
	switch {
	case !r.atTop && r.current == nil: // the header had its error
	case r.atTop:
		r.topEntry(e)
	case len(e.key) > 1:
		r.unknownKey(r.current, covering(e.key), joined(e.key))
	default:
		r.set(r.current, e.key[0], e.val)
	}
}

// topEntry handles entries above the first header: kafka.linger = "1s",
// kafka = { linger = "1s" } and route = [ { match = "a" } ].
func (r *reader) topEntry(e entry) {
	first := e.key[0]
	s := r.section(first.text)
	switch {
	case s == nil:
		r.unknownKey(nil, covering(e.key), joined(e.key))
	case s.repeats && (len(e.key) > 1 || e.val.kind != unstable.Array):
		r.errorAt(covering(e.key), "each "+s.name+" starts with a line of its own", "[["+s.name+"]]")
	case s.repeats:
		r.routeList(s, e)
	case len(e.key) == 2:
		r.set(s, e.key[1], e.val)
	case len(e.key) > 2:
		r.unknownKey(s, covering(e.key), joined(e.key[1:]))
	case e.val.kind != unstable.InlineTable:
		r.partial = true
		r.errorAt(covering(e.key), fmt.Sprintf("[%s] is a section, not a key", s.name), "["+s.name+"] on a line of its own")
	case r.once("["+s.name+"]", first.at, "["+s.name+"] stands twice"):
		r.setAll(s, e.val.entries)
	}
}

// routeList handles route = [ {...}, {...} ].
func (r *reader) routeList(s *section, e entry) {
	for _, item := range e.val.items {
		if item.kind != unstable.InlineTable {
			r.errorAt(item.at, "a route is not "+kindWords(item.kind), "[["+s.name+"]] on a line of its own")
			continue
		}
		r.startRoute(e.key[0].at)
		r.setAll(s, item.entries)
	}
}

func (r *reader) setAll(s *section, entries []entry) {
	for _, e := range entries {
		if len(e.key) > 1 {
			r.unknownKey(s, covering(e.key), joined(e.key))
			continue
		}
		r.set(s, e.key[0], e.val)
	}
}

// set reads one value into the Config.
func (r *reader) set(s *section, key name, v value) {
	f := s.field(key.text)
	if f == nil {
		r.unknownKey(s, key.at, key.text)
		return
	}
	path := r.path(s, key.text)
	if !r.once(path, key.at, fmt.Sprintf("%s %s is set twice", s.title(), key.text)) {
		return
	}
	v, faults := r.expand(v)
	v = fit(path, v)
	r.note(path, key, v)
	for i, item := range v.items {
		r.seen[itemPath(path, i)] = item.at
	}
	if s.repeats {
		r.routes[len(r.routes)-1].seen[key.text] = v.at
	}
	if faults == nil {
		faults = f.read(v)
	}
	for _, fault := range faults {
		if fault.severity == Error {
			r.wrong[path] = true
			if s.repeats {
				r.routes[len(r.routes)-1].wrong = true
			}
		}
		r.addOf(path, fault.at, fault.severity, fmt.Sprintf("%s %s: %s", s.title(), key.text, v.withoutSecrets(fault.message)), v.withoutSecrets(fault.hint))
	}
}

// path names a key in seen and wrong.
func (r *reader) path(s *section, key string) string {
	if s.repeats {
		return routePath(len(r.routes)-1, key)
	}
	return s.name + "." + key
}

func itemPath(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func routePath(i int, key string) string { return fmt.Sprintf("route[%d].%s", i, key) }

// unknownKey says that s, or the top of the file when s is nil, has no such key.
func (r *reader) unknownKey(s *section, at span, key string) {
	if r.count[Error] >= maxProblems {
		return // guessing what was meant takes time
	}
	message, hint := fmt.Sprintf("unknown key %q", key), ""
	if s == nil {
		message, hint = message+" above the first section", "keys belong under a section, such as [kafka]"
	} else {
		message += " in " + s.title()
		if near := closest(key, s.keys()); near != "" {
			r.wrong[r.path(s, near)] = true
			message += fmt.Sprintf(" (did you mean %q?)", near)
		} else {
			hint = "there are " + strings.Join(s.keys(), ", ")
		}
	}
	for i := range r.sections {
		if other := &r.sections[i]; other != s && other.field(key) != nil {
			hint = fmt.Sprintf("%s has a key %q", other.title(), key)
			break
		}
	}
	if secretAt(key) >= 0 {
		title := "[kafka]"
		if s != nil && s.field("password_file") != nil {
			title = s.title()
		}
		hint = "no secrets in this file: put the password into a file of its own and name that with " + title + " password_file"
	}
	r.errorAt(at, message, hint)
}

func joined(key []name) string {
	parts := make([]string, len(key))
	for i := range key {
		parts[i] = key[i].text
	}
	return strings.Join(parts, ".")
}
