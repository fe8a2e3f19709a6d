package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ReadAll returns all committed records that a node sent to a topic, in the
// order in which it logged them. It fails when there are not exactly records of
// them, or when two are the same one.
func ReadAll(ctx context.Context, brokers, topic string, records int64) ([]*kgo.Record, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return nil, err
	}
	left := map[int32]int64{} // the ends of the partitions that are not read yet
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	seen := make(map[place]*kgo.Record, records)
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		err := fetches.Err()
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] { // the last one is the end marker of a transaction
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				err = errors.Join(err, add(seen, r))
			}
		})
		if err != nil {
			return nil, fmt.Errorf("read topic %s: %w", topic, err)
		}
	}
	if int64(len(seen)) != records {
		return nil, fmt.Errorf("topic %s has %d committed records instead of %d", topic, len(seen), records)
	}
	return inOrder(seen), nil
}

// add notes a record at its place, or says what is wrong with it.
func add(seen map[place]*kgo.Record, r *kgo.Record) error {
	p, err := placeOf(r)
	if err != nil {
		return err
	}
	if _, again := seen[p]; again {
		return fmt.Errorf("record %d of ledger %s twice", p.lsn, p.ledger)
	}
	seen[p] = r
	return nil
}

func inOrder(seen map[place]*kgo.Record) []*kgo.Record {
	order := slices.SortedFunc(maps.Keys(seen), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.ledger, b.ledger), cmp.Compare(a.lsn, b.lsn))
	})
	all := make([]*kgo.Record, len(order))
	for i, p := range order {
		all[i] = seen[p]
	}
	return all
}

// A place is what a node writes into the headers of each record.
type place struct {
	ledger string
	lsn    uint64
}

func placeOf(r *kgo.Record) (p place, err error) {
	for _, h := range r.Headers {
		switch h.Key {
		case "tributary.ledger":
			p.ledger = string(h.Value)
		case "tributary.lsn":
			p.lsn, err = strconv.ParseUint(string(h.Value), 10, 64)
		}
	}
	if p.ledger == "" {
		err = errors.Join(err, fmt.Errorf("record %d of partition %d does not say which ledger it is of", r.Offset, r.Partition))
	}
	return p, err
}
