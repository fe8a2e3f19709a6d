//go:build !nodemo

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// A link is the demo's way to Kafka: a SOCKS5 proxy (RFC 1928, CONNECT without
// authentication) on loopback that can go dark. While it is dark, bytes vanish
// and new connections get no answer, as on a line that somebody cut; nothing is
// refused or reset.
type link struct {
	listener net.Listener

	mu    sync.Mutex // guards what follows
	light chan struct{}
	dark  bool
	conns map[net.Conn]struct{}
}

func listenLink(ctx context.Context) (*link, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the demo's uplink: %w", err)
	}
	k := &link{listener: l, light: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	close(k.light)
	return k, nil
}

// run serves until ctx ends.
func (k *link) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	stop := context.AfterFunc(ctx, k.close)
	defer stop()
	for {
		c, err := k.listener.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			defer k.forget(c)
			if k.keep(c) {
				_ = k.serve(ctx, c) // a connection that breaks is not news here
			}
		})
	}
}

// cut makes the link dark for d.
func (k *link) cut(ctx context.Context, d time.Duration) {
	k.mu.Lock()
	k.dark, k.light = true, make(chan struct{})
	light := k.light
	k.mu.Unlock()
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	k.mu.Lock()
	k.dark = false
	close(light)
	k.mu.Unlock()
}

func (k *link) isDark() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dark
}

// awaitLight returns when the link is not dark, or ctx ends.
func (k *link) awaitLight(ctx context.Context) {
	k.mu.Lock()
	light := k.light
	k.mu.Unlock()
	select {
	case <-light:
	case <-ctx.Done():
	}
}

func (k *link) keep(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conns == nil {
		_ = c.Close()
		return false
	}
	k.conns[c] = struct{}{}
	return true
}

func (k *link) forget(c net.Conn) {
	k.mu.Lock()
	delete(k.conns, c)
	k.mu.Unlock()
	_ = c.Close()
}

func (k *link) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.listener.Close()
	for c := range k.conns {
		_ = c.Close()
	}
	k.conns = nil
}

var errSocks = errors.New("not a SOCKS5 CONNECT")

// serve does the handshake and then copies both ways.
func (k *link) serve(ctx context.Context, c net.Conn) error {
	k.awaitLight(ctx)
	target, err := readSocks(c)
	if err != nil {
		return err
	}
	var d net.Dialer
	far, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		_, _ = c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0}) // connection refused
		return err
	}
	if !k.keep(far) {
		return net.ErrClosed
	}
	defer k.forget(far)
	if _, err := c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return err
	}
	var both sync.WaitGroup
	both.Go(func() { k.copy(ctx, far, c); _ = far.Close() })
	k.copy(ctx, c, far)
	_ = c.Close()
	both.Wait()
	return nil
}

// copy moves bytes until the connection ends. What arrives in the dark never
// leaves: the connection is of no use afterwards, and both ends find out
// themselves.
func (k *link) copy(ctx context.Context, to, from net.Conn) {
	buf := make([]byte, 32<<10)
	lost := false
	for {
		n, err := from.Read(buf)
		if k.isDark() {
			lost = true
		}
		if lost {
			k.awaitLight(ctx)
			return // the far end now sees the connection go
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readSocks answers the greeting and returns the address of the CONNECT.
func readSocks(c net.Conn) (string, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil || head[0] != 5 {
		return "", errSocks
	}
	if _, err := io.ReadFull(c, make([]byte, head[1])); err != nil {
		return "", errSocks
	}
	if _, err := c.Write([]byte{5, 0}); err != nil {
		return "", err
	}
	req := make([]byte, 4)
	if _, err := io.ReadFull(c, req); err != nil || req[1] != 1 {
		return "", errSocks
	}
	size := map[byte]int{1: net.IPv4len, 4: net.IPv6len}[req[3]]
	if req[3] == 3 {
		n := make([]byte, 1)
		if _, err := io.ReadFull(c, n); err != nil {
			return "", errSocks
		}
		size = int(n[0])
	}
	rest := make([]byte, size+2)
	if _, err := io.ReadFull(c, rest); err != nil || size == 0 {
		return "", errSocks
	}
	host := string(rest[:size])
	if req[3] != 3 {
		host = net.IP(rest[:size]).String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(rest[size:])))), nil
}
