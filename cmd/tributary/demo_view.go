//go:build !nodemo

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// A demoView shows how the demo gets on: one line that changes on a terminal, a
// line now and then elsewhere.
type demoView struct {
	d     *demo
	start time.Time
	live  bool
}

// clearLine goes back to the start of the terminal's line and empties it.
const clearLine = "\r\033[K"

func newDemoView(d *demo) *demoView {
	return &demoView{d: d, start: time.Now(), live: isTerminal(d.people)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (v *demoView) every() time.Duration {
	if v.live {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}

func (v *demoView) show(ctx context.Context) {
	s := v.d.fleet.Stats()
	node := "node is down"
	if r, err := v.d.node.report(ctx); err == nil {
		node = fmt.Sprintf("uplink %s, %d waiting", r.Uplink.State, r.Uplink.Waiting)
	}
	if v.d.link.isDark() {
		node += ", LINE CUT"
	}
	text := fmt.Sprintf("%3.0fs  devices %d  sent %d  acked %d  %s", time.Since(v.start).Seconds(), s.Connected, s.Sent, s.Acked, node)
	if v.live {
		fmt.Fprintf(v.d.people, clearLine+"%s", text)
		return
	}
	fmt.Fprintln(v.d.people, text)
}

func (v *demoView) end() {
	if v.live {
		fmt.Fprintln(v.d.people)
	}
}
