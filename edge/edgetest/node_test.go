//go:build kafka || lab

package edgetest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A node is `tributary run` on the site.
type node struct {
	name   string
	dir    string // for its configuration and log
	binary string
	mqtt   string        // where it listens
	config string        // path
	place  string        // the network namespace it runs in; "" is the site's
	ahead  time.Duration // how much longer than the machine it thinks that it has been up
	*process
}

// newNode writes a configuration; more goes on with the table [kafka]. The node
// has its data in dir/name.
func newNode(t *testing.T, dir, name, binary, mqtt, more string) *node {
	t.Helper()
	n := &node{name: name, dir: dir, binary: binary, mqtt: mqtt, config: filepath.Join(dir, name+".toml")}
	text := fmt.Sprintf(`
[node]
data_dir = %q
site = "test"

[mqtt]
listen = [%q]
allow_anonymous = true

[log]
max_size = "8GiB"

[status]
socket = %q

[kafka]
brokers = [%q]
%s`, n.data(), mqtt, filepath.Join(dir, name+".sock"), kafkaAddr, more)
	if err := os.WriteFile(n.config, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) data() string { return filepath.Join(n.dir, n.name) }

// start starts the node; it does not wait until it is ready.
func (n *node) start(t *testing.T) {
	t.Helper()
	args := []string{n.binary, "run", "-c", n.config}
	if n.ahead > 0 {
		seconds := fmt.Sprint(int(n.ahead.Seconds()))
		args = append([]string{"unshare", "--time", "--boottime", seconds, "--monotonic", seconds}, args...)
	}
	n.process = startProcess(t, n.dir, n.name, nil, inNamespace(n.place, args...)...)
}

// awaitReady waits until devices can connect.
func (n *node) awaitReady(t *testing.T) {
	t.Helper()
	await(t, 30*time.Second, n.name+" to listen on "+n.mqtt, func() bool {
		if !n.running() {
			t.Fatalf("%s ended by itself: %v\n%s", n.name, n.err, n.tail())
		}
		return accepts(n.mqtt)
	})
}

// awaitSending waits until this process has had transactions committed; then
// it is likely to be in the middle of another one.
func (n *node) awaitSending(t *testing.T) {
	t.Helper()
	await(t, time.Minute, n.name+" to forward", func() bool {
		if !n.running() {
			t.Fatalf("%s ended by itself: %v\n%s", n.name, n.err, n.tail())
		}
		var status struct{ Uplink struct{ Sent int } }
		// The exit code says how the node feels about itself; while it starts
		// there is no answer.
		out, _ := exec.Command(n.binary, "status", "--json", "-c", n.config).Output()
		_ = json.Unmarshal(out, &status)
		return status.Uplink.Sent > 0
	})
}
