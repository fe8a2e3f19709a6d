package tributary_test

import (
	"go/ast"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tributary-edge/tributary"

// layers lists, for each package, what of this module and of third parties it
// may import; the standard library is free, but see bannedImports. A package
// that is not here fails the test: deciding its place is part of adding it.
// Tests may import what they need.
var layers = map[string][]string{
	".": {},

	"log/disk":          {"golang.org/x/sys/unix"},
	"log/disk/disktest": {"log/disk"},
	"log/disk/loopdisk": {"golang.org/x/sys/unix"},
	"log/record":        {"."},
	"log/mark":          {".", "log/record"},
	"log/group":         {".", "log/record", "github.com/klauspost/compress/zstd"},
	"log/segment":       {".", "log/disk", "log/record", "log/group"},
	"log/clock":         {"golang.org/x/sys/unix"},
	"log/store": {
		".", "log/disk", "log/record", "log/group", "log/segment", "log/clock",
		"github.com/klauspost/compress/zstd",
	},
	"log/meta":  {".", "go.etcd.io/bbolt/..."},
	"log/flash": {},

	"sync/member":   {".", "github.com/hashicorp/serf/serf", "github.com/hashicorp/memberlist"},
	"sync/model":    {}, // a specification: it knows nothing of the program, and nobody but its tests runs it
	"sync/peer":     {".", "log/group"},
	"sync/join":     {".", "sync/peer", "sync/roster"},
	"sync/replica":  {".", "log/group", "sync/peer", "sync/view", "github.com/klauspost/compress/zstd"},
	"sync/handoff":  {".", "log/mark", "log/record", "sync/peer"},
	"sync/view":     {"."},
	"sync/origin":   {"."},
	"sync/roster":   {".", "log/disk"},
	"sync/uplink":   {".", "log/mark", "log/record", "github.com/twmb/franz-go/...", "golang.org/x/net/proxy"},
	"sync/takeover": {".", "log/record", "sync/origin", "sync/uplink", "sync/view"},

	"ingest/packet":  {"github.com/mochi-mqtt/server/v2/packets"},
	"ingest/route":   {"."},
	"ingest/topic":   {},
	"ingest/session": {".", "log/record", "ingest/topic"},
	"ingest/gate":    {},
	"ingest/auth":    {"ingest/gate", "github.com/golang-jwt/jwt/v5", "golang.org/x/crypto/argon2"},
	"ingest": {
		".", "log/mark", "log/record", "ingest/auth", "ingest/gate", "ingest/packet", "ingest/session", "ingest/topic",
		"github.com/mochi-mqtt/server/v2/packets", "github.com/coder/websocket", "golang.org/x/sys/unix",
	},

	"edge/config":   {"log/disk", "ingest/route", "github.com/pelletier/go-toml/v2/..."},
	"edge/status":   {},
	"edge/page":     {},
	"edge/mdns":     {"golang.org/x/net/dns/dnsmessage", "golang.org/x/net/ipv4"},
	"edge/sdnotify": {"golang.org/x/sys/unix"},
	"edge/doctor":   {"edge/config", "edge/status", "log/disk", "log/clock"},
	"edge":          {".", "log/...", "sync/...", "ingest/...", "edge/config", "edge/mdns", "edge/page", "edge/status"},
	"edge/sitetest": {".", "edge", "edge/config", "edge/status", "log/...", "sync/...", "github.com/twmb/franz-go/..."},
	"edge/edgetest": {".", "edge", "edge/config", "edge/status", "golang.org/x/sys/unix", "log/...", "firmware-sim/...", "github.com/twmb/franz-go/..."},

	"cmd/tributary": {
		".", "edge/...", "ingest/auth", "log/...", "sync/join", "sync/roster", "firmware-sim/...",
		"github.com/spf13/cobra", "github.com/twmb/franz-go/...", "golang.org/x/term", "github.com/KimMachineGun/automemlimit/memlimit",
	},

	"firmware-sim":          {"firmware-sim/...", "golang.org/x/term"},
	"firmware-sim/kafka":    {"github.com/twmb/franz-go/..."},
	"firmware-sim/device":   {},
	"firmware-sim/tally":    {"firmware-sim/device"},
	"firmware-sim/readback": {"firmware-sim/device", "firmware-sim/tally", "github.com/twmb/franz-go/..."},
}

// onlyIn narrows layers to files: what is dear to link, or is meant for one
// purpose, stays in the files that need it.
var onlyIn = map[string]string{
	"github.com/twmb/franz-go/pkg/kfake": "cmd/tributary/demo*.go firmware-sim/kafka/*.go",
}

// bannedImports are refused in every file that is not a test.
var bannedImports = map[string]string{
	"log":           "use the *slog.Logger that was passed in",
	"math/rand":     "use math/rand/v2",
	"text/template": "it calls methods by name, and so switches off the linker's removal of unused methods",
	"html/template": "it calls methods by name, and so switches off the linker's removal of unused methods",
	"testing":       "only tests import testing",
}

// Limits on size. They are meant to be felt: a file or function that reaches
// one is asking for a better cut, not for a higher limit.
const (
	maxFileLines        = 500
	maxFuncLines        = 70
	maxInterfaceMethods = 7
)

func TestSizes(t *testing.T) {
	for file, f := range sources(t) {
		if n := f.line(f.FileEnd); n > maxFileLines+1 { // FileEnd is after the last newline
			t.Errorf("%s: %d lines; the limit is %d", file, n-1, maxFileLines)
		}
		if f.isTest {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if lines := f.line(n.End()) - f.line(n.Pos()) + 1; lines > maxFuncLines {
					t.Errorf("%s:%d: func %s has %d lines; the limit is %d", file, f.line(n.Pos()), n.Name.Name, lines, maxFuncLines)
				}
			case *ast.InterfaceType:
				if methods := n.Methods.NumFields(); methods > maxInterfaceMethods {
					t.Errorf("%s:%d: an interface of %d methods; the limit is %d", file, f.line(n.Pos()), methods, maxInterfaceMethods)
				}
			}
			return true
		})
	}
}

