package uplink

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// over returns a connection over a link, and what reads its other end.
func over(t *testing.T, l *Link) (c, far net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	c, err := l.dial(func(context.Context, string, string) (net.Conn, error) { return near, nil })(t.Context(), "tcp", "b1:9092")
	if err != nil {
		t.Fatal(err)
	}
	return c, far
}

// What is sent takes its time, over all connections together, and is counted.
func TestLinkIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Link{BytesPerSecond: 64 << 10}
		a, fromA := over(t, l)
		b, fromB := over(t, l)
		for _, far := range []net.Conn{fromA, fromB} {
			go func() { _, _ = io.Copy(io.Discard, far) }()
		}
		began := time.Now()
		done := make(chan error, 2)
		for _, c := range []net.Conn{a, b} {
			go func() {
				_, err := c.Write(make([]byte, 128<<10))
				done <- err
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 3500*time.Millisecond || took > 4*time.Second {
			t.Errorf("256 KiB at 64 KiB/s took %v", took)
		}
		go func() { _, _ = fromA.Write([]byte("answer")) }()
		if _, err := a.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		if sent, received := l.Bytes(); sent != 256<<10 || received != 6 {
			t.Errorf("sent %d, received %d", sent, received)
		}
		for _, c := range []net.Conn{a, b, fromA, fromB} {
			_ = c.Close()
		}
	})
}

// Who waits for a turn is woken by the end of the connection, and by a deadline, also by
// one that is set meanwhile.
func TestLinkEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(net.Conn)
		want error
	}{
		"closed":            {func(c net.Conn) { _ = c.Close() }, nil}, // any error
		"deadline":          {func(c net.Conn) { _ = c.SetDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		"deadline of write": {func(c net.Conn) { _ = c.SetWriteDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, far := over(t, &Link{BytesPerSecond: LeastBandwidth})
				go func() { _, _ = io.Copy(io.Discard, far) }()
				began := time.Now()
				time.AfterFunc(time.Second, func() { c.end(conn) })
				if _, err := conn.Write(make([]byte, 1<<20)); err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%v, should be %v", err, c.want)
				}
				if took := time.Since(began); took > 1100*time.Millisecond {
					t.Errorf("it took %v", took)
				}
				_, _ = conn.Close(), far.Close()
			})
		})
	}
}

// Over a narrow link all arrives, once, and no transaction is begun anew for it.
func TestForwardOverANarrowLink(t *testing.T) {
	c := cluster(t)
	cfg := config(c)
	cfg.Compression = "none"
	cfg.Link = &Link{BytesPerSecond: 256 << 10}
	l := newLedger()
	l.fill("a", 2000, 100)
	l.close()
	began := time.Now()
	watch := drain(t, cfg, l)
	sent, _ := cfg.Link.Bytes()
	if least := time.Duration(float64(sent)/float64(cfg.Link.BytesPerSecond)*float64(time.Second)) - 2*linkBurst; time.Since(began) < least {
		t.Errorf("%d bytes in %v", sent, time.Since(began))
	}
	if n := watch.last(t).Counters.Failed; n > 0 {
		t.Errorf("%d tries have failed", n)
	}
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
	t.Logf("%d bytes sent for 2,000 records in %v", sent, time.Since(began))
}
