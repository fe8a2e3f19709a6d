package page

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// A Guard decides who may look: whoever knows the token, or, if there is none, whoever
// is on this machine. Its methods may be called at once.
type Guard struct {
	file  string
	token atomic.Pointer[string] // nil if there is no file
}

// leastToken is how many characters keep a token from being guessed over a network.
const leastToken = 16

// OpenGuard reads the token from a file; "" is no token.
func OpenGuard(file string) (*Guard, error) {
	g := &Guard{file: file}
	return g, g.Reload()
}

// Reload reads the token again. If the file is wrong the token stays as it was. With
// another token everybody has to log in anew.
func (g *Guard) Reload() error {
	if g.file == "" {
		return nil
	}
	b, err := os.ReadFile(g.file)
	if err != nil {
		return fmt.Errorf("read [status] token_file: %w", err)
	}
	token := string(bytes.TrimSpace(b))
	if len(token) < leastToken || len(token) > 1024 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("[status] token_file %s: a token is one line of %d to 1024 letters, digits and signs; make one with: head -c 24 /dev/urandom | base64", g.file, leastToken)
	}
	g.token.Store(&token)
	return nil
}

const (
	cookieFor = 90 * 24 * time.Hour
	maxForm   = 4 << 10
)

// Protect lets requests through to next if they may look. /healthz and /readyz are for
// everyone, because they say nothing but yes or no, and so are the files that the
// question for the token is made of.
func (g *Guard) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		careful(w.Header())
		token := g.token.Load()
		switch path := r.URL.Path; {
		case token == nil && !isHere(r.Host):
			http.Error(w, "This status is for this machine alone: ask for it as localhost or 127.0.0.1, or set [status] token_file.", http.StatusMisdirectedRequest)
		case token == nil, path == "/healthz", path == "/readyz", path == "/page.css", path == "/icon.svg":
			next.ServeHTTP(w, r)
		case r.Method == http.MethodPost && path == "/login":
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			logIn(w, r, *token, r.PostFormValue("token"))
		case r.Method == http.MethodGet && path == "/" && r.URL.Query().Has("token"):
			logIn(w, r, *token, r.URL.Query().Get("token"))
		case knows(r, *token):
			next.ServeHTTP(w, r)
		default:
			ask(w, r)
		}
	})
}

// isHere says whether a Host header names this machine itself. A page from elsewhere
// whose name was made to lead here (DNS rebinding) has another.
func isHere(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// knows says whether a request has the token, or the cookie of who has had it.
func knows(r *http.Request, token string) bool {
	if given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return same(given, token)
	}
	c, err := r.Cookie(cookieName(token))
	return err == nil && same(c.Value, derived(token, "cookie"))
}

// same compares in a time that says nothing about where, or about lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// derived is a secret that who has the token can make, and from which the token
// cannot be found.
func derived(token, purpose string) string {
	mac := hmac.New(sha256.New, []byte(token))
	_, _ = mac.Write([]byte("tributary status page " + purpose)) // never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// cookieName differs between gateways: a browser has one jar for all ports of a host.
func cookieName(token string) string { return "tributary-" + derived(token, "name")[:8] }

// logIn gives a cookie for the token, and the page without the token in its address.
// The cookie is not only for TLS: the node has none here, and cannot know whether a
// proxy before it has.
func logIn(w http.ResponseWriter, r *http.Request, token, given string) {
	if !same(given, token) {
		ask(w, r)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(token), Value: derived(token, "cookie"), Path: "/", MaxAge: int(cookieFor / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// ask answers who has not said the token: people with a form, programs with a line.
func ask(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Path != "/" && r.URL.Path != "/login" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="tributary"`)
		http.Error(w, "The token of [status] token_file is needed: Authorization: Bearer TOKEN.", http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", html)
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write(content("login.html"))
}
