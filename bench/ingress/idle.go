package main

import (
	"context"
	"fmt"
	"time"

	pressure "github.com/tributary-edge/tributary/bench/load"
	"github.com/tributary-edge/tributary/bench/peer"
)

// firstConns are open before anything is counted, so that what a server
// makes for the first ones is not counted.
const firstConns = 200

// settle is how long a server has to come to rest.
const settle = time.Second

// countIdle finds out how much a server grows per connection that says nothing.
func (c *contest) countIdle(ctx context.Context, s *peer.Server) {
	before, err := c.withIdle(ctx, s, "first", firstConns)
	if err == nil {
		defer before.Close()
		rss := s.RSS()
		var more *pressure.Fleet
		if more, err = c.withIdle(ctx, s, "idle", c.idle); err == nil {
			defer more.Close()
			c.idleKB[s.Name] = float64(s.RSS()-rss) / float64(c.idle) / 1000
		}
	}
	if err != nil {
		c.fail(fmt.Sprintf("%s, %d idle connections", s.Name, c.idle), s, err)
	}
}

// withIdle returns n more connections when the server has come to rest.
func (c *contest) withIdle(ctx context.Context, s *peer.Server, name string, n int) (*pressure.Fleet, error) {
	f, err := pressure.Open(ctx, s.Plain, name, pressure.Shape{Conns: n})
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(settle):
		return f, nil
	case <-ctx.Done():
		f.Close()
		return nil, ctx.Err()
	}
}
