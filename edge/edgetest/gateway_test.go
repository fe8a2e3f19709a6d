//go:build lab

package edgetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/status"
)

// A gateway is a node of the lab: one of a site, in a network namespace of its own.
type gateway struct {
	*node

	number int // from 1
	lives  int // data directories it had before this one: wiped or rolled back
	read   int // bytes of its log that were read by writes
}

// A policy is what the gateways of a lab do that is not the default.
type policy struct {
	topic  string // where all goes in Kafka
	refuse bool   // devices wait for copies, for as long as it takes
	kafka  string // lines of the table [kafka]
}

// quick has many transactions, so that most faults hit one.
const quick = `
linger = "50ms"
batch = "64KiB"
`

// newGateway writes the configuration of gateway n.
func newGateway(t *testing.T, dir, binary string, n int, p policy) *gateway {
	t.Helper()
	missing := "accept"
	if p.refuse {
		missing = "refuse"
	}
	var seeds []string
	for other := 1; other < mostGateways; other++ {
		if other != n {
			seeds = append(seeds, fmt.Sprintf("%q", ipOf(other)+":7883"))
		}
	}
	g := &gateway{number: n}
	g.node = newNode(t, dir, placeOf(n), binary, doorOf(n), fmt.Sprintf(`%s
[site]
listen = %q
seeds = [%s]

[ack]
if_peers_missing = %q

[default_route]
topic = %q
`, p.kafka, ipOf(n)+":7882", strings.Join(seeds, ", "), missing, p.topic))
	g.place = placeOf(n)
	return g
}

// status asks the gateway how it is; nil if it does not answer.
func (g *gateway) status() *status.Report {
	// The exit code says how the node feels about itself.
	out, _ := exec.Command(g.binary, "status", "--json", "-c", g.config).Output()
	var r status.Report
	if json.Unmarshal(out, &r) != nil || r.Gateways == nil {
		return nil
	}
	return &r
}

// invite asks the gateway for a code, and returns what follows "tributary join".
func (g *gateway) invite(t *testing.T) []string {
	t.Helper()
	var code edge.Invited
	await(t, 30*time.Second, g.name+" to invite", func() bool {
		out, err := exec.Command(g.binary, "invite", "--json", "-c", g.config).Output()
		return err == nil && json.Unmarshal(out, &code) == nil
	})
	return []string{code.Addresses[0], code.Code}
}

// join makes the gateway, which does not run, one of the site of another.
func (g *gateway) join(t *testing.T, host *gateway) {
	t.Helper()
	args := inNamespace(g.place, append([]string{g.binary, "join", "-c", g.config}, host.invite(t)...)...)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s joins: %v\n%s", g.name, err, out)
	}
}

// forget tells the site, through this gateway, that a node is gone for good with all it had.
func (g *gateway) forget(t *testing.T, node string) {
	t.Helper()
	var out []byte
	await(t, 30*time.Second, "the site to remove "+node, func() bool {
		var err error
		out, err = exec.Command(g.binary, "nodes", "remove", node, "--lost", "-c", g.config).CombinedOutput()
		return err == nil
	})
	t.Logf("%s", bytes.TrimSpace(out))
}

// meets says whether so many peers are there.
func (g *gateway) meets(peers int) bool {
	r := g.status()
	if r == nil {
		return false
	}
	there := 0
	for _, p := range r.Gateways.Peers {
		if p.State == "alive" {
			there++
		}
	}
	return there >= peers
}

// copied says whether a peer keeps copies of what this process writes.
func (g *gateway) copied() bool {
	r := g.status()
	if r == nil {
		return false
	}
	for _, p := range r.Gateways.Peers {
		if p.Copied > 0 && p.Copied+1000 > r.Log.Durable {
			return true
		}
	}
	return false
}

// freeze stops the process. It returns when it stands still.
func (g *gateway) freeze(t *testing.T) {
	t.Helper()
	g.signal(t, syscall.SIGSTOP)
	await(t, 5*time.Second, g.name+" to stand still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
		return err == nil && bytes.Contains(stat, []byte(") T "))
	})
}

// signal sends a signal to the process.
func (g *gateway) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%v to %s: %v\n%s", s, g.name, err, g.tail())
	}
}

// liveLedger finds in the log of a node which ledger it writes.
var liveLedger = regexp.MustCompile(`msg="log recovered".* live=([0-9a-f]{32})`)

// writes adds to writers which ledgers the gateway has written in its present life.
func (g *gateway) writes(t *testing.T, writers map[string]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, g.name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range liveLedger.FindAllSubmatch(text[g.read:], -1) {
		writers[string(found[1])] = fmt.Sprintf("%s in life %d", g.name, g.lives)
	}
	g.read = len(text)
}

func (g *gateway) image() string { return g.data() + ".image" }

// takeImage copies the data directory as it is at one moment.
func (g *gateway) takeImage(t *testing.T, to string) {
	t.Helper()
	g.freeze(t)
	defer g.signal(t, syscall.SIGCONT)
	remove(t, to)
	if out, err := exec.Command("cp", "-a", g.data(), to).CombinedOutput(); err != nil {
		t.Fatalf("copy the disk of %s: %v\n%s", g.name, err, out)
	}
}

func remove(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}
