package uplink

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
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

// bubble is a Kafka on a network that can be cut, and a ledger with a forwarder,
// all in a synctest bubble.
type bubble struct {
	t       *testing.T
	wire    *uplinkWire
	cluster *kfake.Cluster
	ledger  *ledger
	watch   *log
	done    chan error
	end     func() // of the forwarder and the cluster
}

func newBubble(t *testing.T) *bubble {
	t.Helper()
	w := &uplinkWire{mode: "up"}
	c, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.Ports(9092, 9093), kfake.ListenFn(w.Listen), kfake.SeedTopics(2, "a"),
		kfake.BrokerConfigs(map[string]string{"log.retention.ms": "-1"}))
	if err != nil {
		t.Fatal(err)
	}
	return &bubble{t: t, wire: w, cluster: c, ledger: newLedger(), watch: newLog(), done: make(chan error, 1), end: c.Close}
}

func (b *bubble) config() Config {
	cfg := config(b.cluster)
	cfg.Dial = b.wire.dial
	cfg.Compression = "none" // the finalizers of zstd decoders cannot run outside the bubble
	return cfg
}

// start forwards in the background, with the pauses of the product up to most.
func (b *bubble) start(most time.Duration) {
	b.t.Helper()
	cfg, err := b.config().withDefaults()
	if err != nil {
		b.t.Fatal(err)
	}
	f := newForwarder(cfg, b.ledger, b.watch)
	f.pace.most = most
	ctx, cancel := context.WithCancel(b.t.Context())
	go func() { b.done <- f.run(ctx) }()
	b.end = func() {
		cancel()
		if err := <-b.done; err != nil && !errors.Is(err, context.Canceled) {
			b.t.Error(err)
		}
		b.cluster.Close()
	}
}

// waitFor waits until ok, and returns how long it took.
func (b *bubble) waitFor(what string, within time.Duration, ok func([]Commit, []Status) bool) time.Duration {
	b.t.Helper()
	began := time.Now()
	for !b.watch.holds(ok) {
		if time.Since(began) > within {
			b.t.Fatalf("no %s after %v; last state %+v", what, within, b.watch.last(b.t))
		}
		select {
		case err := <-b.done:
			b.t.Fatalf("Forward returned %v", err)
		case <-time.After(100 * time.Millisecond): // of the bubble
		}
		synctest.Wait()
	}
	return time.Since(began)
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
	t.Helper()
	b := newBubble(t)
	defer func() { b.end() }()
	const most = time.Hour // with the 15 s of the product this test is 100,000 tries
	b.start(most)
	l := b.ledger
	l.fill("a", 10, 5)
	b.waitFor("commit", time.Minute, committed(10))
	for range 3 {
		b.wire.set(mode)
		l.fill("a", 10, 5)
		took := b.waitFor("sentence", 21*time.Second, inState(Waiting))
		t.Logf("%s: noticed after %v", mode, took)
		time.Sleep(8 * 24 * time.Hour) //nolint:forbidigo // bubble time
		l.fill("a", 1000, 50)
		b.wire.set("up")
		b.waitFor("commit", most+time.Minute, committed(l.end()))
		b.waitFor("forwarding", time.Second, inState(Forwarding))
	}
	// Quiet for longer than Kafka remembers us, with the uplink up.
	time.Sleep(20 * 24 * time.Hour) //nolint:forbidigo // bubble time
	l.fill("a", 10, 5)
	b.waitFor("commit", time.Minute, committed(l.end()))
	checkExactlyOnce(t, l, readCommittedOver(t, b.wire, b.cluster, "a"))
}

// U3: another forwarder's open transaction holds back the readers of the positions
// topic. Our position is found behind it at once.
func TestPositionBehindOpenTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		defer func() { b.end() }()
		other, err := kgo.NewClient(kgo.SeedBrokers(b.cluster.ListenAddrs()...), kgo.Dialer(b.wire.dial), kgo.TransactionalID("x"),
			kgo.TransactionTimeout(10*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		compact := "compact"
		if _, err := kadm.NewClient(other).CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &compact}, "tributary.positions"); err != nil {
			t.Fatal(err)
		}
		if err := other.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := other.ProduceSync(t.Context(), &kgo.Record{Topic: "tributary.positions", Key: []byte("x"), Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		for round := range 3 {
			stop := start(t, quick(t, b.config(), b.ledger, b.watch))
			b.ledger.fill("a", 10, 5)
			if took := b.waitFor("commit", time.Minute, committed(tributary.LSN(10*(round+1)))); took > 5*time.Second {
				t.Errorf("round %d took %v", round, took)
			}
			_ = stop()
		}
		if err := other.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
		checkExactlyOnce(t, b.ledger, readCommittedOver(t, b.wire, b.cluster, "a"))
	})
}

// U3: control records move the position, but not each with a transaction.
func TestControlRecordsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		defer func() { b.end() }()
		b.start(time.Minute)
		for range 20 {
			b.ledger.add(record.Record{Key: []byte("control")})
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // bubble time
		}
		if took := b.waitFor("commit", time.Minute, committed(20)); took < 5*time.Second || len(b.watch.commits) != 1 {
			t.Errorf("%d transactions, %v after the last of 20 control records; want one after %v", len(b.watch.commits), took, quiet)
		}
		b.ledger.add(record.Record{Key: []byte("control")})
		b.ledger.fill("a", 1, 1)
		if took := b.waitFor("commit", time.Minute, committed(22)); took > time.Second {
			t.Errorf("a record behind a control record took %v", took)
		}
	})
}
