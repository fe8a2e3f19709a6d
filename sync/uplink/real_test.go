//go:build kafka

package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// These tests run against the Apache Kafka at $KAFKA (host:port):
//
//	deploy/kafka-dev/kafka.sh up && KAFKA=127.0.0.1:9092 go test -tags kafka ./sync/uplink -run Real
//
// They are for what kfake is kinder about: CONCURRENT_TRANSACTIONS, stale epochs,
// and what Kafka's LogValidator refuses.

// realKafka returns a config for the Kafka at $KAFKA, with topics of its own.
func realKafka(t testing.TB) (cfg Config, topic func(string) string, kafka *kadm.Client) {
	t.Helper()
	broker := os.Getenv("KAFKA")
	if broker == "" {
		t.Skip("NOT RUN: set KAFKA to the host:port of a real Kafka")
	}
	run := fmt.Sprintf("%08x", rand.Uint32())
	topic = func(name string) string { return "test-" + run + "-" + name }
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	cfg = Config{
		Brokers: []string{broker}, Site: "test-" + run, Node: "n1", CreateTopics: true, Partitions: 3, ReplicationFactor: 1,
		PositionsTopic: topic("positions"), PositionsPartitions: 2, DeadLetter: topic("dead"),
	}
	return cfg, topic, kadm.NewClient(cl)
}

func create(t testing.TB, kafka *kadm.Client, topic string, partitions int32, config ...string) {
	t.Helper()
	m := map[string]*string{}
	for _, c := range config {
		key, value, _ := strings.Cut(c, "=")
		m[key] = &value
	}
	if _, err := kafka.CreateTopic(t.Context(), partitions, 1, m, topic); err != nil {
		t.Fatal(err)
	}
}

// U1, U2, U3: forwarders are killed and taken over in the middle of their
// transactions, and go on beside their successors. With an odd seed the ledger
// loses groups meanwhile, which Kafka may have or not (U4).
func TestRealTakeOver(t *testing.T) {
	cfg, topic, kafka := realKafka(t)
	create(t, kafka, topic("a"), 3)
	create(t, kafka, topic("b"), 3)
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with: -chaos.seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	create(t, kafka, topic("dead"), 1)
	l, watch := newLedger(), newLog()
	var owners sync.WaitGroup
	for range *chaosRounds / 3 {
		for range 1 + rng.IntN(4) {
			l.fill(topic([]string{"a", "b"}[rng.IntN(2)]), 5+rng.IntN(60), 1+rng.IntN(40))
		}
		w := &wire{}
		own := cfg
		own.Dial = w.dial
		f := quick(t, own, l, watch)
		f.cfg.BatchBytes = 1 << rng.IntN(14)
		f.room = f.cfg.BatchBytes
		ctx, cancel := context.WithCancel(t.Context())
		owners.Go(func() {
			if err := f.run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("a forwarder gave up: %v", err)
			}
		})
		<-time.After(time.Duration(50+rng.IntN(400)) * time.Millisecond)
		if seed%2 == 1 {
			l.loseSome(rng, watch)
		}
		zombie := time.Duration(rng.IntN(2)*rng.IntN(300)) * time.Millisecond
		owners.Go(func() {
			<-time.After(zombie)
			w.kill()
			cancel()
		})
	}
	owners.Wait()
	l.close()
	drain(t, cfg, l)
	got := readCommitted(t, cfg.Brokers, topic("a"), topic("b"), topic("dead"))
	all := consume(t, cfg.Brokers, kgo.ReadUncommitted(), []string{topic("a"), topic("b"), topic("dead")})
	t.Logf("%d records, %d transactions, %d aborted copies, %d gaps", len(got), len(watch.commits), len(all)-len(got), len(notes(t, got)))
	checkExactlyOnce(t, l, got)
}

