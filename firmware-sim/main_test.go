package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary/firmware-sim/device"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		line string
		exit int
		says string // on stdout or stderr
	}{
		{"help", exitOK, "verify --kafka"},
		{"run -h", exitOK, "half-open"},
		{"-h", exitOK, "half-open"},
		{"verify -h", exitOK, "ledger"},
		{"dance", exitUsage, `no command "dance"`},
		{"run now", exitUsage, `"now" is not a flag`},
		{"--qos 3", exitUsage, "none of 0, 1, 2"},
		{"--devices 0 --rate -1 --window 20000", exitUsage, "window 20000"},
		{"run -h", exitOK, "tasmota=3,shelly=1"},
		{"-profile list", exitOK, "pubsubclient"},
		{"--profile tasmota=x", exitUsage, "weight"},
		{"--profile toaster", exitUsage, "none of tasmota, esphome"},
		{"--profile tasmota --qos 1 --rate 2", exitUsage, "--qos: the profile"},
		{"--profile zephyr --prefix an-unreasonably-long-prefix-for-small-buffers-", exitUsage, "buffer of 128"},
		{"--user-property x", exitUsage, "name=value"},
		{"verify --kafka x:1", exitUsage, "--ledger are needed"},
		{"verify --kafka 127.0.0.1:1 --topics a --ledger /does/not/exist", exitFailed, "/does/not/exist"},
		{"run --ledger /does/not/exist", exitFailed, "/does/not/exist"},
	} {
		var out bytes.Buffer
		if got := command(t.Context(), strings.Fields(c.line), &out, &out); got != c.exit || !strings.Contains(out.String(), c.says) {
			t.Errorf("%q: exit %d, want %d with %q:\n%s", c.line, got, c.exit, c.says, out.String())
		}
	}
}

// A run with nobody to talk to ends in time and keeps nothing back.
func TestRunWithoutBroker(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	exit := command(t.Context(), []string{"--broker", address, "--for", "300ms", "--devices", "3", "--seed", "5", "--json"}, &out, &progress)
	var got struct {
		Sent, Acked, Refused, Reconnects *int64
		P50MS                            *float64 `json:"p50_ms"`
		Seed                             uint64
		LastError                        string `json:"last_error"`
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if exit != exitOK || got.Sent == nil || *got.Sent != 0 || got.Acked == nil || got.Refused == nil || got.Reconnects == nil || got.P50MS == nil ||
		got.Seed != 5 || !strings.Contains(got.LastError, "connect") {
		t.Errorf("exit %d, %s", exit, out.String())
	}
}

// TestVerifyExits follows a ledger through verify: all well, and lost (U1).
func TestVerifyExits(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "tele", "other"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	kafka := strings.Join(cluster.ListenAddrs(), ",")
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	payload := []byte(`{"device":"sim-0001","seq":1,"ts":0}`)
	if id, _, ok := device.Identify(payload); !ok || id != "sim-0001" {
		t.Fatal("the test's own message is not recognised")
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "tele", Value: payload}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := "firmware-sim ledger 1\nd 0 sim-0001\nn 0 1\ns 0 1 1 1 1 5\na 0 1\n"
	for _, c := range []struct {
		ledger, topics string
		exit           int
		says           string
	}{
		{file("good", one), "tele", exitOK, `"in_kafka":1,"lost":0`},
		{file("lost", one+"s 0 2 1 1 2 5\na 0 2\n"), "tele, other", exitFound, `"lost":1`},
		{file("empty", "firmware-sim ledger 1\n"), "tele", exitFailed, "holds no message"},
		{file("good", one), "tele,nowhere", exitFailed, "nowhere"},
	} {
		var out bytes.Buffer
		args := []string{"verify", "--kafka", kafka, "--topics", c.topics, "--ledger", c.ledger, "--wait", "100ms", "--json"}
		if got := command(t.Context(), args, &out, &out); got != c.exit || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: exit %d, want %d with %q: %s", c.ledger, got, c.exit, c.says, out.String())
		}
	}
}

func TestBar(t *testing.T) {
	for share, want := range map[float64]string{-1: "[····]", 0: "[····]", 0.5: "[██··]", 1: "[████]"} {
		if got := bar(share, 4); got != want {
			t.Errorf("%v: %s; want %s", share, got, want)
		}
	}
	if got := cutTo("añejo", 2); got != "añ" {
		t.Errorf("cut to %q", got)
	}
	s := newScreen(&bytes.Buffer{}, device.Options{Count: 5, Devices: 2}, 0)
	if s.every() != 5*time.Second || s.share(device.Stats{Sent: 5}) != 0.5 || s.share(device.Stats{Sent: 50}) != 1 {
		t.Errorf("every %v", s.every())
	}
}
