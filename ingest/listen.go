package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// How long accept waits after an error, from the first in a row on.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

func listenTCP(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", address)
}

// listenAll listens on all addresses, or on none.
func (d *Door) listenAll(ctx context.Context) ([]net.Listener, error) {
	var listeners []net.Listener
	var addrs []net.Addr
	for _, address := range d.opt.Listen {
		l, err := d.listen(ctx, address)
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("listen for MQTT on %q: %w", address, err)
		}
		listeners, addrs = append(listeners, l), append(addrs, l.Addr())
	}
	d.mu.Lock()
	d.addrs = addrs
	d.mu.Unlock()
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// accept serves what comes in until the listener is closed and all its
// connections have ended. Any other error
// is tried again: a process that has run out of file descriptors gets some
// back when devices leave.
func (d *Door) accept(ctx context.Context, l net.Listener) {
	var serving sync.WaitGroup
	defer serving.Wait()
	pause := minAcceptPause
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = minAcceptPause
			serving.Go(func() { d.EstablishConnection(nc) })
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if d.stat.accepts.Add(1); pause == minAcceptPause {
			d.opt.Logger.Warn("a connection could not be accepted; trying again", "address", l.Addr().String(), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, maxAcceptPause)
	}
}