// Kafka lists the aborted transactions of what it returns, whatever ended the
// answer. kfake does not: TestAbortedListTrap.
func TestRealAbortedList(t *testing.T) {
	cfg, topic, kafka := realKafka(t)
	create(t, kafka, topic("full"), 1)
	l := newLedger()
	l.fill("a", 30, 10)
	abortedPosition(t, cfg, topic("full"), l)
	if whole, part := listed(t, cfg, topic("full")); whole != 1 || part != 1 {
		t.Errorf("%d aborted transactions are listed when the answer is full as a whole, %d when it is full for its partition; want 1 and 1", whole, part)
	}
}

// A successor takes over an open transaction: Kafka answers
// CONCURRENT_TRANSACTIONS until it has aborted it.
func TestRealTakeOverOfOpenTransaction(t *testing.T) {
	cfg, topic, kafka := realKafka(t)
	create(t, kafka, topic("a"), 3)
	l := newLedger()
	for round := range 5 {
		l.fill(topic("a"), 100, 10)
		opts, err := options(must(cfg.withDefaults()), l.id, newPoison(defaultMaxMessageBytes).limit)
		if err != nil {
			t.Fatal(err)
		}
		dead, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		if err := dead.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := dead.ProduceSync(t.Context(), &kgo.Record{Topic: topic("a"), Value: []byte("half")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		began, watch := time.Now(), newLog()
		stop := start(t, quick(t, cfg, l, watch))
		watch.until(t, "commit", committed(tributary.LSN(100*(round+1))))
		took := time.Since(began)
		_ = stop()
		t.Logf("taken over and committed after %v; states %d, failed %d", took.Round(time.Millisecond), len(watch.states), watch.last(t).Counters.Failed)
		if err := dead.EndTransaction(t.Context(), kgo.TryCommit); err == nil {
			t.Error("the one that was taken over could commit")
		}
		dead.Close()
		if took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	}
	for _, r := range readCommitted(t, cfg.Brokers, topic("a")) {
		if string(r.Value) == "half" {
			t.Error("half a transaction was committed")
		}
	}
	checkExactlyOnce(t, l, readCommitted(t, cfg.Brokers, topic("a")))
}

func must(c Config, err error) Config {
	if err != nil {
		panic(err)
	}
	return c
}

// U1, U2, U4: what Kafka's own validation refuses: a record without a key for a
// compacted topic, records larger than a topic takes, a name no topic can have.
func TestRealPoison(t *testing.T) {
	cfg, topic, kafka := realKafka(t)
	create(t, kafka, topic("compacted"), 2, "cleanup.policy=compact")
	create(t, kafka, topic("small"), 1, "max.message.bytes=10000")
	create(t, kafka, topic("dead"), 1, "max.message.bytes=30000")
	l := newLedger()
	for i := range 300 {
		r := record.Record{Stream: topic("compacted"), Millis: time.Now().UnixMilli(), Key: []byte(fmt.Sprint("k", i)), Value: []byte("v")}
		switch {
		case i == 77 || i == 211:
			r.Key = nil
		case i == 100 || i == 101:
			r.Stream, r.Value = topic("small"), noise(20000)
		case i == 102:
			r.Stream, r.Value = topic("small"), noise(100000)
		case i%3 == 0:
			r.Stream, r.Value = topic("small"), noise(1000)
		case i == 250:
			r.Stream = "no/such"
		}
		l.add(r)
	}
	l.close()
	drain(t, cfg, l)
	dead := map[string]string{}
	cut := 0
	for _, r := range readCommitted(t, cfg.Brokers, topic("dead")) {
		dead[header(r, headerLSN)] += header(r, headerDeadReason)
		if header(r, headerDeadSize) == "100000" && len(r.Value) > 5000 {
			cut++
		}
	}
	want := map[string]string{
		"77": "INVALID_RECORD", "211": "INVALID_RECORD", "100": "MESSAGE_TOO_LARGE", "101": "MESSAGE_TOO_LARGE", "102": "MESSAGE_TOO_LARGE",
		"250": "INVALID_TOPIC_EXCEPTION",
	}
	if fmt.Sprint(dead) != fmt.Sprint(want) || cut != 1 {
		t.Errorf("dead letters %v, want %v; %d cut, want 1", dead, want, cut)
	}
	if n := len(readCommitted(t, cfg.Brokers, topic("compacted"), topic("small"))); n != 300-len(want) {
		t.Errorf("%d records are where they belong, want %d", n, 300-len(want))
	}
}

// U4: records of clocks that were far behind and far ahead, or were put right, are
// taken by a topic with Kafka's default settings, and the header has what was
// logged. A stricter topic gets the present time.
func TestRealTimes(t *testing.T) {
	cfg, topic, kafka := realKafka(t)
	create(t, kafka, topic("strict"), 1, "message.timestamp.after.max.ms=60000", "message.timestamp.before.max.ms=3600000")
	l := newLedger()
	const minute = 60_000
	now := time.Now().UnixMilli()
	for _, stream := range []string{topic("default"), topic("strict")} {
		l.timed(stream, 1, 0)
		l.timed(stream, now-30*minute, 0)
		l.timed(stream, now+90*minute, 0)
		l.timed(stream, now-20*minute, 5)
		l.timed(stream, now+10*minute, 5)
	}
	l.close()
	watch := drain(t, cfg, l)
	got := readCommitted(t, cfg.Brokers, topic("default"), topic("strict"))
	checkExactlyOnce(t, l, got)
	checkTimes(t, got, map[string][2]int64{
		"0": {1, 0}, "1": {now - 30*minute, 0}, "2": {0, now + 90*minute}, "3": {now - 20*minute, 5}, "4": {now + 10*minute, 5},
		"5": {0, 1}, "6": {now - 30*minute, 0}, "7": {0, now + 90*minute}, "8": {now - 20*minute, 5}, "9": {0, 5},
	})
	if n := watch.commits[len(watch.commits)-1].DeadLetters; n != 0 || len(got) != 10 {
		t.Errorf("%d records and %d dead letters, want 10 and none", len(got), n)
	}
}

// U1, U3, U4: gaps in the middle, around the position and at the end of a ledger
// are told of once.
func TestRealGap(t *testing.T) {
	cfg, topic, kafka := realKafka(t)
	create(t, kafka, topic("a"), 3)
	create(t, kafka, topic("dead"), 1)
	l, watch := newLedger(), newLog()
	stop := start(t, quick(t, cfg, l, watch))
	l.fill(topic("a"), 50, 10)
	watch.until(t, "commit", committed(50))
	_ = stop()
	l.fill(topic("a"), 100, 10)
	l.drop(30, 80, record.Dropped)
	l.drop(100, 110, record.Damaged)
	l.drop(130, 150, record.Damaged)
	l.close()
	for range 2 {
		drain(t, cfg, l)
		got := readCommitted(t, cfg.Brokers, topic("a"), topic("dead"))
		checkExactlyOnce(t, l, got)
		if got := ranges(notes(t, got)); got != "[50,80)[100,110)[130,150)" {
			t.Errorf("gaps %s", got)
		}
	}
}

// U4: a missing topic, and then one that is there.
func TestRealTopicMissing(t *testing.T) {
	cfg, topic, kafka := realKafka(t)
	cfg.CreateTopics = false
	create(t, kafka, cfg.PositionsTopic, 2, "cleanup.policy=compact")
	create(t, kafka, cfg.DeadLetter, 1)
	cfg.TopicGrace = 2 * time.Second
	l, watch := newLedger(), newLog()
	stop := start(t, quick(t, cfg, l, watch))
	l.fill(topic("b"), 10, 10)
	watch.until(t, "sentence", says("is missing: UNKNOWN_TOPIC_OR_PARTITION", "kafka-topics"))
	watch.until(t, "commit", committed(10))
	create(t, kafka, topic("b"), 1)
	<-time.After(cfg.TopicGrace)
	l.fill(topic("b"), 10, 10)
	watch.until(t, "commit", committed(20))
	_ = stop()
	if n := len(readCommitted(t, cfg.Brokers, topic("dead"))); n != 10 {
		t.Errorf("%d dead letters, want 10", n)
	}
	checkExactlyOnce(t, l, readCommitted(t, cfg.Brokers, topic("b"), topic("dead")))
}

// U4: a topic that may be seen and not written to. It needs an authorizer, as
// with KAFKA_ACL=1 deploy/kafka-dev/kafka.sh up.
func TestRealTopicForbidden(t *testing.T) {
	cfg, topic, kafka := realKafka(t)
	create(t, kafka, topic("b"), 1)
	deny := kadm.NewACLs().Topics(topic("b")).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpWrite).Deny("User:ANONYMOUS").DenyHosts()
	allow := kadm.NewACLs().Topics(topic("b")).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpDescribe).Allow("User:ANONYMOUS").AllowHosts()
	for _, acl := range []*kadm.ACLBuilder{deny, allow} {
		results, err := kafka.CreateACLs(t.Context(), acl)
		if err != nil || results[0].Err != nil {
			t.Skipf("NOT RUN: this Kafka has no ACLs: %v %v", err, results)
		}
	}
	cfg.TopicGrace = 2 * time.Second
	l, watch := newLedger(), newLog()
	stop := start(t, quick(t, cfg, l, watch))
	l.fill(topic("b"), 10, 10)
	l.fill(topic("a"), 10, 10)
	watch.until(t, "sentence", says("TOPIC_AUTHORIZATION_FAILED", "kafka-acls"))
	watch.until(t, "commit", committed(20))
	_ = stop()
	if n := len(readCommitted(t, cfg.Brokers, topic("dead"))); n != 10 {
		t.Errorf("%d dead letters, want 10", n)
	}
	checkExactlyOnce(t, l, readCommitted(t, cfg.Brokers, topic("a"), topic("dead")))
}

