package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// found is what readPosition found. When ok is false there is no position in
// the whole topic, and partition is where the first one belongs.
type found struct {
	ok        bool
	position  position
	partition int32
}

const (
	firstWindow = 1000    // offsets; a live ledger's position is among the last
	fetchBytes  = 1 << 20 // of one answer
	fetchWait   = 500 * time.Millisecond
	idleFetch   = 20 * time.Millisecond
	expiryCheck = 10 * time.Second // how often a broker looks for transactions that have timed out
)

// extent is what a partition of the positions topic holds.
type extent struct {
	leader     int32
	topicID    [16]byte
	start, end int64 // end is the high watermark, taken after the fence
}

// readPosition returns the ledger's position, by positive evidence only: the
// last committed record of its key, or that no partition has one between its
// first offset and its high watermark. Everything else is an error.
//
// A fresh ledger has none, because nobody has tried to write one.
//
// The key is first looked for where it hashes to. Elsewhere it is only when
// partitions were added after its first record; it then stays where it is.
func (s *session) readPosition(ctx context.Context) (found, error) {
	topic, err := s.positionsTopic(ctx)
	if err != nil {
		return found{}, err
	}
	home := hashPartition(s.cfg.positionKey(s.src.Ledger()), len(topic.leaders))
	if s.fresh {
		return found{partition: home}, nil
	}
	extents, err := s.extents(ctx, topic)
	if err != nil {
		return found{}, err
	}
	order := []int32{home}
	for p := range int32(len(extents)) {
		if p != home {
			order = append(order, p)
		}
	}
	for _, p := range order {
		value, ok, err := s.lastIn(ctx, p, extents[p])
		if err != nil {
			return found{}, fmt.Errorf("partition %d of %s: %w", p, s.cfg.PositionsTopic, err)
		}
		if !ok {
			continue
		}
		at, err := decodePosition(value)
		if err != nil {
			return found{}, &StoppedError{
				What: fmt.Sprintf("The position of ledger %v in Kafka topic %s cannot be read: %v", s.src.Ledger(), s.cfg.PositionsTopic, err),
				Do:   "If a newer program wrote it, update this one. Otherwise ask the operator where to go on.",
			}
		}
		return found{ok: true, position: at, partition: p}, nil
	}
	return found{partition: home}, nil
}

// positionsTopic returns what Kafka says about the positions topic now.
func (s *session) positionsTopic(ctx context.Context) (topic, error) {
	topics, _, err := s.metadata(ctx, s.cfg.PositionsTopic)
	if err != nil {
		return topic{}, err
	}
	t := topics[s.cfg.PositionsTopic]
	return t, t.usable()
}

// extents returns what each partition of the positions topic holds now.
func (s *session) extents(ctx context.Context, topic topic) ([]extent, error) {
	out := make([]extent, len(topic.leaders))
	for p, leader := range topic.leaders {
		out[p] = extent{leader: leader, topicID: topic.id, start: -1, end: -1}
	}
	for _, l := range []struct {
		timestamp int64
		set       func(*extent, int64)
	}{
		{-2, func(e *extent, offset int64) { e.start = offset }},
		{-1, func(e *extent, offset int64) { e.end = offset }}, // read_uncommitted: the high watermark
	} {
		if err := s.listOffsets(ctx, l.timestamp, out, l.set); err != nil {
			return nil, err
		}
	}
	for p, e := range out {
		if e.start < 0 || e.end < e.start {
			return nil, fmt.Errorf("partition %d of %s: Kafka did not say where it begins and ends", p, s.cfg.PositionsTopic)
		}
	}
	return out, nil
}

func (s *session) listOffsets(ctx context.Context, timestamp int64, of []extent, set func(*extent, int64)) error {
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = s.cfg.PositionsTopic
	for p := range of {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = int32(p), timestamp
		topic.Partitions = append(topic.Partitions, partition)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = 0
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", s.cfg.PositionsTopic, err)
	}
	for _, t := range resp.Topics {
		if t.Topic != s.cfg.PositionsTopic {
			continue
		}
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("list offsets of partition %d of %s: %w", p.Partition, s.cfg.PositionsTopic, err)
			}
			if int(p.Partition) < len(of) && p.Partition >= 0 {
				set(&of[p.Partition], p.Offset)
			}
		}
	}
	return nil
}

