package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-edge/tributary/edge/status"
)

// A gateway is a node inside this process, as "tributary run" starts it.
type gateway struct {
	t    *testing.T
	file string // its configuration
	dir  string // its data directory
	log  string // what it has written
	stop func() (code int)
}

// configure writes the configuration.
func (g *gateway) configure(more string) {
	g.t.Helper()
	text := fmt.Sprintf("[node]\ndata_dir = %q\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[mqtt]\nlisten = [\"127.0.0.1:0\"]\n%s", g.dir, more)
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) run(flags ...string) {
	g.t.Helper()
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(g.t.Context())
	done := make(chan int, 1)
	go func() { done <- run(ctx, append([]string{"run", "-c", g.file}, flags...), io.Discard, log) }()
	g.stop = func() int {
		cancel()
		return <-done
	}
}

// until waits until the node says what ok wants.
func (g *gateway) until(what string, ok func(r *status.Report) bool) {
	g.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for over := time.Now().Add(20 * time.Second); ; <-tick.C {
		_, out, errs := tributary(g.t, "status", "--json", "--socket", filepath.Join(g.dir, "admin.sock"))
		var r status.Report
		if json.Unmarshal([]byte(out), &r) == nil && ok(&r) {
			return
		}
		if time.Now().After(over) {
			g.t.Fatalf("waited for %s: %s %s\n%s", what, out, errs, g.text())
		}
	}
}

func (g *gateway) text() string {
	g.t.Helper()
	text, err := os.ReadFile(g.log)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(text)
}

func (g *gateway) hangUp() {
	g.t.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		g.t.Fatal(err)
	}
}

// SIGHUP applies what it can, logging too, and names the rest; a broken configuration
// changes nothing then, and a start with it goes on with the last good one if it may.
func TestHangUpAndLastGood(t *testing.T) {
	dir := t.TempDir()
	g := &gateway{t: t, file: filepath.Join(dir, "tributary.toml"), dir: filepath.Join(dir, "data"), log: filepath.Join(dir, "log")}
	if err := os.Mkdir(g.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g.configure("")
	g.run("--set", "node.name=gw")
	g.until("the start", func(r *status.Report) bool { return len(r.MQTT.Listen) > 0 && r.Node == "gw" })

	const changed = "[log]\nsegment = \"4MiB\"\n[logging]\nformat = \"json\"\n"
	g.configure(changed)
	g.hangUp()
	g.until("the reload", func(r *status.Report) bool { return len(r.Config.NeedsRestart) == 1 && r.Colour == status.Yellow })
	g.hangUp() // its lines are in the new format
	g.until("a JSON line", func(*status.Report) bool { return strings.Contains(g.text(), `"msg":"needs a restart: [log] segment"`) })

	g.configure("[log]\nsegment = \"4\"\n")
	g.hangUp()
	g.until("the refusal", func(r *status.Report) bool {
		return strings.Contains(r.Config.BadReload, "tributary.toml:8:11: [log] segment")
	})
	if code := g.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, g.text())
	}

	if code, _, errs := tributary(t, "run", "-c", g.file); code != 78 || !strings.Contains(errs, "has errors") {
		t.Errorf("exit %d: %s", code, errs)
	}
	g.run("--last-good-on-error")
	g.until("the last good start", func(r *status.Report) bool {
		return len(r.MQTT.Listen) > 0 && r.Node == "gw" && r.Colour == status.Yellow && strings.Contains(r.Config.LastGood, "tributary.toml:8:11")
	})
	if code, out, errs := tributary(t, "status", "-c", g.file); code != 1 || !strings.Contains(out, "runs with the last good one") {
		t.Errorf("exit %d: %s%s", code, out, errs) // the broken configuration still says where the node is
	}
	if !strings.Contains(g.text(), "THE CONFIGURATION IS BROKEN") {
		t.Error(g.text())
	}
	if code := g.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, g.text())
	}
}
