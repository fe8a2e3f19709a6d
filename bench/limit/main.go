// Limit is the least that a durable MQTT server can be: it reads PUBLISH,
// appends to Tributary's own log, and acknowledges when the log has flushed, in
// one write per connection and group. It routes nothing, checks nothing,
// delivers nothing, and forgets all clients; what Tributary's door costs beyond
// this is what it does for them.
//
//	limit ADDRESS DIR none|zstd
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "limit:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: limit ADDRESS DIR none|zstd")
	}
	fs, err := disk.Dir(args[1])
	if err != nil {
		return err
	}
	// As a node that is measured beside it has it: see peer/tributary.go.
	// What compression costs is so much that it must be the same for both.
	log, _, err := store.Open(fs, store.Options{MaxBytes: 1 << 30, DropOldest: true, Compress: args[2] == "zstd"})
	if err != nil {
		return err
	}
	s := serve(log)
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	go s.accept(l)
	defer func() { _ = l.Close() }()
	return log.Run(ctx)
}

// serve returns a server over log, which is not running yet.
func serve(log *store.Log) *server {
	s := &server{log: log, groups: make(chan []*conn, 1)}
	log.OnCommit(s.committed)
	go s.answer()
	return s
}

// accept serves everybody who connects, until l is closed.
func (s *server) accept(l net.Listener) {
	for {
		n, err := l.Accept()
		if err != nil {
			return
		}
		c := &conn{server: s, net: n}
		go func() {
			if err := c.read(); err != nil {
				fmt.Fprintln(os.Stderr, "limit:", err)
			}
			_ = n.Close()
		}()
	}
}
