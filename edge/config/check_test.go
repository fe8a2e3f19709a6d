package config

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// What check says to programs is what it says to people.
func TestCheckJSON(t *testing.T) {
	for name, in := range inputs(t) {
		var text, object bytes.Buffer
		code := Check(&text, in, CheckOptions{})
		if again := Check(&object, in, CheckOptions{JSON: true, Effective: true}); again != code {
			t.Errorf("%s: exit %d, with --json %d", name, code, again)
		}
		var got struct {
			Problems []struct {
				File, Severity, Message, Hint string
				Line, Col                     int
			}
			Errors, Warnings    int
			Replaced, Effective []Setting
		}
		if err := json.Unmarshal(object.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if want := counted(got.Errors, "error") + ", " + counted(got.Warnings, "warning") + "."; !strings.Contains(text.String(), want) {
			t.Errorf("%s: %s and\n%s", name, want, &text)
		}
		if len(got.Problems) != got.Errors+got.Warnings || strings.Count(text.String(), "\nnote: ")+strings.Count(text.String()[:min(6, text.Len())], "note: ") != len(got.Replaced) {
			t.Errorf("%s: %s and\n%s", name, &object, &text)
		}
		for _, p := range got.Problems {
			if !strings.Contains(text.String(), p.Message) || p.Severity != "error" && p.Severity != "warn" || p.Line == 0 || p.Col == 0 || p.File == "" {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if (len(got.Effective) >= len(keys)-5) != (code != ExitErrors) { // a key of [[route]] is there as often as it is set
			t.Errorf("%s: exit %d with %d keys in force", name, code, len(got.Effective))
		}
		if strings.Contains(object.String(), "hunter2") {
			t.Errorf("%s: a secret is shown", name)
		}
	}
}

// The effective configuration can be read again, and means the same.
func TestEffective(t *testing.T) {
	for name, in := range inputs(t) {
		read, err := in.Read()
		if err != nil {
			t.Fatal(err)
		}
		if read.Config == nil || len(read.settings) == 0 {
			continue
		}
		again := parse(sources{files: []textFile{{"effective", []byte(read.Effective())}}, in: read.in})
		if again.Config == nil {
			t.Errorf("%s:\n%s\n%v", name, read.Effective(), again.Problems)
		}
	}
}
