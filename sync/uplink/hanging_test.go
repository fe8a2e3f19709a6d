package uplink

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// forgetful makes kfake lose markers as Kafka does (KAFKA-20734): the transaction
// is ended for its coordinator, and hangs in its partitions. kfake cannot really do
// so; it keeps the transaction open, and its coordinator lies.
type forgetful struct {
	cluster *kfake.Cluster

	mu    sync.Mutex
	on    bool
	said  *kerr.Error // what EndTxn is answered; nil: that it is committed
	hangs bool
	held  bool // nobody gets a producer id, until release
	id    int64
	real  int16 // the epoch that kfake knows
	told  int16 // the epoch that was given out last
}

func newForgetful(c *kfake.Cluster) *forgetful {
	f := &forgetful{cluster: c}
	for key, fn := range map[kmsg.Key]func(kmsg.Request) kmsg.Response{
		kmsg.EndTxn: f.endTxn, kmsg.InitProducerID: f.initProducerID, kmsg.AddPartitionsToTxn: f.addPartitions,
	} {
		c.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			f.mu.Lock()
			defer f.mu.Unlock()
			resp := fn(req)
			return resp, nil, resp != nil
		})
	}
	return f
}

// lose makes it lose the ends of transactions from now on.
func (f *forgetful) lose(said *kerr.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on, f.said = true, said
}

// endTxn answers for nothing, but for what ends a transaction that hangs.
func (f *forgetful) endTxn(kreq kmsg.Request) kmsg.Response {
	req := kreq.(*kmsg.EndTxnRequest)
	if f.hangs {
		req.ProducerEpoch = f.real
		f.on, f.hangs = false, false
		return nil
	}
	if !f.on {
		return nil
	}
	f.hangs, f.held = true, true
	f.id, f.real, f.told = req.ProducerID, req.ProducerEpoch, req.ProducerEpoch+1
	resp := req.ResponseKind().(*kmsg.EndTxnResponse)
	resp.ProducerID, resp.ProducerEpoch = f.id, f.told
	if f.said != nil {
		resp.ErrorCode = f.said.Code
	}
	return resp
}

func (f *forgetful) initProducerID(kreq kmsg.Request) kmsg.Response {
	if !f.hangs {
		return nil
	}
	resp := kreq.ResponseKind().(*kmsg.InitProducerIDResponse)
	if f.held {
		resp.ErrorCode = kerr.UnknownServerError.Code
		return resp
	}
	f.told++
	resp.ProducerID, resp.ProducerEpoch = f.id, f.told
	return resp
}

func (f *forgetful) addPartitions(kreq kmsg.Request) kmsg.Response {
	if req := kreq.(*kmsg.AddPartitionsToTxnRequest); f.hangs && req.ProducerID == f.id {
		req.ProducerEpoch = f.real
	}
	return nil
}

// hang forwards the first 30 of l's 60 records, in two transactions, the second of
// which hangs: the client is told said.
func hang(t *testing.T, c *kfake.Cluster, cfg Config, l *ledger, said *kerr.Error) *forgetful {
	t.Helper()
	f := newForgetful(c)
	l.fill("a", 10, 10)
	watch := newLog()
	stop := start(t, quick(t, cfg, l, watch))
	watch.until(t, "commit", committed(10))
	f.lose(said)
	l.fill("a", 20, 20)
	f.await(t, stop)
	l.fill("a", 30, 10)
	return f
}

// await stops a forwarder when the end of a transaction is lost.
func (f *forgetful) await(t *testing.T, stop func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(time.Millisecond) {
		f.mu.Lock()
		hangs := f.hangs
		f.mu.Unlock()
		if hangs {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing hangs")
		}
	}
	_ = stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = false
}

// checkHanging forwards the rest of l, and fails unless every record is there once
// in force, and again copies of them are there aborted.
func checkHanging(t *testing.T, c *kfake.Cluster, cfg Config, l *ledger, copies int) {
	t.Helper()
	l.close()
	drain(t, cfg, l)
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a"))
	if n := len(consume(t, c.ListenAddrs(), kgo.ReadUncommitted(), []string{"a"})); n != 60+copies {
		t.Errorf("topic a holds %d records, want 60 and %d aborted copies", n, copies)
	}
}

// mark writes markers into partitions, as the coordinator would.
func (f *forgetful) mark(t *testing.T, commit bool, topic string, partitions ...int32) {
	t.Helper()
	set := kadm.TopicsSet{}
	set.Add(topic, partitions...)
	_, err := admin(t, f.cluster).WriteTxnMarkers(t.Context(), kadm.TxnMarkers{ProducerID: f.id, ProducerEpoch: f.real, Commit: commit, Topics: set})
	if err != nil {
		t.Fatal(err)
	}
}

// U1, U3: a transaction whose end Kafka has lost is committed if it is whole,
// whether somebody was told of it or not.
func TestHangingIsCommitted(t *testing.T) {
	for name, said := range map[string]*kerr.Error{"told": nil, "unknown": kerr.UnknownServerError} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "a"))
			l, cfg := newLedger(), config(c)
			hang(t, c, cfg, l, said)
			checkHanging(t, c, cfg, l, 0)
		})
	}
}

