package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// checkPlaces checks that every problem lies in the file and says something.
func checkPlaces(t *testing.T, file string, problems []Problem) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	checkPlacesIn(t, src, problems)
}

func checkPlacesIn(t *testing.T, src []byte, problems []Problem) {
	t.Helper()
	lines := strings.Split(strings.TrimPrefix(string(src), "\uFEFF"), "\n")
	last := Problem{}
	for _, p := range problems {
		if p.Line < 1 || p.Line > len(lines) {
			t.Fatalf("line %d of %d: %s", p.Line, len(lines), p.Message)
		}
		chars := utf8.RuneCountInString(lines[p.Line-1])
		if p.Col < 1 || p.Col > chars+1 || p.Width < 0 || p.Col+p.Width > chars+1 {
			t.Fatalf("line %d column %d width %d, but the line has %d: %s", p.Line, p.Col, p.Width, chars, p.Message)
		}
		if p.Line < last.Line || p.Line == last.Line && p.Col < last.Col {
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
		checkPlacesIn(t, src, problems)
	})
}
