package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/doctor"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/firmware-sim/device"
)

// TestMain lets the test binary stand in for the program where a command starts
// itself as another process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		main()
	}
	os.Exit(m.Run())
}

func tributary(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// U1, U2: the demo through a cut uplink and a kill ends with three zeros.
func TestDemo(t *testing.T) {
	code, out, errs := tributary(t, "demo", "--for", "4s", "--devices", "5", "--rate", "20", "--cut-uplink", "1s", "--kill", "--json")
	var count map[string]int
	if err := json.Unmarshal([]byte(out), &count); err != nil {
		t.Fatalf("exit %d, output %q, %v\n%s", code, out, err, errs)
	}
	if code != 0 || count["lost"]+count["twice"]+count["out_of_order"] != 0 {
		t.Errorf("exit %d, count %v\n%s", code, count, errs)
	}
	if count["sent"] < 200 || count["acked"] < count["sent"]/2 || count["in_kafka"] < count["acked"] {
		t.Errorf("count %v does not look like 5 devices with 20 messages a second for 4 s", count)
	}
	if !strings.Contains(errs, "SIGKILL") || !strings.Contains(errs, "cutting the uplink") {
		t.Errorf("an accident did not happen:\n%s", errs)
	}
}

// node starts a node in a process of its own, with a Kafka that is away.
func node(t *testing.T) *demoNode {
	t.Helper()
	n, err := newDemoNode(t.Context(), t.TempDir(), "127.0.0.1:1", "", "topic")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.start(t.Context()); err != nil {
		t.Fatal(err, n.log())
	}
	t.Cleanup(func() { _ = n.kill() })
	return n
}

func (n *demoNode) publish(t *testing.T, count uint64) {
	t.Helper()
	fleet, err := device.New(device.Options{
		Broker: n.address, Devices: 1, Count: count, Prefix: "pump-", Topic: "plant/{device}/tele", Window: 10,
		Drain: 10 * time.Second, AckTimeout: 10 * time.Second, BackoffMax: time.Second, KeepAlive: time.Minute, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := fleet.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := fleet.Stats(); s.Acked != int64(count) {
		t.Fatalf("%d acknowledged, want %d", s.Acked, count)
	}
}

// A1: with Kafka away a node takes messages, shows them, is verified while it
// runs, and ends with exit code 0 on SIGTERM.
func TestCommandsOnARunningNode(t *testing.T) {
	n := node(t)
	n.publish(t, 25)

	code, out, errs := tributary(t, "status", "--json", "-c", n.config)
	var r status.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatal(code, out, errs, err)
	}
	if r.Uplink.Waiting < 26 || r.MQTT.Durable[1] != 25 || r.Site != "demo" {
		t.Errorf("report %+v; want 25 messages, the opening and what is noted of sessions to wait", r)
	}
	if code, out, _ := tributary(t, "status", "-c", n.config); code != 0 || !strings.Contains(out, "GREEN") {
		t.Errorf("status: exit %d\n%s", code, out)
	}

	lines := n.tail(t, 25, "plant/+/tele", "--from", "-1h", "--json")
	for i, text := range lines {
		var l edge.Line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		if _, seq, ok := device.Identify(l.Value); !ok || seq != uint64(i+1) || l.Stream != "topic" || !strings.HasPrefix(l.Topic, "plant/pump-") {
			t.Errorf("line %d is %+v", i, l)
		}
	}
	if got := n.tail(t, 5, "#", "--from", "21"); !strings.Contains(got[0], "plant/pump-") {
		t.Errorf("tail from record 21 begins with %q", got[0])
	}
	for flag, want := range map[string]string{"--from=yesterday": "neither a time", "--from=-1h": "must be the last level"} {
		filter := map[bool]string{true: "a/#/b", false: "#"}[flag == "--from=-1h"]
		if code, _, errs := tributary(t, "tail", filter, "-c", n.config, flag); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("tail %s %s: exit %d, %q", filter, flag, code, errs)
		}
	}

	code, out, errs = tributary(t, "doctor", "--offline", "--json", "-c", n.config)
	var found doctor.Report
	if err := json.Unmarshal([]byte(out), &found); err != nil || code == 1 || code != found.ExitCode() || !strings.Contains(out, `"demo runs, and is green"`) {
		t.Errorf("doctor: exit %d, %v\n%s%s", code, err, out, errs)
	}
	for _, args := range [][]string{{"uplink", "probe"}, {"doctor"}} { // of a Kafka that is not there
		if code, out, errs := tributary(t, append(args, "-c", n.config)...); code != 1 || !strings.Contains(out, "error  Kafka, connection: Kafka at 127.0.0.1:1 cannot be reached") {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}

	data := filepath.Join(filepath.Dir(n.config), "data")
	if code, out, errs := tributary(t, "verify", data); code != 0 || !strings.Contains(out, "good: ") {
		t.Errorf("verify: exit %d, %s%s", code, out, errs)
	}
	if code, _, errs := tributary(t, "verify", edge.LogDir(data)); code != 1 || !strings.Contains(errs, "did you mean the directory above, "+data+"?") {
		t.Errorf("verify of the log itself: exit %d, %s", code, errs)
	}
	if err := n.stop(); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, n.log())
	}
	if code, _, errs := tributary(t, "status", "-c", n.config); code != 1 || !strings.Contains(errs, "is \"tributary run\" running") || strings.Contains(errs, "http") {
		t.Errorf("status of a stopped node: exit %d, %s", code, errs)
	}
}

