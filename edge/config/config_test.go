package config

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/ingest/route"
)

// smallest is the smallest configuration.
const smallest = "[kafka]\nbrokers = [\"broker1.example.com:9092\"]\n"

func mustParse(t *testing.T, src string) *Config {
	t.Helper()
	c, problems := Parse("test.toml", []byte(src))
	if c == nil || len(problems) > 0 {
		t.Fatalf("config %v, problems %v", c, problems)
	}
	return c
}

// example is deploy/tributary.toml.
func example(t *testing.T) string {
	t.Helper()
	src, err := os.ReadFile("../../deploy/tributary.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}

// readOne reads one file as far as its keys.
func readOne(src string) *reader {
	from := sources{files: []textFile{{"test.toml", []byte(src)}}}
	r := newReader(from, defaults())
	r.readText(from)
	return r
}

func TestDefaults(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, smallest)
	want := defaults()
	want.Node.Name = host
	want.Kafka.Brokers = []string{"broker1.example.com:9092"}
	want.Status.Socket = "/var/lib/tributary/admin.sock"
	want.Table = c.Table
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	got, err := c.Table.Resolve("a/b", "dev1", "")
	if err != nil || got.Topic != "mqtt" || string(got.Key) != "dev1" || c.Table.DeadLetter() != "tributary.dead-letter" {
		t.Errorf("%+v, %v, dead letter %q", got, err, c.Table.DeadLetter())
	}
}

// The documented example has no problem, names every key, and means the defaults.
func TestExampleIsTheDefaults(t *testing.T) {
	src := example(t)
	if got, want := mustParse(t, src), mustParse(t, smallest); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	r := readOne(src)
	for i := range r.sections {
		for _, key := range r.sections[i].keys() {
			if s := &r.sections[i]; !s.repeats && !r.isSet(r.path(s, key)) {
				t.Errorf("the example does not show [%s] %s", s.name, key)
			}
		}
	}
	// The route in it is a comment; without the '#' it is right.
	before, after, found := strings.Cut(src, "# [[route]]\n")
	if !found {
		t.Fatal("the example shows no route")
	}
	for _, key := range readOne("").section("route").keys() {
		shown := strings.Replace(after, "# "+key+" ", key+" ", 1)
		if shown == after {
			t.Errorf("the example does not show [[route]] %s", key)
		}
		after = shown
	}
	c := mustParse(t, before+"[[route]]\n"+after)
	want := []route.Rule{{Match: "plant/{line}/{device}/tele/#", Topic: "telemetry.{line}", Key: "{client_id}"}}
	if !reflect.DeepEqual(c.Routes, want) {
		t.Errorf("route is %+v, want %+v", c.Routes, want)
	}
}

// A file that is named without its folder is in that of the configuration.
func TestFilesBesideTheConfiguration(t *testing.T) {
	src := smallest + "\n[mqtt]\npassword_file = \"passwd\"\nacl_file = \"/elsewhere/acl\"\n"
	for name, want := range map[string]string{"/etc/tributary/tributary.toml": "/etc/tributary/passwd", "tributary.toml": "passwd"} {
		c, problems := Parse(name, []byte(src))
		if c == nil || c.MQTT.PasswordFile != want || c.MQTT.ACLFile != "/elsewhere/acl" || c.MQTT.TLSCertFile != "" {
			t.Errorf("%s: %+v, %v; want %s", name, c, problems, want)
		}
	}
}

// Every key fills its own field.
func TestEveryKey(t *testing.T) {
	text, err := os.ReadFile("testdata/every_key.toml")
	if err != nil {
		t.Fatal(err)
	}
	src := string(text)
	c := mustParse(t, src)
	want := &Config{
		Node: Node{Name: "GW-1", DataDir: "/d", Site: "plant7"},
		Site: Site{Listen: "0.0.0.0:7882", Gossip: "0.0.0.0:7884", Advertise: "10.0.0.5", Seeds: []string{"gw2:7883"}, MaxBandwidth: 2 << 20, Strict: true},
		MQTT: MQTT{
			Listen: []string{"0.0.0.0:1883", "[::]:1884"}, ListenTLS: []string{"0.0.0.0:8883"}, ListenWS: []string{"0.0.0.0:9001"},
			ListenWSS: []string{"0.0.0.0:8884"}, MDNS: true,
			TLSCertFile: "door.crt", TLSKeyFile: "door.key", TLSClientCAFile: "devices.crt", TLSCRLFile: "devices.crl", CertificateUser: "san",
			PasswordFile: "passwd", ACLFile: "acl", JWTKeysFile: "jwks", JWTIssuer: "us", JWTAudience: "door", ClientIDIs: "prefix",
			AllowAnonymous: true, MaxConnectionsPerAddress: 20, MaxMessagesPerSecond: 50, MaxBytesPerSecond: 64 << 10, MaxClients: 1500,
			MaxPacketBytes: 960 << 10, ReceiveMaximum: 65535, MaxTopicLevels: 8,
			MaxSlowed: 10 * time.Minute, MaxRetained: 5000, MaxRetainedBytes: 1 << 20, ServerReference: "gw2:8883 gw3",
		},
		Ack: Ack{Window: 100 * time.Millisecond, Copies: 2, RefuseAlone: true},
		Log: Log{MaxBytes: 8 << 30, MaxAge: 36 * time.Hour, SegmentBytes: 64 << 20, Compression: CompressNever, AlarmReserve: 64 << 20, EnduranceBytes: 120e12},
		Kafka: Kafka{
			Brokers: []string{"b1:9092", "[::1]:9093"}, ClientID: "c", BatchBytes: 3 << 20, CreateTopics: true, Partitions: 12,
			ReplicationFactor: 3, PositionsTopic: "p", TransactionTimeout: 15 * time.Minute, MaxBandwidth: 64 << 10, SOCKS5: "proxy:1080", TLS: true,
			CAFile: "ca", CertFile: "crt", KeyFile: "key", SASL: ScramSHA256, Username: "u", PasswordFile: "pw",
		},
		Routes: []route.Rule{
			{Match: "plant/{line}/#", Topic: "t.{line}", Key: "{line}", Alarm: true},
			{Match: "b", Key: "{client_id}", Urgent: true},
		},
		DefaultRoute: DefaultRoute{Key: "{topic}", DeadLetter: "dead.{node}.{site}"},
		Status:       Status{Listen: "0.0.0.0:9880", TokenFile: "token", Socket: "/run/s"},
		Logging:      Logging{Level: slog.LevelDebug, Format: JSON},
		Table:        c.Table,
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if got := c.Table.DeadLetter(); got != "dead.GW-1.plant7" {
		t.Errorf("dead letter is %q", got)
	}
	r := readOne(src)
	for i := range r.sections {
		for _, key := range r.sections[i].keys() {
			if s := &r.sections[i]; !s.repeats && !r.isSet(r.path(s, key)) {
				t.Errorf("this test does not set [%s] %s", s.name, key)
			}
		}
	}
}

// An alarm route is urgent unless it says otherwise, wherever the key stands, and
// no other route is unless it says so. The table knows it too.
func TestAlarmRoutes(t *testing.T) {
	for keys, want := range map[string]route.Rule{
		"":                                       {},
		`priority = "normal"`:                    {},
		`priority = "alarm"`:                     {Alarm: true, Urgent: true},
		"priority = \"alarm\"\nurgent = false":   {Alarm: true},
		"urgent = false\npriority = \"alarm\"":   {Alarm: true},
		"priority = \"alarm\"\nurgent = true":    {Alarm: true, Urgent: true},
		"urgent = true":                          {Urgent: true},
		"urgent = true\npriority = \"normal\"\n": {Urgent: true},
	} {
		// The routes around it say the opposite, which must not reach it.
		opposite := fmt.Sprintf("[[route]]\nmatch = \"x\"\ntopic = \"x\"\npriority = %q\nurgent = %t\n",
			map[bool]string{true: "normal", false: "alarm"}[want.Alarm], !want.Urgent)
		c := mustParse(t, smallest+opposite+"[[route]]\nmatch = \"a\"\ntopic = \"t\"\n"+keys+"\n"+strings.Replace(opposite, "x", "y", 1))
		if got := c.Routes[1]; got.Alarm != want.Alarm || got.Urgent != want.Urgent {
			t.Errorf("%q: alarm %t, urgent %t; want %t, %t", keys, got.Alarm, got.Urgent, want.Alarm, want.Urgent)
		}
		if got, err := c.Table.Resolve("a", "", ""); err != nil || got.Alarm != want.Alarm || got.Urgent != want.Urgent {
			t.Errorf("%q: the table says alarm %t, urgent %t, %v; want %t, %t", keys, got.Alarm, got.Urgent, err, want.Alarm, want.Urgent)
		}
		if got, err := c.Table.Resolve("elsewhere", "", ""); err != nil || got.Alarm || got.Urgent {
			t.Errorf("%q: the default route has %+v, %v", keys, got, err)
		}
		if !c.HasAlarms() { // one of them always is
			t.Errorf("%q: no alarm route", keys)
		}
	}
	if mustParse(t, smallest+"[[route]]\nmatch = \"a\"\ntopic = \"t\"\nurgent = true\n").HasAlarms() {
		t.Error("an urgent route counts as an alarm route")
	}
}

// drop-oldest is taken, with a warning, and nobody gets it who did not ask for it.
func TestDropOldest(t *testing.T) {
	c, problems := Parse("test.toml", []byte(smallest+"[log]\non_full = \"drop-oldest\"\n"))
	if c == nil || !c.Log.DropOldest || len(problems) != 1 || problems[0].Severity != Warning {
		t.Errorf("config %+v, problems %v", c, problems)
	}
	if mustParse(t, smallest+"[log]\non_full = \"refuse\"\n").Log.DropOldest || mustParse(t, smallest).Log.DropOldest {
		t.Error("records are dropped although nobody asked for it")
	}
}

// The reserve is less than half of a size; of a part of the file system nobody
// knows here.
func TestAlarmReserve(t *testing.T) {
	alarms := smallest + "[[route]]\nmatch = \"a\"\ntopic = \"t\"\npriority = \"alarm\"\n[log]\n"
	for keys, want := range map[string]int64{
		"":                       0,
		`alarm_reserve = "auto"`: 0,
		`alarm_reserve = "1MiB"`: 1 << 20,
		`alarm_reserve = "1TiB"`: 1 << 40,
		"max_size = \"1GiB\"\nalarm_reserve = \"511MiB\"": 511 << 20,
		"max_size = \"1GiB\"\nalarm_reserve = \"512MiB\"": -1,
		"max_size = \"1GiB\"\nalarm_reserve = \"1TiB\"":   -1,
		"alarm_reserve = \"2GiB\"\nmax_size = \"1GiB\"":   -1,
		`alarm_reserve = "1023KiB"`:                       -1,
		`alarm_reserve = "1025GiB"`:                       -1,
		`alarm_reserve = "0B"`:                            -1,
	} {
		c, problems := Parse("test.toml", []byte(alarms+keys+"\n"))
		if (c != nil) != (want >= 0) || len(problems) != 0 && c != nil || len(problems) != 1 && c == nil {
			t.Errorf("%q: config %v, problems %v", keys, c, problems)
		}
		if c != nil && c.Log.AlarmReserve != want {
			t.Errorf("%q: %d bytes, want %d", keys, c.Log.AlarmReserve, want)
		}
	}
}

func TestLoadSaysWhyAFileCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.toml")
	if err := os.WriteFile(large, bytes.Repeat([]byte("#\n"), maxFileBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, reason := range map[string]string{
		filepath.Join(dir, "none.toml"): "no such file",
		dir:                             "is a directory",
		large:                           "something else",
	} {
		c, problems, err := Load(path)
		if c != nil || problems != nil || err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, %v, %v", path, c, problems, err)
			continue
		}
		var out bytes.Buffer
		if code := Check(&out, Input{Path: path}, CheckOptions{}); code != ExitErrors {
			t.Errorf("%s: exit code %d", path, code)
		}
		if want := err.Error() + "\n1 error, 0 warnings. Nothing was changed.\n"; out.String() != want {
			t.Errorf("%s: printed %q, want %q", path, out.String(), want)
		}
	}
}

// Check opens nothing but the configuration: every file it names is a pipe that
// nobody writes to, so opening one would wait for ever. It changes nothing.
func TestCheckTouchesNothing(t *testing.T) {
	dir := t.TempDir()
	src := fmt.Sprintf("[node]\ndata_dir = %q\n%ssasl = \"plain\"\ntls = true\nusername = \"u\"\n", filepath.Join(dir, "data"), smallest)
	for _, key := range []string{"ca_file", "cert_file", "key_file", "password_file"} {
		path := filepath.Join(dir, key)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		src += fmt.Sprintf("%s = %q\n", key, path)
	}
	file := filepath.Join(dir, "tributary.toml")
	if err := os.WriteFile(file, []byte(src), 0o400); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := Check(&out, Input{Path: file}, CheckOptions{}); code != ExitGood || out.String() != "0 errors, 0 warnings. Nothing was changed.\n" {
		t.Errorf("exit code %d, %s", code, out.String())
	}
	after, err := os.ReadFile(file)
	entries, err2 := os.ReadDir(dir)
	if err != nil || err2 != nil || string(after) != src || len(entries) != 5 {
		t.Errorf("something changed: %d files, %v, %v", len(entries), err, err2)
	}
}

// A file that is something else is told so, in a moment and in a few lines.
func TestManyProblems(t *testing.T) {
	const size = maxFileBytes / 4
	for _, src := range []string{
		strings.Repeat("a = 1\n", size/6),
		"kafka = {" + strings.Repeat("a=1,", size/4) + "b=1}",
		strings.Repeat("[a]\n", size/4),
		strings.Repeat("=\n", size/2),
		strings.Repeat("[[route]]\n", size/10),
		strings.Repeat("a", size),
		"a = " + strings.Repeat("[", size),
	} {
		started := time.Now()
		c, problems := Parse("test.toml", []byte(src))
		if c != nil || len(problems) == 0 || len(problems) > maxProblems {
			t.Errorf("%.20q: %v, %d problems", src, c, len(problems))
		}
		if took := time.Since(started); took > 20*time.Second { // with room for the race detector on a busy machine
			t.Errorf("%.20q: took %v", src, took)
		}
	}
}
