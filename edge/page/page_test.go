package page

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// What the page is made of is served and named in the HTML, with nothing from
// elsewhere, no script or style within the HTML, and a policy that allows none.
func TestFiles(t *testing.T) {
	mux := http.NewServeMux()
	Register(mux)
	names := map[string]bool{"login.html": true} // the guard serves it
	for _, f := range served {
		names[f.name] = true
		_, path, _ := strings.Cut(strings.TrimSuffix(f.pattern, "{$}"), " ")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK || w.Body.Len() == 0 || w.Header().Get("Content-Type") != f.kind {
			t.Errorf("%s: %d, %d bytes, %s", path, w.Code, w.Body.Len(), w.Header().Get("Content-Type"))
		}
		again := httptest.NewRequest(http.MethodGet, path, nil)
		again.Header.Set("If-None-Match", w.Header().Get("Etag"))
		w = httptest.NewRecorder()
		if mux.ServeHTTP(w, again); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
			t.Errorf("%s again: %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
	elsewhere := regexp.MustCompile(`(src|href|action)="(https?:)?//|url\(|@import|<script>|<style|style="| on[a-z]+="`)
	total := 0
	err := fs.WalkDir(static, "static", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, "static/")
		if !names[name] {
			t.Errorf("%s is in the binary, and nobody can ask for it", name)
		}
		body := content(name)
		total += len(body)
		if found := elsewhere.Find(body); found != nil && !strings.HasPrefix(name, "uplot.") {
			t.Errorf("%s has %q", name, found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > 100_000 {
		t.Errorf("the page has %d bytes", total)
	}
	t.Logf("%d bytes", total)
}

// What is not there is not there: commands tell by 404 that a node does not know them.
func TestNoFile(t *testing.T) {
	mux := http.NewServeMux()
	Register(mux)
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/static/index.html", nil),
		httptest.NewRequest(http.MethodPost, "/api/skip", nil),
	} {
		w := httptest.NewRecorder()
		if mux.ServeHTTP(w, r); w.Code != http.StatusNotFound {
			t.Errorf("%s %s: %d", r.Method, r.URL, w.Code)
		}
	}
}
