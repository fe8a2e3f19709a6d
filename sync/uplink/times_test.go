package uplink

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary/log/record"
)

// timed appends a record with a time that was put right, if logged is not 0.
func (l *ledger) timed(stream string, millis, logged int64) {
	l.add(record.Record{Stream: stream, Millis: millis, Key: []byte("k"), Value: []byte("v")})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups[len(l.groups)-1].Entries[0].Logged = logged
}

// refuseTimes makes the brokers behave like those of Kafka, which refuse batches
// for topic with a time outside of w; kfake takes any time. If told, they say what
// w is. It returns how often they refused.
func refuseTimes(t *testing.T, c *kfake.Cluster, topic string, id [16]byte, w window, told bool) *kfake.FaultHandle {
	t.Helper()
	outside := func(p *kmsg.ProduceRequestTopicPartition) bool {
		fp, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{}, &kmsg.FetchResponseTopicPartition{RecordBatches: p.Records}, kgo.DefaultDecompressor(), nil)
		for _, r := range fp.Records {
			if time.Since(r.Timestamp) > w.before || time.Until(r.Timestamp) > w.after {
				return true
			}
		}
		return false
	}
	c.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		describe := req.(*kmsg.DescribeConfigsRequest)
		if !told || describe.Resources[0].ResourceName != topic {
			return nil, nil, false
		}
		resp := describe.ResponseKind().(*kmsg.DescribeConfigsResponse)
		r := kmsg.NewDescribeConfigsResponseResource()
		r.ResourceName, r.ResourceType = topic, kmsg.ConfigResourceTypeTopic
		for name, bound := range map[string]time.Duration{"before": w.before, "after": w.after} {
			value := kmsg.NewDescribeConfigsResponseResourceConfig()
			value.Name, value.Value = "message.timestamp."+name+".max.ms", new(fmt.Sprint(bound.Milliseconds()))
			if bound == math.MaxInt64 {
				value.Value = new(fmt.Sprint(int64(math.MaxInt64))) // Kafka's default
			}
			r.Configs = append(r.Configs, value)
		}
		resp.Resources = append(resp.Resources, r)
		return resp, nil, true
	})
	return c.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.InvalidTimestamp, Count: -1,
		When: func(req kmsg.Request) bool {
			for _, rt := range req.(*kmsg.ProduceRequest).Topics {
				for i := range rt.Partitions {
					if (rt.Topic == topic || rt.TopicID == id) && outside(&rt.Partitions[i]) {
						return true
					}
				}
			}
			return false
		},
	})
}

func topicID(t *testing.T, c *kfake.Cluster, topic string) [16]byte {
	t.Helper()
	topics, err := admin(t, c).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return topics[topic].ID
}

// checkTimes fails unless the records with these LSNs have these times and, in
// the header, those that were logged; 0 stands for about now, and for no header.
func checkTimes(t *testing.T, got []*kgo.Record, want map[string][2]int64) {
	t.Helper()
	for _, r := range got {
		w, ok := want[header(r, headerLSN)]
		if !ok {
			continue
		}
		logged := ""
		if w[1] != 0 {
			logged = fmt.Sprint(w[1])
		}
		millis := r.Timestamp.UnixMilli()
		if isNow := time.Since(r.Timestamp).Abs() < time.Minute; w[0] == 0 && !isNow || w[0] != 0 && millis != w[0] || header(r, headerTime) != logged {
			t.Errorf("record %s has the time %d and %q in %s; want %v", header(r, headerLSN), millis, header(r, headerTime), headerTime, w)
		}
	}
}

// A time that was put right is the timestamp, and the header has the one that
// was logged; so it is if that was put right to what Kafka does not take.
func TestCorrectedTimes(t *testing.T) {
	c := cluster(t)
	now := time.Now().UnixMilli()
	const hour = 3600_000
	l := newLedger()
	l.timed("a", now-hour, 1000)
	l.timed("a", now-hour, now+100*hour)
	l.timed("a", now+2*hour, 1000)
	l.timed("a", now+2*hour, 0)
	l.timed("a", now-10_000*hour, 0)
	l.timed("a", -5, 0)
	l.timed("no/such", now-hour, 1000)
	l.close()
	drain(t, config(c), l)
	got := readCommitted(t, c.ListenAddrs(), "a", "dead")
	checkExactlyOnce(t, l, got)
	checkTimes(t, got, map[string][2]int64{
		"0": {now - hour, 1000}, "1": {now - hour, now + 100*hour}, "2": {0, 1000}, "3": {0, now + 2*hour},
		"4": {now - 10_000*hour, 0}, "5": {0, -5}, "6": {now - hour, 1000},
	})
}