// U1: a ledger is done when its last transaction is seen to be in force.
func TestHangingAtTheEnd(t *testing.T) {
	for name, topic := range map[string]string{"all": "", "in its topic": "tributary.positions"} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "a"))
			l, cfg := newLedger(), config(c)
			f := newForgetful(c)
			f.lose(nil)
			l.fill("a", 60, 60)
			l.close()
			done := make(chan error, 1)
			go func() { done <- quick(t, cfg, l, newLog()).run(t.Context()) }()
			f.await(t, func() error {
				if topic != "" {
					f.mark(t, true, topic, hashPartition(cfg.positionKey(l.id), 16))
				}
				return nil
			})
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if n := len(readCommitted(t, c.ListenAddrs(), "a")); n != 60 {
				t.Errorf("the ledger is done, and %d of 60 records are in force", n)
			}
		})
	}
}

// U1: one of which records are missing is aborted, and its records are sent again.
func TestHangingIsAborted(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "a", "b"))
	l, cfg := newLedger(), config(c)
	f := newForgetful(c)
	f.lose(kerr.UnknownServerError)
	l.fill("a", 10, 10)
	l.fill("b", 10, 10)
	cfg.Linger = time.Second // both in one transaction
	stop := start(t, quick(t, cfg, l, newLog()))
	f.await(t, stop)
	if err := errors.Join(c.DeleteTopic("b"), c.CreateTopic("b", 4, nil)); err != nil {
		t.Fatal(err)
	}
	l.close()
	drain(t, cfg, l)
	checkExactlyOnce(t, l, readCommitted(t, c.ListenAddrs(), "a", "b"))
	if n := len(consume(t, c.ListenAddrs(), kgo.ReadUncommitted(), []string{"a"})); n != 20 {
		t.Errorf("topic a holds %d records, want 10 aborted ones and 10 others", n)
	}
}

// U1: where Kafka has written some of the markers, the others follow them.
func TestHangingInPart(t *testing.T) {
	for name, do := range map[string]struct {
		commit bool
		copies int
	}{"committed": {true, 0}, "aborted": {false, 20}} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "a"))
			l, cfg := newLedger(), config(c)
			hang(t, c, cfg, l, kerr.UnknownServerError).mark(t, do.commit, "a", 0, 1, 2, 3)
			checkHanging(t, c, cfg, l, do.copies)
		})
	}
}

// U1: what hangs in a topic alone shares the fate of its position.
func TestHangingInATopic(t *testing.T) {
	for name, do := range map[string]struct {
		commit bool
		copies int
	}{"committed": {true, 0}, "aborted": {false, 20}} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "a"))
			l, cfg := newLedger(), config(c)
			hang(t, c, cfg, l, kerr.UnknownServerError).mark(t, do.commit, "tributary.positions", hashPartition(cfg.positionKey(l.id), 16))
			checkHanging(t, c, cfg, l, do.copies)
		})
	}
}

// U1, U3: with a part committed and a part missing, a person has to decide.
func TestHangingUndecided(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "a"))
	l, cfg := newLedger(), config(c)
	f := hang(t, c, cfg, l, kerr.UnknownServerError)
	var with []int32
	for _, r := range consume(t, c.ListenAddrs(), kgo.ReadUncommitted(), []string{"a"}) {
		if !slices.Contains(with, r.Partition) {
			with = append(with, r.Partition)
		}
	}
	f.mark(t, true, "a", with[0])
	f.mark(t, false, "a", with[1:]...)
	watch := newLog()
	stop := start(t, quick(t, cfg, l, watch))
	watch.until(t, "sentence", says("Kafka has lost the end of a transaction", "--start-offset"))
	_ = stop()
	t.Log(watch.last(t).What, "|", watch.last(t).Do)
	if len(watch.commits) > 0 && watch.commits[len(watch.commits)-1].Position.Next > 10 {
		t.Error("it went on")
	}
}

// U1: without the right to read the topic nobody can tell, unless Kafka has told us
// that it is committed. The sentence asks for the right, and then it goes on.
func TestHangingUnreadable(t *testing.T) {
	for name, said := range map[string]*kerr.Error{"told": nil, "unknown": kerr.UnknownServerError} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(4, "a"))
			l, cfg := newLedger(), config(c)
			hang(t, c, cfg, l, said)
			deny := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeProducers}, Err: kerr.TopicAuthorizationFailed, Topic: "a", Count: -1})
			defer deny.Remove()
			watch := newLog()
			if said == nil {
				cfg.Hint = 30
			}
			stop := start(t, quick(t, cfg, l, watch))
			if said != nil {
				watch.until(t, "sentence", says("may not read a", "--operation Read --topic a"))
				deny.Remove()
			}
			watch.until(t, "commit", committed(60))
			_ = stop()
			cfg.Hint = 0
			checkHanging(t, c, cfg, l, 0)
		})
	}
}
