//go:build attack

// Package attack does to a node, which is the built program in a process of its
// own, what a hostile or a broken network does: storms of connections, packets
// that are no packets, sockets that say nothing, and more connections than there
// are file descriptors. `make test-attack` runs what takes little time,
// `make test-storm` everything; both print figures.
//
// All tests attack S1 and A1 (docs/INVARIANTS.md): the process never ends, does
// not grow without bound, and a client that behaves, the bystander, is answered
// throughout. The clients are raw sockets and share no code with the node.
// Kafka is away.
//
// Environment: DEVICES (of the storms), FUZZTIME, SEED, PROGRAM (another build of
// the node).
package attack

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is the built node, once TestMain has it.
var program string

// fileDescriptors is what both ends of a storm need.
const fileDescriptors = 65_000

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	// Without the right to raise it, what needs more is made smaller or skipped.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: fileDescriptors, Max: fileDescriptors})
	if job := os.Getenv(newcomersVariable); job != "" {
		if err := playNewcomers(job); err != nil {
			fmt.Fprintln(os.Stderr, "newcomers:", err)
			return 1
		}
		return 0
	}
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if program = os.Getenv("PROGRAM"); program != "" {
		return m.Run()
	}
	program = filepath.Join(dir, "tributary")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./cmd/tributary")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the node: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// skip skips a test that this machine cannot run. It says so where it is seen
// without -v as well: a test that did not run must not pass for one that did.
func skip(t *testing.T, format string, why ...any) {
	t.Helper()
	fmt.Fprintf(os.Stderr, "\n!!! SKIPPED: %s: %s !!!\n", t.Name(), fmt.Sprintf(format, why...))
	t.Skipf(format, why...)
}

// long skips a test that make test-attack has no time for.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("make test-storm runs it")
	}
}

// needFiles skips a test unless this process may have n file descriptors.
func needFiles(t *testing.T, n int) {
	t.Helper()
	if allowed := allowedFiles(t); allowed < n {
		skip(t, "%d file descriptors are needed and %d allowed; run as root", n, allowed)
	}
}

func allowedFiles(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(limit.Cur)
}

func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// seeded returns what is random in a test, and prints how to repeat it.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := setting(t, "SEED", int(rand.Int32N(1_000_000)))
	t.Logf("to repeat: SEED=%d", seed)
	return rand.New(rand.NewPCG(uint64(seed), 0))
}

// load returns the load of this machine, without which a time says little.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// pass lets time go by: only where time itself is what is tested.
func pass(d time.Duration) { <-time.After(d) }

// await asks until done says yes.
func await(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); pass(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}
