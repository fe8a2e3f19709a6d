package uplink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topic is what Kafka says about a topic.
type topic struct {
	name      string
	id        [16]byte
	leaders   []int32 // by partition; nil unless all of them have one
	mayWrite  bool
	mayRead   bool
	err       error
	badLeader error
}

// usable returns why t cannot be written to, or nil.
func (t topic) usable() error {
	switch {
	case t.err != nil:
		return &topicError{t.name, t.err}
	case t.badLeader != nil:
		return &topicError{t.name, t.badLeader}
	case !t.mayWrite:
		return &topicError{t.name, kerr.TopicAuthorizationFailed}
	}
	return nil
}

// topicError is trouble with one topic that the others do not have.
type topicError struct {
	topic string
	err   error
}

func (e *topicError) Error() string { return fmt.Sprintf("topic %s: %v", e.topic, e.err) }
func (e *topicError) Unwrap() error { return e.err }

// metadata asks Kafka about topics, past all caches. It never makes Kafka
// create them.
func (s *session) metadata(ctx context.Context, names ...string) (map[string]topic, string, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	req.IncludeTopicAuthorizedOperations = true
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = new(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return nil, "", fmt.Errorf("ask for metadata: %w", err)
	}
	topics := make(map[string]topic, len(names))
	for _, name := range names {
		topics[name] = topic{name: name, err: kerr.UnknownTopicOrPartition}
	}
	for i := range resp.Topics {
		if t := readTopic(&resp.Topics[i]); t.name != "" {
			topics[t.name] = t
		}
	}
	cluster := ""
	if resp.ClusterID != nil {
		cluster = *resp.ClusterID
	}
	return topics, cluster, nil
}

func readTopic(from *kmsg.MetadataResponseTopic) topic {
	t := topic{id: from.TopicID, err: kerr.ErrorForCode(from.ErrorCode)}
	if from.Topic != nil {
		t.name = *from.Topic
	}
	// A broker that does not tell (before 2.3) is believed to allow.
	const untold, read, write = -1 << 31, 1 << uint(kmsg.ACLOperationRead), 1 << uint(kmsg.ACLOperationWrite)
	t.mayWrite = from.AuthorizedOperations == untold || from.AuthorizedOperations&write != 0
	t.mayRead = from.AuthorizedOperations == untold || from.AuthorizedOperations&read != 0

	leaders := make([]int32, len(from.Partitions))
	for i := range from.Partitions {
		p := &from.Partitions[i]
		err := kerr.ErrorForCode(p.ErrorCode)
		if err == nil && (p.Leader < 0 || p.Partition < 0 || int(p.Partition) >= len(leaders)) {
			err = kerr.LeaderNotAvailable
		}
		if err != nil {
			t.badLeader = fmt.Errorf("partition %d: %w", p.Partition, err)
			return t
		}
		leaders[p.Partition] = p.Leader
	}
	if len(leaders) == 0 && t.err == nil {
		t.badLeader = kerr.LeaderNotAvailable
	}
	t.leaders = leaders
	return t
}

// lookAround checks, before anybody is fenced, that there is a Kafka to forward
// to, the right one, with a fit positions topic.
func (s *session) lookAround(ctx context.Context) error {
	name := s.cfg.PositionsTopic
	topics, cluster, err := s.metadata(ctx, name)
	if err != nil {
		return err
	}
	s.clusterID = cluster
	if want := s.cfg.KafkaClusterID; want != "" && cluster != "" && want != cluster {
		return &StoppedError{
			What: fmt.Sprintf("This is Kafka cluster %s, but this node has forwarded to cluster %s", cluster, want),
			Do:   "Point [kafka] brokers at the old cluster, or ask the operator where to go on.",
		}
	}
	if errors.Is(topics[name].err, kerr.UnknownTopicOrPartition) {
		if !s.cfg.CreateTopics {
			return &topicError{name, kerr.UnknownTopicOrPartition}
		}
		if err := s.create(ctx, name, s.cfg.PositionsPartitions, positionsConfig()); err != nil {
			return err
		}
	} else if err := topics[name].usable(); err != nil {
		return err
	}
	return s.checkPolicy(ctx)
}

