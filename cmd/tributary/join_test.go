package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	root "github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/sync/join"
)

// inviting is a node of the site plant that lets others in.
func inviting(t *testing.T) (address string, code func() string) {
	t.Helper()
	site, err := join.Create(t.TempDir(), "plant", root.NodeID{1})
	if err != nil {
		t.Fatal(err)
	}
	invitations := join.NewInvitations(site.Authority)
	server := join.NewServer(site, invitations, nil, slog.New(slog.DiscardHandler))
	l, err := tls.Listen("tcp", "127.0.0.1:0", server.Config(site.Authority.Config(site.Cert)))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			server.Serve(context.Background(), c.(*tls.Conn))
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String(), func() string {
		i, err := invitations.New(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return i.Code
	}
}

// From no site to one, to that one again, and to another.
func TestJoinCommand(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tributary.toml")
	configure := func(site string) {
		t.Helper()
		text := fmt.Sprintf("[node]\ndata_dir = %q\nsite = %q\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[site]\nlisten = \"127.0.0.1:0\"\n", filepath.Join(dir, "data"), site)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("default")
	address, code := inviting(t)
	other, otherCode := inviting(t)
	try := func(wantCode int, says string, args ...string) {
		t.Helper()
		exitCode, out, errs := tributary(t, append([]string{"join", "-c", file}, args...)...)
		if exitCode != wantCode || !strings.Contains(out+errs, says) {
			t.Errorf("%v: exit %d\n%s%s", args, exitCode, out, errs)
		}
	}
	first := code()
	try(1, "arguments", address)
	try(1, "typing mistake", address, "TRIB-1"+first[len("TRIB-0"):])
	try(1, "HOST:PORT", "gateway", first)
	try(1, `set site = "plant"`, address, first)
	configure("plant")
	lock, err := disk.Lock(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	try(1, "in use", address, first)
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	try(0, `this node is of site "plant" now`, address, first)
	try(0, "already", address, first)
	try(1, "with other nodes", other, otherCode())
	try(1, "used already", "--force", address, first)
	try(0, "site.old", "--force", other, otherCode())
}

func TestInvited(t *testing.T) {
	var out bytes.Buffer
	i := edge.Invited{Invitation: join.Invitation{Code: "TRIB-1"}, Addresses: []string{"10.0.0.1:1", "[fe80::1]:1"}}
	if err := printInvited(&out, &i); err != nil || !strings.Contains(out.String(), "\n  tributary join 10.0.0.1:1 TRIB-1\n") || !strings.Contains(out.String(), "[fe80::1]:1") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// invite prints what the node answers; a node that cannot invite is said to be so.
func TestInvite(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	if code, _, errs := tributary(t, "invite", "--socket", socket); code != 1 || !strings.Contains(errs, "no node answers") {
		t.Errorf("exit %d: %s", code, errs)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	defer func() {
		_ = s.Close()
		<-done
	}()
	if code, _, errs := tributary(t, "invite", "--socket", socket); code != 1 || !strings.Contains(errs, "not set up for it") {
		t.Errorf("exit %d: %s", code, errs)
	}
	answered := `{"code":"TRIB-1","until":"2026-01-01T00:00:00Z","addresses":["10.0.0.1:1"]}`
	mux.HandleFunc("POST /api/invite", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answered)) })
	if code, out, errs := tributary(t, "invite", "--socket", socket); code != 0 || !strings.Contains(out, "  tributary join 10.0.0.1:1 TRIB-1\n") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if code, out, errs := tributary(t, "invite", "--socket", socket, "--json"); code != 0 || out != answered {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}
