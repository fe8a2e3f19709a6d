package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// update rewrites the expected outputs: go test ./edge/config -run Golden -update.
var update = flag.Bool("update", false, "rewrite testdata/*.txt")

// leastWrong is how many wrong configurations there are at least.
const leastWrong = 60

// inputs returns the configurations of testdata: a file, or a folder with one and what
// belongs to it, conf.d, environ and set.
func inputs(t *testing.T) map[string]Input {
	t.Helper()
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Input{}
	for _, file := range files {
		all[strings.TrimSuffix(file, ".toml")] = Input{Path: file}
	}
	if files, err = filepath.Glob("testdata/*/tributary.toml"); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		all[dir] = Input{Path: file, Environ: lines(t, filepath.Join(dir, "environ")), Set: lines(t, filepath.Join(dir, "set"))}
	}
	return all
}

// lines returns the lines of a file; none if there is no such file.
func lines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// What check prints for each configuration of testdata; of a good folder also what is
// in force. The exit code is the last line.
func TestGolden(t *testing.T) {
	wrong := 0
	for name, in := range inputs(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			var out bytes.Buffer
			code := Check(&out, in, CheckOptions{})
			out.WriteString(map[int]string{ExitGood: "exit 0\n", ExitErrors: "exit 1\n", ExitWarnings: "exit 3\n"}[code])
			read, err := in.Read()
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(in.Path) == "tributary.toml" && read.Config != nil {
				out.WriteString(changed(read))
			}
			if code == ExitErrors {
				wrong++
			}
			if *update {
				if err := os.WriteFile(name+".txt", out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", out.Bytes(), want)
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Error("a secret is shown")
			}
			if (read.Config != nil) != (code != ExitErrors) {
				t.Errorf("exit code %d and config %v", code, read.Config)
			}
			checkPlaces(t, in, read.Problems)
		})
	}
	if wrong < leastWrong {
		t.Errorf("only %d wrong configurations, want %d", wrong, leastWrong)
	}
}

// remedy is what a message says that needs no hint.
var remedy = regexp.MustCompile(`did you mean|must be|it may|the first is on line|there are |is made of|each take|"#" matches|do not pair|is taken by|stands twice|no record may go there|Kafka's own|is empty|more than is worth`)

// Every error of every wrong configuration says what to do.
func TestErrorsSayWhatToDo(t *testing.T) {
	for name, in := range inputs(t) {
		read, err := in.Read()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range read.Problems {
			if p.Severity == Error && p.Hint == "" && !remedy.MatchString(p.Message) {
				t.Errorf("%s: no hint for %s", name, p)
			}
		}
	}
}

// changed returns what is in force and no default.
func changed(r *Reading) string {
	var all []Setting
	for _, s := range r.Settings() {
		if s.From != "default" {
			all = append(all, s)
		}
	}
	return written(all, true)
}
