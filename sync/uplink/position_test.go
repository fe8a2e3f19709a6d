package uplink

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary"
)

// The bytes are fixed for ever: docs/format/positions.md.
func TestPositionBytes(t *testing.T) {
	p := position{Version: 1, Next: 1<<64 - 1, Chain: "00000000deadbeef", Node: "n1", KafkaClusterID: "c1", Transactions: 7}
	const want = `{"v":1,"next":18446744073709551615,"chain":"00000000deadbeef","node":"n1","kafka_cluster_id":"c1","txns":7}`
	if got := string(p.encode()); got != want {
		t.Errorf("encoded\n%s, want\n%s", got, want)
	}
	if got, err := decodePosition([]byte(want)); err != nil || got != p {
		t.Errorf("decoded %+v, %v", got, err)
	}
	if _, err := decodePosition([]byte(`{"v":1,"next":3,"chain":"00000000deadbeef","later":{"x":[1]}}`)); err != nil {
		t.Errorf("an unknown field: %v", err)
	}
}

// The partition of a key is the one that Java's default partitioner chooses. The
// hashes are those of Kafka's own UtilsTest.testMurmur2.
func TestHashPartition(t *testing.T) {
	for key, murmur2 := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		for _, n := range []int{1, 2, 16, 17} {
			if got, want := hashPartition(key, n), (murmur2&0x7fffffff)%int32(n); got != want {
				t.Errorf("%q is in partition %d of %d, want %d", key, got, n, want)
			}
		}
	}
}

// U3: what cannot be read is never "no position".
func FuzzDecodePosition(f *testing.F) {
	for _, seed := range []string{
		`{"v":1,"next":3,"chain":"00000000deadbeef"}`, `{"v":1,"next":-1,"chain":"00000000deadbeef"}`, `{"v":2,"next":3}`,
		`{"next":3,"chain":"00000000deadbeef"}`, `{"v":1,"chain":"00000000deadbeef"}`, `{"v":1,"next":3,"chain":"xyz"}`, `null`, `{}`, ``, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		p, err := decodePosition(value)
		if err != nil {
			return
		}
		if p.Version != 1 || len(p.Chain) != 16 || !strings.Contains(string(value), "\"") {
			t.Errorf("%q was read as %+v", value, p)
		}
		again, err := decodePosition(p.encode())
		if err != nil || again != p {
			t.Errorf("%+v came back as %+v, %v", p, again, err)
		}
	})
}

// put writes a position record as some other program would.
func put(t *testing.T, c *kfake.Cluster, partition int32, key string, value []byte) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	r := &kgo.Record{Topic: "tributary.positions", Partition: partition, Key: []byte(key), Value: value}
	if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func admin(t *testing.T, c *kfake.Cluster) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// U1, U3: whatever contradicts what Kafka said before, or what the ledger says,
