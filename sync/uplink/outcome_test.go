package uplink

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// U1: with transaction.version=1, a client that goes on after a transaction that
// failed in this way loses the next one without any error: the broker takes it
// for a duplicate of the batch that it had appended, and Kafka says that all is
// well. TestTrapIsReal shows that; we do not fall into it.
func TestSilentLossTrap(t *testing.T) {
	for _, second := range []*kerr.Error{kerr.UnknownServerError, kerr.MessageTooLarge} {
		c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a", "dead"), kfake.MaxVersions(kversion.V3_7_0()))
		cfg := config(c)
		l, watch := newLedger(), newLog()
		stop := start(t, quick(t, cfg, l, watch))
		l.fill("a", 5, 5)
		watch.until(t, "commit", committed(5))
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a", Err: kerr.RequestTimedOut}, kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "a", Err: second})
		l.fill("a", 5, 5)
		watch.until(t, "commit", committed(10))
		l.fill("a", 5, 5)
		watch.until(t, "commit", committed(15))
		_ = stop()
		checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
	}
}

// The trap of TestSilentLossTrap, sprung: if this test fails, kgo or kfake has
// changed, and TestSilentLossTrap proves nothing any more.
func TestTrapIsReal(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"), kfake.MaxVersions(kversion.V3_7_0()))
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("x"), kgo.DefaultProduceTopic("a"),
		kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	transaction := func() (produced, ended error) {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produced = cl.ProduceSync(t.Context(), kgo.StringRecord("1"), kgo.StringRecord("2")).FirstErr()
		return produced, cl.EndTransaction(t.Context(), kgo.TransactionEndTry(produced == nil))
	}
	_, _ = transaction()
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut}, kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}})
	if produced, _ := transaction(); produced == nil {
		t.Fatal("the second transaction did not fail")
	}
	produced, ended := transaction()
	if n := len(readCommitted(t, c.ListenAddrs(), "a")); produced != nil || ended != nil || n != 2 {
		t.Errorf("third transaction: %v, %v, %d records of 2 transactions; want no error and the loss of 2", produced, ended, n)
	}
}

// U1, U3: an EndTxn without a usable answer has an unknown outcome. Here the
// commit was applied and the answer lost, or it was never applied.
func TestUnknownOutcomeOfEndTxn(t *testing.T) {
	for name, versions := range map[string]*kversion.Versions{"transaction.version=2": nil, "transaction.version=1": kversion.V3_7_0()} {
		for _, applied := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(2, "a")}
				if versions != nil {
					opts = append(opts, kfake.MaxVersions(versions))
				}
				c := cluster(t, opts...)
				l, watch := newLedger(), newLog()
				cfg := config(c)
				w := &wire{}
				cfg.Dial = w.dial
				stop := start(t, quick(t, cfg, l, watch))
				l.fill("a", 20, 5)
				watch.until(t, "commit", committed(20))
				c.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
					if applied {
						w.cut() // the request is done, and its answer finds no connection
						return nil, nil, false
					}
					return nil, errKilled, true // the connection is cut instead of doing it
				})
				l.fill("a", 20, 5)
				watch.until(t, "commit", committed(40))
				watch.until(t, "forwarding", inState(Forwarding))
				_ = stop()
				checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
			})
		}
	}
}

// U1: a promise that fails, or that is kept under another producer id, spoils
// the transaction.
func TestEveryPromiseCounts(t *testing.T) {
	a := &answers{id: 7, epoch: 3, sent: 2}
	a.promise(&kgo.Record{ProducerID: 7, ProducerEpoch: 3}, nil)
	if a.verdict() == nil {
		t.Error("one answer to two records was taken as success")
	}
	a.promise(&kgo.Record{ProducerID: 7, ProducerEpoch: 3}, nil)
	if err := a.verdict(); err != nil {
		t.Error(err)
	}
	a.sent++
	a.promise(&kgo.Record{ProducerID: 7, ProducerEpoch: 4}, nil)
	if a.verdict() == nil {
		t.Error("an answer under another epoch was taken as success")
	}
}
