package edge_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// fetch asks a node over TCP.
func fetch(t *testing.T, address, path, token string) (code int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// freeAddress is one on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// A node serves its page, what the page asks for, and Prometheus, to those who have
// the token; the probes to everyone. A reload with a bad token file is yellow, and
// leaves the token as it was.
func TestPageOfNode(t *testing.T) {
	address, token := freeAddress(t), "correct-horse-battery"
	file := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token)
	s := newSite(t, fmt.Sprintf("[status]\nlisten = %q\ntoken_file = %q\n", address, file))
	s.start()
	dev := s.connect("device", 1)
	dev.publish(1, 0, 1, "plant/1", "x")
	dev.expect(0x40, 1)
	s.until("a look at the counters", func(r status.Report) bool { return r.Rates.WindowSeconds > 0 })
	for path, want := range map[string]string{
		"/": "<!doctype html>", "/page.js": "//", "/metrics": "# HELP", "/api/history": `{"minutes":`, "/api/status": `{"colour":"green"`,
	} {
		if code, body := fetch(t, address, path, ""); code != http.StatusUnauthorized {
			t.Errorf("%s without the token: %d\n%.200s", path, code, body)
		}
		if code, body := fetch(t, address, path, token); code != http.StatusOK || !strings.HasPrefix(body, want) {
			t.Errorf("%s: %d\n%.200s", path, code, body)
		}
	}
	if code, _ := fetch(t, address, "/healthz", ""); code != http.StatusOK {
		t.Error("the probe:", code)
	}
	if code, _ := fetch(t, address, "/api/tail", token); code != http.StatusNotFound {
		t.Error("payloads over TCP:", code)
	}
	write("short")
	s.Reload()
	_, body := fetch(t, address, "/api/status", token)
	var r status.Report
	if err := json.Unmarshal([]byte(body), &r); err != nil || r.Colour != status.Yellow || !strings.Contains(r.MQTT.BadReload, "token_file") {
		t.Errorf("%v: %s %v", err, r.Colour, r.Reasons)
	}
	if r.Log.AckP99Ms < r.Log.AckP50Ms || r.Log.FlushP99Ms <= 0 {
		t.Errorf("acknowledgement p50 %v ms, p99 %v ms, flush p99 %v ms", r.Log.AckP50Ms, r.Log.AckP99Ms, r.Log.FlushP99Ms)
	}
}

// S1: who opens connections and says nothing keeps others from the page for some
// seconds at most, and from nothing else; the node has a bounded number of them.
func TestManyViewers(t *testing.T) {
	address := freeAddress(t)
	s := newSite(t, fmt.Sprintf("[status]\nlisten = %q\n", address))
	s.start()
	s.until("a first look", func(r status.Report) bool { return r.Rates.WindowSeconds > 0 }) // then it listens
	closed := 0
	for n := range 80 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if n < 64 {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second)) // less than the node waits for a request
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			closed++
		}
	}
	if closed != 16 {
		t.Errorf("%d of 16 connections too many were closed", closed)
	}
	if code, _ := s.admin(http.MethodGet, "/api/status"); code != http.StatusOK {
		t.Errorf("the commands are kept from the node: %d", code)
	}
}
