package edge_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/tributary-edge/tributary/edge/status"
)

// What a node writes to its disk is counted, all of it: the zero-fill of its
// first files, its commits, meta.db. /metrics says the same as the report.
func TestMeter(t *testing.T) {
	s := newSite(t, "[log]\nsegment = \"4MiB\"\nmax_size = \"16MiB\"\n")
	s.start()
	w := s.connect("d", 1)
	w.publish(1, 0, 1, "t", "x")
	w.expect(0x40, 1)
	before := s.until("two files and the groups", func(r status.Report) bool { return r.Flash.LogBytes >= 8<<20+(2+r.Log.Flushes)*4096 }).Flash
	if before.MetaBytes == 0 || before.Bytes != before.LogBytes+before.MetaBytes+before.JournalBytes {
		t.Errorf("counts are %+v", before)
	}
	w.publish(1, 0, 2, "t", "x")
	w.expect(0x40, 2)
	if after := s.Report().Flash; after.LogBytes != before.LogBytes+4096 || after.Flushes <= before.Flushes {
		t.Errorf("one message: from %+v to %+v; want one page more", before, after)
	}

	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "admin.sock"))
	}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://node/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.Header.Get("Content-Type") != status.MetricsType {
		t.Errorf("%v, content type %q", err, answer.Header.Get("Content-Type"))
	}
	got := regexp.MustCompile(`(?m)^tributary_flash_written_bytes_total\{part="log"\} (\S+)$`).FindSubmatch(text)
	if got == nil {
		t.Fatalf("no bytes of the log in\n%s", text)
	}
	if n, err := strconv.ParseFloat(string(got[1]), 64); err != nil || int64(n) < before.LogBytes {
		t.Errorf("metrics say %v bytes, the report %d", n, before.LogBytes)
	}
}