// tail runs the command until it has printed that many lines.
func (n *demoNode) tail(t *testing.T, lines int, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out := &lineCounter{want: lines, enough: cancel}
	run(ctx, append([]string{"tail", "-c", n.config}, args...), out, out)
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) < lines {
		t.Fatalf("tail %v printed %d lines, want %d:\n%s", args, len(got), lines, out)
	}
	return got[:lines]
}

type lineCounter struct {
	bytes.Buffer

	want   int
	enough func()
}

func (c *lineCounter) Write(b []byte) (int, error) {
	n, err := c.Buffer.Write(b)
	if bytes.Count(c.Bytes(), []byte("\n")) >= c.want {
		c.enough()
	}
	return n, err
}

// verify names the place of the first fault, and exits with 1.
func TestVerifyFindsTheFault(t *testing.T) {
	n := node(t)
	n.publish(t, 10)
	n.publish(t, 10) // a later commit: what is damaged before it was durable once
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(filepath.Dir(n.config), "data")
	segment := filepath.Join(data, "log", "0000000000000001.seg")
	f, err := os.OpenFile(segment, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("rot"), 4096+120); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(segment)
	code, _, errs := tributary(t, "verify", data)
	if code != 1 || !strings.Contains(errs, "0000000000000001.seg, byte 4096") {
		t.Errorf("exit %d, %s", code, errs)
	}
	if after, _ := os.ReadFile(segment); !bytes.Equal(before, after) {
		t.Error("verify changed the segment")
	}
	if code, _, errs := tributary(t, "verify", t.TempDir()); code != 1 || !strings.Contains(errs, "no log") {
		t.Errorf("verify of an empty folder: exit %d, %s", code, errs)
	}
}

func TestMissingArgument(t *testing.T) {
	for command, want := range map[string]string{"verify": "0 arguments: name the data directory", "tail": "0 arguments: name an MQTT topic filter"} {
		if code, _, errs := tributary(t, command); code != 1 || !strings.Contains(errs, want) || !strings.Contains(errs, "Usage:\n  tributary "+command) {
			t.Errorf("exit %d, %s", code, errs)
		}
	}
}

// A report of a defect can say which build it is about.
func TestVersion(t *testing.T) {
	code, out, errs := tributary(t, "version", "--json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	var b build
	if err := json.Unmarshal([]byte(out), &b); err != nil || b.Version != edge.Version || b.Arch != runtime.GOARCH {
		t.Errorf("%+v, %v of %s", b, err, out)
	}
}

func TestNoAnswer(t *testing.T) {
	for _, err := range []error{fs.ErrPermission, &url.Error{Op: "Get", URL: "http://node/", Err: syscall.EACCES}} {
		if got := noAnswer("/x.sock", err).Error(); got != "permission denied on /x.sock: run as the user of the node, for example sudo -u USER" {
			t.Error(got)
		}
	}
}

func TestRunRefusesABadConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(path, []byte("[kafka]\nbroker = [\"a:1\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := tributary(t, "run", "-c", path); code != badConfig || !strings.Contains(errs, path+":2:1") || !strings.Contains(errs, "nothing was started") {
		t.Errorf("run: exit %d, %s", code, errs)
	}
	if code, out, _ := tributary(t, "check", "-c", path); code != 1 || !strings.Contains(out, "Nothing was changed") {
		t.Errorf("check: exit %d, %s", code, out)
	}
}

// The port is taken: the node says so and ends.
func TestRunPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "t.toml")
	text := fmt.Sprintf("[node]\ndata_dir = %q\n[mqtt]\nlisten = [%q]\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[log]\nmax_size = \"64MiB\"\n", dir, l.Addr())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := tributary(t, "run", "-c", path); code != 1 || !strings.Contains(errs, "address already in use") {
		t.Errorf("exit %d, %s", code, errs)
	}
	text = strings.Replace(text, l.Addr().String(), "127.0.0.1:0", 1) + fmt.Sprintf("[status]\nlisten = %q\n", l.Addr())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := tributary(t, "run", "-c", path); code != 1 || !strings.Contains(errs, "choose another [status] listen") {
		t.Errorf("exit %d, %s", code, errs)
	}
}
