package tributary_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const command = "./cmd/tributary"

// TestLinkedPackages keeps what must not be in a gateway's binary out of it,
// by whatever way it would come in. Templates are listed by cobra, and by serf's
// codec and the net/rpc that it imports, and by nobody else;
// TestDeadCodeElimination proves that their engine is not linked.
func TestLinkedPackages(t *testing.T) {
	for line := range strings.Lines(goTool(t, "list", "-deps", "-f", `{{.ImportPath}} {{join .Imports " "}}`, command)) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		importer := words[0]
		for _, p := range words[1:] {
			switch {
			case p == "text/template" && importer == "github.com/spf13/cobra", importer == "html/template":
			case p == "text/template" && importer == "github.com/hashicorp/go-msgpack/v2/codec", p == "html/template" && importer == "net/rpc":
			case p == "text/template", p == "html/template", p == "testing", p == "expvar", p == "net/http/pprof",
				strings.HasPrefix(p, "google.golang.org/grpc"), strings.HasPrefix(p, "go.opentelemetry.io"):
				t.Errorf("%s links %s, imported by %s", command, p, importer)
			}
		}
	}
}

// TestDeadCodeElimination links the command and asks the linker whether
// anything it keeps calls methods by a name that is known only at run time
// (reflect.Value.MethodByName, as templates do). One such call would make it
// keep every exported method of every type, which is several megabytes.
func TestDeadCodeElimination(t *testing.T) {
	if testing.Short() {
		t.Skip("links the command")
	}
	edges := goTool(t, "build", "-o", filepath.Join(t.TempDir(), "tributary"), "-ldflags=-dumpdep", command)
	const reflective = " <ReflectMethod>"
	if !strings.Contains(edges, " -> ") {
		t.Fatal("the linker printed no dependencies")
	}
	told := map[string]bool{}
	for line := range strings.Lines(edges) {
		from, _, ok := strings.Cut(line, reflective)
		from = from[strings.LastIndexByte(from, ' ')+1:]
		if ok && !told[from] {
			told[from] = true
			t.Errorf("%s calls methods by name and is linked: %s", from, strings.TrimSpace(line))
		}
	}
}

// goTool runs the go command at the root of the module and returns all that it
// printed.
func goTool(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("go %s: %v\n%.2000s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}
