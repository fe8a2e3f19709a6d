package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// trouble is an error in words for the person who looks after the gateway.
type trouble struct{ what, do string }

// kafkaName returns Kafka's own name for an error, e.g. MESSAGE_TOO_LARGE, or
// the error's text.
func kafkaName(err error) string {
	if k, ok := errors.AsType[*kerr.Error](err); ok {
		return k.Message
	}
	return err.Error()
}

// explain says what happened and what to do about it.
func explain(err error, c Config) trouble {
	if t, ok := errors.AsType[*topicError](err); ok {
		return explainTopic(t, c)
	}
	if r, ok := errors.AsType[*refusedError](err); ok {
		return explainRefused(r, c)
	}
	if u, ok := errors.AsType[*untoldError](err); ok {
		return trouble{
			fmt.Sprintf("Records %d to %d are gone (%s), and there is no dead-letter topic to say so in", u.from, u.next-1, u.reason),
			"Set dead_letter to a topic: one record there will name them, and the others go on.",
		}
	}
	if h, ok := errors.AsType[*hangingError](err); ok {
		return explainHanging(h, c)
	}
	if k, ok := errors.AsType[*kerr.Error](err); ok {
		return explainKafka(k, c)
	}
	return explainNetwork(err, c)
}

func explainTopic(t *topicError, c Config) trouble {
	name := kafkaName(t.err)
	if created, ok := errors.AsType[*createError](t.err); ok {
		what := fmt.Sprintf("Kafka topic %s is missing, and Kafka refused to create it: %v", t.topic, created.err)
		if errors.Is(t.err, kerr.InvalidReplicationFactor) {
			return trouble{what, "Set [kafka] replication_factor to at most the number of brokers."}
		}
		return trouble{what, "Ask the Kafka team: " + createCommand(t.topic, c)}
	}
	switch {
	case errors.Is(t.err, kerr.UnknownTopicOrPartition), errors.Is(t.err, kerr.UnknownTopicID):
		return trouble{fmt.Sprintf("Kafka topic %s is missing: %s", t.topic, name), "Ask the Kafka team: " + createCommand(t.topic, c)}
	case errors.Is(t.err, kerr.TopicAuthorizationFailed):
		return trouble{fmt.Sprintf("Kafka refused topic %s: %s", t.topic, name), "Ask the Kafka team: " + aclCommand(t.topic, c)}
	case isLeaderless(t.err):
		return trouble{fmt.Sprintf("Kafka topic %s has no leader at the moment: %v", t.topic, t.err), "If it stays so, ask the Kafka team whether a broker is down."}
	case errors.Is(t.err, kerr.InvalidTimestamp):
		return trouble{fmt.Sprintf("Kafka topic %s refuses the present time of this gateway, because it is too far from Kafka's own: %s", t.topic, name), setTheClock}
	case errors.Is(t.err, kerr.InvalidTopicException):
		return trouble{fmt.Sprintf("%q cannot be the name of a Kafka topic", t.topic), "Correct the topic of the route."}
	default:
		return trouble{fmt.Sprintf("Kafka refused topic %s: %v", t.topic, t.err), ""}
	}
}

func explainRefused(r *refusedError, c Config) trouble {
	what := fmt.Sprintf("Kafka refuses record %d for topic %s for good: %s", r.lsn, r.topic, r.reason)
	if c.DeadLetter == "" {
		return trouble{what, "Set dead_letter to a topic for such records, or change the topic so that it takes them."}
	}
	return trouble{what, fmt.Sprintf("Change the dead-letter topic %s so that it takes any record: cleanup.policy=delete, max.message.bytes at least %d.", c.DeadLetter, c.MaxMessageBytes)}
}

