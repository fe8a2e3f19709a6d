package uplink

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// noise is what zstd cannot shrink.
func noise(n int) []byte {
	rng := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = rng.Read(b)
	return b
}

// seedTopic creates a topic with one config value.
func seedTopic(t *testing.T, c *kfake.Cluster, topic, key, value string) {
	t.Helper()
	if _, err := admin(t, c).CreateTopic(t.Context(), 1, 1, map[string]*string{key: &value}, topic); err != nil {
		t.Fatal(err)
	}
}

// deadLetters returns what is in the dead-letter topic, by LSN.
func deadLetters(t *testing.T, c *kfake.Cluster) map[string]*kgo.Record {
	t.Helper()
	dead := map[string]*kgo.Record{}
	for _, r := range readCommitted(t, c.ListenAddrs(), "dead") {
		lsn := header(r, headerLSN)
		if dead[lsn] != nil {
			t.Errorf("record %s is in the dead-letter topic twice", lsn)
		}
		dead[lsn] = r
	}
	return dead
}

// U1, U2, U4: records that Kafka refuses for their content are found among the
// others, wherever they are, and are in the dead-letter topic, once; all others
// are where they belong, once, in order.
func TestPoisonInvalidRecord(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a", "b"))
	refuse(t, c, "poison")
	l := newLedger()
	poisoned := map[tributary.LSN]bool{0: true, 333: true, 334: true, 699: true}
	for range 70 {
		var g []record.Record
		for i := range 10 {
			lsn := l.end() + tributary.LSN(i)
			r := record.Record{Stream: "a", Millis: time.Now().UnixMilli(), Key: []byte(fmt.Sprint("k", lsn%5)), Value: []byte(fmt.Sprint("value ", lsn))}
			if lsn%3 == 0 {
				r.Stream = "b"
			}
			if poisoned[lsn] {
				r.Value = []byte("poison")
			}
			g = append(g, r)
		}
		l.add(g...)
	}
	l.close()
	watch := drain(t, config(c), l)

	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a", "b", "dead"))
	dead := deadLetters(t, c)
	for lsn := range poisoned {
		r := dead[fmt.Sprint(lsn)]
		if r == nil {
			t.Errorf("record %d is not in the dead-letter topic", lsn)
			continue
		}
		want := []string{"a", "b"}[map[bool]int{lsn%3 == 0: 1}[true]]
		if header(r, headerDeadReason) != "INVALID_RECORD" || header(r, headerDeadTopic) != want || string(r.Value) != "poison" {
			t.Errorf("dead letter %v %q", r.Headers, r.Value)
		}
	}
	if n := watch.commits[len(watch.commits)-1]; len(dead) != len(poisoned) || n.DeadLetters != len(poisoned) {
		t.Errorf("%d dead letters, %d counted, want %d", len(dead), n.DeadLetters, len(poisoned))
	}
}

// refuse makes a broker answer INVALID_RECORD to batches of topics other than
// "dead" that have word in a value.
func refuse(t *testing.T, c *kfake.Cluster, word string) {
	t.Helper()
	names := map[[16]byte]string{}
	topics, err := admin(t, c).ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, topic := range topics {
		names[topic.ID] = name
	}
	has := func(req kmsg.Request, topic string) bool {
		for _, rt := range req.(*kmsg.ProduceRequest).Topics {
			if name := rt.Topic + names[rt.TopicID]; name != topic {
				continue
			}
			for _, p := range rt.Partitions {
				fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{}, &kmsg.FetchResponseTopicPartition{RecordBatches: p.Records}, kgo.DefaultDecompressor(), nil)
				for _, r := range fp.Records {
					if string(r.Value) == word {
						return true
					}
				}
			}
		}
		return false
	}
	for name := range topics {
		c.Fault(kfake.Fault{
			Keys: []kmsg.Key{kmsg.Produce}, Topic: name, Err: kerr.InvalidRecord, Count: -1,
			When: func(req kmsg.Request) bool { return has(req, name) },
		})
	}
}

// U1, U4: a topic that takes only small messages gets smaller batches, and what
// is too large by itself is a dead letter, whole.
func TestPoisonTooLarge(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1))
	seedTopic(t, c, "small", "max.message.bytes", "10000")
	l := newLedger()
	for i := range 50 {
		r := record.Record{Stream: "small", Millis: time.Now().UnixMilli(), Key: []byte("k"), Value: noise(2000)}
		if i == 20 || i == 40 {
			r.Value = noise(20000)
		}
		l.add(r)
	}
	l.close()
	drain(t, config(c), l)
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "small", "dead"))
	dead := deadLetters(t, c)
	if len(dead) != 2 || dead["20"] == nil || dead["40"] == nil {
		t.Fatalf("dead letters %v; want records 20 and 40", dead)
	}
	if r := dead["20"]; header(r, headerDeadReason) != "MESSAGE_TOO_LARGE" || len(r.Value) != 20000 || header(r, headerDeadSize) != "" {
		t.Errorf("dead letter %v of %d bytes", r.Headers, len(r.Value))
	}
}

