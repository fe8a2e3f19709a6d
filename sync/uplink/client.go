package uplink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/tributary-edge/tributary"
)

const (
	// A broker that takes packets and answers none is given up after a request's
	// own timeout plus this.
	requestOverhead = 5 * time.Second
	// Requests other than produce and fetch are tried again within this.
	retryFor = 10 * time.Second
)

// connection returns how a client reaches Kafka.
func connection(c Config) ([]kgo.Opt, error) {
	dial, err := newDialer(c)
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.Dialer(dial),
		kgo.DisableClientMetrics(),
		kgo.ConnIdleTimeout(5 * time.Minute), // else a TLS handshake per quiet commit
		kgo.RequestTimeoutOverhead(requestOverhead),
		kgo.RequestRetries(5),
		kgo.RetryTimeout(retryFor),
		kgo.RetryBackoffFn(retryBackoff),
		kgo.MetadataMaxAge(15 * time.Minute),
		kgo.BrokerMaxReadBytes(16 << 20),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.MaxDecompressBatchBytes(8 << 20),
	}
	mechanism, err := c.mechanism()
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	return opts, nil
}

// options returns how a client of one session behaves. limit is the largest
// batch for a topic, in bytes before compression.
func options(c Config, ledger tributary.LedgerID, limit func(topic string) int32) ([]kgo.Opt, error) {
	opts, err := connection(c)
	if err != nil {
		return nil, err
	}
	return append(opts,
		// A produce that meets CONCURRENT_TRANSACTIONS (the markers of our last
		// transaction are not all written yet) is sent again only after a
		// metadata update, so this is the pause between two transactions.
		kgo.MetadataMinAge(20*time.Millisecond),

		kgo.TransactionalID(c.transactionalID(ledger)),
		kgo.TransactionTimeout(c.TransactionTimeout),
		kgo.ConcurrentTransactionsBackoff(10*time.Millisecond),
		kgo.RecordPartitioner(partitioner{positions: c.PositionsTopic, keys: kgo.StickyKeyPartitioner(nil)}),
		// No RecordDeliveryTimeout: kgo counts it from the record's timestamp, and
		// ours may be weeks old. The flush has a timeout instead.
		kgo.ProduceRequestTimeout(min(10*time.Second, c.TransactionTimeout)),
		kgo.ProducerBatchMaxBytesFn(limit),
		kgo.ProducerBatchCompression(codecs(c.Compression)...),
		kgo.ProducerLinger(50*time.Millisecond), // fills the batches; the flush at the end of a chunk ends it
		kgo.MaxBufferedRecords(1<<18),           // a chunk of the smallest records
	), nil
}

// codecs returns the codec of that name in the config, with what to fall back
// to, and nil for a name that is none. The slice is new: kgo changes it.
func codecs(name string) []kgo.CompressionCodec {
	switch name {
	case "zstd":
		return []kgo.CompressionCodec{kgo.ZstdCompression().WithLevel(1), kgo.SnappyCompression(), kgo.NoCompression()}
	case "snappy":
		return []kgo.CompressionCodec{kgo.SnappyCompression()}
	case "lz4":
		return []kgo.CompressionCodec{kgo.Lz4Compression()}
	case "gzip":
		return []kgo.CompressionCodec{kgo.GzipCompression()}
	case "none":
		return []kgo.CompressionCodec{kgo.NoCompression()}
	default:
		return nil
	}
}

// retryBackoff is short, because a session that fails has a longer back-off of
// its own.
func retryBackoff(fails int) time.Duration {
	most := min(50*time.Millisecond<<min(max(fails, 1), 16), 2*time.Second)
	return most/2 + rand.N(most/2)
}

// mechanism returns nil when there is no login.
func (c Config) mechanism() (sasl.Mechanism, error) {
	auth := scram.Auth{User: c.SASL.User, Pass: c.SASL.Password}
	switch c.SASL.Mechanism {
	case "":
		return nil, nil //nolint:nilnil // no login is not an error
	case "plain":
		return plain.Auth{User: c.SASL.User, Pass: c.SASL.Password}.AsMechanism(), nil
	case "scram-sha-256":
		return auth.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return auth.AsSha512Mechanism(), nil
	default:
		return nil, fmt.Errorf("kafka sasl %q: must be plain, scram-sha-256 or scram-sha-512", c.SASL.Mechanism)
	}
}

// partitioner sends positions where the session says, and everything else
// where Java's default partitioner would: murmur2 of the key. So all records of
// one key are in one partition (U2), whoever else produces to that topic.
type partitioner struct {
	positions string
	keys      kgo.Partitioner
}

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	if topic == p.positions {
		return kgo.ManualPartitioner().ForTopic(topic)
	}
	return p.keys.ForTopic(topic)
}

// hashPartition returns the partition of n that Java's default partitioner
// gives to key.
func hashPartition(key string, n int) int32 {
	p := kgo.StickyKeyPartitioner(nil).ForTopic("")
	return int32(p.Partition(&kgo.Record{Key: []byte(key)}, n))
}

// grace is how long a transaction in flight may go on after Forward's context
// is done. Without it, each orderly stop would leave an open transaction and
// stall the readers of its partitions for the transaction timeout.
const grace = 2 * time.Second

// lasting returns a context that ends after timeout, or grace after ctx.
func lasting(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			cancel()
		case <-out.Done():
		}
	})
	return out, func() { stop(); cancel() }
}
