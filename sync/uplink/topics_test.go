package uplink

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func says(what, do string) func([]Commit, []Status) bool {
	return func(_ []Commit, states []Status) bool {
		s := states[len(states)-1]
		return s.State == Waiting && strings.Contains(s.What, what) && strings.Contains(s.Do, do)
	}
}

// The positions topic is created compacted, and the topics of routes with the
// partitions that the config says.
func TestTopicsAreCreated(t *testing.T) {
	c := cluster(t)
	l := newLedger()
	l.fill("a", 10, 10)
	l.close()
	drain(t, config(c), l)
	configs, err := admin(t, c).DescribeTopicConfigs(t.Context(), "tributary.positions")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"cleanup.policy": "compact", "segment.bytes": "16777216", "segment.ms": "3600000", "min.cleanable.dirty.ratio": "0.1"}
	for _, c := range configs[0].Configs {
		if w, ok := want[c.Key]; ok && c.MaybeValue() != w {
			t.Errorf("%s=%s, want %s", c.Key, c.MaybeValue(), w)
		}
	}
	topics, err := admin(t, c).ListTopics(t.Context(), "a", "tributary.positions")
	if err != nil {
		t.Fatal(err)
	}
	if n, m := len(topics["a"].Partitions), len(topics["tributary.positions"].Partitions); n != 3 || m != 16 {
		t.Errorf("%d and %d partitions, want 3 and 16", n, m)
	}
}

// U3: a positions topic that forgets is refused; one that cannot be looked at is
// believed.
func TestPositionsTopicPolicy(t *testing.T) {
	c := cluster(t)
	seedTopic(t, c, "tributary.positions", "cleanup.policy", "compact,delete")
	l := newLedger()
	l.fill("a", 10, 10)
	l.close()
	var stopped *StoppedError
	if err := quick(t, config(c), l, newLog()).run(t.Context()); !errors.As(err, &stopped) || !strings.Contains(stopped.Do, "cleanup.policy=compact") {
		t.Errorf("got %v; want to be stopped and told the command", err)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	drain(t, config(c), l)
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
}

// Without leave to create topics, the sentence has the command; when somebody
// has run it, forwarding begins.
func TestPositionsTopicMissing(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "a"))
	l, watch := newLedger(), newLog()
	l.fill("a", 10, 10)
	cfg := config(c)
	cfg.CreateTopics = false
	stop := start(t, quick(t, cfg, l, watch))
	watch.until(t, "sentence", says("tributary.positions is missing", "--create --topic tributary.positions --partitions 16 --config cleanup.policy=compact"))
	seedTopic(t, c, "tributary.positions", "cleanup.policy", "compact")
	watch.until(t, "commit", committed(10))
	_ = stop()
}

// U1, U2, U4: a missing topic holds all up for TopicGrace; then only its own
// records go to the dead-letter topic, until it is there.
func TestTopicMissing(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "a", "dead"))
	seedTopic(t, c, "tributary.positions", "cleanup.policy", "compact")
	l, watch := newLedger(), newLog()
	cfg := config(c)
	cfg.CreateTopics = false
	cfg.TopicGrace = 300 * time.Millisecond
	stop := start(t, quick(t, cfg, l, watch))
	l.fill("a", 10, 10)
	watch.until(t, "commit", committed(10))
	l.fill("b", 10, 10)
	l.fill("a", 10, 10)
	watch.until(t, "sentence", says("topic b is missing: UNKNOWN_TOPIC_OR_PARTITION", "kafka-topics"))
	watch.until(t, "commit", committed(30))
	dead := deadLetters(t, c)
	if len(dead) != 10 || header(dead["10"], headerDeadReason) != "UNKNOWN_TOPIC_OR_PARTITION" || header(dead["10"], headerDeadTopic) != "b" {
		t.Errorf("%d dead letters", len(dead))
	}
	// It comes; not at once, but when it is looked at again.
	seedTopic(t, c, "b", "cleanup.policy", "delete")
	for i := 0; len(readCommitted(t, c.ListenAddrs(), "b")) == 0; i++ {
		if i > 100 {
			t.Fatal("the topic is there and gets nothing")
		}
		l.fill("b", 1, 1)
		watch.until(t, "commit", committed(l.end()))
		<-time.After(20 * time.Millisecond)
	}
	_ = stop()
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a", "b", "dead"))
}

