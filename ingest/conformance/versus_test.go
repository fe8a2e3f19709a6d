//go:build conformance

package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// known has, for each case that mosquitto 2.0.11 of Debian does not pass, why.
// Each was looked at in its packets.
var known = map[string]string{
	"TestMQTT311/MQTT-2.2.2-1": flagsOfPing,
	"TestMQTT311/MQTT-2.2.2-2": flagsOfPing,
	"TestMQTT311/MQTT-3.3.5-1": "of overlapping subscriptions it takes the first that it finds, not the one with the highest QoS",
	"TestMQTT311/MQTT-4.8.0-1": ofServers,

	"TestMQTT5/MQTT-2.1.3-1":  flagsOfPing,
	"TestMQTT5/MQTT-3.1.2-8":  willWaits,
	"TestMQTT5/MQTT-3.1.2-25": "a message that is too large for the client takes a place in its window for ever",
	"TestMQTT5/MQTT-3.3.2-14": "it does not look for wildcards in a Response Topic",
	"TestMQTT5/MQTT-3.3.4-6":  "it takes a Subscription Identifier in a PUBLISH of a client",
	"TestMQTT5/MQTT-3.3.4-7":  "who exceeds its Receive Maximum gets PUBREC with 0x97, and stays connected",
	"TestMQTT5/MQTT-3.8.3-4":  "it grants a shared subscription with No Local",
	"TestMQTT5/MQTT-4.3.3-7":  "a message that expires after it was sent is not sent again",
	"TestMQTT5/MQTT-4.8.2-1":  "it grants $share//t, which has an empty ShareName",
	"TestMQTT5/MQTT-4.8.2-2":  "it grants $share/+/t, which has a wildcard for a ShareName",
	"TestMQTT5/MQTT-4.13.1-1": ofServers,

	"TestDefects/MQTT311/a PINGREQ with a body ends the connection":     "it answers it",
	"TestDefects/MQTT5/a PINGREQ with a body ends the connection":       "it answers it",
	"TestDefects/MQTT5/authentication data without a method is refused": "it does not look at it",
	"TestDefects/MQTT5/a will with a delay goes when its session ends":  willWaits,
}

const (
	flagsOfPing = "it answers a PINGREQ with reserved flags"
	ofServers   = "it passes over packets that only a server sends"
	willWaits   = "a will waits for its delay although the session has ended"
)

// allowed has each case that mosquitto passes and Tributary does not, with the
// reason. There is no such reason yet.
var allowed = map[string]string{}

// knownOf is the version that known was made with.
const knownOf = "2.0.11"

// TestBeside runs every case against mosquitto and compares. It fails for what
// mosquitto passes and Tributary does not, unless allowed has the reason. It fails
// too for what mosquitto does not pass and known does not explain, and the reverse,
// if it is the version that known is about.
func TestBeside(t *testing.T) {
	if os.Getenv("MQTT_ADDR") != "" {
		t.Skip("the subject is not our own")
	}
	addr, version := startMosquitto(t)
	results := map[string]error{}
	var lock sync.Mutex
	var running sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, tab := range tables() {
		for _, e := range tab.entries {
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				err := try(addr, tab.version, e.check)
				lock.Lock()
				defer lock.Unlock()
				results[tab.name+"/"+e.name] = err
			})
		}
	}
	running.Wait()

	var both, ours, theirs, neither []string
	for _, tab := range tables() {
		for _, e := range tab.entries {
			name := tab.name + "/" + e.name
			theyPass := passed(results[name])
			got, ran := outcomes.Load(name)
			if !ran {
				continue // of a run that was narrowed with -run
			}
			err, _ := got.(error)
			if errors.Is(err, errSkipped) {
				t.Logf("| %-14s | %-60s | %v |", "no occasion", name, err)
			}
			switch wePass := passed(err); {
			case wePass && theyPass:
				both = append(both, name)
			case wePass:
				ours = append(ours, name)
			case theyPass:
				theirs = append(theirs, name)
				if allowed[name] == "" {
					t.Errorf("mosquitto passes %s, Tributary does not", name)
				}
			default:
				neither = append(neither, name)
			}
			if theyPass == (known[name] != "") && version == knownOf {
				t.Errorf("%s: mosquitto passes: %v; explained in known: %q\n%v", name, theyPass, known[name], results[name])
			}
		}
	}
	t.Logf("mosquitto %s: both pass %d cases; only Tributary %d; only mosquitto %d; neither %d", version, len(both), len(ours), len(theirs), len(neither))
	for i, names := range [][]string{ours, theirs, neither} {
		for _, name := range names {
			t.Logf("| %-14s | %-60s | %s |", []string{"only Tributary", "only mosquitto", "neither"}[i], name, known[name]+allowed[name])
		}
	}
}

// passed also for a case for which the server gives no occasion.
func passed(err error) bool { return err == nil || errors.Is(err, errSkipped) }

// startMosquitto starts one on a free port, or skips the test.
func startMosquitto(t *testing.T) (addr, version string) {
	t.Helper()
	binary, err := exec.LookPath("mosquitto")
	if err != nil {
		binary = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skip("there is no mosquitto (Debian: sudo apt-get install mosquitto)")
	}
	help, _ := exec.Command(binary, "-h").Output() // it exits with 1
	if fields := strings.Fields(string(help)); len(fields) > 2 {
		version = fields[2] // mosquitto version 2.0.11
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	_, port, _ := strings.Cut(addr, ":")
	conf := filepath.Join(dir, "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\n", port, dir)
	if os.Geteuid() == 0 {
		text += "user root\n" // the directory is ours
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := cmd.Wait(); ctx.Err() == nil {
			t.Error("mosquitto ended:", err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	for range 200 {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return addr, version
		}
		select {
		case <-ended:
			t.FailNow()
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatal("mosquitto does not listen")
	return "", ""
}
