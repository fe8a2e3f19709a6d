// Package load presses MQTT brokers: it publishes over many connections, keeps
// a fixed number of messages unacknowledged on each (a closed loop), and
// measures how long each acknowledgement takes.
//
// It shares the machine with the broker that is measured, so it is one thread
// that waits for all connections at once, writes messages that were made in
// advance, as many as fit the window in one system call, and reads the clock
// once for all acknowledgements that come together.
package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A Shape is how a broker is pressed: Conns connections, each with Window
// messages of Size bytes unacknowledged at any time. An exchange of QoS 2
// counts when it is complete. With QoS 0, a window is sent at once, and the
// answer to a PINGREQ behind it acknowledges them all.
type Shape struct {
	Conns, Window, Size, QoS int
}

// String returns connections x window.
func (s Shape) String() string { return fmt.Sprintf("%dx%d", s.Conns, s.Window) }

// A Result is what was acknowledged during one window, and how fast.
type Result struct {
	Messages  int64
	Delivered int64 // to subscribers of the fleet
	Elapsed   time.Duration
	CPU       time.Duration // of this process
	Latency   Histogram     // from the write of a PUBLISH to the read of its acknowledgement
}

// PerSecond is the rate of acknowledged messages.
func (r *Result) PerSecond() float64 { return float64(r.Messages) / r.Elapsed.Seconds() }

// slack is how long the last acknowledgements may take.
const slack = 60 * time.Second

// readBytes is what is read at once, at most, and the longest packet.
const readBytes = 256 << 10

// A Fleet is a set of connections that publish together. It is used once, by
// one goroutine.
type Fleet struct {
	// Rate limits what is published to so many messages a second, all
	// connections together; 0: as fast as they are acknowledged.
	Rate int

	conns   []*conn
	stalled []*conn // nobody reads from them
	epoll   int
	events  []unix.EpollEvent
	buf     []byte

	begun     time.Time
	now       time.Duration // since begun: of the last look at the clock
	budget    int64         // messages that may still be sent
	granted   int64         // with a Rate, all that were ever allowed
	turn      int           // with a Rate, the connection that is asked first
	open      int           // messages not acknowledged
	measuring bool
	result    Result
}

// Open connects a fleet. Client ids begin with name. With a Window of 0, the
// connections have nothing to say.
func Open(ctx context.Context, b Broker, name string, s Shape) (*Fleet, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	f := &Fleet{epoll: epoll, events: make([]unix.EpollEvent, 256), buf: make([]byte, readBytes), begun: time.Now()}
	for i := range s.Conns {
		c, err := dial(ctx, b, fmt.Sprintf("%s-%d", name, i), i, true)
		if err == nil {
			err = errors.Join(f.join(c), ctx.Err())
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("after %d connections: %w", i, err)
		}
		if s.Window > 0 {
			c.prepare(rand.New(rand.NewPCG(1, uint64(i))), fmt.Sprintf("bench/%s/%d", name, i), s)
		}
	}
	return f, nil
}

// Subscribe adds a connection that subscribes to filter with QoS 0. What it
// gets counts as Delivered.
func (f *Fleet) Subscribe(ctx context.Context, b Broker, id, filter string) error {
	c, err := dial(ctx, b, id, len(f.conns), true)
	if err != nil {
		return err
	}
	if err := c.exchange(subscribePacket(filter, 0), suback); err != nil {
		return errors.Join(fmt.Errorf("subscribe to %s: %w", filter, err), c.sock.Close())
	}
	return f.join(c)
}

// Stall adds a connection that subscribes to filter with QoS 1 and then never reads.
func (f *Fleet) Stall(ctx context.Context, b Broker, id, filter string) error {
	c, err := dial(ctx, b, id, len(f.conns), true)
	if err != nil {
		return err
	}
	f.stalled = append(f.stalled, c)
	if err := c.exchange(subscribePacket(filter, 1), suback); err != nil {
		return fmt.Errorf("subscribe to %s: %w", filter, err)
	}
	return nil
}

// join has the loop wait for a connection. Close closes it.
func (f *Fleet) join(c *conn) error {
	f.conns = append(f.conns, c)
	// With EPOLLET, what is not read to the end is not told of again, and EPOLLOUT
	// comes only after a write that had no room.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(len(f.conns) - 1)}
	if err := errors.Join(unix.SetNonblock(c.sock.fd, true), unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, c.sock.fd, &ev)); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// Measure publishes for warm and then for window, returns what was
// acknowledged during window, and closes the fleet. The server is calm when it
// returns: everything that was sent has been acknowledged. During the window
// it calls begin and end, which may be nil, to let the caller read counters.
//
// A broker that has not acknowledged as many as were open when the window began
// gets up to ten times as long: what a slow one does is not to be guessed from
// nothing. It is an error when not one was acknowledged then.
func (f *Fleet) Measure(ctx context.Context, warm, window time.Duration, begin, end func()) (Result, error) {
	defer f.Close()
	f.begun, f.now = time.Now(), 1
	if f.Rate == 0 {
		f.budget = math.MaxInt64
	}
	if err := f.run(ctx, warm); err != nil {
		return Result{}, err
	}
	call(begin)
	start, cpu := time.Now(), ownCPU()
	f.measuring = true
	atLeast := int64(f.open)
	err := f.run(ctx, f.now+window)
	for i := 0; i < 9*4 && err == nil && f.result.Messages < atLeast; i++ {
		err = f.run(ctx, f.now+window/4)
	}
	f.measuring = false
	if err == nil && f.result.Messages == 0 {
		err = fmt.Errorf("not one message was acknowledged within %v", 10*window)
	}
	f.result.Elapsed, f.result.CPU = time.Since(start), ownCPU()-cpu
	call(end)
	if err != nil {
		return Result{}, err
	}
	f.Rate, f.budget = 0, 0
	return f.result, f.drain(ctx, slack)
}

// Feed publishes exactly total messages of QoS 1 or 2, returns when all are
// acknowledged, and closes the fleet.
func (f *Fleet) Feed(ctx context.Context, total int64) error {
	defer f.Close()
	f.begun, f.now, f.budget = time.Now(), 1, total
	return f.drain(ctx, 10*time.Minute)
}

// drain runs until nothing is left to send and all is acknowledged.
func (f *Fleet) drain(ctx context.Context, within time.Duration) error {
	err := f.run(ctx, f.now+within)
	if err == nil && f.open > 0 {
		err = fmt.Errorf("%d messages are not acknowledged after %v", f.open, within)
	}
	return err
}

// Close ends all connections at once. It may be called again.
func (f *Fleet) Close() {
	for _, c := range slices.Concat(f.conns, f.stalled) {
		_ = c.sock.Close()
	}
	f.stalled = nil
	if f.conns = nil; f.epoll >= 0 {
		_ = unix.Close(f.epoll)
		f.epoll = -1
	}
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// ownCPU is the processor time that this process has used.
func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