func TestLayers(t *testing.T) {
	seen := map[string]bool{}
	for file, f := range sources(t) {
		seen[f.dir] = true
		if f.isTest && !strings.HasPrefix(f.dir, "edge/edgetest") {
			continue
		}
		allowed, known := layers[f.dir]
		if !known {
			t.Errorf("%s: package %s has no place in layers (tidy_test.go)", file, f.dir)
		}
		for _, spec := range f.Imports {
			p := strings.Trim(spec.Path.Value, `"`)
			if why, banned := bannedImports[p]; banned && !f.isTest {
				t.Errorf("%s: imports %s: %s", file, p, why)
			}
			if !mayImport(allowed, p) {
				t.Errorf("%s: %s may not import %s", file, f.dir, p)
			}
			if pattern, narrowed := onlyIn[p]; narrowed && !f.isTest && !matches(pattern, file) {
				t.Errorf("%s: only %s may import %s", file, pattern, p)
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(layers)) {
		if !seen[dir] {
			t.Errorf("layers (tidy_test.go) has a place for %s, which does not exist", dir)
		}
	}
}

func TestPackages(t *testing.T) {
	documented := map[string]int{}
	for file, f := range sources(t) {
		if f.isTest {
			continue
		}
		documented[f.dir] += 0
		if f.Doc != nil {
			documented[f.dir]++
		}
		name := f.Name.Name
		if name != "main" && f.dir != "." && name != path.Base(f.dir) {
			t.Errorf("%s: package %s in a directory of another name", file, name)
		}
		if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "types", "base", "log", "sync"}, name) {
			t.Errorf("%s: %q as a package name says nothing, or says something else", file, name)
		}
	}
	for dir, n := range documented {
		if n != 1 {
			t.Errorf("package %s has %d package comments; it should have one", dir, n)
		}
	}
}

