package uplink

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

var (
	chaosSeed   = flag.Uint64("chaos.seed", 0, "seed of TestChaos; 0 draws one")
	chaosRounds = flag.Int("chaos.rounds", 150, "take-overs in each TestChaos")
)

// U1, U2, U3: forwarders of one ledger are killed, taken over while they still
// run, cut off after Kafka has applied what they asked, and given 28 kinds of
// errors, while others hold transactions open on the positions topic. With an odd
// seed the ledger loses groups all the time, which Kafka may have or not (U4).
// With the build tag break_fence this test must fail.
func TestChaos(t *testing.T) {
	for name, versions := range map[string]*kversion.Versions{"transaction.version=2": nil, "transaction.version=1": kversion.V3_7_0()} {
		t.Run(name, func(t *testing.T) {
			seed := *chaosSeed
			if seed == 0 {
				seed = rand.Uint64()
			}
			t.Logf("repeat with: go test ./sync/uplink -run '%s' -chaos.seed %d", t.Name(), seed)
			newChaos(t, seed, versions).run(*chaosRounds)
		})
	}
}

type chaos struct {
	t       *testing.T
	rng     *rand.Rand // of run's goroutine
	seed    uint64
	on      atomic.Bool // whether the broker cuts connections
	cuts    atomic.Int64
	faults  atomic.Int64
	cluster *kfake.Cluster
	ledger  *ledger
	gaps    bool // the ledger has them
	watch   *log // of the owners
}

func newChaos(t *testing.T, seed uint64, versions *kversion.Versions) *chaos {
	t.Helper()
	c := &chaos{t: t, rng: rand.New(rand.NewPCG(seed, 0)), seed: seed, ledger: newLedger(), gaps: seed%2 == 1, watch: newLog()}
	opts := []kfake.Opt{
		kfake.NumBrokers(3), kfake.SeedTopics(3, "a", "b", "noise", "dead"),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			return &chaosListener{l, c}, err
		}),
	}
	if versions != nil {
		opts = append(opts, kfake.MaxVersions(versions))
	}
	c.cluster = cluster(t, opts...)
	return c
}

func (c *chaos) config() Config {
	cfg := config(c.cluster)
	cfg.PositionsPartitions = 1 // all positions are in each other's way
	cfg.TransactionTimeout = 5 * time.Second
	return cfg
}

// run lets forwarders of one ledger follow one another, and checks in the end.
func (c *chaos) run(rounds int) {
	background, cancel := context.WithCancel(c.t.Context())
	var others sync.WaitGroup
	for i, f := range []func(context.Context, *rand.Rand){c.otherLedger, c.otherLedger, c.moveLeaders, c.injectFaults, c.loseGroups} {
		rng := rand.New(rand.NewPCG(c.seed, uint64(i+1)))
		others.Go(func() { f(background, rng) })
	}
	c.on.Store(true)
	began := time.Now()
	var owners sync.WaitGroup
	for range rounds {
		for range 1 + c.rng.IntN(4) {
			c.ledger.fill([]string{"a", "b"}[c.rng.IntN(2)], 5+c.rng.IntN(60), 1+c.rng.IntN(40))
		}
		c.owner(&owners)
	}
	owners.Wait()
	took := time.Since(began)
	c.on.Store(false)
	cancel()
	others.Wait()
	c.ledger.close()
	drain(c.t, c.config(), c.ledger)

	got := readCommitted(c.t, c.cluster.ListenAddrs(), "a", "b", "dead")
	all := consume(c.t, c.cluster.ListenAddrs(), kgo.ReadUncommitted(), []string{"a", "b", "dead"})
	gaps, gone, inside := 0, uint64(0), 0
	for _, r := range got {
		if note, ok := readGap(c.t, r); ok {
			gaps++
			gone += note.Count
			if note.Streams == nil {
				inside++
			}
		}
	}
	c.t.Logf("%d take-overs in %v: %d records, %d transactions, %d aborted copies, %d cut connections, %d injected errors; %d gaps of %d records, %d of them the rest of one",
		rounds, took.Round(time.Millisecond), len(got)-gaps, len(c.watch.commits), len(all)-len(got), c.cuts.Load(), c.faults.Load(), gaps, gone, inside)
	checkExactlyOnce(c.t, c.ledger, got)
	if len(c.watch.commits) < rounds/10 || c.gaps && gaps == 0 {
		c.t.Error("hardly anything was committed during the chaos: this run proves little")
	}
}

// owner starts a forwarder and lets it live for a while. Half of them go on
// beside their successor for a while longer. All end as by kill -9.
func (c *chaos) owner(owners *sync.WaitGroup) {
	w := &wire{}
	cfg := c.config()
	cfg.Dial = w.dial
	if !c.gaps {
		cfg.DeadLetter = "" // injected errors are no reason to give a record up
	}
	f := quick(c.t, cfg, c.ledger, c.watch)
	f.cfg.BatchBytes = 1 << c.rng.IntN(14) // small transactions, and many
	f.room = f.cfg.BatchBytes
	ctx, cancel := context.WithCancel(c.t.Context())
	life := time.Duration(5+c.rng.IntN(110)) * time.Millisecond
	zombie := time.Duration(0)
	if c.rng.IntN(2) == 0 {
		zombie = time.Duration(c.rng.IntN(200)) * time.Millisecond
	}
	owners.Go(func() {
		if err := f.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			c.t.Errorf("a forwarder gave up: %v", err)
		}
	})
	<-time.After(life)
	owners.Go(func() {
		<-time.After(zombie)
		w.kill()
		cancel()
	})
}

