package uplink

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary"
)

// found is what readPosition found. When ok is false there is no position in
// the whole topic, and partition is where the first one belongs. When hanging is
// not nil, whether there is a later one has to be settled first.
type found struct {
	ok        bool
	position  position
	partition int32
	hanging   *hanging
}

const (
	firstWindow = 1000    // offsets; a live ledger's position is among the last
	fetchBytes  = 1 << 20 // of one answer
	fetchWait   = 500 * time.Millisecond
	idleFetch   = 20 * time.Millisecond
	patience    = 25 * time.Second // with a partition that gives nothing
)

// extent is what a partition holds.
type extent struct {
	topic     string
	topicID   [16]byte
	partition int32
	leader    int32
	start     int64
	end       int64 // the high watermark, taken after the fence
	stable    int64 // below it all transactions are decided; at most end
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
	key := s.cfg.positionKey(s.src.Ledger())
	home := hashPartition(key, len(topic.leaders))
	if s.fresh {
		return found{partition: home}, nil
	}
	extents, err := s.extents(ctx, topic)
	if err != nil {
		return found{}, err
	}
	for _, p := range inOrder(home, len(extents)) {
		value, ok, hanging, err := s.lastIn(ctx, extents[p], key)
		if err != nil {
			return found{}, fmt.Errorf("partition %d of %s: %w", p, s.cfg.PositionsTopic, err)
		}
		if !ok && hanging == nil {
			continue
		}
		at := found{ok: ok, partition: p, hanging: hanging}
		if ok {
			at.position, err = decodePosition(value)
		}
		if err == nil && hanging != nil {
			hanging.position, err = decodePosition(hanging.value)
		}
		if err != nil {
			return found{}, &StoppedError{
				What: fmt.Sprintf("The position of ledger %v in Kafka topic %s cannot be read: %v", s.src.Ledger(), s.cfg.PositionsTopic, err),
				Do:   "If a newer program wrote it, update this one. Otherwise ask the operator where to go on.",
			}
		}
		return at, nil
	}
	return found{partition: home}, nil
}

// inOrder returns the partitions, the one with the key's home first.
func inOrder(home int32, partitions int) []int32 {
	order := []int32{home}
	for p := range int32(partitions) {
		if p != home {
			order = append(order, p)
		}
	}
	return order
}

// positionOf returns how far Kafka has a ledger that somebody else forwards: what was
// committed before it was asked. It is 0 if there is no position.
func (s *session) positionOf(ctx context.Context, id tributary.LedgerID) (at tributary.Position, err error) {
	at.Ledger = id
	topic, err := s.positionsTopic(ctx)
	if err != nil {
		return at, err
	}
	extents, err := s.extents(ctx, topic)
	if err != nil {
		return at, err
	}
	key := s.cfg.positionKey(id)
	for _, p := range inOrder(hashPartition(key, len(topic.leaders)), len(extents)) {
		value, ok, _, err := s.lastIn(ctx, extents[p], key)
		if err != nil {
			return at, err
		}
		if !ok {
			continue
		}
		found, err := decodePosition(value)
		if err == nil {
			at.Next = tributary.LSN(found.Next)
			at.Chain, err = found.chain()
		}
		return at, err
	}
	return at, nil
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

// extents returns what each partition of a topic holds now.
func (s *session) extents(ctx context.Context, topic topic) ([]extent, error) {
	out := topic.partitions()
	return out, s.measure(ctx, topic.name, out)
}

// partitions returns the partitions of t, without what they hold.
func (t topic) partitions() []extent {
	out := make([]extent, len(t.leaders))
	for p, leader := range t.leaders {
		out[p] = extent{topic: t.name, topicID: t.id, partition: int32(p), leader: leader}
	}
	return out
}

// measure finds out where partitions of a topic begin and end.
func (s *session) measure(ctx context.Context, topic string, of []extent) error {
	for i := range of {
		of[i].start, of[i].end, of[i].stable = -1, -1, -1
	}
	for _, l := range []struct {
		timestamp int64
		isolation int8
		set       func(*extent, int64)
	}{
		{-2, levelUncommitted, func(e *extent, offset int64) { e.start = offset }},
		{-1, levelUncommitted, func(e *extent, offset int64) { e.end = offset }},
		{-1, levelCommitted, func(e *extent, offset int64) { e.stable = min(offset, e.end) }},
	} {
		if err := s.listOffsets(ctx, topic, l.timestamp, l.isolation, of, l.set); err != nil {
			return err
		}
	}
	for _, e := range of {
		if e.start < 0 || e.stable < 0 || e.end < e.start {
			return fmt.Errorf("partition %d of %s: Kafka did not say where it begins and ends", e.partition, topic)
		}
	}
	return nil
}

const (
	levelUncommitted int8 = 0
	levelCommitted   int8 = 1
)

func (s *session) listOffsets(ctx context.Context, name string, timestamp int64, isolation int8, of []extent, set func(*extent, int64)) error {
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = name
	for _, e := range of {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = e.partition, timestamp
		topic.Partitions = append(topic.Partitions, partition)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = isolation
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", name, err)
	}
	for _, t := range resp.Topics {
		if t.Topic != name {
			continue
		}
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("list offsets of partition %d of %s: %w", p.Partition, name, err)
			}
			if i := slices.IndexFunc(of, func(e extent) bool { return e.partition == p.Partition }); i >= 0 {
				set(&of[i], p.Offset)
			}
		}
	}
	return nil
}

