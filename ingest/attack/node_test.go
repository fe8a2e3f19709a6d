//go:build attack

package attack

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A node is the program, running.
type node struct {
	cmd       *exec.Cmd
	dir       string
	log       string // file with all that it wrote
	plain     string // address of the MQTT listener
	tls       string // with TLS, if there are certificates
	webSocket string
	done      chan struct{} // closed when it has ended
	err       error         // of Wait, once done
}

// A setup is how a node is to be run.
type setup struct {
	mqtt   string // more lines for [mqtt]
	rest   string // more lines for the end of the file
	tls    bool   // mqtt has a certificate, so listen with TLS
	cgroup string // directory of the cgroup to run it in; "": that of this process
	files  int    // file descriptors that it may have; 0: as many as this process
}

// startNode runs a node until the test ends, when it must end well within ten
// seconds, with exit code 0 and without having contained a panic.
func startNode(t *testing.T, s setup) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{
		dir: dir, log: filepath.Join(dir, "log.txt"), done: make(chan struct{}),
		plain: freeAddress(t), tls: freeAddress(t), webSocket: freeAddress(t),
	}
	listenTLS := ""
	if s.tls {
		listenTLS = fmt.Sprintf("listen_tls = [%q]", n.tls)
	}
	config := filepath.Join(dir, "tributary.toml")
	text := fmt.Sprintf("[node]\nname = \"attack\"\ndata_dir = %q\n[mqtt]\nlisten = [%q]\nlisten_ws = [%q]\n%s\n%s\n"+
		"[log]\nmax_size = \"256MiB\"\nsegment = \"4MiB\"\non_full = \"drop-oldest\"\n[status]\nsocket = %q\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n%s\n",
		filepath.Join(dir, "data"), n.plain, n.webSocket, listenTLS, s.mqtt, filepath.Join(dir, "sock"), s.rest)
	writeFile(t, config, []byte(text))
	log, err := os.Create(n.log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	n.cmd = exec.Command(program, "run", "-c", config)
	if s.cgroup != "" { // it is in the cgroup before it looks how much memory there is
		n.cmd = exec.Command("sh", "-c", `echo $$ > "$1" && exec "$2" run -c "$3"`, "sh",
			filepath.Join(s.cgroup, "cgroup.procs"), program, config)
	}
	if s.files > 0 {
		n.cmd = exec.Command("sh", "-c", `ulimit -n "$1" && exec "$2" run -c "$3"`, "sh", strconv.Itoa(s.files), program, config)
	}
	n.cmd.Stdout, n.cmd.Stderr = log, log
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		n.err = n.cmd.Wait()
		close(n.done)
	}()
	t.Cleanup(func() { n.end(t) })
	await(t, 30*time.Second, "the node to listen", func() bool {
		n.mustRun(t)
		return bytes.Contains(n.output(t), []byte("devices can connect"))
	})
	return n
}

// end ends the node as its owner would.
func (n *node) end(t *testing.T) {
	t.Helper()
	if !n.running() {
		t.Errorf("the node has ended by itself: %v\n%s", n.err, n.tail(t))
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
		if n.err != nil {
			t.Errorf("the node after SIGTERM: %v\n%s", n.err, n.tail(t))
		}
	case <-time.After(20 * time.Second):
		_ = n.cmd.Process.Signal(syscall.SIGQUIT) // for its stacks
		select {
		case <-n.done:
		case <-time.After(5 * time.Second):
			_ = n.cmd.Process.Kill()
			<-n.done
		}
		t.Errorf("the node does not end within 20 s of SIGTERM\n%s", n.tail(t))
	}
	if text := n.output(t); bytes.Contains(text, []byte("made this node panic")) {
		at := bytes.Index(text, []byte("made this node panic"))
		t.Errorf("a packet made the node panic:\n%.3000s", text[max(0, at-100):])
	}
}

func (n *node) running() bool {
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// mustRun fails the test at once if the node is gone.
func (n *node) mustRun(t *testing.T) {
	t.Helper()
	if !n.running() {
		t.Fatalf("the node has ended: %v\n%s", n.err, n.tail(t))
	}
}

func (n *node) output(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(n.log)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// tail returns the last lines of the log.
func (n *node) tail(t *testing.T) []byte {
	t.Helper()
	lines := bytes.SplitAfter(n.output(t), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-30):], nil)
}

// memory returns a figure of /proc/PID/status in bytes: VmRSS, or VmHWM for the
// most that VmRSS ever was.
func (n *node) memory(t *testing.T, what string) int {
	t.Helper()
	n.mustRun(t)
	size, err := n.statusOf(what)
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func (n *node) statusOf(what string) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == what+":" {
			kib, err := strconv.Atoi(f[1])
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("there is no %s of the node: it has ended", what)
}

func (n *node) rss(t *testing.T) int {
	t.Helper()
	return n.memory(t, "VmRSS")
}

// files returns how many file descriptors the node has open.
func (n *node) files(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// watch notes the most that the node's RSS is until stop is called, which
// returns it.
func (n *node) watch(t *testing.T) (stop func() int) {
	t.Helper()
	end, most := make(chan struct{}), make(chan int)
	go func() {
		peak := 0
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if n.running() {
					size, _ := n.statusOf("VmRSS") // it may end at any time
					peak = max(peak, size)
				}
			case <-end:
				most <- peak
				return
			}
		}
	}()
	return func() int {
		close(end)
		return <-most
	}
}

func mb(size int) string { return fmt.Sprintf("%.1f MB", float64(size)/1e6) }

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
