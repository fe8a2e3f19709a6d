package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tributary-edge/tributary/ingest/packet"
)

var errNotReady = errors.New("appended records did not become durable in time; they are not acknowledged, and devices send them again")

// Run listens and serves until ctx is done. Then it accepts nothing more,
// takes nothing more from devices, waits, but not longer than
// Options.DrainTimeout, until what was appended is durable and acknowledged,
// tells the clients that it shuts down, and returns. The log must be running
// until then. An error means that it could not listen, or that the wait was
// too long; in both cases nothing that was acknowledged is lost. Run may be
// called once.
func (d *Door) Run(ctx context.Context) error {
	listeners, err := d.listenAll(ctx)
	if err != nil {
		return err
	}
	delivering, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var work sync.WaitGroup
	work.Go(func() { d.out.run(delivering) })
	work.Go(func() { d.keepTime(ctx) })
	d.endSevered()
	for _, l := range listeners {
		work.Go(func() { l.accept(ctx, l.Listener) })
	}
	d.resumeWills()
	close(d.ready)
	<-ctx.Done()
	closeAll(listeners)
	d.cancel()
	d.stopConnections()
	d.serving.Wait()
	d.sendDelayedWills()
	err = d.awaitCommits()
	stop()
	work.Wait()
	return err
}

// keepTime does what is due every second, until ctx is done.
func (d *Door) keepTime(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	y, next := sys{door: d, started: time.Now(), told: map[string]string{}}, time.Now()
	for {
		select {
		case now := <-tick.C:
			d.sweep(now)
			if !now.Before(next) {
				next = now.Add(sysEvery)
				d.out.do(func() { y.tell(now) })
			}
		case <-ctx.Done():
			return
		}
	}
}

// stopConnections lets nobody in any more and stops all readers.
func (d *Door) stopConnections() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing = true
	code := byte(packet.CodeShuttingDown)
	if d.opt.ServerReference != "" {
		code = packet.CodeUseAnotherServer
	}
	for c := range d.conns {
		c.stop(code)
	}
}

// awaitCommits waits until nothing is pending in the log.
func (d *Door) awaitCommits() error {
	t := time.NewTimer(d.opt.DrainTimeout)
	defer t.Stop()
	for d.pending.Load() > 0 {
		select {
		case <-d.committed:
		case <-t.C:
			return fmt.Errorf("%w: %d of them", errNotReady, d.pending.Load())
		}
	}
	return nil
}
