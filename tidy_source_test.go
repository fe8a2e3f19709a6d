package tributary_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
)

// tree is the repository: tests of the root package run in its directory.
var tree = os.DirFS(".")

// A source is one parsed Go file.
type source struct {
	*ast.File

	dir    string              // the package's directory, "." for the root
	isTest bool                // the file's name ends in _test.go
	line   func(token.Pos) int // where something is, as a line number
}

// sources parses every Go file of the module, by path, whatever its build
// tags say. A directory that is a module of its own (bench) is not ours to
// judge, nor are bin and the hidden ones.
func sources(t *testing.T) map[string]source {
	t.Helper()
	all := map[string]source{}
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if skipDir(file) {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(file, ".go"):
			return nil
		}
		text, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, file, text, parser.ParseComments)
		if err != nil {
			return err
		}
		all[file] = source{
			File:   f,
			dir:    path.Dir(file),
			isTest: strings.HasSuffix(file, "_test.go"),
			line:   func(p token.Pos) int { return set.Position(p).Line },
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func skipDir(dir string) bool {
	if dir == "." {
		return false
	}
	base := path.Base(dir)
	if strings.HasPrefix(base, ".") || base == "testdata" || dir == "bin" {
		return true
	}
	_, err := fs.Stat(tree, path.Join(dir, "go.mod"))
	return err == nil
}

// isStandard says whether an import path is of the standard library.
func isStandard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}
