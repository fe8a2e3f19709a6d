package uplink

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// U4, A1: devices that make up a topic every 10 s, and Kafka has none of them,
// hold up the others for one grace in eleven.
func TestNamesMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		defer func() { b.end() }()
		b.start(5 * time.Second)
		l := b.ledger
		l.fill("a", 1, 1)
		b.waitFor("commit", time.Minute, committed(1))
		const grace, every, hour = time.Minute, 10 * time.Second, time.Hour
		var held time.Duration
		began, names := time.Now(), 0
		for ; time.Since(began) < hour; names++ {
			name := fmt.Sprintf("made-up-%d", names)
			b.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: name, Err: kerr.TopicAuthorizationFailed, Count: -1})
			l.fill(name, 1, 1)
			l.fill("a", 1, 1)
			took := b.waitFor("commit", 2*grace, committed(l.end()))
			if took > every {
				held += took
			}
			time.Sleep(max(0, every-took)) //nolint:forbidigo // bubble time
		}
		t.Logf("%d names: held up for %v of %v", names, held, hour)
		if held < grace || held > 6*(grace+6*time.Second) {
			t.Errorf("held up for %v of %v; want about a minute in eleven", held, hour)
		}
		got := readCommittedOver(t, b.wire, b.cluster, "a", "dead")
		checkExactlyOnce(t, l, got)
		if len(got) != 1+2*names {
			t.Errorf("%d records, want %d", len(got), 1+2*names)
		}
	})
}

// U4: a topic without a leader is waited for until its own grace is over, even
// right after another one has used up its grace, and then diverted.
func TestLeaderless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		defer func() { b.end() }()
		refuse := func(topic string, key kmsg.Key, err *kerr.Error) {
			b.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: topic, Err: err, Count: -1})
		}
		refuse("missing", kmsg.CreateTopics, kerr.TopicAuthorizationFailed)
		refuse("missing-too", kmsg.CreateTopics, kerr.TopicAuthorizationFailed)
		refuse("leaderless", kmsg.Metadata, kerr.LeaderNotAvailable)
		b.start(5 * time.Second)
		for _, step := range []struct {
			topic       string
			least, most time.Duration
		}{
			{"missing", 59 * time.Second, 70 * time.Second},
			{"missing-too", 0, time.Second},
			{"leaderless", 59 * time.Second, 70 * time.Second},
			{"leaderless", 0, time.Second},
			{"a", 0, time.Second},
		} {
			b.ledger.fill(step.topic, 1, 1)
			if took := b.waitFor("commit", 2*time.Minute, committed(b.ledger.end())); took < step.least || took > step.most {
				t.Errorf("topic %s took %v, want %v to %v", step.topic, took, step.least, step.most)
			}
		}
		if n := len(readCommittedOver(t, b.wire, b.cluster, "dead")); n != 4 {
			t.Errorf("%d dead letters, want 4", n)
		}
	})
}

// A partition without a leader is trouble of its topic alone.
func TestLeaderlessPartition(t *testing.T) {
	from := kmsg.NewMetadataResponseTopic()
	from.Topic, from.AuthorizedOperations = new("b"), -1<<31
	for _, p := range []kmsg.MetadataResponseTopicPartition{{Leader: -1}, {Leader: 1, ErrorCode: kerr.ListenerNotFound.Code}} {
		from.Partitions = []kmsg.MetadataResponseTopicPartition{p}
		err := readTopic(&from).usable()
		if _, ok := errors.AsType[*topicError](err); !ok || !isLeaderless(err) {
			t.Errorf("%v", err)
		}
		if got := explain(err, Config{}); got.do == "" {
			t.Errorf("%+v does not say what to do", got)
		}
	}
}
