package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-edge/tributary/ingest/auth"
)

func passwd(t *testing.T, input string, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	c := passwdCommand()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetIn(strings.NewReader(input))
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err = c.ExecuteContext(t.Context())
	return out.String(), err
}

func TestPasswd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	for _, c := range []struct {
		input string
		args  []string
		want  string // of the output, or of the error after a '!'
	}{
		{"x\n", []string{"pump"}, `!"file" not set`},
		{"x\n", []string{"-f", file, "pump"}, "!--create makes it"},
		{"x\n", []string{"-f", file, "--create", "pump"}, `added user "pump"`},
		{"pass word\r\nrest\n", []string{"-f", file, "pump"}, `changed the password of user "pump"`},
		{"last", []string{"-f", file, "valve"}, `added user "valve"`},
		{"", []string{"-f", file, "valve"}, "!empty"},
		{"x\n", []string{"-f", file, "a:b"}, "!':'"},
		{"x\n", []string{"-f", file}, "!which user?"},
		{"", []string{"-f", file, "tank", "seen"}, "!--batch if that is meant"},
		{"", []string{"-f", file, "-b", "tank", "seen"}, `added user "tank"`},
		{"", []string{"-f", file, "-b", "tank"}, "!--batch needs"},
		{"", []string{"-f", file, "-b", "-D", "tank", "x"}, "!do not go together"},
		{"", []string{"-f", file, "--delete", "valve"}, `deleted user "valve"`},
		{"", []string{"-f", file, "-D", "valve"}, "!no user"},
	} {
		out, err := passwd(t, c.input, c.args...)
		want, fails := strings.CutPrefix(c.want, "!")
		if (err != nil) != fails || !fails && !strings.Contains(out, want) || fails && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want %q", c.args, out, err, c.want)
		}
	}
	g, err := auth.Open(auth.Options{PasswordFile: file})
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]bool{"pump:pass word": true, "tank:seen": true, "pump:x": false, "valve:last": false} {
		name, password, _ := strings.Cut(user, ":")
		_, err := g.Authenticate(t.Context(), &auth.Credentials{Username: name, Password: []byte(password)})
		if (err == nil) != want {
			t.Errorf("%s: %v", user, err)
		}
	}
	if src, err := os.ReadFile(file); err != nil || strings.Count(string(src), "\n") != 2 {
		t.Errorf("%s, %v", src, err)
	}
}
