package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRouteTest(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tributary.toml")
	text := "[kafka]\nbrokers = [\"b:1\"]\n[[route]]\nmatch = \"plant/{line}/{device}/tele\"\ntopic = \"telemetry.{line}\"\nkey = \"{device}\"\n" +
		"[[route]]\nmatch = \"alarm/#\"\ntopic = \"alarms\"\npriority = \"alarm\"\n[[route]]\nmatch = \"here/#\"\ntopic = \"\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"plant/7/dev3/tele"}, 0, "by  [[route]] 1, match = \"plant/{line}/{device}/tele\" (" + file + ":4)\nto  topic telemetry.7\nkey \"dev3\"\n"},
		{[]string{"alarm/fire", "--client", "d"}, 0, "by  [[route]] 2, match = \"alarm/#\" (" + file + ":8)\nto  topic alarms, as an alarm, urgent\nkey \"d\"\n"},
		{[]string{"other"}, 0, "by  [default_route], because no route takes it\nto  topic mqtt\nkey \"client-id\"\n"},
		{[]string{"other", "--set", "default_route.topic=x"}, 0, "by  [default_route], because no route takes it\nto  topic x\nkey \"client-id\"\n"},
		{[]string{"here/x", "--json"}, 0, "{\"route\":3,\"where\":\"" + file + ":12\",\"match\":\"here/#\",\"topic\":\"\",\"key\":\"client-id\",\"alarm\":false,\"urgent\":false}\n"},
		{[]string{"plant/#"}, 1, ""},
	} {
		code, out, errs := tributary(t, append([]string{"route", "test", "-c", file}, c.args...)...)
		if code != c.code || out != c.want {
			t.Errorf("%q: exit %d\n%s%s", c.args, code, out, errs)
		}
	}
	code, out, _ := tributary(t, "route", "test", "-c", file, "plant/ä/d/tele")
	if code != 1 || out == "" {
		t.Errorf("an impossible topic: exit %d, %s", code, out)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, errs := tributary(t, "completion", shell); code != 0 || len(out) < 100 {
			t.Errorf("completion %s: exit %d, %s", shell, code, errs)
		}
	}
}
