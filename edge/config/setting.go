package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A Setting is a key whose value is in force, and where that comes from.
type Setting struct {
	Key    string   `json:"key"`                 // section.key, or route[0].key
	Value  string   `json:"value"`               // as TOML; what a secret variable says is not in it
	From   string   `json:"from"`                // "tributary.toml:3", "environment", "--set" or "default"
	Hidden []string `json:"instead_of,omitzero"` // where values stand that it replaces

	kept string // Value, with secret variables as they are written
	v    value
}

// note keeps what a key is set to, and forgets what was doubtful about the value that
// it replaces.
func (r *reader) note(path string, key name, v value) {
	now := &Setting{Key: path, v: v, Value: literal(&v, false), kept: literal(&v, true), From: r.doc.origin(key.at.from)}
	if before := r.settings[path]; before != nil {
		now.Hidden = append(slices.Clip(before.Hidden), before.From)
		r.problems = slices.DeleteFunc(r.problems, func(f found) bool {
			doubtful := f.key == path && f.Severity == Warning
			if doubtful {
				r.count[Warning]--
			}
			return doubtful
		})
		for i := 0; r.isSet(itemPath(path, i)); i++ {
			delete(r.seen, itemPath(path, i))
		}
	}
	r.settings[path] = now
	r.seen[path] = v.at
}

// origin says where in which part something is set.
func (d *document) origin(offset int) string {
	p := d.part(offset)
	if !p.file {
		return p.name
	}
	line, _ := d.line(offset)
	return fmt.Sprintf("%s:%d", p.name, line)
}

// literal writes a value as TOML. A secret is its variable if asReference is set, and
// "..." else.
func literal(v *value, asReference bool) string {
	switch {
	case v.kind == unstable.Array:
		items := make([]string, len(v.items))
		for i := range v.items {
			items[i] = literal(&v.items[i], asReference)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case v.kind != unstable.String && v.kind != unstable.InlineTable && len(v.secrets) == 0:
		return v.text
	case len(v.secrets) == 0:
		return quoted(strings.ReplaceAll(v.text, "${", "$${"))
	case asReference:
		return quoted(v.raw)
	}
	return `"..."`
}

// quoted returns s as a basic string of TOML.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c >= 0x7f && c < 0xa0:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Settings returns every key with the value in force, also those that have their
// default, in the order of Keys; routes as they stand.
func (r *Reading) Settings() []Setting {
	var all []Setting
	for i := range keys {
		switch {
		case keys[i].Path == "route.match":
			all = append(all, r.routeSettings()...)
		case strings.HasPrefix(keys[i].Path, "route."):
		case r.settings[keys[i].Path] != nil:
			all = append(all, *r.settings[keys[i].Path])
		default:
			all = append(all, Setting{Key: keys[i].Path, Value: keys[i].Default, From: "default", kept: keys[i].Default})
		}
	}
	return all
}

// Origin returns where the value of a key comes from, such as "tributary.toml:3", or
// "default". The keys of the first route are route[0].match and so on.
func (r *Reading) Origin(key string) string {
	if s := r.settings[key]; s != nil {
		return s.From
	}
	return "default"
}

// routeSettings returns the keys of the routes, as far as they are set.
func (r *Reading) routeSettings() []Setting {
	var all []Setting
	for i := range r.routes() {
		for k := range keys {
			if key, isRoute := strings.CutPrefix(keys[k].Path, "route."); isRoute && r.settings[routePath(i, key)] != nil {
				all = append(all, *r.settings[routePath(i, key)])
			}
		}
	}
	return all
}

// routes returns how many routes there are. One without any key is none.
func (r *Reading) routes() int {
	n := 0
	for path := range maps.Keys(r.settings) {
		i := 0
		if _, err := fmt.Sscanf(path, "route[%d]", &i); err == nil {
			n = max(n, i+1)
		}
	}
	return n
}

// Effective returns the configuration in force as TOML, with where each value comes
// from. Secrets are not in it.
func (r *Reading) Effective() string { return written(r.Settings(), true) }

// written writes settings as TOML; with origins, or in the form that is read again.
func written(settings []Setting, origins bool) string {
	var b strings.Builder
	header := ""
	for _, s := range settings {
		section, key, _ := strings.Cut(s.Key, ".")
		if section != header {
			header = section
			title, _, isRoute := strings.Cut(section, "[")
			if isRoute {
				title = "[" + title + "]"
			}
			fmt.Fprintf(&b, "\n[%s]\n", title)
		}
		if !origins {
			fmt.Fprintf(&b, "%s = %s\n", key, s.kept)
			continue
		}
		fmt.Fprintf(&b, "%-40s # %s\n", key+" = "+s.Value, printable(s.From, maxMessageChars))
	}
	return strings.TrimPrefix(b.String(), "\n")
}
