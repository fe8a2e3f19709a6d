package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// checkPlaces checks that every problem lies in what was read and says something.
func checkPlaces(t *testing.T, in Input, problems []Problem) {
	t.Helper()
	texts := map[string][]string{"environment": in.Environ, "--set": in.Set}
	for _, p := range problems {
		if texts[p.File] == nil {
			src, err := os.ReadFile(p.File)
			if err != nil {
				t.Fatal(err)
			}
			texts[p.File] = []string{string(src)}
		}
	}
	checkPlacesIn(t, texts, problems)
}

// checkPlacesIn is checkPlaces for texts by the names of what they are in. Of the
// environment and the command line, each setting is one.
func checkPlacesIn(t *testing.T, texts map[string][]string, problems []Problem) {
	t.Helper()
	last := Problem{}
	for _, p := range problems {
		fits := false
		for _, text := range texts[p.File] {
			lines := strings.Split(strings.TrimPrefix(text, "\uFEFF"), "\n")
			if p.Line < 1 || p.Line > len(lines) {
				continue
			}
			chars := utf8.RuneCountInString(lines[p.Line-1])
			fits = fits || p.Col >= 1 && p.Col <= chars+1 && p.Width >= 0 && p.Col+p.Width <= chars+1
		}
		if !fits {
			t.Fatalf("%s has no line %d column %d width %d: %s", p.File, p.Line, p.Col, p.Width, p.Message)
		}
		if p.File == last.File && len(texts[p.File]) == 1 && (p.Line < last.Line || p.Line == last.Line && p.Col < last.Col) {
			t.Fatalf("line %d column %d comes after line %d column %d", p.Line, p.Col, last.Line, last.Col)
		}
		if p.Message == "" || strings.ContainsAny(p.Message+p.Source+p.Hint, "\n\r\t\x1b\u009b") {
			t.Fatalf("message %q, source %q, hint %q", p.Message, p.Source, p.Hint)
		}
		last = p
	}
}

// Parse takes any bytes, gives a Config or an Error, and puts every Problem
// inside the file.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		c, problems := Parse("fuzz.toml", src)
		failed := false
		for _, p := range problems {
			failed = failed || p.Severity == Error
			if p.String() == "" {
				t.Fatal("a problem prints nothing")
			}
		}
		if failed != (c == nil) {
			t.Fatalf("config %v with %v", c, problems)
		}
		if c != nil && (c.Table == nil || len(c.Kafka.Brokers) == 0 || c.Node.Name == "" || c.Status.Socket == "") {
			t.Fatalf("config is incomplete: %+v", c)
		}
		checkPlacesIn(t, map[string][]string{"fuzz.toml": {string(src)}}, problems)
	})
}

// Whatever stands in two files, the environment and the command line, each problem is
// inside the one that has it, and what is in force means the same when it is read
// again.
func FuzzReplace(f *testing.F) {
	f.Add("kafka.linger = \"1s\"", "[[route]]\nmatch = \"a\"\ntopic = \"${A:-x}\"", "TRIBUTARY_KAFKA__BROKERS=b:1,c:2", "kafka.linger=5s")
	f.Add("kafka.brokers = [\"${A}:9092\"]", "nonsense", "A=host", "mqtt.max_clients=many")
	f.Add(smallest, "kafka.client_id = '$${x}'", "TRIBUTARY_MQTT__LISTEN=", "=\n\x00")
	f.Fuzz(func(t *testing.T, main, more, environ, set string) {
		from := sources{
			files:   []textFile{{"main.toml", []byte(main)}, {"more.toml", []byte(more)}},
			environ: []string{environ, "A=host"}, set: []string{set},
		}
		read := parse(from)
		for _, p := range read.Problems {
			if p.Severity == Error && read.Config != nil {
				t.Fatalf("a configuration with an error: %v", p)
			}
		}
		checkPlacesIn(t, map[string][]string{"main.toml": {main}, "more.toml": {more}, "environment": {environ, "A=host"}, "--set": {set}}, read.Problems)
		if read.Config == nil {
			return
		}
		text := written(read.Settings(), false)
		again, problems := Parse("main.toml", []byte(text))
		if again == nil {
			t.Fatalf("%s\n%v", text, problems)
		}
		again.Table, read.Config.Table = nil, nil
		if !reflect.DeepEqual(again, read.Config) {
			t.Fatalf("%s\ngot  %+v\nwant %+v", text, again, read.Config)
		}
	})
}

// A value takes the place of its variable and is not looked at again; a text of which
// every "${" has a second '$' before it becomes what it was before that.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "a", "${A}", "${B:-x}", "$${A}", "$$${A}", "${", "${}", "${A", "$", "${A:-${B}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		asked := 0
		got, err := expand(s, func(string) (string, bool) { asked++; return "${A}", true }) // a value is taken as it is
		if err == nil && strings.Count(got, "${") != strings.Count(s, "${") && asked > 0 && !strings.Contains(s, "$${") && !strings.Contains(s, ":-") {
			t.Errorf("%q is %q after %d variables", s, got, asked)
		}
		got, err = expand(strings.ReplaceAll(s, "${", "$${"), nil)
		if err != nil || got != s {
			t.Errorf("%q escaped is %q, %v", s, got, err)
		}
	})
}
