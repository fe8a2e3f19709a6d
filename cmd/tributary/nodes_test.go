package main

import (
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nodes and skip say what the running node answers, and ask it for what was typed.
func TestSiteCommands(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	const node = `[{"name":"gw\u001b[31m1","id":"0a","state":"this","standing":"member"}]`
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/nodes", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(node)) })
	mux.HandleFunc("POST /api/nodes/remove", func(w http.ResponseWriter, req *http.Request) {
		if req.FormValue("node") != "gw 3" || req.FormValue("lost") != "true" {
			http.Error(w, "asked for "+req.URL.String(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(node))
	})
	mux.HandleFunc("POST /api/skip", func(w http.ResponseWriter, req *http.Request) {
		_, _ = w.Write([]byte(`{"ledger":"` + req.FormValue("ledger") + `","from":5,"to":7}`))
	})
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
	for _, c := range []struct {
		says string
		code int
		args []string
	}{
		{"this", 0, []string{"nodes"}},
		{`"standing":"member"`, 0, []string{"nodes", "--json"}},
		{"this", 0, []string{"nodes", "remove", "gw 3", "--lost"}},
		{"asked for", 1, []string{"nodes", "remove", "gw 3"}},
		{"name the gateway", 1, []string{"nodes", "remove"}},
		{"records 5 to 6 of ledger ab12 are given up", 0, []string{"skip", "ab12"}},
		{"name the ledger", 1, []string{"skip"}},
	} {
		args := slices.Concat(c.args, []string{"--socket", socket})
		if code, out, errs := tributary(t, args...); code != c.code || !strings.Contains(out+errs, c.says) || strings.Contains(out, "\x1b") {
			t.Errorf("%v: exit %d: %s%s", c.args, code, out, errs)
		}
	}
}
