package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/term"

	"github.com/tributary-edge/tributary/edge/config"
)

// An output is a slog.Handler whose level and format may change while the node runs,
// for everybody who has a logger made of it.
type output struct {
	w       io.Writer
	now     *atomic.Pointer[slog.Handler] // of all that are made of one newOutput
	derived []func(slog.Handler) slog.Handler
}

func newOutput(w io.Writer, c *config.Logging) *output {
	o := &output{w: w, now: new(atomic.Pointer[slog.Handler])}
	o.use(c)
	return o
}

// use puts another level and format in force. It may be called at any time.
func (o *output) use(c *config.Logging) {
	h := newHandler(o.w, c)
	o.now.Store(&h)
}

// handler returns the one in force, with what was added to this logger.
func (o *output) handler() slog.Handler {
	h := *o.now.Load()
	for _, derive := range o.derived {
		h = derive(h)
	}
	return h
}

// Enabled implements slog.Handler.
func (o *output) Enabled(ctx context.Context, l slog.Level) bool {
	return (*o.now.Load()).Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (o *output) Handle(ctx context.Context, r slog.Record) error { return o.handler().Handle(ctx, r) }

// WithAttrs implements slog.Handler.
func (o *output) WithAttrs(attrs []slog.Attr) slog.Handler {
	return o.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (o *output) WithGroup(name string) slog.Handler {
	return o.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (o *output) with(derive func(slog.Handler) slog.Handler) *output {
	return &output{w: o.w, now: o.now, derived: append(slices.Clip(o.derived), derive)}
}

func newHandler(w io.Writer, c *config.Logging) slog.Handler {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == config.JSON {
		return slog.NewJSONHandler(w, o)
	}
	f, isFile := w.(*os.File)
	if c.Format == config.Auto && !(isFile && term.IsTerminal(int(f.Fd()))) {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 && os.Getenv("JOURNAL_STREAM") != "" {
				return slog.Attr{} // the journal adds its own
			}
			return a
		}
	}
	return slog.NewTextHandler(w, o)
}
