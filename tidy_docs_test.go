package tributary_test

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

// TestInvariants holds docs/INVARIANTS.md and the tests together: each
// invariant has a tag, and the comment of some test names it.
func TestInvariants(t *testing.T) {
	mention := regexp.MustCompile(`\b[DILUASM][1-9]\b`)
	named := map[string]bool{}
	for file, f := range sources(t) {
		if !f.isTest || strings.HasPrefix(file, "tidy") {
			continue
		}
		for _, c := range f.Comments {
			for _, tag := range mention.FindAllString(c.Text(), -1) {
				named[tag] = true
			}
		}
	}
	defined := regexp.MustCompile(`(?m)^## ([A-Z][1-9])\b`).FindAllStringSubmatch(invariants(t), -1)
	if len(defined) == 0 {
		t.Fatal("docs/INVARIANTS.md defines nothing")
	}
	for _, m := range defined {
		if !named[m[1]] {
			t.Errorf("no test names invariant %s in a comment", m[1])
		}
	}
}

// TestInvariantsPointAtCode follows what docs/INVARIANTS.md quotes: files must
// exist, and the tests it names must be in the tree.
func TestInvariantsPointAtCode(t *testing.T) {
	tests := map[string]bool{}
	for _, f := range sources(t) {
		if !f.isTest {
			continue
		}
		for _, d := range f.Decls {
			for _, id := range declared(d) {
				tests[id.Name] = true
			}
		}
	}
	quoted := regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(invariants(t), -1)
	isTest := regexp.MustCompile(`^(Test|Fuzz)[A-Z]\w*$`)
	for _, m := range quoted {
		switch q := m[1]; {
		case isTest.MatchString(q) && !tests[q]:
			t.Errorf("docs/INVARIANTS.md names the test %s, which does not exist", q)
		case path.Ext(q) == ".go" && !exists(q):
			t.Errorf("docs/INVARIANTS.md names the file %s, which does not exist", q)
		}
	}
}

func invariants(t *testing.T) string {
	t.Helper()
	doc, err := fs.ReadFile(tree, "docs/INVARIANTS.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

func exists(file string) bool {
	_, err := fs.Stat(tree, file)
	return err == nil
}