// U1, U2, U4: a topic that takes only times of the last days gets the others with
// the present time, and the dead-letter topic none for it; a stricter dead-letter
// topic too. It is the same, with more of the present, where Kafka does not say
// what it takes.
func TestTimesThatKafkaRefuses(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprintf("told %t", told), func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a"))
			if !told {
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
			}
			h := refuseTimes(t, c, "a", topicID(t, c, "a"), window{before: 72 * time.Hour, after: 10 * time.Minute}, told)
			now := time.Now().UnixMilli()
			const minute = 60_000
			l := newLedger()
			l.fill("a", 20, 10)
			l.timed("a", 1, 0)
			l.timed("a", now-71*60*minute, 0) // inside, and too near to the end
			l.timed("a", now-50*60*minute, 0)
			l.timed("a", now+30*minute, 0)
			l.timed("a", now+5*minute, 7)
			l.fill("a", 20, 10)
			l.close()
			drain(t, config(c), l)
			got := readCommitted(t, c.ListenAddrs(), "a")
			checkExactlyOnce(t, l, got)
			want := map[string][2]int64{
				"20": {0, 1}, "21": {0, now - 71*60*minute}, "22": {now - 50*60*minute, 0}, "23": {0, now + 30*minute}, "24": {now + 5*minute, 7},
			}
			if !told {
				want["22"], want["24"] = [2]int64{0, now - 50*60*minute}, [2]int64{0, 7}
			}
			checkTimes(t, got, want)
			if h.Hits() == 0 || h.Hits() > 4 {
				t.Errorf("Kafka refused %d batches; want one round of them", h.Hits())
			}
		})
	}
}

// U4, A1: a topic that does not take the present time is as bad as one that is
// missing: it is waited for, with a sentence about the clock, and then its records
// go to the dead-letter topic, and the others on.
func TestPresentTimeRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		defer func() { b.end() }()
		h := b.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a", Err: kerr.InvalidTimestamp, Count: -1})
		b.start(5 * time.Second)
		l := b.ledger
		l.fill("a", 10, 10)
		l.fill("b", 10, 10)
		b.waitFor("sentence", time.Second, says("INVALID_TIMESTAMP", "clock"))
		if took := b.waitFor("commit", 2*time.Minute, committed(20)); took < 50*time.Second || took > 70*time.Second {
			t.Errorf("it took %v; want a minute", took)
		}
		h.Remove()
		time.Sleep(2 * time.Minute) //nolint:forbidigo // bubble time
		l.fill("a", 10, 10)
		b.waitFor("commit", time.Minute, committed(30))
		got := readCommittedOver(t, b.wire, b.cluster, "a", "b", "dead")
		checkExactlyOnce(t, l, got)
		dead := 0
		for _, r := range got {
			if r.Topic == "dead" {
				dead++
			}
		}
		if dead != 10 {
			t.Errorf("%d dead letters, want the 10 that Kafka refused", dead)
		}
	})
}

// U4: nothing is known of a dead-letter topic before it is needed; its window is
// asked for as that of any other.
func TestDeadLetterRefusesTheTime(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "dead"))
	refuseTimes(t, c, "dead", topicID(t, c, "dead"), window{before: time.Hour, after: math.MaxInt64}, true)
	l := newLedger()
	l.timed("no/such", 1, 0)
	l.fill("a", 10, 10)
	l.close()
	drain(t, config(c), l)
	got := readCommitted(t, c.ListenAddrs(), "a", "dead")
	checkExactlyOnce(t, l, got)
	checkTimes(t, got, map[string][2]int64{"0": {0, 1}})
}

func TestWindow(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		w    window
		t    time.Time
		want bool
	}{
		{usual, now, true},
		{usual, time.UnixMilli(0), true},
		{usual, time.UnixMilli(-1), false},
		{usual, now.Add(49 * time.Minute), true},
		{usual, now.Add(51 * time.Minute), false},
		{usual, time.UnixMilli(math.MaxInt64), false},
		{window{}, now, true},
		{window{}, now.Add(-time.Millisecond), false},
		{window{before: time.Hour}, now.Add(-49 * time.Minute), true},
		{window{before: time.Hour}, now.Add(-51 * time.Minute), false},
	} {
		if got := test.w.holds(test.t, now); got != test.want {
			t.Errorf("%+v holds %v: %t, want %t", test.w, test.t, got, test.want)
		}
	}
}
