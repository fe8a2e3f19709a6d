package config

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/tributary-edge/tributary/ingest/route"
)

// problemsOf returns what Parse says about one value, at its place.
func problemsOf(s *section, key, literal string) (problems []Problem, line, col int) {
	src := s.title() + "\n" + key + " = " + literal + "\n"
	_, problems = Parse("test.toml", []byte(src))
	return problems, 2, len(key) + 4
}

func hasErrorAt(problems []Problem, line, col int) bool {
	for _, p := range problems {
		if p.Line == line && p.Col == col && p.Severity == Error {
			return true
		}
	}
	return false
}

// Whatever the type, a key of the wrong one is an error at the value, in words
// without the names of Go's types. go-toml itself would take any string for an
// enum whose type is a string; ours are checked here one by one.
func TestEveryKeyRejectsWrongValues(t *testing.T) {
	sections := sectionsOf(defaults(), folder{})
	literals := map[unstable.Kind]string{
		unstable.String: `"text"`, unstable.Integer: "7", unstable.Float: "7.5", unstable.Bool: "true",
		unstable.Array: `["a"]`, unstable.InlineTable: `{ a = 1 }`, unstable.DateTime: "2026-01-02T03:04:05Z",
	}
	goWords := regexp.MustCompile(`\b(u?int\d*|string|bool|float\d*|slice|struct|map|config\.|toml\.)\b`)
	count := 0
	for i := range sections {
		s := &sections[i]
		for _, f := range s.fields {
			kind := kindOf(t, s, f)
			for k, literal := range literals {
				if k == kind {
					continue
				}
				count++
				problems, line, col := problemsOf(s, f.key, literal)
				if !hasErrorAt(problems, line, col) {
					t.Errorf("[%s] %s = %s: no error at %d:%d: %v", s.name, f.key, literal, line, col, problems)
				}
				for _, p := range problems {
					if goWords.MatchString(p.Message) {
						t.Errorf("[%s] %s = %s: %q is not for people", s.name, f.key, literal, p.Message)
					}
				}
			}
		}
	}
	if count < 200 {
		t.Errorf("only %d wrong values were tried", count)
	}
}

// kindOf finds out which kind of value a key takes: the one that is refused for
// another reason than its kind, or not at all.
func kindOf(t *testing.T, s *section, f field) unstable.Kind {
	t.Helper()
	c := defaults()
	c.Routes = []route.Rule{{}}
	probe := sectionsOf(c, folder{})
	for i := range probe {
		if probe[i].name != s.name {
			continue
		}
		for _, kind := range []unstable.Kind{unstable.String, unstable.Integer, unstable.Bool, unstable.Array} {
			v := value{kind: kind, text: "7", items: []value{{kind: unstable.String, text: "x"}}}
			faults := probe[i].field(f.key).read(v)
			if len(faults) == 0 || !strings.Contains(faults[0].message, "needs ") {
				return kind
			}
		}
	}
	t.Fatalf("[%s] %s takes nothing", s.name, f.key)
	return unstable.Invalid
}

func TestEveryEnumRejectsBogus(t *testing.T) {
	enums := map[string][]string{
		"ack.level":             {"disk"},
		"ack.if_peers_missing":  {"accept", "refuse"},
		"site.handoff":          {"hold", "strict"},
		"mqtt.certificate_user": {"auto", "cn", "san", "none"},
		"mqtt.client_id_is":     {"any", "username", "prefix"},
		"log.on_full":           {"refuse", "drop-oldest"},
		"log.compression":       {"auto", "zstd", "none"},
		"kafka.sasl":            {"none", "plain", "scram-sha-256", "scram-sha-512"},
		"logging.level":         {"debug", "info", "warn", "error"},
		"logging.format":        {"auto", "text", "json"},
	}
	sections := sectionsOf(defaults(), folder{})
	for path, words := range enums {
		title, key, _ := strings.Cut(path, ".")
		s := &section{name: title}
		for _, bogus := range append([]string{"bogus", "", " ", "memory", "drop-newest"}, upper(words)...) {
			problems, line, col := problemsOf(s, key, fmt.Sprintf("%q", bogus))
			if !hasErrorAt(problems, line, col) {
				t.Errorf("[%s] %s took %q", title, key, bogus)
			}
		}
		for _, word := range words {
			problems, line, col := problemsOf(s, key, fmt.Sprintf("%q", word))
			for _, p := range problems {
				if p.Line == line && p.Col == col && !strings.Contains(p.Message, "as well") && !strings.Contains(p.Message, "needs users") && !strings.Contains(p.Message, "listen is not") && p.Severity == Error {
					t.Errorf("[%s] %s refused %q: %s", title, key, word, p.Message)
				}
			}
		}
	}
	// A choice that is not in the table above is one nobody tests.
	choices := 0
	for i := range sections {
		for _, f := range sections[i].fields {
			if sections[i].repeats {
				continue
			}
			faults := f.read(value{kind: unstable.String, text: "bogus"})
			if len(faults) == 1 && strings.Contains(faults[0].message, "it must be \"") {
				choices++
			}
		}
	}
	if choices != len(enums) {
		t.Errorf("there are %d choices, the test knows %d", choices, len(enums))
	}
}

func upper(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strings.ToUpper(w)
	}
	return out
}