// U1, U4: the same for a topic that may be seen and not written to. An old Kafka
// does not say so beforehand; then it is found out by trying.
func TestTopicForbidden(t *testing.T) {
	for name, versions := range map[string]*kversion.Versions{"told": nil, "found out": kversion.V2_5_0()} {
		t.Run(name, func(t *testing.T) {
			user := SASL{Mechanism: "scram-sha-256", User: "edge1", Password: "secret"}
			allow := func(kind kmsg.ACLResourceType, resource string, pattern kmsg.ACLResourcePatternType, ops ...kmsg.ACLOperation) (acls []kfake.ACL) {
				for _, op := range ops {
					acls = append(acls, kfake.ACL{Principal: "User:edge1", Resource: kind, Name: resource, Pattern: pattern, Operation: op, Allow: true})
				}
				return acls
			}
			topic, prefixed, literal := kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypePrefixed, kmsg.ACLResourcePatternTypeLiteral
			read, write, describe := kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe
			var acls []kfake.ACL
			acls = append(acls, allow(topic, "tributary.positions", literal, read, write, describe)...)
			acls = append(acls, allow(topic, "a", literal, write, describe)...)
			acls = append(acls, allow(topic, "dead", literal, write, describe)...)
			acls = append(acls, allow(topic, "b", literal, describe)...)
			acls = append(acls, allow(kmsg.ACLResourceTypeTransactionalId, "tributary.plant.", prefixed, write, describe)...)
			opts := []kfake.Opt{
				kfake.SeedTopics(1, "a", "b", "dead", "tributary.positions"), kfake.EnableSASL(), kfake.EnableACLs(),
				kfake.Superuser("SCRAM-SHA-256", "admin", "admin"), kfake.User("SCRAM-SHA-256", "edge1", "secret", acls...),
			}
			if versions != nil {
				opts = append(opts, kfake.MaxVersions(versions))
			}
			c := cluster(t, opts...)
			l, watch := newLedger(), newLog()
			cfg := config(c)
			cfg.CreateTopics, cfg.SASL = false, SASL{Mechanism: "scram-sha-256", User: "edge1", Password: "wrong"}
			stop := start(t, quick(t, cfg, l, watch))
			watch.until(t, "sentence", says("closes the connection", "password_file")) // as kfake does it; Kafka says so
			_ = stop()

			cfg.SASL = user
			cfg.TopicGrace = 300 * time.Millisecond
			cfg.BatchBytes = 64 << 10
			watch = newLog()
			stop = start(t, quick(t, cfg, l, watch))
			l.fill("a", 10, 10)
			watch.until(t, "commit", committed(10))
			l.fill("b", 10, 10)
			l.fill("a", 10, 10)
			watch.until(t, "sentence", says("refused topic b: TOPIC_AUTHORIZATION_FAILED",
				"--allow-principal User:edge1 --operation Write --operation Describe --operation DescribeConfigs --topic b"))
			watch.until(t, "commit", committed(30))
			_ = stop()
			if n := watch.commits[len(watch.commits)-1].DeadLetters; n != 10 {
				t.Errorf("%d dead letters, want 10", n)
			}
		})
	}
}

// Without the right to use transactions, the sentence has the command.
func TestTransactionsForbidden(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "a"))
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.TransactionalIDAuthorizationFailed, Count: -1})
	l, watch := newLedger(), newLog()
	stop := start(t, quick(t, config(c), l, watch))
	watch.until(t, "sentence", says("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "--transactional-id tributary.plant. --resource-pattern-type prefixed"))
	_ = stop()
}

// A Kafka that has no transactions is refused.
func TestNoTransactions(t *testing.T) {
	versions := kversion.V3_7_0()
	versions.SetMaxKeyVersion(int16(kmsg.InitProducerID), -1)
	c := cluster(t, kfake.SeedTopics(1, "a"), kfake.MaxVersions(versions))
	var stopped *StoppedError
	if err := quick(t, config(c), newLedger(), newLog()).run(t.Context()); !errors.As(err, &stopped) || !strings.Contains(stopped.What, "no transactions") {
		t.Errorf("got %v; want to be stopped", err)
	}
}

// U4: a topic name that Kafka could never have is a dead letter at once.
func TestTopicNameImpossible(t *testing.T) {
	c := cluster(t)
	l := newLedger()
	l.fill("no/such", 5, 5)
	l.fill("a", 5, 5)
	l.close()
	drain(t, config(c), l)
	dead := deadLetters(t, c)
	if len(dead) != 5 || header(dead["0"], headerDeadReason) != "INVALID_TOPIC_EXCEPTION" {
		t.Errorf("%d dead letters %v", len(dead), dead["0"])
	}
}
