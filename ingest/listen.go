package ingest

import (
	"context"
	"crypto/tls"
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

// A listening is a listener, and how what comes to it is served: until ctx is
// done and all its connections have ended.
type listening struct {
	net.Listener

	accept func(ctx context.Context, l net.Listener)
}

// listenAll listens on all addresses, or on none.
func (d *Door) listenAll(ctx context.Context) ([]listening, error) {
	ways := []struct {
		name      string
		addresses []string
		accept    func(ctx context.Context, l net.Listener)
	}{
		{"MQTT", d.opt.Listen, d.acceptPlain},
		{"MQTT with TLS", d.opt.ListenTLS, d.acceptTLS},
		{"MQTT over WebSocket", d.opt.ListenWS, d.acceptWebSockets},
		{"MQTT over WebSocket with TLS", d.opt.ListenWSS, d.acceptSecureWebSockets},
	}
	var listeners []listening
	var addrs []net.Addr
	for _, way := range ways {
		for _, address := range way.addresses {
			l, err := d.opt.ListenOn(ctx, "tcp", address)
			if err != nil {
				closeAll(listeners)
				return nil, fmt.Errorf("listen for %s on %q: %w", way.name, address, err)
			}
			listeners, addrs = append(listeners, listening{l, way.accept}), append(addrs, l.Addr())
		}
	}
	d.mu.Lock()
	d.addrs = addrs
	d.mu.Unlock()
	return listeners, nil
}

func closeAll(listeners []listening) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

func (d *Door) acceptPlain(ctx context.Context, l net.Listener) {
	d.accept(ctx, l, d.EstablishConnection)
}

func (d *Door) acceptTLS(ctx context.Context, l net.Listener) {
	d.accept(ctx, l, func(nc net.Conn) { d.EstablishConnection(tls.Server(&newcomer{Conn: nc}, d.opt.TLS)) })
}

// accept serves what comes in until the listener is closed and all its
// connections have ended. Any other error
// is tried again: a process that has run out of file descriptors gets some
// back when devices leave.
func (d *Door) accept(ctx context.Context, l net.Listener, serve func(net.Conn)) {
	var serving sync.WaitGroup
	defer serving.Wait()
	pause := minAcceptPause
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = minAcceptPause
			if !d.takeSocket() {
				_ = nc.Close()
				d.sockets.Add(-1)
				continue
			}
			serving.Go(func() {
				defer d.sockets.Add(-1)
				serve(nc)
			})
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
