// Package upstream looks at a Kafka from outside: how fast a topic fills with
// committed records, what is in it, and how fast a plain producer would fill
// it.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// poll is how often the end of a topic is looked at.
const poll = 5 * time.Millisecond

// CreateTopic makes a topic of as many partitions as a node would.
func CreateTopic(ctx context.Context, brokers, topic string, partitions int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers))
	if err != nil {
		return err
	}
	defer cl.Close()
	r, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, nil, topic)
	return errors.Join(err, r.Err)
}

// Watch waits until a topic holds records committed ones and returns how many
// a second were committed between the first commit it saw and the last.
// Kafka's end offsets count the end marker of each transaction too, one per
// partition: a few in a thousand, the same for everybody who is measured.
func Watch(ctx context.Context, brokers, topic string, records int64) (perSecond float64, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	var first, end int64
	var start time.Time
	for {
		end, err = committed(ctx, admin, topic)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%d of %d records committed: %w", end, records, err)
		case end >= records:
			return float64(end-first) / time.Since(start).Seconds(), nil
		case first == 0 && end > 0:
			first, start = end, time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d records committed: %w", end, records, ctx.Err())
		}
	}
}

// committed returns the sum of the ends of all partitions as read_committed
// readers see them; 0 for a topic that is not there.
func committed(ctx context.Context, admin *kadm.Client, topic string) (sum int64, err error) {
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err != nil && !errors.Is(o.Err, kerr.UnknownTopicOrPartition) {
			err = o.Err
		}
		sum += max(o.Offset, 0)
	})
	return sum, err
}