// TestNames keeps out the names that stand for a thought not finished, and
// the comments that say so.
func TestNames(t *testing.T) {
	vague := regexp.MustCompile(`^[Gg]et[A-Z]|(Manager|Helper|Impl|Util|Utils)$`)
	unfinished := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	for file, f := range sources(t) {
		if file == "tidy_test.go" {
			continue
		}
		for _, group := range f.Comments {
			if unfinished.MatchString(group.Text()) {
				t.Errorf("%s:%d: finish it, or open an issue", file, f.line(group.Pos()))
			}
		}
		for _, d := range f.Decls {
			for _, id := range declared(d) {
				if vague.MatchString(id.Name) {
					t.Errorf("%s:%d: %s: name what it is or does", file, f.line(id.Pos()), id.Name)
				}
				if id.Name == "init" {
					t.Errorf("%s:%d: no init functions: what starts is called by somebody", file, f.line(id.Pos()))
				}
			}
		}
	}
}

// TestGlobals lets a package have variables that nobody ever sets: sentinel
// errors, tables, files that the build embeds, assertions that a type implements an
// interface, and the Version that the linker fills in.
func TestGlobals(t *testing.T) {
	for file, f := range sources(t) {
		if f.isTest {
			continue
		}
		for _, d := range f.Decls {
			vars, ok := d.(*ast.GenDecl)
			if !ok || vars.Tok != token.VAR {
				continue
			}
			for _, s := range vars.Specs {
				v := s.(*ast.ValueSpec)
				if name := v.Names[0].Name; name != "_" && name != "Version" && !isTable(v) {
					t.Errorf("%s:%d: %s is a global variable that is neither a sentinel error nor a table", file, f.line(v.Pos()), v.Names[0])
				}
			}
		}
	}
}

// isTable says whether a variable is a table or a sentinel, by its form: an
// array, embedded files, or one value that is a composite literal, a slice made of a string, or
// what errors.New, MakeTable or a Must function returns.
func isTable(v *ast.ValueSpec) bool {
	if array, ok := v.Type.(*ast.ArrayType); ok && array.Len != nil {
		return true
	}
	if files, ok := v.Type.(*ast.SelectorExpr); ok && files.Sel.Name == "FS" {
		return true // embed.FS
	}
	if len(v.Values) != 1 {
		return false
	}
	switch v := v.Values[0].(type) {
	case *ast.CompositeLit:
		return true
	case *ast.UnaryExpr:
		_, literal := v.X.(*ast.CompositeLit) // &Error{…}
		return literal
	case *ast.CallExpr:
		if _, bytes := v.Fun.(*ast.ArrayType); bytes {
			return true // []byte("key")
		}
		called, ok := v.Fun.(*ast.SelectorExpr)
		return ok && (called.Sel.Name == "New" || called.Sel.Name == "MakeTable" || strings.HasPrefix(called.Sel.Name, "Must"))
	default:
		return false
	}
}

// declared returns the names of the functions, methods and types that a
// top-level declaration introduces.
func declared(d ast.Decl) (ids []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return []*ast.Ident{d.Name}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if ts, ok := s.(*ast.TypeSpec); ok {
				ids = append(ids, ts.Name)
			}
		}
	}
	return ids
}

// mayImport says whether an import path is of the standard library or covered
// by allowed, where "tree/..." covers tree and all below it.
func mayImport(allowed []string, p string) bool {
	if isStandard(p) {
		return true
	}
	if p == module {
		p = "."
	}
	p = strings.TrimPrefix(p, module+"/")
	return slices.ContainsFunc(allowed, func(a string) bool {
		tree, deep := strings.CutSuffix(a, "/...")
		return p == a || deep && (p == tree || strings.HasPrefix(p, tree+"/"))
	})
}

// matches says whether a file is one of those that patterns, with spaces between them, name.
func matches(patterns, file string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(pattern string) bool {
		ok, err := path.Match(pattern, file)
		return ok && err == nil
	})
}
