//go:build !nodemo

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// A demoNode is the node of the demo: this program, run as a process of its own,
// so that killing it is a real kill.
type demoNode struct {
	config  string
	admin   admin
	address string // of its MQTT door
	page    string // HOST:PORT of its status page

	mu     sync.Mutex // guards what follows
	proc   *exec.Cmd
	output bytes.Buffer // its log, shown when something goes wrong
}

const demoTopicPrefix = "tributary-demo"

// newDemoNode writes the configuration of a node into dir.
func newDemoNode(ctx context.Context, dir, kafka, proxy, topic string) (*demoNode, error) {
	n := &demoNode{config: filepath.Join(dir, "tributary.toml")}
	var err error
	if n.address, n.page, err = freeAddresses(ctx); err != nil {
		return nil, err
	}
	n.admin = admin{config: n.config}
	text := fmt.Sprintf(`# Written by tributary demo.
[node]
name     = "demo"
site     = "demo"
data_dir = %q
[mqtt]
listen   = [%q]
[log]
max_size = "256MiB"
[kafka]
brokers  = [%q]
socks5   = %q
linger   = "200ms"
[default_route]
topic    = %q
[status]
listen   = %q
`, filepath.Join(dir, "data"), n.address, kafka, proxy, topic, n.page)
	return n, os.WriteFile(n.config, []byte(text), 0o600)
}

// freeAddresses returns two that nobody listens on. They stay the same over a kill.
func freeAddresses(ctx context.Context) (first, second string, err error) {
	var lc net.ListenConfig
	a, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	b, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", errors.Join(fmt.Errorf("find a free port: %w", err), a.Close())
	}
	return a.Addr().String(), b.Addr().String(), errors.Join(a.Close(), b.Close())
}

// start starts the process and returns when devices can connect.
func (n *demoNode) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	proc := exec.Command(self, "run", "-c", n.config) //nolint:noctx // it is ended by signal, not by ctx
	w := &lockedWriter{mu: &n.mu, w: &n.output}
	proc.Stdout, proc.Stderr = w, w
	proc.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the demo, which ends the node itself
	if err := proc.Start(); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	n.mu.Lock()
	n.proc = proc
	n.mu.Unlock()
	return poll(ctx, 20*time.Second, "the node to start", func() (bool, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", n.address)
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		return true, c.Close()
	})
}

// kill ends the process at once, as a crash would, and waits until it is gone.
func (n *demoNode) kill() error { return n.end(syscall.SIGKILL) }

// stop ends the process politely.
func (n *demoNode) stop() error { return n.end(syscall.SIGTERM) }

func (n *demoNode) end(sig syscall.Signal) error {
	n.mu.Lock()
	proc := n.proc
	n.proc = nil
	n.mu.Unlock()
	if proc == nil {
		return nil
	}
	if err := proc.Process.Signal(sig); err != nil {
		return fmt.Errorf("end the node: %w", err)
	}
	err := proc.Wait()
	if sig == syscall.SIGKILL {
		return nil
	}
	return err
}

// report asks the node how it is.
func (n *demoNode) report(ctx context.Context) (*status.Report, error) { return n.admin.report(ctx) }

// log returns the last lines that the node wrote.
func (n *demoNode) log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(n.output.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// poll asks again and again until done, an error, or the time is over.
func poll(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %s: %w", limit, what, ctx.Err())
		}
	}
}