// A probe of the real Kafka, before a topic may be written to and after.
func TestRealProbe(t *testing.T) {
	cfg, topic, kafka := realKafka(t)
	create(t, kafka, topic("a"), 1)
	create(t, kafka, topic("b"), 1)
	deny := kadm.NewACLs().Topics(topic("b")).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpWrite).Deny("User:ANONYMOUS").DenyHosts()
	ids := kadm.NewACLs().TransactionalIDs("tributary." + cfg.Site + ".").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpWrite).Deny("User:ANONYMOUS").DenyHosts()
	allow := kadm.NewACLs().Topics(topic("b")).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpDescribe).Allow("User:ANONYMOUS").AllowHosts()
	for _, acl := range []*kadm.ACLBuilder{deny, allow} {
		if results, err := kafka.CreateACLs(t.Context(), acl); err != nil || results[0].Err != nil {
			t.Skipf("NOT RUN: this Kafka has no ACLs: %v %v", err, results)
		}
	}
	found := Probe(t.Context(), cfg, []string{topic("a"), topic("b"), topic("c")})
	for _, thing := range []string{"connection", "transactions", "topic " + topic("a")} {
		if f := about(t, found, thing); f.Bad || f.Later {
			t.Errorf("%+v, should be good", f)
		}
	}
	if f := about(t, found, "topic "+topic("b")); !f.Bad || !strings.Contains(f.Do, "kafka-acls") || !strings.Contains(f.Do, "--topic "+topic("b")) {
		t.Errorf("%+v, should name kafka-acls", f)
	}
	if f := about(t, found, "topic "+topic("c")); f.Bad || !f.Later {
		t.Errorf("%+v, should come later", f)
	}
	if n := len(readCommitted(t, cfg.Brokers, topic("a"))); n > 0 {
		t.Errorf("readers see %d records", n)
	}
	if results, err := kafka.CreateACLs(t.Context(), ids); err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	if f := about(t, Probe(t.Context(), cfg, []string{topic("a")}), "transactions"); !f.Bad || !strings.Contains(f.Do, "--transactional-id tributary."+cfg.Site+".") {
		t.Errorf("%+v, should name the transactional ids", f)
	}
}
