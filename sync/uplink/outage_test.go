package uplink

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// uplinkWire is a network that can be cut in two ways.
type uplinkWire struct {
	kfake.VirtualNetwork

	mu    sync.Mutex // guards what follows
	mode  string     // "up", "refused" or "black hole"
	conns []*holeConn
}

func (w *uplinkWire) set(mode string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mode = mode
	for _, c := range w.conns {
		switch mode {
		case "refused":
			_ = c.Close()
		case "black hole":
			c.fall()
		}
	}
	if mode != "up" {
		w.conns = nil
	}
}

func (w *uplinkWire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	mode := w.mode
	w.mu.Unlock()
	switch mode {
	case "refused":
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
	case "black hole":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	conn, err := w.VirtualNetwork.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &holeConn{Conn: conn, hole: make(chan struct{}), closed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
	return c, nil
}

// holeConn is a connection that, once fallen, takes what is written and answers
// nothing, until its deadline.
type holeConn struct {
	net.Conn
	hole, closed chan struct{}
	once, fallen sync.Once

	mu       sync.Mutex // guards deadline
	deadline time.Time
}

func (c *holeConn) fall() {
	c.fallen.Do(func() {
		close(c.hole)
		_ = c.Conn.SetDeadline(time.Now()) // wakes the reads and writes that wait
	})
}

func (c *holeConn) isFallen() bool {
	select {
	case <-c.hole:
		return true
	default:
		return false
	}
}

func (c *holeConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.isFallen() {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *holeConn) SetWriteDeadline(t time.Time) error {
	if c.isFallen() {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *holeConn) Read(b []byte) (int, error) {
	if !c.isFallen() {
		if n, err := c.Conn.Read(b); err == nil || !c.isFallen() {
			return n, err
		}
	}
	c.mu.Lock()
	left := time.Until(c.deadline)
	if c.deadline.IsZero() {
		left = 365 * 24 * time.Hour
	}
	c.mu.Unlock()
	select {
	case <-time.After(left):
		return 0, &net.OpError{Op: "read", Err: context.DeadlineExceeded}
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *holeConn) Write(b []byte) (int, error) {
	if !c.isFallen() {
		if n, err := c.Conn.Write(b); err == nil || !c.isFallen() {
			return n, err
		}
	}
	return len(b), nil
}

func (c *holeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// U1, U2, A1: Kafka is away for weeks, refused and then as a black hole, longer
// than Kafka remembers a transactional id. What was logged meanwhile arrives,
// once, soon after Kafka is back. Both kinds of outage are noticed in time.
func TestWeeksOfOutage(t *testing.T) {
	for _, mode := range []string{"refused", "black hole"} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { weeksOfOutage(t, mode) })
		})
	}
}

func weeksOfOutage(t *testing.T, mode string) {
	w := &uplinkWire{mode: "up"}
	c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.Ports(9092, 9093), kfake.ListenFn(w.Listen), kfake.SeedTopics(2, "a"),
		kfake.BrokerConfigs(map[string]string{"log.retention.ms": "-1"}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, watch := newLedger(), newLog()
	cfg := config(c)
	cfg.Dial = w.dial
	cfg.Compression = "none" // the finalizers of zstd decoders cannot run outside the bubble
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	f := quick(t, cfg, l, watch)
	f.pace = newForwarder(f.cfg, l, watch).pace
	f.pace.most = time.Hour // or this test is about 100,000 tries
	go func() { done <- f.run(ctx) }()
	waitFor := func(what string, within time.Duration, ok func([]Commit, []Status) bool) {
		t.Helper()
		began := time.Now()
		for !watch.holds(ok) {
			if time.Since(began) > within {
				t.Fatalf("no %s after %v; last state %+v", what, within, watch.last(t))
			}
			select {
			case err := <-done:
				t.Fatalf("Forward returned %v", err)
			case <-time.After(100 * time.Millisecond): // of the bubble
			}
			synctest.Wait()
		}
		t.Logf("%s after %v", what, time.Since(began))
	}
	l.fill("a", 10, 5)
	waitFor("commit", time.Minute, committed(10))
	for range 3 {
		w.set(mode)
		l.fill("a", 10, 5)
		waitFor("sentence", 21*time.Second, inState(Waiting))
		time.Sleep(8 * 24 * time.Hour)
		l.fill("a", 1000, 50)
		w.set("up")
		waitFor("commit", f.pace.most+time.Minute, committed(l.end()))
		waitFor("forwarding", time.Second, inState(Forwarding))
	}
	// Quiet for longer than Kafka remembers us, with the uplink up.
	time.Sleep(20 * 24 * time.Hour)
	l.fill("a", 10, 5)
	waitFor("commit", time.Minute, committed(l.end()))
	l.close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	cancel()
	checkExactlyOnce(t, l, readCommittedOver(t, w, c, "a"))
}
