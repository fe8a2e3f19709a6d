package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What cannot be read is an error that names it, never a configuration without it.
func TestInputThatCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"conf.d is a file": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "conf.d"), nil, 0o600) }, "conf.d"},
		"a file of conf.d leads nowhere": {func(dir string) error {
			if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o700); err != nil {
				return err
			}
			return os.Symlink("nowhere", filepath.Join(dir, "conf.d", "10.toml"))
		}, "10.toml"},
		"conf.d has too many files": {func(dir string) error {
			err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o700)
			for i := 0; i <= maxFiles && err == nil; i++ {
				err = os.WriteFile(filepath.Join(dir, "conf.d", fmt.Sprintf("%d.toml", i)), nil, 0o600)
			}
			return err
		}, "more than 100 files"},
		"no credentials": {func(string) error { return nil }, "CREDENTIALS_DIRECTORY"},
	} {
		dir := t.TempDir()
		in := Input{Path: filepath.Join(dir, "tributary.toml")}
		if c.want == "CREDENTIALS_DIRECTORY" {
			in.Environ = []string{"CREDENTIALS_DIRECTORY=" + filepath.Join(dir, "none")}
		}
		if err := os.WriteFile(in.Path, []byte(smallest), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if read, err := in.Read(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", name, read, err)
		}
	}
}
