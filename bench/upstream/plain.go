package upstream

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordOverhead is what a node adds to the bytes of a record when it fills a
// transaction.
const recordOverhead = 64

// Produce sends records to a topic in transactions of batchBytes each, one
// after the other, with a node's settings for compression and batches. It
// keeps no log and no position: it is what a node is compared with.
func Produce(ctx context.Context, brokers, topic string, records []*kgo.Record, batchBytes int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.DefaultProduceTopic(topic),
		kgo.TransactionalID("bench-plain-"+topic),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()),
		kgo.ProducerLinger(50*time.Millisecond),
		kgo.MetadataMinAge(20*time.Millisecond),
		kgo.ConcurrentTransactionsBackoff(10*time.Millisecond),
		kgo.MaxBufferedRecords(1<<18),
		kgo.DisableClientMetrics(),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(records) > 0 {
		n := transaction(records, batchBytes)
		if err := commit(ctx, cl, records[:n]); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// transaction returns how many of records fill one.
func transaction(records []*kgo.Record, batchBytes int) int {
	size := 0
	for i, r := range records {
		size += recordOverhead + len(r.Key) + len(r.Value)
		for _, h := range r.Headers {
			size += len(h.Key) + len(h.Value)
		}
		if size >= batchBytes {
			return i + 1
		}
	}
	return len(records)
}

func commit(ctx context.Context, cl *kgo.Client, records []*kgo.Record) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	var failed kgo.FirstErrPromise
	for _, r := range records {
		// A record of our own: the client writes its place into it.
		cl.Produce(ctx, &kgo.Record{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}, failed.Promise())
	}
	err := errors.Join(cl.Flush(ctx), failed.Err())
	return errors.Join(err, cl.EndTransaction(ctx, kgo.TransactionEndTry(err == nil)))
}
