// Package peer starts the servers that are compared, each in a directory of
// its own and on loopback only, and reads what they cost.
package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tributary-edge/tributary/bench/load"
)

// A Server is a running broker.
type Server struct {
	Name    string
	Plain   load.Broker // where it speaks MQTT
	Secure  load.Broker // with TLS; without an address it does not
	Durable bool        // a PUBACK is sent after fdatasync

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	output string        // the file that has what it printed
}

// Patience is how long a server may take to start, and to stop by itself.
const patience = 30 * time.Second

// start runs a program, whose output goes to a file in dir, and returns when
// it accepts MQTT connections.
func start(ctx context.Context, s Server, dir, program string, args ...string) (*Server, error) {
	s.output = filepath.Join(dir, s.Name+".output")
	out, err := os.Create(s.output)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // the child has its own descriptor
	s.cmd = exec.CommandContext(ctx, program, args...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, out, out
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = patience
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.exited = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // how it ended does not matter once it is measured
		close(s.exited)
	}()
	if err := s.ready(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start %s: %w\n%s", s.Name, err, s.Tail())
	}
	return &s, nil
}

// ready returns when the server has accepted an MQTT connection.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		err := load.Ping(ctx, s.Plain)
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-s.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return err
		}
	}
}

// Stop ends the server, by force if it does not end by itself in time, and
// returns when it is gone. How long that took is returned.
func (s *Server) Stop() time.Duration {
	begin := time.Now()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	return time.Since(begin)
}

// Tail returns the end of what the server printed.
func (s *Server) Tail() string {
	b, err := os.ReadFile(s.output)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// CPU returns the processor time that the server has used, in user and system
// mode together; 0 when it has ended.
func (s *Server) CPU() time.Duration {
	// The clock of a process, as clock_getcpuclockid(3) makes its id: all threads
	// together, in nanoseconds. What /proc says is in ticks of 10 ms.
	const allScheduled = 2
	var t unix.Timespec
	if unix.ClockGettime(int32(^s.cmd.Process.Pid<<3|allScheduled), &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// RSS returns the resident memory of the server in bytes.
func (s *Server) RSS() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10
}

// FreePort returns a TCP port on loopback that nobody listened on just now.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// FreeAddr is such a port with the address.
func FreeAddr() (string, error) {
	port, err := FreePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// prepare makes the server's directory, picks its port, and writes its
// configuration, made by config from the directory and the address.
func prepare(parent, name, config string) (dir, addr, file string, err error) {
	dir = filepath.Join(parent, name)
	if err = os.MkdirAll(dir, 0o750); err != nil {
		return "", "", "", err
	}
	if addr, err = FreeAddr(); err != nil {
		return "", "", "", err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", "", "", err
	}
	file = filepath.Join(dir, name+".conf")
	text := strings.NewReplacer("DIR", dir, "PORT", port).Replace(config)
	return dir, addr, file, os.WriteFile(file, []byte(text), 0o600)
}
