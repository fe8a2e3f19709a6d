package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

// listenerID is what the engine knows our connections by.
const listenerID = "tributary"

// spareConnections may be open beyond MaxClients, so that the engine can tell
// a client too many so in its CONNACK.
const spareConnections = 64

var (
	errPanicked = errors.New("the MQTT engine panicked")
	errNotReady = errors.New("appended records did not become durable in time; they are not acknowledged, and devices send them again")
)

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
	if err := d.srv.Serve(); err != nil {
		closeAll(listeners)
		return fmt.Errorf("start the MQTT engine: %w", err)
	}
	fanning, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var work sync.WaitGroup
	work.Go(func() { d.fan.run(fanning) })
	for _, l := range listeners {
		work.Go(func() { d.accept(ctx, l) })
	}
	close(d.ready)
	<-ctx.Done()
	closeAll(listeners)
	d.stopConnections()
	d.serving.Wait()
	d.sendDelayedWills()
	err = d.awaitCommits()
	stop()
	work.Wait()
	return errors.Join(err, d.srv.Close())
}

// EstablishConnection serves MQTT on nc until the connection ends, and closes
// it. It may be called for as long as Run runs; when Run ends, so does it.
func (d *Door) EstablishConnection(nc net.Conn) {
	c := newConn(d, nc)
	if !d.admit(c) {
		_ = nc.Close()
		return
	}
	defer d.serving.Done()
	_ = nc.SetReadDeadline(time.Now().Add(d.opt.ConnectTimeout))
	err := d.attach(c)
	d.release(c)
	close(c.stopped)
	code := c.finish(err)
	d.forget(c)
	if code != 0 {
		d.opt.Logger.Info("closed a connection", "client", c.id, "remote", nc.RemoteAddr().String(),
			"reason", fmt.Sprintf("0x%02x", code), "error", err)
	}
}

// attach lets the engine read the connection to its end. A packet that makes
// the engine panic ends this connection and nothing else (S1).
func (d *Door) attach(c *conn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d.stat.panics.Add(1)
			d.opt.Logger.Error("a packet made the MQTT engine panic; its connection is closed",
				"client", c.id, "panic", p, "stack", string(debug.Stack()))
			c.stop(codeMalformed)
			err = errPanicked
		}
		if !c.left {
			d.exorcise(c)
		}
	}()
	return d.srv.EstablishConnection(listenerID, c)
}

// admit registers a new connection, unless the door is closing or there are
// too many.
func (d *Door) admit(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		return false
	}
	if len(d.conns) >= d.opt.MaxClients+spareConnections {
		d.stat.tooMany.Add(1)
		return false
	}
	d.conns[c] = struct{}{}
	d.serving.Add(1)
	d.stat.accepted.Add(1)
	return true
}

// release gives up the session that the connection holds, if it does.
func (d *Door) release(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owners[c.id] == c {
		delete(d.owners, c.id)
	}
}

func (d *Door) forget(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

// stopConnections lets nobody in any more and stops all readers.
func (d *Door) stopConnections() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing = true
	for c := range d.conns {
		c.stop(codeShuttingDown)
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
