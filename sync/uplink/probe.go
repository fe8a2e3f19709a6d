package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A Probed is what Probe has found out about one thing that forwarding needs. It
// is good if Bad and Later are both false.
type Probed struct {
	About string
	What  string
	Do    string // what to do about it; "" where there is nothing
	Bad   bool   // records would wait, or go to the dead-letter topic
	Later bool   // it could not be tried, or is not there yet and will be made
}

// probeTimeout bounds a whole probe.
const probeTimeout = 30 * time.Second

// Probe tries what Forward does, with the given destinations beside the dead-letter
// and the positions topic: the way to Kafka and the login, a transaction, and one
// record to each topic. The transaction is aborted, so nobody who reads committed
// records sees any of it; no topic is made. It uses a transactional id of its own, so
// no forwarder is fenced, and may be called while one works. It returns when ctx ends
// or after 30 s at the latest, with what it found until then, never nothing.
func Probe(ctx context.Context, cfg Config, topics []string) []Probed {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p := &probe{}
	cfg, err := cfg.withDefaults()
	if err != nil {
		p.bad("configuration", trouble{err.Error(), "Correct the configuration."})
		return p.found
	}
	var cl *kgo.Client
	opts, err := connection(cfg)
	if err == nil {
		opts = append(opts, kgo.TransactionalID(cfg.probeID()), kgo.TransactionTimeout(cfg.TransactionTimeout), kgo.ProducerBatchCompression(codecs(cfg.Compression)...))
		cl, err = kgo.NewClient(opts...)
	}
	if err != nil {
		p.bad("configuration", explain(err, cfg))
		return p.found
	}
	defer cl.Close()
	p.session = &session{forwarder: &forwarder{cfg: cfg, warnedPolicy: true}, cl: cl}
	p.run(ctx, topics)
	return p.found
}

// probeID is under the prefix that the Kafka team allows, and no ledger's.
func (c Config) probeID() string { return "tributary." + c.Site + ".probe." + c.Node }

// A probe is one run of Probe.
type probe struct {
	*session

	found []Probed
}

func (p *probe) bad(about string, t trouble) {
	p.found = append(p.found, Probed{About: about, What: t.what, Do: t.do, Bad: true})
}

// run finds out one thing after the other, as far as the one before lets it.
func (p *probe) run(ctx context.Context, names []string) {
	names = append(slices.Clone(names), p.cfg.DeadLetter)
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
	began := time.Now()
	topics, cluster, err := p.metadata(ctx, append([]string{p.cfg.PositionsTopic}, names...)...)
	if err != nil {
		p.bad("connection", explain(err, p.cfg))
		return
	}
	p.good("connection", fmt.Sprintf("cluster %s answers in %v%s", cluster, time.Since(began).Round(time.Millisecond), p.cfg.as()))
	p.positions(ctx, topics[p.cfg.PositionsTopic])
	if !p.transaction(ctx) {
		return
	}
	for _, name := range names {
		p.topic(ctx, topics[name])
	}
}

func (c Config) as() string {
	if c.SASL.User == "" {
		return ""
	}
	return ", logged in as " + c.SASL.User
}

func (p *probe) good(about, what string) {
	p.found = append(p.found, Probed{About: about, What: what})
}

// positions looks at the topic of the positions, and writes nothing to it.
func (p *probe) positions(ctx context.Context, t topic) {
	about := "topic " + t.name
	if errors.Is(t.err, kerr.UnknownTopicOrPartition) {
		p.missing(ctx, t.name, p.cfg.PositionsPartitions, positionsConfig())
		return
	}
	err := t.usable()
	if err == nil {
		err = p.checkPolicy(ctx)
	}
	if err == nil && !t.mayRead {
		err = &topicError{t.name, kerr.TopicAuthorizationFailed}
	}
	if stopped, ok := errors.AsType[*StoppedError](err); ok {
		p.bad(about, trouble{stopped.What, stopped.Do})
		return
	}
	if err != nil {
		p.bad(about, explain(err, p.cfg))
		return
	}
	p.good(about, fmt.Sprintf("%d partitions, may be written and read, does not forget", len(t.leaders)))
}

// transaction says whether this client may have any.
func (p *probe) transaction(ctx context.Context) bool {
	const about = "transactions"
	id, _, err := p.cl.ProducerID(ctx)
	if err == nil && id < 0 {
		err = errors.New("this Kafka has no transactions: use Apache Kafka 2.5 or newer, or a service that has them")
	}
	if err != nil {
		p.bad(about, explain(err, p.cfg))
		return false
	}
	p.good(about, "allowed for transactional ids tributary."+p.cfg.Site+".*")
	return true
}

// topic sends a record to a destination.
func (p *probe) topic(ctx context.Context, t topic) {
	about := "topic " + t.name
	if errors.Is(t.err, kerr.UnknownTopicOrPartition) {
		p.missing(ctx, t.name, p.cfg.Partitions, nil)
		return
	}
	err := t.usable()
	if err == nil {
		err = p.try(ctx, t.name)
	}
	if err != nil {
		if _, is := errors.AsType[*topicError](err); !is {
			err = &topicError{t.name, err}
		}
		p.bad(about, explain(err, p.cfg))
		return
	}
	p.good(about, fmt.Sprintf("%d partitions, took a record in a transaction", len(t.leaders)))
}

// missing says whether a topic could be created. Kafka validates that, and does not
// create it.
func (p *probe) missing(ctx context.Context, name string, partitions int32, config map[string]*string) {
	about := "topic " + name
	if !p.cfg.CreateTopics {
		p.bad(about, explain(&topicError{name, kerr.UnknownTopicOrPartition}, p.cfg))
		return
	}
	all, err := kadm.NewClient(p.cl).ValidateCreateTopics(ctx, partitions, p.cfg.ReplicationFactor, config, name)
	if err == nil {
		err = all[name].Err
	}
	if err != nil {
		p.bad(about, explain(&topicError{name, &createError{err}}, p.cfg))
		return
	}
	p.found = append(p.found, Probed{About: about, What: "it is missing, and is created with the first record for it", Later: true})
}

// try sends a record in a transaction of its own, and aborts that.
func (p *probe) try(ctx context.Context, name string) error {
	if err := p.cl.BeginTransaction(); err != nil {
		return err
	}
	r := kgo.Record{Topic: name, Key: []byte("tributary probe"), Value: []byte("of a transaction that was aborted")}
	err := p.cl.ProduceSync(ctx, &r).FirstErr()
	return errors.Join(err, p.cl.EndTransaction(ctx, kgo.TryAbort))
}
