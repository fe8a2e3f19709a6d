//go:build strace

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// looks are the system calls on files that change nothing.
var looks = []string{"access", "execve", "faccessat", "faccessat2", "fstat", "fstatfs", "getcwd", "lstat", "newfstatat", "readlink", "readlinkat", "stat", "statfs", "statx"}

var call = regexp.MustCompile(`(?m)^(?:\d+ +)?([a-z0-9_]+)\((.*)$`)

// traced runs the program under strace and returns the calls that change a file, open
// one for writing or have to do with a socket, and how many calls it saw.
func traced(t *testing.T, program string, environ []string, args ...string) (touching []string, calls int) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "strace", append([]string{"-f", "-qq", "-o", trace, "-e", "trace=%file,%network,ftruncate,fallocate,fchmod,fchown", program}, args...)...)
	cmd.Env = append(os.Environ(), environ...)
	var ended *exec.ExitError
	if out, err := cmd.CombinedOutput(); err != nil && (!errors.As(err, &ended) || ended.ExitCode() < 0) {
		t.Fatalf("strace: %v\n%s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range call.FindAllStringSubmatch(string(text), -1) {
		calls++
		switch {
		case m[1] == "open" || m[1] == "openat":
			if regexp.MustCompile(`O_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)`).MatchString(m[2]) {
				touching = append(touching, m[0])
			}
		case !slices.Contains(looks, m[1]):
			touching = append(touching, m[0])
		}
	}
	return touching, calls
}

// "tributary check" opens nothing for writing, changes nothing and uses no socket, be
// the configuration good or bad. That the test would notice is shown by commands
// that do.
func TestCheckOnlyReads(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "tributary")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("tributary.toml", "[kafka]\nbrokers = [\"127.0.0.1:9092\"]\nsasl = \"plain\"\ntls = true\nusername = \"u\"\npassword_file = \"kafka.password\"\n[node]\ndata_dir = \""+dir+"/data\"\n[status]\nlisten = \"127.0.0.1:0\"\n")
	write("conf.d/10.toml", "[kafka]\nlinger = \"5s\"\n")
	write("credentials/kafka.password", "secret\n")
	bad := write("bad/tributary.toml", "[kafka]\nlingr = \"5s\"\n")
	environ := []string{"CREDENTIALS_DIRECTORY=" + filepath.Join(dir, "credentials"), "TRIBUTARY_KAFKA__BATCH=1MiB"}
	for _, args := range [][]string{
		{"-c", good},
		{good},
		{"-c", good, "--json"},
		{"-c", good, "--effective"},
		{"-c", good, "--set", "kafka.linger=1s"},
		{"-c", bad},
		{"-c", filepath.Join(dir, "none.toml")},
		{"-c", dir},
	} {
		touching, calls := traced(t, program, environ, append([]string{"check"}, args...)...)
		if len(touching) > 0 || calls < 3 {
			t.Errorf("check %q: %d calls, and of these touch something:\n%s", args, calls, strings.Join(touching, "\n"))
		}
	}
	asks, _ := traced(t, program, nil, "status", "--socket", filepath.Join(dir, "none.sock"))
	if !slices.ContainsFunc(asks, func(s string) bool { return strings.Contains(s, "socket(") }) {
		t.Errorf("status opens no socket, so the test sees none: %q", asks)
	}
	starts, _ := traced(t, program, environ, "run", "-c", good, "--set", "mqtt.listen=192.0.2.1:1", "--set", "mqtt.allow_anonymous=true")
	if !slices.ContainsFunc(starts, func(s string) bool { return strings.Contains(s, "O_CREAT") }) {
		t.Errorf("run opens nothing for writing, so the test sees nothing: %q", starts)
	}
}