// positionsConfig keeps the topic small enough to be read in one go: the
// segment being written is never compacted, and by default that is a gigabyte
// or a week. Kafka heeds retention.ms only with the policy delete, but a ledger
// that is away for months must not depend on nobody ever adding that.
func positionsConfig() map[string]*string {
	return map[string]*string{
		"cleanup.policy":            new("compact"),
		"retention.ms":              new("-1"),
		"segment.bytes":             new("16777216"),
		"segment.ms":                new("3600000"),
		"min.cleanable.dirty.ratio": new("0.1"),
	}
}

// checkPolicy refuses a positions topic that forgets.
func (s *session) checkPolicy(ctx context.Context) error {
	policy, err := s.topicConfig(ctx, s.cfg.PositionsTopic, "cleanup.policy")
	switch {
	case isUntold(err):
		if !s.warnedPolicy {
			s.warnedPolicy = true
			s.cfg.Logger.Warn("Kafka does not let us see how a topic is configured; make sure that its cleanup.policy is compact",
				"topic", s.cfg.PositionsTopic, "error", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("describe topic %s: %w", s.cfg.PositionsTopic, err)
	case policy != "compact":
		return &StoppedError{
			What: fmt.Sprintf("Kafka topic %s has cleanup.policy=%s, so Kafka would forget positions, and records would be sent again", s.cfg.PositionsTopic, policy),
			Do: fmt.Sprintf("Run: kafka-configs --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config cleanup.policy=compact",
				strings.Join(s.cfg.Brokers, ","), s.cfg.PositionsTopic),
		}
	}
	return nil
}

// topicConfig returns one config value of a topic.
func (s *session) topicConfig(ctx context.Context, name, key string) (string, error) {
	configs, err := s.topicConfigs(ctx, name)
	if err != nil {
		return "", err
	}
	value, ok := configs[key]
	if !ok {
		return "", fmt.Errorf("Kafka did not say %s: %w", key, kerr.InvalidRequest) //nolint:staticcheck // a name
	}
	return value, nil
}

// topicConfigs returns how a topic is configured.
func (s *session) topicConfigs(ctx context.Context, name string) (map[string]string, error) {
	configs, err := kadm.NewClient(s.cl).DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil, err
	}
	got, err := configs.On(name, nil)
	if err != nil {
		return nil, err
	}
	if got.Err != nil {
		return nil, got.Err
	}
	values := make(map[string]string, len(got.Configs))
	for _, c := range got.Configs {
		values[c.Key] = c.MaybeValue()
	}
	return values, nil
}

// create makes a topic and returns when it can be written to. That somebody
// else was quicker is fine.
func (s *session) create(ctx context.Context, name string, partitions int32, config map[string]*string) error {
	resp, err := kadm.NewClient(s.cl).CreateTopic(ctx, partitions, s.cfg.ReplicationFactor, config, name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		if _, ok := errors.AsType[*kerr.Error](err); !ok {
			return fmt.Errorf("create topic %s: %w", name, err)
		}
		if resp.ErrMessage != "" {
			err = fmt.Errorf("%w (%s)", err, resp.ErrMessage)
		}
		return &topicError{name, &createError{err}}
	}
	s.cfg.Logger.Info("created a Kafka topic", "topic", name)
	for deadline := time.Now().Add(retryFor); ; {
		topics, _, err := s.metadata(ctx, name)
		if err != nil {
			return err
		}
		err = topics[name].usable()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// createError says that a topic is missing and could not be created.
type createError struct{ err error }

func (e *createError) Error() string {
	return "it is missing, and creating it failed: " + e.err.Error()
}
func (e *createError) Unwrap() error { return e.err }
