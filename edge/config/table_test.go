package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// Every key has a line in the table that says what a reload does with it, and the
// table has no other. Its defaults are the defaults.
func TestEveryKeyIsInTheTable(t *testing.T) {
	there := map[string]bool{}
	for _, s := range sectionsOf(defaults(), folder{}) {
		for _, key := range s.keys() {
			path := s.name + "." + key
			there[path] = true
			if keyOf(path) == nil {
				t.Errorf("the table does not say whether a change of %s needs a restart", path)
			}
		}
	}
	for _, k := range Keys() {
		if !there[k.Path] {
			t.Errorf("the table has %s, which is no key, or twice", k.Path)
		}
		delete(there, k.Path)
	}
}

// What the table gives as the default of a key means the default, and replaces every
// other value wholly.
func TestDefaultsReplaceEverything(t *testing.T) {
	var b strings.Builder
	header := ""
	for _, k := range Keys() {
		section, key, _ := strings.Cut(k.Path, ".")
		if section == "route" || k.Path == "kafka.brokers" {
			continue
		}
		if section != header {
			b.WriteString("[" + section + "]\n")
			header = section
		}
		b.WriteString(key + " = " + k.Default + "\n")
	}
	every, err := os.ReadFile("testdata/every_key.toml")
	if err != nil {
		t.Fatal(err)
	}
	brokers := textFile{"last.toml", []byte("[kafka]\nbrokers = [\"broker1.example.com:9092\"]\n")}
	read := parse(sources{files: []textFile{{"first.toml", every}, {"then.toml", []byte(b.String())}, brokers}})
	if read.Config == nil {
		t.Fatal(read.Problems)
	}
	want := mustParse(t, smallest)
	read.Config.Routes, read.Config.Table, want.Table = nil, nil, nil
	if !reflect.DeepEqual(read.Config, want) {
		t.Errorf("got  %+v\nwant %+v", read.Config, want)
	}
}

// docs/OPERATIONS.md says of each key that a reload applies that it does, and of no
// other.
func TestLiveKeysAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "<!-- live keys -->")
	table, _, closed := strings.Cut(table, "<!-- end -->")
	if !found || !closed {
		t.Fatal("docs/OPERATIONS.md has no table of live keys")
	}
	for _, k := range Keys() {
		section, key, _ := strings.Cut(k.Path, ".")
		_, row, _ := strings.Cut(table, "| `["+section+"]`")
		row, _, _ = strings.Cut(row, "\n")
		if is := strings.Contains(row, "`"+key+"`"); is != k.Live {
			t.Errorf("%s: live %v, documented as live %v", k.Path, k.Live, is)
		}
	}
}
