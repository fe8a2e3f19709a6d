//go:build kafka || lab

// Package edgetest runs a whole gateway (the programs as they ship, not their
// packages) against the real Apache Kafka, on a network of its own, and breaks
// things while devices publish. It needs Linux, root, Java, nftables and
// iproute2; `make test-kafka` sees to them.
package edgetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// inside is set in the environment of the process that runs the tests.
const inside = "EDGETEST_INSIDE"

// drain is how long the devices, and then the node, may take when all is well
// again.
const drain = 5 * time.Minute

// TestMain runs the tests in namespaces of their own for the network, mounts
// and processes. So packets can be dropped without touching the machine's
// network, two runs do not meet on a port, and when this process ends, however
// it ends, the kernel ends everything it started.
func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(inside); ok {
		if err := layNetwork(); err != nil {
			panic(fmt.Errorf("lay the test's own network: %w", err))
		}
		m.Run()
		return
	}
	if err := isolate(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			fmt.Fprintf(os.Stderr, "edgetest: %v; it needs root on Linux\n", err)
		}
		os.Exit(1) // the process inside has run the tests: its verdict is ours
	}
}

// isolate runs this test binary again, inside. What needs the outer network
// is fetched before.
func isolate() error {
	for _, fetch := range []*exec.Cmd{exec.Command(kafkaScript(), "jars"), exec.Command("go", "mod", "download")} {
		if out, err := fetch.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", fetch.Args, err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	tests := exec.Command(self, os.Args[1:]...)
	tests.Env = append(os.Environ(), inside+"=1")
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	tests.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNS, // makes the mounts private as well
		Pdeathsig:    syscall.SIGKILL,
	}
	return tests.Run()
}

// repository is the checkout's top directory: tests run in their own.
func repository() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}

// setting reads a number from the environment, so that CI can run a small
// version and a failed run can be repeated: KILLS=3 SEED=17 make test-kafka.
func setting(t *testing.T, name string, preset int64) int64 {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok || text == "" {
		return preset
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q is not a number of 0 or more", name, text)
	}
	return n
}

// artifacts makes a directory for a test's data and logs. It is removed at the
// end unless the test failed; then the test says where it is.
func artifacts(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "edgetest-") //nolint:usetesting // t.TempDir would be removed after a failure as well
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("data and logs are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
