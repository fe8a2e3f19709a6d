package main

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What systemd hears of a node: that it starts, serves, reloads, works while it is
// idle, and stops.
func TestSystemdIsTold(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "400000")
	n := node(t)
	until := func(want string) {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 4096); ; {
			size, err := c.Read(b)
			if err != nil {
				t.Fatalf("%s was not said: %v", want, err)
			}
			if strings.Contains(string(b[:size]), want) {
				return
			}
		}
	}
	until("EXTEND_TIMEOUT_USEC=")
	until("READY=1\nSTATUS=devices connect to 127.0.0.1:")
	for range 4 {
		until("WATCHDOG=1")
	}
	until("STATUS=green: 0 devices, ")
	if err := n.proc.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until("RELOADING=1\nMONOTONIC_USEC=")
	until("READY=1")
	if err := n.proc.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until("STOPPING=1")
}
