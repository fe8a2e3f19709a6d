package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// read parses main and, behind it, more; neither has an error.
func read(t *testing.T, main, more string) *Reading {
	t.Helper()
	r := parse(sources{files: []textFile{{"main.toml", []byte(main)}, {"more.toml", []byte(more)}}})
	if r.Config == nil {
		t.Fatalf("%s\n%s\n%v", main, more, r.Problems)
	}
	return r
}

// A key alone that changes is applied by a reload if the table says so, and nothing
// else is; if not, it is named, and nothing changes.
func TestReloadOfEachKey(t *testing.T) {
	text, err := os.ReadFile("testdata/every_key.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, start := range []string{string(text), smallest} {
		now := read(t, start, "")
		tried := 0
		for _, k := range Keys() {
			section, key, _ := strings.Cut(k.Path, ".")
			other := &Setting{Value: k.Default}
			if start == smallest {
				other = read(t, string(text), "").settings[k.Path]
			}
			if section == "route" || k.Path == "ack.level" {
				continue
			}
			next := parse(sources{files: []textFile{{"main.toml", []byte(start)}, {"more.toml", []byte("[" + section + "]\n" + key + " = " + other.Value)}}})
			if next.Config == nil || sameMeaning(k.Path, now, next) {
				continue // does not go with the others, or is no change
			}
			tried++
			got, waiting := now.Reload(next)
			want, names := next.Config, []string(nil)
			if !k.Live {
				want, names = now.Config, []string{titled(k.Path)}
			}
			if !reflect.DeepEqual(got.Config, want) || !reflect.DeepEqual(waiting, names) {
				t.Errorf("%s: waiting %v, want %v\ngot  %+v\nwant %+v", k.Path, waiting, names, got.Config, want)
			}
			back, waiting := got.Reload(now)
			if !reflect.DeepEqual(back.Config, now.Config) || waiting != nil {
				t.Errorf("%s: the way back waits for %v", k.Path, waiting)
			}
		}
		if tried < 35 {
			t.Errorf("only %d keys were tried", tried)
		}
	}
}

func TestReloadOfRoutes(t *testing.T) {
	const a, b = "[[route]]\nmatch = \"a\"\ntopic = \"ta\"\n", "[[route]]\nmatch = \"b\"\ntopic = \"tb\"\n"
	now := read(t, smallest+a, "[log]\nsegment = \"4MiB\"\n")
	next := read(t, smallest+b, "[log]\nsegment = \"8MiB\"\n[node]\nsite = \"elsewhere\"\n"+a)
	got, waiting := now.Reload(next)
	if !reflect.DeepEqual(got.Config.Routes, next.Config.Routes) || got.Config.Log.SegmentBytes != 4<<20 || got.Config.Node.Site != "default" {
		t.Errorf("%+v", got.Config)
	}
	if want := []string{"[node] site", "[log] segment"}; !reflect.DeepEqual(waiting, want) {
		t.Errorf("waiting %q, want %q", waiting, want)
	}
	if target, err := got.Config.Table.Resolve("b", "", ""); err != nil || target.Topic != "tb" {
		t.Errorf("%+v, %v", target, err)
	}
	// How a value is written is no change.
	if _, waiting = now.Reload(read(t, smallest+a, "[log]\nsegment = \"4096KiB\"\nmax_age = \"720h\"\n")); waiting != nil {
		t.Errorf("waiting %q", waiting)
	}
}

// The new route into the topic of the positions is refused by a start, and is not put
// in force beside the old name of that topic either.
func TestReloadOfWhatDoesNotGoTogether(t *testing.T) {
	now := read(t, smallest+"positions_topic = \"here\"\n", "")
	next := read(t, smallest+"positions_topic = \"there\"\nlinger = \"9s\"\n", "[[route]]\nmatch = \"a\"\ntopic = \"here\"\n")
	got, waiting := now.Reload(next)
	if want := []string{"[kafka] linger", "[kafka] positions_topic", "[[route]]"}; got != now || !reflect.DeepEqual(waiting, want) {
		t.Errorf("waiting %q, want %q; the same %v", waiting, want, got == now)
	}
}

// The last good configuration means what was in force, wherever that came from, and
// has no secrets.
func TestLastGood(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	in := Input{
		Path:    filepath.Join(dir, "tributary.toml"),
		Environ: []string{"NAME=gw", "SOME_TOKEN=hunter2", "TRIBUTARY_KAFKA__PARTITIONS=6", "TRIBUTARY_NODE__DATA_DIR=" + data},
		Set:     []string{"kafka.linger=5s"},
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(in.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(smallest + "client_id = \"${NAME}-$${x}\"\n[mqtt]\njwt_issuer = \"${SOME_TOKEN}\"\njwt_keys_file = \"keys\"\n[[route]]\nmatch = \"a/{b}\"\ntopic = \"t.{b}\"\n")
	if _, err := in.LastGood(nil); err == nil || !strings.Contains(err.Error(), "no last good") {
		t.Errorf("%v", err)
	}
	good, err := in.Read()
	if err != nil || good.Config == nil {
		t.Fatal(good.Problems, err)
	}
	for range 2 {
		if err := good.KeepLastGood(good.DataDir); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(LastGoodPath(data))
	if err != nil || strings.Contains(string(text), "hunter2") {
		t.Errorf("%s, %v", text, err)
	}
	for _, broken := range []string{"nonsense", "[node]\ndata_dir = 5\n", ""} {
		write(broken)
		bad, err := in.Read()
		if err != nil || bad.Config != nil {
			t.Fatal(err)
		}
		got, err := in.LastGood(bad)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Config, good.Config) {
			t.Errorf("got  %+v\nwant %+v", got.Config, good.Config)
		}
	}
	if err := os.Remove(in.Path); err != nil {
		t.Fatal(err)
	}
	if got, err := in.LastGood(nil); err != nil || got.Config.MQTT.JWTKeysFile != filepath.Join(dir, "keys") {
		t.Errorf("%v, %v", got, err)
	}
	in.Environ = in.Environ[:1:1]
	in.Environ = append(in.Environ, "TRIBUTARY_NODE__DATA_DIR="+data)
	if _, err := in.LastGood(nil); err == nil || !strings.Contains(err.Error(), "SOME_TOKEN") {
		t.Errorf("without its secret: %v", err)
	}
}
