package config

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// environPrefix and a key in capitals is the variable that replaces its value:
// TRIBUTARY_KAFKA__LINGER.
const environPrefix = "TRIBUTARY_"

// replace reads what the environment and the command line set.
func (r *reader) replace(from sources) {
	environ := slices.Clone(from.environ)
	slices.Sort(environ)
	for _, e := range environ {
		name, _, found := strings.Cut(e, "=")
		if found && strings.HasPrefix(name, environPrefix) && strings.Contains(name, "__") {
			title, key, _ := strings.Cut(strings.TrimPrefix(name, environPrefix), "__")
			if title != strings.ToUpper(title) || key != strings.ToUpper(key) {
				title, key = "", "" // small letters name no key
			}
			r.replaceOne("environment", e, len(name), strings.ToLower(title), strings.ToLower(key))
		}
	}
	for _, e := range from.set {
		name, _, found := strings.Cut(e, "=")
		if !found {
			name = e
		}
		title, key, _ := strings.Cut(name, ".")
		r.replaceOne("--set", e, len(name), title, key)
	}
}

// replaceOne reads one text NAME=VALUE, of which NAME has so many bytes and means the
// key of a section.
func (r *reader) replaceOne(origin, text string, nameBytes int, title, key string) {
	r.doc.add(origin, []byte(text), false)
	whole := r.doc.parts[len(r.doc.parts)-1].at
	if !r.isText(whole) {
		return
	}
	at, val := span{whole.from, whole.from + nameBytes}, span{whole.from + nameBytes + 1, whole.to}
	s := r.section(title)
	switch {
	case bytes.ContainsAny(r.doc.src[whole.from:whole.to], "\n\r"):
		r.errorAt(at, "a value of "+origin+" has one line", "")
	case val.from > val.to:
		r.errorAt(at, "this sets nothing", "--set kafka.linger=5s")
	case s == nil || s.field(key) == nil:
		r.unknownReplacement(origin, at)
	case s.repeats:
		r.errorAt(at, "routes cannot be set by "+origin, "write them into the configuration, or into a file of conf.d beside it")
	default:
		r.local = map[string]span{}
		r.set(s, name{key, at}, value{kind: unstable.String, text: string(r.doc.src[val.from:val.to]), at: val, given: true})
	}
}

// unknownReplacement says that nothing has this name, and which one was meant.
func (r *reader) unknownReplacement(origin string, at span) {
	if r.count[Error] >= maxProblems {
		return // guessing what was meant takes time
	}
	written := string(r.doc.src[at.from:at.to])
	var names []string
	for i := range r.sections {
		for _, key := range r.sections[i].keys() {
			name := r.sections[i].name + "." + key
			if origin != "--set" {
				name = environName(r.sections[i].name, key)
			}
			names = append(names, name)
		}
	}
	message, hint := fmt.Sprintf("%q sets no key that there is", written), "a section and a key, such as "+names[0]
	if near := closest(written, names); near != "" {
		message, hint = fmt.Sprintf("%s (did you mean %s?)", message, near), ""
	}
	if secretAt(written) >= 0 && !strings.HasSuffix(strings.ToLower(written), "_file") {
		hint = "no secrets here: put the password into a file of its own and name that with [kafka] password_file"
	}
	r.errorAt(at, message, hint)
}

// environName is the variable that sets a key.
func environName(section, key string) string {
	return environPrefix + strings.ToUpper(section) + "__" + strings.ToUpper(key)
}

// fit makes of a text that did not come as TOML, or came out of variables, the kind of
// value that the key takes, if it can be one.
func fit(path string, v value) value {
	if v.kind != unstable.String || !v.given {
		return v
	}
	switch k := keyOf(path); {
	case k == nil:
	case k.isList():
		var items []value
		at := v.at.from
		for text := range strings.SplitSeq(v.text, ",") {
			item := v
			item.text = strings.TrimSpace(text)
			if v.raw == "" {
				item.at = span{at, at + len(text)}
			}
			at += len(text) + 1
			if v.text != "" {
				items = append(items, item)
			}
		}
		v.kind, v.items = unstable.Array, items
	case k.isBool() && (v.text == "true" || v.text == "false"):
		v.kind = unstable.Bool
	case k.isInteger():
		if _, err := strconv.ParseInt(v.text, 0, 64); err == nil {
			v.kind = unstable.Integer
		}
	}
	return v
}