// stops the forwarding; nothing is sent.
func TestStopped(t *testing.T) {
	const clusterID = "first"
	good := func(l *ledger) position {
		chain, _ := l.ChainAt(10)
		return position{Version: 1, Next: 10, Chain: fmt.Sprintf("%016x", chain), KafkaClusterID: clusterID}
	}
	for name, do := range map[string]struct {
		change func(p *position, l *ledger, cfg *Config) (value []byte)
		want   string // in the error; "" when it is not to stop
	}{
		"as it should be": {func(*position, *ledger, *Config) []byte { return nil }, ""},
		"another chain":   {func(p *position, _ *ledger, _ *Config) []byte { p.Chain = "0123456789abcdef"; return nil }, "not the same"},
		"not a boundary":  {func(p *position, _ *ledger, _ *Config) []byte { p.Next = 11; return nil }, "not the end of a group"},
		"beyond the end":  {func(p *position, l *ledger, _ *Config) []byte { p.Next, l.closed = 1000, false; return nil }, "beyond what its disk holds"},
		"another cluster": {func(p *position, _ *ledger, _ *Config) []byte { p.KafkaClusterID = "second"; return nil }, "written in Kafka cluster second"},
		"cluster changed": {func(_ *position, _ *ledger, cfg *Config) []byte { cfg.KafkaClusterID = "second"; return nil }, "has forwarded to cluster second"},
		"went back":       {func(_ *position, _ *ledger, cfg *Config) []byte { cfg.Hint = 20; return nil }, "had been committed up to 20"},
		"trimmed":         {func(_ *position, l *ledger, _ *Config) []byte { l.from = 20; return nil }, "holds it only from 20"},
		"newer program":   {func(*position, *ledger, *Config) []byte { return []byte(`{"v":2,"next":10}`) }, "version 2"},
		"garbage":         {func(*position, *ledger, *Config) []byte { return []byte(`x`) }, "cannot be read"},
		"tombstone":       {func(*position, *ledger, *Config) []byte { return []byte{} }, "tombstone"},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.ClusterID(clusterID), kfake.NumBrokers(1), kfake.SeedTopics(4, "a"))
			cfg := config(c)
			drain(t, cfg, closed(newLedger())) // makes the topic
			l := newLedger()
			l.fill("a", 30, 10)
			l.close()
			p := good(l)
			value := do.change(&p, l, &cfg)
			switch {
			case value == nil:
				value = p.encode()
			case len(value) == 0:
				value = nil
			}
			key := "plant/" + l.id.String()
			put(t, c, hashPartition(key, 16), key, value)

			err := quick(t, cfg, l, newLog()).run(t.Context())
			if do.want == "" {
				if err != nil || len(readCommitted(t, c.ListenAddrs(), "a")) != 20 {
					t.Errorf("%v; want the 20 records after the position", err)
				}
				return
			}
			var stopped *StoppedError
			if !errors.As(err, &stopped) || !strings.Contains(err.Error(), do.want) || stopped.Do == "" {
				t.Errorf("got %v; want to be stopped with %q and told what to do", err, do.want)
			}
			if n := len(readCommitted(t, c.ListenAddrs(), "a")); n != 0 {
				t.Errorf("%d records were sent", n)
			}
		})
	}
}

func closed(l *ledger) *ledger {
	l.close()
	return l
}

// U1: absent is not zero. A position that was there and is not any more is no
// reason to begin again.
func TestAbsentIsNotZero(t *testing.T) {
	c := cluster(t)
	l := newLedger()
	l.fill("a", 30, 10)
	watch := newLog()
	stop := start(t, quick(t, config(c), l, watch))
	watch.until(t, "commit", committed(30))
	_ = stop()
	if _, err := admin(t, c).DeleteTopic(t.Context(), "tributary.positions"); err != nil {
		t.Fatal(err)
	}
	l.fill("a", 10, 10)
	l.close()
	cfg := config(c)
	cfg.Hint = 30
	err := quick(t, cfg, l, newLog()).run(t.Context())
	if !errors.As(err, new(*StoppedError)) {
		t.Errorf("got %v; want to be stopped", err)
	}
	l.from = 10 // the hint is lost as well, but the log was trimmed
	err = quick(t, config(c), l, newLog()).run(t.Context())
	if !errors.As(err, new(*StoppedError)) {
		t.Errorf("got %v; want to be stopped", err)
	}
	if n := len(readCommitted(t, c.ListenAddrs(), "a")); n != 30 {
		t.Errorf("%d records in Kafka; want the first 30 only", n)
	}
}

// U1, U3: the position survives compaction, many positions of others after it,
// aborted transactions at the end, and more partitions.
func TestPositionIsFound(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "a"))
	cfg := config(c)
	cfg.PositionsPartitions = 2
	l := newLedger()
	forward := func() {
		l.fill("a", 30, 5)
		watch := newLog()
		stop := start(t, quick(t, cfg, l, watch))
		watch.until(t, "commit", committed(l.end()))
		_ = stop()
		checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
	}
	forward()
	home := hashPartition("plant/"+l.id.String(), 2)
	fillPositions(t, c, home, 3*firstWindow)
	forward()
	c.Compact()
	forward()
	leaveAborted(t, c, home)
	forward()

	// 16 partitions, and the key hashes to another one.
	if _, err := admin(t, c).CreatePartitions(t.Context(), 14, "tributary.positions"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		forward()
	}
	for _, r := range readCommitted(t, c.ListenAddrs(), "tributary.positions") {
		if string(r.Key) == "plant/"+l.id.String() && r.Partition != home {
			t.Errorf("the position was written to partition %d, and lives in %d", r.Partition, home)
		}
	}
}