// otherLedger keeps a transaction open on the positions topic now and then.
func (c *chaos) otherLedger(ctx context.Context, rng *rand.Rand) {
	l := newLedger()
	for ctx.Err() == nil {
		l.fill("noise", 300, 5)
		f := quick(c.t, c.config(), l, newLog())
		f.cfg.BatchBytes = 1 << 10
		f.room = f.cfg.BatchBytes
		short, cancel := context.WithTimeout(ctx, time.Duration(50+rng.IntN(200))*time.Millisecond)
		_ = f.run(short)
		cancel()
	}
}

func (c *chaos) moveLeaders(ctx context.Context, rng *rand.Rand) {
	for every(ctx, 150*time.Millisecond) {
		topic := []string{"a", "b"}[rng.IntN(2)]
		_ = c.cluster.MoveTopicPartition(topic, rng.Int32N(3), rng.Int32N(3))
		if rng.IntN(4) == 0 {
			c.cluster.RehashCoordinators()
		}
	}
}

func (c *chaos) loseGroups(ctx context.Context, rng *rand.Rand) {
	for c.gaps && every(ctx, 30*time.Millisecond) {
		c.ledger.loseSome(rng, c.watch)
	}
}

// loseSome makes a gap as a store does that knows of Kafka only an earlier
// position: what it gives up may be in Kafka, on its way or not yet read.
func (l *ledger) loseSome(rng *rand.Rand, watch *log) {
	known := tributary.LSN(0)
	watch.holds(func(commits []Commit, _ []Status) bool {
		for _, c := range commits {
			known = max(known, c.Position.Next)
		}
		return true
	})
	known -= min(known, tributary.LSN(rng.IntN(100)))
	reason := record.Dropped
	if rng.IntN(2) == 0 {
		reason = record.Damaged
		known += tributary.LSN(rng.IntN(100))
	}
	l.mu.Lock()
	first := slices.IndexFunc(l.groups, func(g record.Chunk) bool { return g.Next > known })
	if first < 0 {
		l.mu.Unlock()
		return
	}
	from, to := l.groups[first].From, l.groups[min(first+1+rng.IntN(6), len(l.groups))-1].Next
	l.mu.Unlock()
	l.drop(from, to, reason)
}

// injectFaults makes requests fail. With the errors marked so, the broker has
// done what was asked.
func (c *chaos) injectFaults(ctx context.Context, rng *rand.Rand) {
	kinds := []struct {
		key kmsg.Key
		err *kerr.Error
	}{
		{kmsg.InitProducerID, kerr.ConcurrentTransactions},
		{kmsg.InitProducerID, kerr.CoordinatorLoadInProgress},
		{kmsg.InitProducerID, kerr.NotCoordinator},
		{kmsg.EndTxn, kerr.ConcurrentTransactions},
		{kmsg.EndTxn, kerr.CoordinatorNotAvailable},
		{kmsg.EndTxn, kerr.UnknownServerError},
		{kmsg.EndTxn, kerr.TransactionAbortable},
		{kmsg.AddPartitionsToTxn, kerr.ConcurrentTransactions},
		{kmsg.AddPartitionsToTxn, kerr.NotCoordinator},
		{kmsg.Produce, kerr.ConcurrentTransactions},
		{kmsg.Produce, kerr.RequestTimedOut},              // applied
		{kmsg.Produce, kerr.NotEnoughReplicasAfterAppend}, // applied
		{kmsg.Produce, kerr.NotEnoughReplicas},
		{kmsg.Produce, kerr.NotLeaderForPartition},
		{kmsg.Produce, kerr.MessageTooLarge},
		{kmsg.Produce, kerr.InvalidRecord},
		{kmsg.Produce, kerr.InvalidTimestamp},
		{kmsg.Produce, kerr.TransactionAbortable},
		{kmsg.Produce, kerr.InvalidProducerEpoch},
		{kmsg.Produce, kerr.OutOfOrderSequenceNumber},
		{kmsg.Produce, kerr.UnknownServerError},
		{kmsg.FindCoordinator, kerr.CoordinatorNotAvailable},
		{kmsg.ListOffsets, kerr.NotLeaderForPartition},
		{kmsg.Fetch, kerr.NotLeaderForPartition},
		{kmsg.Fetch, kerr.UnknownServerError},
		{kmsg.Metadata, kerr.LeaderNotAvailable},
		{kmsg.DescribeConfigs, kerr.UnknownServerError},
		{kmsg.DescribeConfigs, kerr.TopicAuthorizationFailed},
	}
	for every(ctx, 15*time.Millisecond) {
		k := kinds[rng.IntN(len(kinds))]
		if c.gaps && isPoison(k.err) {
			continue // with a dead-letter topic, it is a reason
		}
		h := c.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{k.key}, Err: k.err, Count: 1 + rng.IntN(2)})
		every(ctx, 15*time.Millisecond)
		c.faults.Add(int64(h.Hits()))
		h.Remove()
	}
}

// every waits for d and reports whether ctx goes on.
func every(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// chaosListener cuts connections before a request is read, and after it was
// done and before the answer is written.
type chaosListener struct {
	net.Listener
	c *chaos
}

func (l *chaosListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	return &chaosConn{conn, l.c}, nil
}

type chaosConn struct {
	net.Conn
	c *chaos
}

const cutProbability = 0.01

func (c *chaosConn) Write(b []byte) (int, error) {
	if c.c.on.Load() && rand.Float64() < cutProbability {
		return 0, c.cut()
	}
	return c.Conn.Write(b)
}

func (c *chaosConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.c.on.Load() && rand.Float64() < cutProbability/4 {
		return 0, c.cut()
	}
	return n, err
}

func (c *chaosConn) cut() error {
	c.c.cuts.Add(1)
	_ = c.Conn.Close()
	return errors.New("cut")
}
