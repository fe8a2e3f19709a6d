package page

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const secret = "correct-horse-battery"

// guarded returns a guard of a token, and what it guards.
func guarded(t *testing.T, token string) (*Guard, http.Handler) {
	t.Helper()
	file := ""
	if token != "" {
		file = filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, err := OpenGuard(file)
	if err != nil {
		t.Fatal(err)
	}
	return g, g.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("open")) }))
}

func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func isOpen(w *httptest.ResponseRecorder) bool {
	return w.Code == http.StatusOK && w.Body.String() == "open"
}

// S1: without a token only this machine may look, by a name that no page from
// elsewhere can have.
func TestHost(t *testing.T) {
	_, h := guarded(t, "")
	for host, want := range map[string]bool{
		"127.0.0.1:9880": true, "localhost:9880": true, "LOCALHOST": true, "[::1]:9880": true, "::1": true, "127.8.0.1": true,
		"evil.example:9880": false, "localhost.evil.example": false, "10.0.0.5:9880": false, "": false, "127.0.0.1.evil.example": false,
		"0.0.0.0:9880": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/status", nil)
		r.Host = host
		w := answer(h, r)
		if isOpen(w) != want {
			t.Errorf("%q: %d", host, w.Code)
		}
		if got := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'self';") {
			t.Errorf("%q: policy %q", host, got)
		}
	}
}

// S1: with a token, nothing but the token opens anything but the probes, in whatever
// form it is almost right.
func TestToken(t *testing.T) {
	_, h := guarded(t, secret)
	for path, want := range map[string]int{
		"/": 401, "/api/status": 401, "/api/history": 401, "/metrics": 401, "/page.js": 401, "/nothing": 401,
		"/healthz": 200, "/readyz": 200, "/page.css": 200, "/icon.svg": 200,
		"/?token=": 401, "/?token=" + secret[1:]: 401, "/?token=" + secret + "x": 401, "/api/status?token=" + secret: 401,
	} {
		if w := answer(h, httptest.NewRequest(http.MethodGet, path, nil)); w.Code != want || len(w.Header()["Set-Cookie"]) > 0 {
			t.Errorf("%s: %d, want %d; %v", path, w.Code, want, w.Header())
		}
	}
	for given, want := range map[string]bool{
		"Bearer " + secret: true, "Bearer " + secret + " ": false, "Bearer ": false, "bearer" + secret: false, "Basic " + secret: false,
		"Bearer " + derived(secret, "cookie"): false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Host = "gateway.example:9880" // who has the token may use any name
		r.Header.Set("Authorization", given)
		if w := answer(h, r); isOpen(w) != want {
			t.Errorf("%q: %d", given, w.Code)
		}
	}
}

// A person gives the token once, in the address or in the form, and has a cookie
// then, from which the token cannot be read. Another token ends that.
func TestLogin(t *testing.T) {
	g, h := guarded(t, secret)
	form := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(url.Values{"token": {secret}}.Encode()))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var cookie *http.Cookie
	for _, r := range []*http.Request{httptest.NewRequest(http.MethodGet, "/?token="+secret, nil), form} {
		w := answer(h, r)
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" {
			t.Fatalf("%s: %d to %q", r.URL, w.Code, w.Header().Get("Location"))
		}
		cookie = w.Result().Cookies()[0]
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || strings.Contains(cookie.String(), secret) {
			t.Errorf("%s: cookie %v", r.URL, cookie)
		}
	}
	look := func(c *http.Cookie) bool {
		r := httptest.NewRequest(http.MethodGet, "/api/status", nil)
		r.AddCookie(c)
		return isOpen(answer(h, r))
	}
	if !look(cookie) || look(&http.Cookie{Name: cookie.Name, Value: "x"}) || look(&http.Cookie{Name: cookie.Name, Value: secret}) {
		t.Error("the cookie opens, and nothing else does")
	}
	bad := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader("token="+strings.Repeat("x", 1<<20)))
	bad.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if w := answer(h, bad); w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "<form") {
		t.Errorf("a form of a megabyte: %d", w.Code)
	}

	if err := os.WriteFile(g.file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err == nil || !look(cookie) {
		t.Errorf("a wrong file: %v, and the token before no longer holds", err)
	}
	if err := os.WriteFile(g.file, []byte(secret+"2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(); err != nil || look(cookie) {
		t.Errorf("another token: %v, and the cookie of the one before still holds", err)
	}
}

func TestTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if _, err := OpenGuard(file); err == nil || !strings.Contains(err.Error(), "token_file") {
		t.Error(err)
	}
	for _, wrong := range []string{"", "\n", "fifteen-letters", "two words that are long", "an umlaut is no letter ä", strings.Repeat("x", 1025)} {
		if err := os.WriteFile(file, []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenGuard(file); err == nil || !strings.Contains(err.Error(), "make one with") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
