//go:build kafka || lab

package edgetest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test's network is the site, where the tests and their programs run, and
// the centre, where Kafka runs, with one cable between them. They are two
// network namespaces, so that Kafka goes on talking to itself when the site
// cannot reach it.
const (
	centre     = "centre"
	siteIP     = "10.77.0.1"
	centreIP   = "10.77.0.2"
	kafkaPort  = "9092"
	kafkaAddr  = centreIP + ":" + kafkaPort
	brokerAddr = "127.0.0.1:1883"
)

// layNetwork makes the cable. It runs once, inside the namespaces of isolate.
func layNetwork() error {
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// ip netns keeps its names here; the machine's own are none of our business.
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /run/netns: %w", err)
	}
	for _, line := range []string{
		"ip link set lo up",
		"ip netns add " + centre,
		"ip link add cable type veth peer name cable netns " + centre,
		"ip addr add " + siteIP + "/24 dev cable",
		"ip link set cable up",
		"ip -n " + centre + " link set lo up",
		"ip -n " + centre + " addr add " + centreIP + "/24 dev cable",
		"ip -n " + centre + " link set cable up",
	} {
		if err := run(line, ""); err != nil {
			return err
		}
	}
	return nil
}

// inNamespace is the command line of a program in a network namespace; "" is the
// site's. The pid stays the program's own: ip replaces itself by it.
func inNamespace(place string, args ...string) []string {
	if place == "" {
		return args
	}
	return append([]string{"ip", "netns", "exec", place}, args...)
}

// inCentre is the command line of a program that runs beside Kafka.
func inCentre(args ...string) []string { return inNamespace(centre, args...) }

// blackHole drops every packet between the site and Kafka, of connections old
// and new, in both directions, and tells nobody.
func blackHole(t *testing.T) {
	t.Helper()
	drop(t, "hole", "", "ip saddr "+siteIP+" tcp dport "+kafkaPort)
	drop(t, "hole", centre, "ip saddr "+centreIP+" tcp sport "+kafkaPort)
}

// drop lets packets that match a rule of nftables disappear as they arrive at
// the centre, or at the site if the sender is in the centre, until lift is
// called with the same name.
func drop(t *testing.T, name, sender, match string) {
	t.Helper()
	block(t, receiver(sender), name, "input", match)
}

// lift ends what blackHole or drop began under a name.
func lift(t *testing.T, name string) {
	t.Helper()
	for _, sender := range []string{"", centre} {
		unblock(t, receiver(sender), name)
	}
}

func receiver(sender string) string {
	if sender == centre {
		return ""
	}
	return centre
}

// block lets the packets that match one of the rules of nftables disappear at a
// hook of a namespace ("input": they are for it, "forward": it is a router to
// them), until unblock is called with the same name.
func block(t *testing.T, place, name, hook string, matches ...string) {
	t.Helper()
	rules := fmt.Sprintf("table inet %s { chain %s { type filter hook %s priority 0;", name, hook+"ing", hook)
	for _, match := range matches {
		rules += " " + match + " counter drop;"
	}
	if err := run(strings.Join(inNamespace(place, "nft", "-f", "-"), " "), rules+" }; }"); err != nil {
		t.Fatal(err)
	}
}

// unblock ends what block began. It does no harm if that was never called.
func unblock(t *testing.T, place, name string) {
	t.Helper()
	// add first: so the table exists, whatever was there.
	if err := run(strings.Join(inNamespace(place, "nft", "-f", "-"), " "), "add table inet "+name+"; delete table inet "+name); err != nil {
		t.Fatal(err)
	}
}

// dropped says whether a rule that the site's packets meet has dropped any.
func dropped(t *testing.T, name string) bool {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", centre, "nft", "list", "table", "inet", name).Output()
	if err != nil {
		t.Fatalf("nft list table inet %s: %v", name, err)
	}
	return strings.Contains(string(out), "counter packets") && !strings.Contains(string(out), "counter packets 0 ")
}

// run executes a line of words.
func run(line, stdin string) error {
	words := strings.Fields(line)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}

// await polls until ok says yes, or fails the test after limit.
func await(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", limit, what)
		}
		<-poll.C
	}
}

// pass lets time go by: what a fault lasts is its length, there is nothing to
// wait for.
func pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// accepts says whether somebody listens on an address.
func accepts(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// TestBlackHole shows that the rig's hole is black: no refusal, no reset, for
// connections old and new; and that it ends.
func TestBlackHole(t *testing.T) {
	newKafka(t, artifacts(t))
	old, err := net.Dial("tcp", kafkaAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()

	blackHole(t)
	// An ApiVersions request, version 0, correlation id 1, client id "ping".
	if _, err := old.Write([]byte("\x00\x00\x00\x0e\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04ping")); err != nil {
		t.Errorf("write into the hole: %v", err)
	}
	answer := make([]byte, 8)
	_ = old.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := io.ReadFull(old, answer); !os.IsTimeout(err) {
		t.Errorf("read from the hole: %v, want a time-out", err)
	}
	if _, err := net.DialTimeout("tcp", kafkaAddr, 500*time.Millisecond); !os.IsTimeout(err) {
		t.Errorf("dial into the hole: %v, want a time-out", err)
	}
	if !dropped(t, "hole") {
		t.Error("no packet met the rule")
	}

	lift(t, "hole")
	_ = old.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(old, answer); err != nil || answer[7] != 1 {
		t.Errorf("read after the hole: %x, %v; want the answer to what was sent into it", answer, err)
	}
}