// lastIn returns the value of the last committed record with our key in
// partition p, reading backwards in growing windows.
func (s *session) lastIn(ctx context.Context, p int32, e extent) (value []byte, ok bool, err error) {
	end := e.end
	for window := int64(firstWindow); end > e.start; window *= 8 {
		start := max(end-window, e.start)
		value, ok, err := s.lastBetween(ctx, p, e, start, end)
		if err != nil || ok {
			return value, ok, err
		}
		end = start
	}
	return nil, false, nil
}

// lastBetween is lastIn for the offsets [start, end). It goes on until it has
// seen the end: aborted records and control records in the way are passed, and
// an open transaction of another ledger's forwarder, which holds back readers,
// is waited for until it must have timed out.
func (s *session) lastBetween(ctx context.Context, p int32, e extent, start, end int64) (value []byte, ok bool, err error) {
	key := s.cfg.positionKey(s.src.Ledger())
	patience := s.cfg.TransactionTimeout + expiryCheck
	progress := time.Now()
	for at := start; at < end; {
		got, next, err := s.fetch(ctx, p, e, at)
		if err != nil {
			return nil, false, err
		}
		for _, r := range got.Records {
			if r.Offset < end && !r.Attrs.IsControl() && string(r.Key) == key {
				value, ok = r.Value, true
			}
		}
		if next > at {
			at, progress = next, time.Now()
			continue
		}
		if time.Since(progress) < patience {
			select {
			case <-time.After(idleFetch): // the fetch itself waits for records, if it is not throttled
				continue
			case <-ctx.Done():
				return nil, false, ctx.Err()
			}
		}
		if got.LastStableOffset < end {
			return nil, false, errHeld
		}
		return nil, false, fmt.Errorf("Kafka gives no records from offset %d to %d", at, end) //nolint:staticcheck // a name
	}
	return value, ok, nil
}

var errHeld = errors.New("another forwarder's open transaction holds back the readers of this partition")

// fetch returns the committed records and all control records from offset at,
// and the offset after the last batch that was looked at.
func (s *session) fetch(ctx context.Context, p int32, e extent, at int64) (kgo.FetchPartition, int64, error) {
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = p, at, fetchBytes
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = s.cfg.PositionsTopic, e.topicID
	topic.Partitions = append(topic.Partitions, partition)
	req := kmsg.NewPtrFetchRequest()
	// The answer is to be full for the partition before it is full as a whole. For
	// Kafka that is the same, but kfake leaves the list of aborted transactions out
	// of an answer that is full as a whole, and then an aborted position would count
	// (U1; TestAbortedListTrap).
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(fetchWait.Milliseconds()), 1, 2*fetchBytes
	req.IsolationLevel = 1
	req.SessionEpoch = -1 // no fetch session
	req.Topics = append(req.Topics, topic)
	kresp, err := s.cl.Broker(int(e.leader)).RetriableRequest(ctx, req)
	if err != nil {
		return kgo.FetchPartition{}, 0, fmt.Errorf("fetch: %w", err)
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return kgo.FetchPartition{}, 0, fmt.Errorf("fetch: %w", err)
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			rp := &resp.Topics[i].Partitions[j]
			if rp.Partition != p {
				continue
			}
			got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
				KeepControlRecords: true,
				Offset:             at,
				IsolationLevel:     kgo.ReadCommitted(),
				Topic:              s.cfg.PositionsTopic,
				Partition:          p,
			}, rp, s.decompressor, nil)
			if got.Err != nil {
				return got, 0, fmt.Errorf("fetch: %w", got.Err)
			}
			return got, next, nil
		}
	}
	return kgo.FetchPartition{}, at, nil // throttled: an empty answer at once
}