// The same where Kafka does not say how large a message may be.
func TestPoisonTooLargeUndescribed(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1))
	seedTopic(t, c, "small", "max.message.bytes", "10000")
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	l := newLedger()
	for i := range 50 {
		r := record.Record{Stream: "small", Millis: time.Now().UnixMilli(), Key: []byte("k"), Value: noise(500)}
		if i == 20 {
			r.Value = noise(20000)
		}
		l.add(r)
	}
	l.close()
	drain(t, config(c), l)
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "small", "dead"))
	if dead := deadLetters(t, c); len(dead) != 1 || dead["20"] == nil {
		t.Errorf("dead letters %v; want record 20", dead)
	}
}

// U4: a record that not even the dead-letter topic takes is cut, and says so.
func TestPoisonCut(t *testing.T) {
	for name, limit := range map[string]string{"dead": "5000", "client": ""} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(1))
			cfg := config(c)
			if limit != "" {
				seedTopic(t, c, "dead", "max.message.bytes", limit)
				seedTopic(t, c, "a", "max.message.bytes", "10000")
			} else {
				cfg.MaxMessageBytes = 10000
			}
			l := newLedger()
			l.fill("a", 5, 5)
			l.add(record.Record{Stream: "a", Key: []byte("k"), Value: noise(50000), Headers: []record.Header{{Key: "mqtt.topic", Value: []byte("t")}}})
			l.add(record.Record{Stream: "a", Key: []byte("k"), Value: []byte("v"), Headers: []record.Header{{Key: "huge", Value: noise(50000)}}})
			l.fill("a", 5, 5)
			l.close()
			drain(t, cfg, l)
			if n := len(readCommitted(t, c.ListenAddrs(), "a")); n != 10 {
				t.Errorf("%d records in their topic, want 10", n)
			}
			dead := deadLetters(t, c)
			if len(dead) != 2 {
				t.Fatalf("%d dead letters, want 2", len(dead))
			}
			r := dead["5"]
			if header(r, headerDeadSize) != "50000" || !strings.HasPrefix(string(noise(50000)), string(r.Value)) || len(r.Value) < 1000 || header(r, "mqtt.topic") != "t" {
				t.Errorf("dead letter of %d bytes, headers %v", len(r.Value), r.Headers)
			}
			r = dead["6"]
			if header(r, headerDeadSize) != "1" || header(r, "huge") != "" || string(r.Key) != "k" || header(r, headerDeadTopic) != "a" {
				t.Errorf("dead letter %q of %d bytes, headers %v", r.Key, len(r.Value), r.Headers)
			}
		})
	}
}

// U4: without a dead-letter topic, poison is waited for, and says what it is.
func TestPoisonWithoutDeadLetter(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	refuse(t, c, "poison")
	l, watch := newLedger(), newLog()
	l.fill("a", 10, 10)
	l.add(record.Record{Stream: "a", Value: []byte("poison")})
	l.fill("a", 10, 10)
	cfg := config(c)
	cfg.DeadLetter = ""
	stop := start(t, quick(t, cfg, l, watch))
	watch.until(t, "sentence", func(_ []Commit, states []Status) bool {
		s := states[len(states)-1]
		return strings.Contains(s.What, "refuses record 10 for topic a for good: INVALID_RECORD") && strings.Contains(s.Do, "dead_letter")
	})
	_ = stop()
}

// U4: a time that Kafka does not take is not poison: it is waited for, and the
// sentence speaks of the clock.
func TestInvalidTimestampWaits(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a", Err: kerr.InvalidTimestamp, Count: -1})
	l, watch := newLedger(), newLog()
	l.fill("a", 10, 10)
	stop := start(t, quick(t, config(c), l, watch))
	watch.until(t, "sentence", func(_ []Commit, states []Status) bool {
		return strings.Contains(states[len(states)-1].Do, "clock")
	})
	h.Remove()
	watch.until(t, "commit", committed(10))
	watch.until(t, "forwarding", inState(Forwarding))
	_ = stop()
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
}

func TestCutFits(t *testing.T) {
	for _, room := range []int{512, 1000, 5000} {
		r := kgo.Record{Key: noise(3000), Value: noise(3000), Headers: []kgo.RecordHeader{
			{Key: headerLedger, Value: noise(32)}, {Key: "x", Value: noise(3000)}, {Key: headerDeadTopic, Value: noise(100)},
		}}
		cut(&r, room)
		if n := recordSize(&r) + batchOverhead; n > room {
			t.Errorf("%d bytes are left for %d", n, room)
		}
	}
}
