// Package page is the status page of a node, a handful of files in the binary that
// need nothing from elsewhere, and who may look at it.
package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
)

//go:embed static
var static embed.FS

// file is one of static, and where it is served.
type file struct{ pattern, name, kind string }

const (
	html = "text/html; charset=utf-8"
	text = "text/plain; charset=utf-8"
)

// served are the files that a browser may ask for. Those of uPlot are as its makers
// publish them.
var served = []file{
	{"GET /{$}", "index.html", html},
	{"GET /page.css", "page.css", "text/css; charset=utf-8"},
	{"GET /page.js", "page.js", "text/javascript; charset=utf-8"},
	{"GET /format.js", "format.js", "text/javascript; charset=utf-8"},
	{"GET /charts.js", "charts.js", "text/javascript; charset=utf-8"},
	{"GET /picture.js", "picture.js", "text/javascript; charset=utf-8"},
	{"GET /icon.svg", "icon.svg", "image/svg+xml"},
	{"GET /uplot.js", "uplot.js", "text/javascript; charset=utf-8"},
	{"GET /uplot.css", "uplot.css", "text/css; charset=utf-8"},
	{"GET /uplot.LICENSE", "uplot.LICENSE", text},
}

// policy lets the page load what this node serves, and nothing else: no script within
// the HTML, no other host, no frame around it.
const policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Register adds the page, at /, and its files to mux.
func Register(mux *http.ServeMux) {
	for _, f := range served {
		body := content(f.name)
		sum := sha256.Sum256(body)
		tag := `"` + hex.EncodeToString(sum[:8]) + `"`
		mux.HandleFunc(f.pattern, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Etag", tag)
			h.Set("Cache-Control", "no-cache") // ask each time: the next version has other files
			if r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			h.Set("Content-Type", f.kind)
			_, _ = w.Write(body)
		})
	}
}

// content returns a file of static, which the build has put there.
func content(name string) []byte {
	b, err := static.ReadFile("static/" + name)
	if err != nil {
		panic("edge/page: " + err.Error())
	}
	return b
}

// careful tells browsers to trust nothing but this node.
func careful(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // a token may be in the address
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}
