package uplink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary"
)

// spot is a partition.
type spot struct {
	topic     string
	partition int32
}

func (e extent) at() spot { return spot{e.topic, e.partition} }

// producer is what a partition's leader knows of our producer id.
type producer struct {
	epoch int16
	open  int64 // the first offset of its open transaction; -1: none
}

// producers asks the leaders of partitions about our producer id. A partition that
// it has not written to for long is not in the answer. Kafka wants the right to
// read the topics for that.
func (s *session) producers(ctx context.Context, partitions []extent) (map[spot]producer, error) {
	if known, err := s.describesProducers(ctx); err != nil || !known {
		return nil, cmp.Or(err, error(kerr.UnsupportedVersion))
	}
	ask := kadm.TopicsSet{}
	for name, numbers := range byTopic(partitions) {
		ask.Add(name, numbers...)
	}
	described, err := kadm.NewClient(s.cl).DescribeProducers(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("describe producers: %w", err)
	}
	out := map[spot]producer{}
	for _, p := range described.SortedPartitions() {
		if p.Err != nil {
			return nil, fmt.Errorf("describe producers of partition %d of %s: %w", p.Partition, p.Topic, p.Err)
		}
		if at, ok := p.ActiveProducers[s.id]; ok {
			out[spot{p.Topic, p.Partition}] = producer{epoch: at.ProducerEpoch, open: at.CurrentTxnStartOffset}
		}
	}
	return out, nil
}

// describesProducers reports whether this Kafka can be asked about them (2.8).
func (s *session) describesProducers(ctx context.Context) (bool, error) {
	if s.describes != nil {
		return *s.describes, nil
	}
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, s.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return false, fmt.Errorf("ask for the versions of requests: %w", err)
	}
	s.describes = new(slices.ContainsFunc(resp.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool { return k.ApiKey == kmsg.DescribeProducers.Int16() }))
	return *s.describes, nil
}

// lookBack bounds, in offsets, how far back a partition is searched for records.
const lookBack = 1 << 20

// look adds the records of the ledger that a partition has: to open those in our
// open transaction, and to inForce the committed ones from the LSN from on.
func (s *session) look(ctx context.Context, e extent, state producer, from tributary.LSN, open, inForce map[tributary.LSN]int) error {
	one := []extent{e}
	if err := s.measure(ctx, e.topic, one); err != nil {
		return err
	}
	e = one[0]
	var pending []tributary.LSN
	begin := e.stable
	if state.open >= 0 {
		begin = state.open
	}
	err := s.scan(ctx, e, begin, e.end, levelUncommitted, func(r *kgo.Record) {
		if r.ProducerID != s.id {
			return
		}
		if r.Attrs.IsControl() {
			if committed, isEnd := endOf(r); isEnd && committed {
				note(inForce, pending, from)
			}
			pending = nil
			return
		}
		if lsn, ok := s.lsnOf(r); ok {
			pending = append(pending, lsn)
		}
	})
	if err != nil {
		return err
	}
	note(open, pending, 0)
	if state.open >= 0 {
		return nil // what is before belongs to earlier transactions
	}
	return s.lookBehind(ctx, e, from, inForce)
}

// lookBehind is look for what is stable, read backwards until it gets to records
// before from.
func (s *session) lookBehind(ctx context.Context, e extent, from tributary.LSN, inForce map[tributary.LSN]int) error {
	end := e.stable
	for window := int64(firstWindow); end > e.start && e.stable-end < lookBack; window *= 8 {
		start, older := max(end-window, e.start), false
		var seen []tributary.LSN
		err := s.scan(ctx, e, start, end, levelCommitted, func(r *kgo.Record) {
			if lsn, ok := s.lsnOf(r); ok && !r.Attrs.IsControl() {
				seen = append(seen, lsn)
				older = older || lsn < from
			}
		})
		if err != nil {
			return err
		}
		note(inForce, seen, from)
		if older {
			return nil // what is before is older still
		}
		end = start
	}
	if end > e.start {
		return fmt.Errorf("partition %d of %s: %w", e.partition, e.topic, errTooFar)
	}
	return nil
}

var errTooFar = errors.New("what this gateway has sent there is more than a million records back")

// note counts those LSNs that are not before from.
func note(copies map[tributary.LSN]int, lsns []tributary.LSN, from tributary.LSN) {
	for _, lsn := range lsns {
		if lsn >= from {
			copies[lsn]++
		}
	}
}

// lsnOf returns the LSN that a record has in its header; ok is false if it is not
// of our ledger.
func (s *session) lsnOf(r *kgo.Record) (lsn tributary.LSN, ok bool) {
	mine := false
	for _, h := range r.Headers {
		switch h.Key {
		case headerLedger:
			mine = string(h.Value) == s.src.Ledger().String()
		case headerLSN:
			n, err := strconv.ParseUint(string(h.Value), 10, 64)
			lsn, ok = tributary.LSN(n), err == nil
		}
	}
	return lsn, ok && mine
}

// sentTo returns the topics of the current transaction, without the positions.
func (s *session) sentTo() map[string]bool {
	names := map[string]bool{}
	for i := range s.out.records {
		names[s.out.records[i].Topic] = true
	}
	return names
}

// confirm sees that no partition of the last commit has lost its marker. After the
// fence Kafka has written all that it will ever write.
func (s *session) confirm(ctx context.Context) error {
	partitions, err := s.partitions(ctx, s.unconfirmed)
	if err != nil {
		return err
	}
	if err := s.remains(ctx, partitions); err != nil {
		return err
	}
	s.unconfirmed = nil
	return nil
}

// remains ends what hangs of our producer id in topics that s is about to send to:
// a marker may be lost in one of them and not in the positions topic. Left open, it
// would share the fate of our next transaction there, whatever Kafka had said of it.
// Where Kafka does not let us look, nothing is done. Its error wraps errRemedy when
// something was ended.
func (s *session) remains(ctx context.Context, partitions []extent) error {
	if len(partitions) == 0 {
		return nil
	}
	states, err := s.producers(ctx, partitions)
	if isUntold(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var commit, abort []extent
	for _, e := range partitions {
		state, ok := states[e.at()]
		if !ok || state.open < 0 {
			continue
		}
		if state.epoch >= s.epoch {
			return fmt.Errorf("somebody writes to %s under epoch %d, and ours is %d: %w", e.topic, state.epoch, s.epoch, kerr.ProducerFenced)
		}
		open, inForce := map[tributary.LSN]int{}, map[tributary.LSN]int{}
		if err := s.look(ctx, e, state, s.pos.Next, open, inForce); err != nil {
			return err
		}
		committed := 0 // as the position says
		for lsn := range open {
			if lsn < s.pos.Next {
				committed++
			}
		}
		switch committed {
		case len(open):
			commit = append(commit, e)
		case 0:
			abort = append(abort, e)
		default:
			h := hanging{topic: e.topic, partition: e.partition, id: s.id, epoch: state.epoch, offset: state.open}
			stuck := &hangingError{hanging: h, ledger: s.src.Ledger(), from: s.pos.Next}
			return stuck.because("%d of its records are committed by their position, and %d are not", committed, len(open)-committed)
		}
	}
	for _, part := range []struct {
		commit     bool
		partitions []extent
	}{{true, commit}, {false, abort}} {
		if len(part.partitions) > 0 {
			s.cfg.Logger.Warn("Kafka lost the end of a transaction; this gateway ends it", "commit", part.commit,
				"ledger", s.src.Ledger().String(), "partitions", fmt.Sprint(byTopic(part.partitions)))
			return s.endHanging(ctx, part.commit, part.partitions)
		}
	}
	return nil
}