// explainKafka is for what Kafka itself answered, beyond single topics.
func explainKafka(k *kerr.Error, c Config) trouble {
	user := ""
	if c.SASL.User != "" {
		user = " of user " + c.SASL.User
	}
	answered := "Kafka answered " + k.Message
	switch k {
	case kerr.SaslAuthenticationFailed:
		return trouble{"Kafka refused the login" + user + ": " + k.Message, "Check [kafka] username and password_file."}
	case kerr.UnsupportedSaslMechanism:
		return trouble{fmt.Sprintf("Kafka does not know the login mechanism %q", c.SASL.Mechanism), "Ask the Kafka team which one to set in [kafka] sasl."}
	case kerr.TransactionalIDAuthorizationFailed:
		return trouble{"Kafka refused the transactions" + user + ": " + k.Message, "Ask the Kafka team: " + transactionACLCommand(c)}
	case kerr.ClusterAuthorizationFailed:
		return trouble{"Kafka refused access to the cluster" + user + ": " + k.Message, "Ask the Kafka team: " + transactionACLCommand(c)}
	case kerr.ProducerFenced, kerr.InvalidProducerEpoch:
		return trouble{"Another gateway has taken over the forwarding of this ledger, or a transaction took longer than its timeout: " + k.Message, ""}
	case kerr.InvalidTransactionTimeout:
		return trouble{fmt.Sprintf("Kafka does not allow a transaction timeout of %v", c.TransactionTimeout), "Lower [kafka] transaction_timeout, or raise transaction.max.timeout.ms in Kafka."}
	case kerr.InvalidTimestamp:
		return trouble{"Kafka refused the time of a record, because it is too far from Kafka's own: " + k.Message, setTheClock}
	case kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator:
		return trouble{"Kafka's transaction coordinator is not available: " + k.Message, "If it stays so, look at topic __transaction_state: with fewer brokers than transaction.state.log.replication.factor it cannot be created."}
	case kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend:
		return trouble{"Kafka has fewer replicas in sync than min.insync.replicas: " + k.Message, "Ask the Kafka team whether a broker is down."}
	case kerr.LeaderNotAvailable, kerr.NotLeaderForPartition, kerr.BrokerNotAvailable:
		return trouble{"A partition has no leader at the moment: " + k.Message, ""}
	case kerr.ConcurrentTransactions:
		return trouble{"Kafka is still ending an earlier transaction: " + k.Message, ""}
	default:
		return trouble{answered + ": " + k.Description, ""}
	}
}

const setTheClock = "Set the clock of this gateway (NTP). If it is right, ask the Kafka team for the brokers' clocks, or to set message.timestamp.type=LogAppendTime, or to raise message.timestamp.before.max.ms and message.timestamp.after.max.ms."

// explainNetwork is for when no answer came.
func explainNetwork(err error, c Config) trouble {
	brokers := strings.Join(c.Brokers, ", ")
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var eof *kgo.ErrFirstReadEOF
	var op *net.OpError
	switch {
	case errors.As(err, &certificate):
		return trouble{"The certificate of Kafka is not trusted: " + certificate.Err.Error(), "Check [kafka] ca_file, and the clock of this gateway."}
	case errors.As(err, &eof), errors.Is(err, io.EOF):
		return trouble{"Kafka at " + brokers + " closes the connection: " + err.Error(), "If it stays so, check [kafka] tls, sasl, username and password_file: one side may expect TLS or a login, and the other not."}
	case errors.As(err, &dns):
		return trouble{"The name " + dns.Name + " of a Kafka broker is not known", "Check [kafka] brokers, and the DNS of this gateway."}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, kgo.ErrRecordTimeout):
		return trouble{"Kafka at " + brokers + " does not answer: " + err.Error(), "If the network is there, something drops the packets: check the firewall, and the addresses in the brokers' advertised.listeners."}
	case errors.As(err, &op) && op.Op == "dial":
		return trouble{"Kafka at " + brokers + " cannot be reached: " + err.Error(), "Check the network and [kafka] brokers."}
	default:
		return trouble{"Forwarding to Kafka was interrupted: " + err.Error(), ""}
	}
}

func (c Config) principal() string {
	switch {
	case c.SASL.User != "":
		return "User:" + c.SASL.User
	case c.TLS != nil && len(c.TLS.Certificates) > 0:
		return "User:NAME-IN-THE-CERTIFICATE"
	default:
		return "User:ANONYMOUS"
	}
}

func createCommand(topic string, c Config) string {
	var command strings.Builder
	fmt.Fprintf(&command, "kafka-topics --bootstrap-server %s --create --topic %s", strings.Join(c.Brokers, ","), topic)
	if topic == c.PositionsTopic {
		fmt.Fprintf(&command, " --partitions %d", c.PositionsPartitions)
		for _, key := range []string{"cleanup.policy", "retention.ms", "segment.bytes", "segment.ms", "min.cleanable.dirty.ratio"} {
			fmt.Fprintf(&command, " --config %s=%s", key, *positionsConfig()[key])
		}
	}
	return command.String()
}

func aclCommand(topic string, c Config) string {
	command := "kafka-acls --bootstrap-server " + strings.Join(c.Brokers, ",") + " --add --allow-principal " + c.principal() +
		" --operation Write --operation Describe --operation DescribeConfigs"
	if topic == c.PositionsTopic {
		command += " --operation Read"
	}
	return command + " --topic " + topic
}

func transactionACLCommand(c Config) string {
	return "kafka-acls --bootstrap-server " + strings.Join(c.Brokers, ",") + " --add --allow-principal " + c.principal() +
		" --operation Write --operation Describe --transactional-id tributary." + c.Site + ". --resource-pattern-type prefixed"
}
