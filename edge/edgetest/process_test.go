//go:build kafka || lab

package edgetest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A process is a program that this test started and may kill.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // file with all it wrote
	done chan struct{} // closed when it has ended
	err  error         // of Wait, once done
}

// startProcess starts a program that writes to dir/name.log, after what an
// earlier one of that name wrote. It ends with the test at the latest; if the
// test failed by then, the end of its log is shown.
func startProcess(t *testing.T, dir, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Dir = dir
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		if p.running() {
			p.kill(t)
		}
	})
	return p
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process with SIGKILL. It returns when it is gone.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if !p.running() {
		t.Errorf("%s had ended by itself before it was killed: %v\n%s", p.name, p.err, p.tail())
		return
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("kill %s: %v", p.name, err)
	}
	<-p.done
}

// stop asks the process to end and fails the test unless it does so in time
// and with exit code 0.
func (p *process) stop(t *testing.T, limit time.Duration) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop %s: %v\n%s", p.name, err, p.tail())
	}
	p.wait(t, limit)
	if p.err != nil {
		t.Errorf("%s after SIGTERM: %v\n%s", p.name, p.err, p.tail())
	}
}

// wait waits until the process ends by itself.
func (p *process) wait(t *testing.T, limit time.Duration) {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		t.Fatalf("%s does not end in %v\n%s", p.name, limit, p.tail())
	}
}

// tail returns the last lines of what the process wrote.
func (p *process) tail() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-30):], nil)
}

// build compiles a command of this repository into dir, with build tags.
func build(t *testing.T, dir, command, tags string) string {
	t.Helper()
	out := filepath.Join(dir, filepath.Base(command))
	cmd := exec.Command("go", "build", "-tags", tags, "-o", out, "./"+command)
	cmd.Dir = repository()
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", command, err, text)
	}
	return out
}
