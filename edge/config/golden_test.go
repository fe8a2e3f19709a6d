package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// update rewrites the expected outputs: go test ./edge/config -run Golden -update.
var update = flag.Bool("update", false, "rewrite testdata/*.txt")

// What check prints for each file of testdata. The exit code is the last line.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var out bytes.Buffer
			code := Check(&out, file)
			out.WriteString(map[int]string{ExitGood: "exit 0\n", ExitErrors: "exit 1\n", ExitWarnings: "exit 3\n"}[code])
			expected := strings.TrimSuffix(file, ".toml") + ".txt"
			if *update {
				if err := os.WriteFile(expected, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(expected)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", out.Bytes(), want)
			}
			c, problems, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if (c != nil) != (code != ExitErrors) {
				t.Errorf("exit code %d and config %v", code, c)
			}
			checkPlaces(t, file, problems)
		})
	}
}
