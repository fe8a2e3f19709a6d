//go:build kafka

package uplink

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary"
)

var killRounds = flag.Int("kill.rounds", 6, "times that TestRealKafkaKilled kills Kafka")

// mortal is a real Kafka of the test's own, which it may kill.
type mortal struct {
	dir, port, ctrl string
	cmd             *exec.Cmd
}

func newMortal(t *testing.T) *mortal {
	t.Helper()
	k := &mortal{dir: t.TempDir()}
	for _, port := range []*string{&k.port, &k.ctrl} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, *port, _ = net.SplitHostPort(l.Addr().String())
		defer l.Close()
	}
	return k
}

func (k *mortal) addr() string { return "127.0.0.1:" + k.port }

// start starts it with the data it has; it does not wait until it answers.
func (k *mortal) start(t *testing.T) {
	t.Helper()
	out, err := os.OpenFile(filepath.Join(k.dir, "kafka.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	k.cmd = exec.Command("../../deploy/kafka-dev/kafka.sh", "run")
	k.cmd.Env = append(os.Environ(), "KAFKA_PORT="+k.port, "KAFKA_CTRL_PORT="+k.ctrl, "KAFKA_DIR="+k.dir, "KAFKA_ACL=",
		// Kafka's default: the longer a broker cannot come back, the more often it has
		// read what was being committed before its partitions lose their leader.
		"KAFKA_SESSION_MS=9000")
	k.cmd.Stdout, k.cmd.Stderr = out, out
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends it with SIGKILL.
func (k *mortal) kill() {
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
}

// lost counts the transactions whose markers it has skipped.
func (k *mortal) lost(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(k.dir, "kafka.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "Couldn't find leader endpoint")
}

// ender is a connection that tells when a transaction is being ended.
type ender struct {
	net.Conn
	ends chan<- struct{}
}

func (c ender) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if len(b) > 6 && int16(binary.BigEndian.Uint16(b[4:])) == kmsg.EndTxn.Int16() {
		select {
		case c.ends <- struct{}{}:
		default:
		}
	}
	return n, err
}

// counter is a log handler that counts what was ended by us.
type counter struct {
	slog.Handler
	mu    sync.Mutex // guards what follows
	ended map[string]int
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "commit" {
			c.mu.Lock()
			c.ended[a.Value.String()]++
			c.mu.Unlock()
		}
		return true
	})
	return nil
}

// U1, U2, U3: Kafka is killed while it ends a small transaction, again and again,
// and half of the times the forwarder with it. A Kafka of one broker that
// comes back skips the markers of a transaction that was being committed
// (KAFKA-20734): all goes on, and every record is there once.
func TestRealKafkaKilled(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with: -run TestRealKafkaKilled -chaos.seed %d -kill.rounds %d", seed, *killRounds)
	rng := rand.New(rand.NewPCG(seed, 0))
	k := newMortal(t)
	k.start(t)
	defer func() { k.kill() }()
	cfg := Config{Brokers: []string{k.addr()}, Site: "test", Node: "n1", CreateTopics: true, Partitions: 3, ReplicationFactor: 1, PositionsPartitions: 2}
	count := &counter{Handler: slog.DiscardHandler, ended: map[string]int{}}
	cfg.Logger = slog.New(count)
	l, watch := newLedger(), newLog()
	ends := make(chan struct{})
	forwarder := func() (stop func()) {
		w := &wire{}
		own := cfg
		own.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := w.dial(ctx, network, address)
			return ender{c, ends}, err
		}
		f := quick(t, own, l, watch)
		f.cfg.BatchBytes, f.room = 1<<10, 1<<10
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.run(ctx) }()
		return func() {
			w.kill()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("a forwarder gave up: %v", err)
			}
		}
	}
	await := func(next tributary.LSN, round int) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !watch.holds(committed(next)); <-time.After(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("record %d is not committed, round %d; last state %+v\nopen in Kafka:\n%s", next, round, watch.last(t), k.producers())
			}
		}
	}
	stop := forwarder()
	began := time.Now()
	for round := range *killRounds {
		at := l.end() + 100
		for l.end() < at+300 {
			l.fill([]string{"a", "b"}[rng.IntN(2)], 50, 1+rng.IntN(10))
		}
		await(at, round)
		select {
		case <-ends:
		case <-time.After(time.Minute):
			t.Fatal("no transaction was ended")
		}
		<-time.After(time.Duration(rng.IntN(20)) * time.Millisecond)
		k.kill()
		if rng.IntN(2) == 0 {
			stop()
			stop = forwarder()
		}
		k.start(t)
	}
	await(l.end(), *killRounds)
	stop()
	l.close()
	drain(t, cfg, l)
	checkExactlyOnce(t, l, readCommitted(t, cfg.Brokers, "a", "b"))
	t.Logf("%d kills in %v: %d records, %d transactions; Kafka has lost the ends of %d, and of these was ended here, by commit: %v",
		*killRounds, time.Since(began).Round(time.Second), l.end(), len(watch.commits), k.lost(t), count.ended)
}

// producers says what Kafka knows of open transactions.
func (k *mortal) producers() string {
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.addr()))
	if err != nil {
		return err.Error()
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := kadm.NewClient(cl).DescribeProducers(ctx, kadm.TopicsSet{"a": nil, "b": nil, "tributary.positions": nil})
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	for _, p := range all.SortedProducers() {
		if p.CurrentTxnStartOffset >= 0 {
			fmt.Fprintf(&out, "%+v\n", p)
		}
	}
	return out.String()
}
