package load

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// run sends and receives until the clock says until, or until the budget is
// spent and everything sent has been acknowledged.
func (f *Fleet) run(ctx context.Context, until time.Duration) error {
	if err := f.sendAll(); err != nil {
		return err
	}
	for f.now < until && (f.open > 0 || f.budget > 0 || f.Rate > 0) && ctx.Err() == nil {
		wait := min(until-f.now, 20*time.Millisecond)
		if f.Rate > 0 {
			wait = time.Millisecond
		}
		n, err := unix.EpollWait(f.epoll, f.events, int(wait.Milliseconds())+1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		f.now = time.Since(f.begun)
		for i := range max(n, 0) {
			c := f.conns[f.events[i].Fd]
			if err := f.serve(c, f.events[i].Events); err != nil {
				return fmt.Errorf("%s: %w", c.id, err)
			}
		}
		if err := f.grant(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// serve deals with what epoll said of a connection.
func (f *Fleet) serve(c *conn, events uint32) error {
	if len(c.sock.unsent) > 0 && events&unix.EPOLLOUT != 0 {
		if err := c.sock.flush(); err != nil {
			return err
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return nil
	}
	if err := c.receive(f); err != nil {
		return err
	}
	return c.send(f)
}

// grant allows what the Rate lets through by now.
func (f *Fleet) grant() error {
	if f.Rate == 0 {
		return nil
	}
	allowed := int64(f.now.Seconds() * float64(f.Rate))
	// What the broker was too slow for is not made up for later.
	f.budget = min(f.budget+allowed-f.granted, int64(f.Rate)/10+1)
	f.granted = allowed
	return f.sendAll()
}

// sendAll has all connections fill their windows, each time beginning where the
// budget ended the last time.
func (f *Fleet) sendAll() error {
	for range f.conns {
		if f.budget <= 0 {
			return nil
		}
		c := f.conns[f.turn%len(f.conns)]
		f.turn++
		if err := c.send(f); err != nil {
			return fmt.Errorf("%s: %w", c.id, err)
		}
	}
	return nil
}

// count notes that n messages, sent together, have been acknowledged now.
func (f *Fleet) count(sent time.Duration, n int) {
	if f.measuring {
		f.result.Messages += int64(n)
		f.result.Latency.add(f.now-sent, n)
	}
}
