// Package readback reads Kafka topics as a careful consumer would, with
// isolation level read_committed, to the end and no further.
package readback

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A Record is a committed record.
type Record struct {
	Topic      string
	Partition  int32
	Offset     int64
	Key, Value []byte             // borrowed: valid until the next record
	Headers    []kgo.RecordHeader // borrowed as well
}

// ErrNoTopic means that a topic does not exist.
var ErrNoTopic = errors.New("no such topic")

// Committed calls yield for every committed record that topics hold at the
// time of the call, each partition in the order of its offsets. It may yield
// some that were committed since. It waits for transactions that are open at
// that time, so bound it by ctx.
func Committed(ctx context.Context, brokers, topics []string, yield func(Record)) error {
	r, err := Open(brokers, topics)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.ReadToEnd(ctx, yield)
}

// A Reader reads topics to their ends again and again. It is not safe for
// concurrent use.
type Reader struct {
	client *kgo.Client
	admin  *kadm.Client
	topics []string
	next   map[string]map[int32]int64 // the offset to read next
}

// Open returns a reader that has read nothing. It does not connect yet.
func Open(brokers, topics []string) (*Reader, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ClientID("firmware-sim"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Without the markers of transactions the reader would never see itself
		// arrive at an end that is a marker.
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(500*time.Millisecond),
	)
	if err != nil {
		return nil, fmt.Errorf("read from Kafka: %w", err)
	}
	r := &Reader{client: client, admin: kadm.NewClient(client), topics: topics, next: map[string]map[int32]int64{}}
	return r, nil
}

// Close ends the reader's connections.
func (r *Reader) Close() { r.client.Close() }

// ReadToEnd is Committed for what was not read before.
func (r *Reader) ReadToEnd(ctx context.Context, yield func(Record)) error {
	ends, err := r.ends(ctx)
	if err != nil {
		return err
	}
	for !r.reached(ends) {
		fetches := r.client.PollFetches(ctx)
		// What has come is taken first: it does not come again.
		fetches.EachRecord(func(rec *kgo.Record) {
			r.next[rec.Topic][rec.Partition] = rec.Offset + 1
			if !rec.Attrs.IsControl() {
				yield(Record{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Key: rec.Key, Value: rec.Value, Headers: rec.Headers})
			}
		})
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read from Kafka, %s: %w", r.behind(ends), err)
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("read %s/%d from Kafka: %w", e.Topic, e.Partition, e.Err)
		}
	}
	return nil
}

// ends returns the high watermark of every partition: the last stable offset,
// which a read_committed listing would return, lies before the open
// transactions. Partitions not seen before are read from their start.
func (r *Reader) ends(ctx context.Context) (kadm.ListedOffsets, error) {
	ends, err := r.offsets(ctx, r.admin.ListEndOffsets)
	if err != nil {
		return nil, err
	}
	starts, err := r.offsets(ctx, r.admin.ListStartOffsets) // second: it has every partition of ends
	if err != nil {
		return nil, err
	}
	fresh := map[string]map[int32]kgo.Offset{}
	starts.Each(func(o kadm.ListedOffset) {
		if _, known := r.next[o.Topic][o.Partition]; known {
			return
		}
		if r.next[o.Topic] == nil {
			r.next[o.Topic] = map[int32]int64{}
		}
		if fresh[o.Topic] == nil {
			fresh[o.Topic] = map[int32]kgo.Offset{}
		}
		r.next[o.Topic][o.Partition] = o.Offset
		fresh[o.Topic][o.Partition] = kgo.NewOffset().At(o.Offset)
	})
	r.client.AddConsumePartitions(fresh)
	return ends, nil
}

type lister func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error)

func (r *Reader) offsets(ctx context.Context, list lister) (kadm.ListedOffsets, error) {
	found, err := list(ctx, r.topics...)
	if err == nil {
		err = found.Error()
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("%w among %v", ErrNoTopic, r.topics)
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets in Kafka: %w", err)
	}
	for _, topic := range r.topics {
		if len(found[topic]) == 0 {
			return nil, fmt.Errorf("%w: %s", ErrNoTopic, topic)
		}
	}
	return found, nil
}

func (r *Reader) reached(ends kadm.ListedOffsets) bool { return r.behind(ends) == "" }

// behind names the partitions that were not yet read to their ends.
func (r *Reader) behind(ends kadm.ListedOffsets) string {
	text := ""
	for _, topic := range slices.Sorted(maps.Keys(ends)) {
		for _, partition := range slices.Sorted(maps.Keys(ends[topic])) {
			if next, end := r.next[topic][partition], ends[topic][partition].Offset; next < end {
				text += fmt.Sprintf(" %s/%d at %d of %d", topic, partition, next, end)
			}
		}
	}
	if text != "" {
		text = "behind:" + text
	}
	return text
}
