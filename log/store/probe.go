package store

import (
	"context"

	"github.com/tributary-edge/tributary/log/group"
)

// Probe returns nil once the log has shown that it works: its committer has come
// round, so that it hangs in no write and no flush, and a record that came now would
// be taken or refused at once. That gives the device nothing to do, so an idle log
// answers, too. While the log hangs, Probe does, until ctx ends; then it returns the
// error of ctx. A log that has ended answers ErrClosed or what wraps ErrFailed.
func (l *Log) Probe(ctx context.Context) error {
	if !probeAlone {
		select {
		case l.probes <- struct{}{}: // the committer itself takes it
		case <-l.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		_, fits := l.behind(group.PageBytes)
		switch {
		case l.failed != nil:
			return l.failed
		case l.closed:
			return ErrClosed
		case fits || l.full:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		l.changed.Wait() // a segment is being prepared
	}
}
