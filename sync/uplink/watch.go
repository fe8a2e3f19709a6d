package uplink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-edge/tributary"
)

// A Watcher is told how far ledgers are in Kafka, whoever forwards them. It is
// called from one goroutine, and must return soon.
type Watcher interface {
	// Moved says that Kafka has all of a ledger below p.Next.
	Moved(p tributary.Position)
	// Read says that at this time everything that had been committed was read. While
	// Kafka cannot be reached it does not come.
	Read(at time.Time)
}

const (
	watchEvery    = time.Second     // that Kafka is asked whether it is there
	watchPatience = 3 * time.Second // with its answer
)

// Watch follows the positions of all ledgers of the site, from the call on: what
// was committed before is not told. It goes on until ctx ends, whatever happens
// to Kafka, and then returns ctx's error; another error says what is wrong with
// cfg. It writes nothing, and needs no right but to read the positions topic.
func Watch(ctx context.Context, cfg Config, w Watcher) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	opts, err := connection(cfg)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(opts,
		kgo.ConsumeTopics(cfg.PositionsTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(fetchWait),
		kgo.MetadataMinAge(watchEvery), // the topic may not be there yet
	)...)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	defer cl.Close()
	for ctx.Err() == nil {
		asked := time.Now()
		there := reached(ctx, cl, cfg.PositionsTopic)
		poll, cancel := context.WithTimeout(ctx, watchEvery)
		failed := false
		for poll.Err() == nil {
			got := cl.PollFetches(poll)
			got.EachError(func(_ string, _ int32, err error) {
				failed = failed || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
			})
			got.EachRecord(func(r *kgo.Record) { tell(cfg, w, r) })
		}
		cancel()
		if there && !failed {
			w.Read(asked)
		}
	}
	return ctx.Err()
}

// reached says whether Kafka answers, and has the topic.
func reached(ctx context.Context, cl *kgo.Client, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &name
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil || len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 {
		return false
	}
	for i := range resp.Topics[0].Partitions {
		if p := &resp.Topics[0].Partitions[i]; p.ErrorCode != 0 || p.Leader < 0 {
			return false
		}
	}
	return true
}

// tell tells w of a position of the site. One that cannot be read is of a newer
// program: who forwards the ledger finds out.
func tell(cfg Config, w Watcher, r *kgo.Record) {
	text, ours := strings.CutPrefix(string(r.Key), cfg.Site+"/")
	if !ours {
		return
	}
	id, err := tributary.ParseLedgerID(text)
	if err != nil {
		return
	}
	at, err := decodePosition(r.Value)
	if err != nil {
		return
	}
	chain, err := at.chain()
	if err != nil {
		return
	}
	w.Moved(tributary.Position{Ledger: id, Next: tributary.LSN(at.Next), Chain: chain})
}
