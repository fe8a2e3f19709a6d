package sdnotify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// systemd listens as systemd does, on the socket of that name.
func systemd(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// hears returns the next datagram, or "" if none comes within d.
func hears(t *testing.T, c *net.UnixConn, d time.Duration) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(b[:n])
}

func service(t *testing.T, vars map[string]string) *Service {
	t.Helper()
	return New(func(name string) string { return vars[name] }, slog.New(slog.DiscardHandler))
}

func TestWhatIsSaid(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@tributary-sdnotify-%d", os.Getpid())} {
		c := systemd(t, name)
		s := service(t, map[string]string{"NOTIFY_SOCKET": name})
		s.Ready("two\nlines")
		s.Reloading()
		s.Stopping()
		for _, want := range []string{"READY=1\nSTATUS=two lines", "RELOADING=1\nMONOTONIC_USEC=", "STOPPING=1\nSTATUS="} {
			if got := hears(t, c, 5*time.Second); !strings.HasPrefix(got, want) {
				t.Errorf("on %s: got %q, want %q", name, got, want)
			}
		}
	}
}

func TestWithoutSystemd(t *testing.T) {
	s := service(t, nil)
	s.Ready("")
	s.Starting(t.Context(), "") // returns
	s.Watch(t.Context(), func(context.Context) error { t.Error("asked"); return nil }, func() string { return "" })
}

// The watchdog of another process, the parent's for example, is not fed.
func TestWatchdogOfAnotherProcess(t *testing.T) {
	s := service(t, map[string]string{"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
	if s.watchdog != 0 {
		t.Errorf("watchdog of %v, want none", s.watchdog)
	}
}

// The ping goes on while the service works, stops when it hangs, and begins again.
func TestWatch(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	c := systemd(t, name)
	s := service(t, map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000"})
	hang := make(chan struct{}, 1)
	works := func(ctx context.Context) error {
		select {
		case hang <- struct{}{}:
			<-hang
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx, works, func() string { return "well" })
	}()
	pings := func(d time.Duration) (n int) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			if hears(t, c, time.Until(end)) == "WATCHDOG=1" {
				n++
			}
		}
		return n
	}
	if n := pings(time.Second); n < 5 {
		t.Errorf("%d pings in 50 periods", n)
	}
	hang <- struct{}{} // from here on it hangs
	pings(100 * time.Millisecond)
	if n := pings(500 * time.Millisecond); n != 0 {
		t.Errorf("%d pings while the service hangs", n)
	}
	<-hang
	if n := pings(time.Second); n < 5 {
		t.Errorf("%d pings after it works again", n)
	}
	stop()
	<-done
}
