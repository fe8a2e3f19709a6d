package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/tributary-edge/tributary/ingest/route"
)

// Reload returns what is in force after next was read while r was in force: the values
// of next for the keys that a reload applies, and those of r for all others. waiting
// names the keys whose new values need a restart, such as "[log] segment"; empty when
// there are none. Where the two do not go together, r stays in force as it is, and
// waiting has every key that differs. Neither has an Error.
func (r *Reading) Reload(next *Reading) (inForce *Reading, waiting []string) {
	mixed := &Reading{settings: map[string]*Setting{}, in: next.in}
	var changed []string
	for i := range keys {
		path := keys[i].Path
		if strings.HasPrefix(path, "route.") {
			continue
		}
		from := r
		if keys[i].Live {
			from = next
		}
		if s := from.settings[path]; s != nil {
			mixed.settings[path] = s
		}
		if !sameMeaning(path, r, next) {
			changed = append(changed, titled(path))
			if !keys[i].Live {
				waiting = append(waiting, titled(path))
			}
		}
	}
	for path, s := range next.settings {
		if strings.HasPrefix(path, "route[") {
			mixed.settings[path] = s
		}
	}
	sameRoutes := reflect.DeepEqual(r.Config.Routes, next.Config.Routes)
	if !sameRoutes {
		changed = append(changed, "[[route]]")
	}
	parsed := parse(sources{files: []textFile{{"reload", []byte(exact(mixed.Settings()))}}, in: next.in})
	if parsed.Config == nil {
		return r, changed
	}
	parsed.settings = mixed.settings
	return parsed, waiting
}

// titled writes a path as people see the key: "[log] segment".
func titled(path string) string {
	section, key, _ := strings.Cut(path, ".")
	return "[" + section + "] " + key
}

// sameMeaning says whether a key means the same in both, however it is written.
func sameMeaning(path string, a, b *Reading) bool {
	if a.settings[path] == nil && b.settings[path] == nil {
		return true
	}
	return reflect.DeepEqual(a.meaning(path), b.meaning(path))
}

// meaning returns a configuration of which this key alone is set.
func (r *Reading) meaning(path string) *Config {
	c := defaults()
	c.Routes = []route.Rule{{}}
	s := r.settings[path]
	if s == nil {
		return c
	}
	title, key, _ := strings.Cut(path, ".")
	sections := sectionsOf(c, r.in)
	for i := range sections {
		if sections[i].name == title {
			sections[i].field(key).read(s.v)
		}
	}
	return c
}

// exactly writes the value of a setting with its secrets. It stays in memory.
func exactly(s *Setting) string {
	if s.From == "default" {
		return s.Value
	}
	v := asItIs(s.v)
	return literal(&v, false)
}

// asItIs returns v as if no variable had been in it.
func asItIs(v value) value {
	v.secrets = nil
	v.items = slices.Clone(v.items)
	for i := range v.items {
		v.items[i] = asItIs(v.items[i])
	}
	return v
}

// exact writes settings with their secrets.
func exact(settings []Setting) string {
	settings = slices.Clone(settings)
	for i := range settings {
		settings[i].kept = exactly(&settings[i])
	}
	return written(settings, false)
}