// lastIn returns the value of the last committed record with a key in a
// partition, and the transaction that is open behind it, if there is one.
// What is not stable yet is looked at first; then it reads backwards in growing
// windows.
func (s *session) lastIn(ctx context.Context, e extent, key string) (value []byte, ok bool, open *hanging, err error) {
	value, ok, open, err = s.lastUnstable(ctx, e, key)
	if err != nil || ok {
		return value, ok, open, err
	}
	end := e.stable
	for window := int64(firstWindow); end > e.start; window *= 8 {
		start := max(end-window, e.start)
		value, ok, err := s.lastBetween(ctx, e, key, start, end)
		if err != nil || ok {
			return value, ok, open, err
		}
		end = start
	}
	return nil, false, open, nil
}

// lastBetween is lastIn for the offsets [start, end), which are stable. Aborted
// records and control records in the way are passed.
func (s *session) lastBetween(ctx context.Context, e extent, key string, start, end int64) (value []byte, ok bool, err error) {
	err = s.scan(ctx, e, start, end, levelCommitted, func(r *kgo.Record) {
		if !r.Attrs.IsControl() && string(r.Key) == key {
			value, ok = r.Value, true
		}
	})
	return value, ok, err
}

// lastUnstable is lastIn for the offsets from e.stable to e.end, where readers
// with read_committed have to wait until the oldest open transaction ends. Nothing
// has been compacted there, so the markers themselves say what became of each
// transaction; those of other ledgers, open or not, are not waited for.
func (s *session) lastUnstable(ctx context.Context, e extent, key string) (value []byte, ok bool, open *hanging, err error) {
	undecided := map[int64]*hanging{} // by producer id
	err = s.scan(ctx, e, e.stable, e.end, levelUncommitted, func(r *kgo.Record) {
		switch {
		case r.Attrs.IsControl():
			h := undecided[r.ProducerID]
			if committed, isEnd := endOf(r); h != nil && isEnd {
				delete(undecided, r.ProducerID)
				if committed {
					value, ok = h.value, true
				}
			}
		case string(r.Key) != key:
		case !r.Attrs.IsTransactional():
			value, ok = r.Value, true
		default:
			undecided[r.ProducerID] = &hanging{topic: e.topic, partition: e.partition, id: r.ProducerID, epoch: r.ProducerEpoch, offset: r.Offset, value: r.Value}
		}
	})
	for _, h := range undecided {
		if open == nil || h.offset > open.offset {
			open = h
		}
	}
	return value, ok, open, err
}

// endOf reports what a control record says about the transaction that it ends;
// isEnd is false if it ends none.
func endOf(r *kgo.Record) (committed, isEnd bool) {
	var key kmsg.ControlRecordKey
	if err := key.ReadFrom(r.Key); err != nil {
		return false, false
	}
	committed = key.Type == kmsg.ControlRecordKeyTypeCommit
	return committed, committed || key.Type == kmsg.ControlRecordKeyTypeAbort
}

// scan calls see for each record in the offsets [start, end) of a partition. It
// returns nil only when it has seen the end.
func (s *session) scan(ctx context.Context, e extent, start, end int64, isolation int8, see func(*kgo.Record)) error {
	progress := time.Now()
	for at := start; at < end; {
		got, next, err := s.fetch(ctx, e, at, isolation)
		if err != nil {
			return err
		}
		for _, r := range got.Records {
			if r.Offset < end {
				see(r)
			}
		}
		if next > at {
			at, progress = next, time.Now()
			continue
		}
		if time.Since(progress) > patience {
			return fmt.Errorf("Kafka gives no records from offset %d to %d", at, end) //nolint:staticcheck // a name
		}
		select {
		case <-time.After(idleFetch): // the fetch itself waits for records, if it is not throttled
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// fetch returns the records (with levelCommitted: the committed ones) and all
// control records from offset at, and the offset after the last batch that was
// looked at.
func (s *session) fetch(ctx context.Context, e extent, at int64, isolation int8) (kgo.FetchPartition, int64, error) {
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = e.partition, at, fetchBytes
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = e.topic, e.topicID
	topic.Partitions = append(topic.Partitions, partition)
	req := kmsg.NewPtrFetchRequest()
	// The answer is to be full for the partition before it is full as a whole. For
	// Kafka that is the same, but kfake leaves the list of aborted transactions out
	// of an answer that is full as a whole, and then an aborted position would count
	// (U1; TestAbortedListTrap).
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(fetchWait.Milliseconds()), 1, 2*fetchBytes
	req.IsolationLevel = isolation
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
			if rp.Partition != e.partition {
				continue
			}
			level := kgo.ReadUncommitted()
			if isolation == levelCommitted {
				level = kgo.ReadCommitted()
			}
			got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
				KeepControlRecords: true,
				Offset:             at,
				IsolationLevel:     level,
				Topic:              e.topic,
				Partition:          e.partition,
			}, rp, s.decompressor, nil)
			if got.Err != nil {
				return got, 0, fmt.Errorf("fetch: %w", got.Err)
			}
			return got, next, nil
		}
	}
	return kgo.FetchPartition{}, at, nil // throttled: an empty answer at once
}
