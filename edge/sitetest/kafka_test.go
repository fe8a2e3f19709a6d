package sitetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	kafkaHost      = "10.0.1.1"
	dataTopic      = "mqtt"
	positionsTopic = "tributary.positions"
	deadTopic      = "tributary.dead-letter"
)

// A kafka is a Kafka in memory, of one broker, on the network.
type kafka struct {
	site    *site
	port    *port
	cluster *kfake.Cluster
}

func newKafka(s *site) *kafka {
	k := &kafka{site: s, port: s.net.port(kafkaHost)}
	var err error
	k.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(func(_, _ string) (net.Listener, error) {
		return k.port.Listen(context.Background(), "tcp", k.address())
	}), kfake.SeedTopics(2, dataTopic), kfake.BrokerConfigs(map[string]string{"log.retention.ms": "-1", "log.cleaner.backoff.ms": "86400000"}))
	s.must(err)
	cl, err := kgo.NewClient(k.options()...)
	s.must(err)
	defer cl.Close()
	compact := "compact"
	_, err = kadm.NewClient(cl).CreateTopic(context.Background(), 2, 1, map[string]*string{"cleanup.policy": &compact}, positionsTopic)
	s.must(err)
	return k
}

func (k *kafka) address() string { return kafkaHost + ":9092" }

func (k *kafka) options(more ...kgo.Opt) []kgo.Opt {
	return append(more, kgo.SeedBrokers(k.address()), kgo.Dialer(k.port.DialContext), kgo.DisableClientMetrics())
}

// A stored is a record in Kafka, as a read_committed reader sees it.
type stored struct {
	topic       string
	partition   int32
	offset      int64
	key, value  string
	ledger, lsn string
}

// read returns all there is in some topics.
func (k *kafka) read(topics ...string) (all []stored) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(k.options(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumeTopics(topics...), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))...)
	k.site.must(err)
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topics...)
	k.site.must(err)
	left := map[string]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 && o.Err == nil {
			left[fmt.Sprint(o.Topic, o.Partition)] = o.Offset
		}
	})
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			k.site.fail("Kafka cannot be read to its end: a transaction is open, and %v is left", left)
			return all
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				all = append(all, stored{r.Topic, r.Partition, r.Offset, string(r.Key), string(r.Value), header(r, "tributary.ledger"), header(r, "tributary.lsn")})
			}
			if p := fmt.Sprint(r.Topic, r.Partition); r.Offset+1 >= left[p] {
				delete(left, p)
			}
		})
	}
	return all
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// positions returns for each ledger the positions that it has had, in their order.
func (k *kafka) positions() map[string][]uint64 {
	all := map[string][]uint64{}
	for _, r := range k.read(positionsTopic) {
		var p struct {
			Next uint64 `json:"next"`
		}
		k.site.must(json.Unmarshal([]byte(r.value), &p))
		_, ledger, _ := strings.Cut(r.key, "/")
		all[ledger] = append(all[ledger], p.Next)
	}
	return all
}
