// Package clients asks clients that others have written whether they get along with
// the node: mosquitto's commands and the libraries of four languages, in each
// version of MQTT that they speak, over TCP, TLS and WebSocket. `make test-clients`
// installs them and runs it.
//
// The node is the program as it is delivered, in a process of its own, and so is
// each client. A script in testdata, or this test's program started once more for
// the libraries in Go, is told by lines of JSON what to do, and prints what happens
// (wire_test.go). mosquitto's commands are driven by their arguments
// (mosquitto_test.go).
package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A library is a client that is tested.
type library struct {
	name       string
	versions   []int // protocol levels: 3 is MQTT 3.1, 4 is MQTT 3.1.1
	transports []string
	launch     func(t *testing.T, o *options) client // returns while it connects
}

func libraries() []library {
	all := []string{tcp, secure, webSocket, secureWeb}
	return []library{
		{"mosquitto", []int{3, 4, 5}, []string{tcp, secure}, newMosquitto}, // Debian's is built without WebSocket
		{"paho.mqtt.golang", []int{3, 4}, all, goClient("goPaho3")},
		{"paho.golang", []int{5}, all, goClient("goPaho5")},
		{"paho-python", []int{3, 4, 5}, all, scriptClient("python3", "testdata/python/client.py")},
		{"mqtt.js", []int{3, 4, 5}, all, scriptClient("node", "testdata/js/client.js")},
		{"paho-java-v3", []int{3, 4}, all, javaClient("ClientV3")},
		{"paho-java-v5", []int{5}, all, javaClient("ClientV5")},
	}
}

// clientVariable is in the environment of a process that is to be a client.
const clientVariable = "TRIBUTARY_TEST_CLIENT"

func goClient(which string) func(*testing.T, *options) client {
	return func(t *testing.T, o *options) client {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), clientVariable+"="+which)
		return startScript(t, which, cmd, o)
	}
}

func scriptClient(command ...string) func(*testing.T, *options) client {
	return func(t *testing.T, o *options) client {
		t.Helper()
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+cache("python"), "PYTHONDONTWRITEBYTECODE=1", "NODE_PATH="+cache("js/node_modules"))
		return startScript(t, command[1], cmd, o)
	}
}

func javaClient(class string) func(*testing.T, *options) client {
	return func(t *testing.T, o *options) client {
		t.Helper()
		return startScript(t, class, exec.Command("java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
			"-cp", cache("java/classes")+":"+cache("java/lib")+"/*", class), o)
	}
}

// cache returns the path of something that install.sh has installed.
func cache(name string) string {
	dir, err := os.Getwd()
	if err != nil {
		panic(fmt.Sprint("no working directory: ", err))
	}
	return filepath.Join(dir, "cache", name)
}

// subject is the node under test.
var subject *node

func TestMain(m *testing.M) {
	if which := os.Getenv(clientVariable); which != "" {
		be := map[string]func(*wire, *options) error{"goPaho3": goPaho3, "goPaho5": goPaho5}[which]
		if err := beClient(be); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

// run starts the node, runs the tests, and ends it.
func run(m *testing.M) int {
	for _, what := range []string{"python.complete", "js.complete", "java.complete", "java/classes"} {
		if _, err := os.Stat(cache(what)); err != nil {
			fmt.Fprintln(os.Stderr, "a client is not installed; run make test-clients:", err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "clients")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary, err := buildProgram(dir)
	if err == nil {
		subject, err = newNode(binary, dir)
	}
	if err == nil {
		err = subject.start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the node:", err)
		return 1
	}
	code := m.Run()
	if err := subject.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "the node does not end as it should:", err)
		code = 1
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "the end of the node's log:\n"+subject.tail())
	}
	return code
}

// A setting is a library in one version of MQTT over one transport.
type setting struct {
	library

	version   int
	transport string
}

// settings returns all that have one of the transports.
func settings(transports ...string) (list []setting) {
	for _, l := range libraries() {
		for _, v := range l.versions {
			for _, tr := range l.transports {
				if slices.Contains(transports, tr) {
					list = append(list, setting{l, v, tr})
				}
			}
		}
	}
	return list
}

// start returns a client that the server has let in.
func (s *setting) start(t *testing.T, o *options) client {
	t.Helper()
	c := s.launch(t, o)
	c.connected()
	return c
}

func (s *setting) String() string {
	return fmt.Sprintf("%s/%s/%s", s.name, map[int]string{3: "3.1", 4: "3.1.1", 5: "5"}[s.version], s.transport)
}

// overAll runs a test in each of the settings.
func overAll(t *testing.T, list []setting, test func(t *testing.T, s *setting)) {
	t.Helper()
	for _, s := range list {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			test(t, &s)
		})
	}
}

// options returns how a client connects. Its id ends in what, and is no longer than
// the 23 characters that MQTT 3.1 allows.
func (s *setting) options(t *testing.T, what string) *options {
	t.Helper()
	return subject.options(s.transport, s.version, clientID(t.Name(), what))
}

// topic returns a topic of this test.
func topic(t *testing.T, what string) string {
	t.Helper()
	return "clients/" + strings.NewReplacer("+", "_", "#", "_").Replace(t.Name()) + "/" + what
}