// fillPositions appends positions of n other ledgers.
func fillPositions(t *testing.T, c *kfake.Cluster, partition int32, n int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(2048))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for range n {
		r := &kgo.Record{Topic: "tributary.positions", Partition: partition, Key: []byte("plant/" + tributary.NewLedgerID().String()), Value: []byte("{}")}
		cl.Produce(t.Context(), r, nil)
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// leaveAborted appends an aborted transaction.
func leaveAborted(t *testing.T, c *kfake.Cluster, partition int32) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		cl.Produce(t.Context(), &kgo.Record{Topic: "tributary.positions", Partition: partition, Key: []byte("x"), Value: []byte("x")}, nil)
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}

// abortedPosition makes a positions partition of more than one fetch: position 10
// of l, committed; position 20, aborted; and then much of others.
func abortedPosition(t *testing.T, cfg Config, topic string, l *ledger) {
	t.Helper()
	key := cfg.positionKey(l.id)
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(key),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	transaction := func(how kgo.TransactionEndTry, records ...*kgo.Record) {
		t.Helper()
		err := cl.BeginTransaction()
		if err == nil {
			err = cl.ProduceSync(t.Context(), records...).FirstErr()
		}
		if err == nil {
			err = cl.EndTransaction(t.Context(), how)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(next tributary.LSN) *kgo.Record {
		chain, _ := l.ChainAt(next)
		return &kgo.Record{
			Topic: topic, Key: []byte(key),
			Value: position{Version: 1, Next: uint64(next), Chain: fmt.Sprintf("%016x", chain)}.encode(),
		}
	}
	transaction(kgo.TryCommit, at(10))
	transaction(kgo.TryAbort, at(20))
	for range 3 * fetchBytes / (100 << 10) {
		transaction(kgo.TryCommit, &kgo.Record{Topic: topic, Key: []byte("another"), Value: make([]byte, 100<<10)})
	}
}

// U1: an aborted position does not count, also when the partition is more than
// one fetch.
func TestAbortedPositionFarBack(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cfg := config(c)
	cfg.PositionsPartitions = 1
	drain(t, cfg, closed(newLedger())) // makes the topic
	l := newLedger()
	l.fill("a", 30, 10)
	l.close()
	abortedPosition(t, cfg, "tributary.positions", l)
	drain(t, cfg, l)
	if n := len(readCommitted(t, c.ListenAddrs(), "a")); n != 20 {
		t.Errorf("%d records were sent, want the 20 after the position that was committed", n)
	}
}

// What makes kfake lie to TestAbortedPositionFarBack when fetch does not see to
// it: if this test fails, kfake has changed, and fetch need not be careful. Kafka
// lists the aborted transactions of what it returns, whatever ended the answer:
// TestRealAbortedList.
func TestAbortedListTrap(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "positions"))
	l := newLedger()
	l.fill("a", 30, 10)
	abortedPosition(t, config(c), "positions", l)
	whole, part := listed(t, config(c), "positions")
	if whole != 0 || part != 1 {
		t.Errorf("%d aborted transactions are listed when the answer is full as a whole, %d when it is full for its partition; want 0 and 1", whole, part)
	}
}

// listed returns how many aborted transactions Kafka lists in an answer that is
// full as a whole, and in one that is full for its only partition.
func listed(t *testing.T, cfg Config, topic string) (whole, part int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	topics, err := kadm.NewClient(cl).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(maxBytes int32) int {
		p := kmsg.NewFetchRequestTopicPartition()
		p.PartitionMaxBytes = fetchBytes
		of := kmsg.NewFetchRequestTopic()
		of.Topic, of.TopicID = topic, topics[topic].ID
		of.Partitions = append(of.Partitions, p)
		req := kmsg.NewPtrFetchRequest()
		req.MaxBytes, req.MinBytes, req.IsolationLevel, req.SessionEpoch = maxBytes, 1, 1, -1
		req.Topics = append(req.Topics, of)
		kresp, err := cl.Broker(int(topics[topic].Partitions[0].Leader)).RetriableRequest(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		got := kresp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if len(got.RecordBatches) < fetchBytes/2 {
			t.Fatalf("%d bytes came, error code %d; want about %d", len(got.RecordBatches), got.ErrorCode, fetchBytes)
		}
		return len(got.AbortedTransactions)
	}
	return fetch(fetchBytes), fetch(2 * fetchBytes)
}
