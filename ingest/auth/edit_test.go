package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEdit(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "passwd")
	if _, err := SetPassword(file, "a", []byte("x"), false); err == nil {
		t.Fatal("a file was made that nobody asked for")
	}
	if isNew, err := SetPassword(file, "a", []byte("x"), true); err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	if err := os.WriteFile(file, []byte("# mine\n\n b :$6$c2FsdHNhbHRzYWx0$"+strings.Repeat("A", 86)+"==\r\n# end"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, password string
		isNew          bool
	}{{"c", "1", true}, {"b", "2", false}, {"c", "3", false}} {
		if isNew, err := SetPassword(link, c.user, []byte(c.password), true); err != nil || isNew != c.isNew {
			t.Fatal(c, isNew, err)
		}
	}
	g, err := Open(Options{PasswordFile: link})
	if err != nil {
		t.Fatal(err)
	}
	if login(t, g, "b", "2") != 0 || login(t, g, "c", "3") != 0 || login(t, g, "c", "1") == 0 {
		t.Error("the passwords are not those that were set")
	}
	if err := DeleteUser(link, "b"); err != nil {
		t.Fatal(err)
	}
	if err := DeleteUser(link, "b"); err == nil {
		t.Error("deleted twice")
	}
	src, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(src), "# mine\n\n# end\nc:$argon2id$v=19$m=19456,t=2,p=1$") || strings.Count(string(src), "\n") != 4 {
		t.Errorf("%q, %v", src, err)
	}
	info, err := os.Stat(file)
	target, err2 := os.Readlink(link)
	left, err3 := filepath.Glob(filepath.Join(dir, "*"))
	hidden, err4 := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || err2 != nil || err3 != nil || err4 != nil || info.Mode().Perm() != 0o640 || target != file || len(left) != 2 || len(hidden) != 0 {
		t.Errorf("mode %v, link to %q, files %q %q", info.Mode(), target, left, hidden)
	}
}

func TestEditRefuses(t *testing.T) {
	for _, c := range []struct{ src, user, password string }{
		{"", "", "x"},
		{"", "a:b", "x"},
		{"", "#a", "x"},
		{"", " a", "x"},
		{"", "a\n", "x"},
		{"", "\xff", "x"},
		{"", "a", ""},
		{"", "a", strings.Repeat("x", maxNameBytes+1)},
		{"", strings.Repeat("x", maxNameBytes+1), "x"},
		{"broken", "a", "x"},
	} {
		file := write(t, "passwd", []byte(c.src))
		if _, err := SetPassword(file, c.user, []byte(c.password), true); err == nil {
			t.Errorf("user %.20q, password %.20q", c.user, c.password)
		}
		if src, err := os.ReadFile(file); err != nil || string(src) != c.src {
			t.Errorf("%q, %v", src, err)
		}
	}
}
