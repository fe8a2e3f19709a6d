//go:build kafka

package uplink

import (
	"context"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// U1, U3: a real Kafka has a transaction that its coordinator does not know and
// will never end: whole, or without a record, or with an end in some partitions.
// TestRealKafkaKilled shows how Kafka gets there; here it is made, by the way that
// was open before KIP-890.
func TestRealHanging(t *testing.T) {
	for name, do := range map[string]struct {
		without int    // records of 30
		ended   string // there it is no more open
		commit  bool   // how it was ended there
		copies  int    // of records, aborted
	}{
		"whole":                     {},
		"a record missing":          {without: 1, copies: 29},
		"committed in the topic":    {ended: "a", commit: true},
		"aborted in the topic":      {ended: "a", copies: 30},
		"its position is committed": {ended: "positions", commit: true},
		"its position is aborted":   {ended: "positions", copies: 30},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, topic, kafka := realKafka(t)
			create(t, kafka, topic("a"), 3)
			trusting(t, kafka)
			l, watch := newLedger(), newLog()
			l.fill(topic("a"), 10, 10)
			stop := start(t, quick(t, cfg, l, watch))
			watch.until(t, "commit", committed(10))
			_ = stop()
			l.fill(topic("a"), 30, 30)
			markers := slip(t, cfg, l, topic("a"), do.without)
			if do.ended != "" {
				markers.Commit = do.commit
				for name := range markers.Topics {
					if name != topic(do.ended) {
						delete(markers.Topics, name)
					}
				}
				markers.CoordinatorEpoch = coordinatorEpoch(t, kafka, must(cfg.withDefaults()).transactionalID(l.id))
				answers, err := kafka.WriteTxnMarkers(t.Context(), markers)
				if err != nil {
					t.Fatal(err, answers)
				}
				answers.EachPartition(func(r kadm.TxnMarkersPartitionResponse) {
					if r.Err != nil {
						t.Fatalf("end the transaction in partition %d of %s: %v", r.Partition, r.Topic, r.Err)
					}
				})
			}
			l.fill(topic("a"), 20, 10)
			l.close()
			drain(t, cfg, l)
			checkExactlyOnce(t, l, readCommitted(t, cfg.Brokers, topic("a")))
			if n := len(consume(t, cfg.Brokers, kgo.ReadUncommitted(), []string{topic("a")})); n != 60+do.copies {
				t.Errorf("topic a holds %d records, want 60 and %d aborted copies", n, do.copies)
			}
		})
	}
}

// coordinatorEpoch returns the epoch of who coordinates a transactional id: a Kafka that
// was started again has had several, and takes markers of the last alone.
func coordinatorEpoch(t *testing.T, kafka *kadm.Client, id string) int32 {
	t.Helper()
	const log = "__transaction_state"
	m, err := kafka.Metadata(t.Context(), log)
	if err != nil || m.Topics[log].Err != nil {
		t.Fatal(err, m.Topics[log].Err)
	}
	var hash int32 // as String.hashCode in Java
	for _, c := range []byte(id) {
		hash = 31*hash + int32(c)
	}
	parts := m.Topics[log].Partitions
	return parts[(hash&0x7fffffff)%int32(len(parts))].LeaderEpoch
}

// trusting makes Kafka believe producers that a partition is in their transaction.
func trusting(t *testing.T, kafka *kadm.Client) {
	t.Helper()
	set := func(ctx context.Context, op kadm.IncrementalOp) error {
		_, err := kafka.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: "transaction.partition.verification.enable", Value: new("false")}})
		return err
	}
	if err := set(t.Context(), kadm.SetConfig); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set(context.Background(), kadm.DeleteConfig); err != nil {
			t.Error(err)
		}
	})
}

// slip writes the last group of l, without the first records of it, and the
// position after it into Kafka as a transaction that no coordinator knows. It
// returns the markers that would end it.
func slip(t *testing.T, cfg Config, l *ledger, topic string, without int) kadm.TxnMarkers {
	t.Helper()
	cfg = must(cfg.withDefaults())
	opts, err := options(cfg, l.id, newPoison(defaultMaxMessageBytes).limit)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(opts, kgo.MaxVersions(kversion.V3_7_0()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	id, epoch, err := cl.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	topics, err := kadm.NewClient(cl).ListTopics(t.Context(), topic, cfg.PositionsTopic)
	if err != nil {
		t.Fatal(err)
	}
	group := l.groups[len(l.groups)-1]
	byPartition := map[int32][]kmsg.Record{}
	for _, e := range group.Entries[without:] {
		p := hashPartition(string(e.Key), len(topics[topic].Partitions))
		byPartition[p] = append(byPartition[p], slipped(e.Key, e.Value, headerLedger, l.id.String(), headerLSN, fmt.Sprint(e.LSN)))
	}
	in := kadm.TopicsSet{}
	send := func(topic string, partition int32, records []kmsg.Record) {
		req := kmsg.NewPtrProduceRequest()
		req.TransactionID, req.Acks, req.TimeoutMillis = new(cfg.transactionalID(l.id)), -1, 10_000
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: batch(id, epoch, records)}}}}
		kresp, err := cl.Broker(int(topics[topic].Partitions[partition].Leader)).Request(t.Context(), req)
		if err == nil {
			err = kerr.ErrorForCode(kresp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
		}
		if err != nil {
			t.Fatalf("topic %s: %v", topic, err)
		}
		in.Add(topic, partition)
	}
	for p, records := range byPartition {
		send(topic, p, records)
	}
	key := cfg.positionKey(l.id)
	at := position{Version: 1, Next: uint64(group.Next), Chain: fmt.Sprintf("%016x", group.Chain), Transactions: 2}
	send(cfg.PositionsTopic, hashPartition(key, len(topics[cfg.PositionsTopic].Partitions)), []kmsg.Record{slipped([]byte(key), at.encode())})
	return kadm.TxnMarkers{ProducerID: id, ProducerEpoch: epoch, Topics: in}
}

func slipped(key, value []byte, headers ...string) kmsg.Record {
	r := kmsg.Record{Key: key, Value: value}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, kmsg.Header{Key: headers[i], Value: []byte(headers[i+1])})
	}
	return r
}

// batch is a transactional batch.
func batch(id int64, epoch int16, records []kmsg.Record) []byte {
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 0x10, LastOffsetDelta: int32(len(records) - 1), FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: id, ProducerEpoch: epoch, NumRecords: int32(len(records)),
	}
	for i, r := range records {
		r.OffsetDelta = int32(i)
		r.Length = int32(len(r.AppendTo(nil)) - 1) // the length itself is one byte while it is 0
		b.Records = r.AppendTo(b.Records)
	}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	b.CRC = int32(crc32.Checksum(b.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b.AppendTo(nil)
}
