package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/tributary-edge/tributary"
)

// Config is what Forward needs to know. A zero field has the documented
// default; Brokers and Site have none.
type Config struct {
	Brokers []string // host:port; any of them leads to all
	Site    string   // part of the transactional id and of the position's key
	Node    string   // who forwards, for people who read positions
	// ClientID is what Kafka's logs and quotas call this client; default "tributary".
	ClientID string

	TLS   *tls.Config // nil: plain TCP. ServerName "" means each broker's own
	SASL  SASL        // zero: none
	Proxy string      // "socks5://[user:password@]host:port"; "": none
	// Dial opens each TCP connection, to Proxy if there is one; nil means a
	// net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Link counts and bounds what goes to Kafka and back; nil: nobody wants to know.
	Link *Link

	CreateTopics      bool  // create topics that are missing
	Partitions        int32 // of the destination topics created; 0: the broker's default
	ReplicationFactor int16 // of all topics created; 0: the broker's default

	PositionsTopic      string // default "tributary.positions"
	PositionsPartitions int32  // when it is created; default 16

	// DeadLetter is the topic for what Kafka refuses for good, and for what is
	// gone; "" means to wait for ever instead.
	DeadLetter string
	// TopicGrace is how long a topic that is missing, forbidden or without a
	// leader is waited for before its records go to DeadLetter; default 1 min,
	// which is also how often it is looked at again after that. When one topic
	// has used it up, other missing and forbidden ones are not waited for at all
	// in the next 10 x TopicGrace, so that devices that choose the names of topics
	// cannot hold up the ledger for more than about a tenth of the time.
	TopicGrace time.Duration

	Linger     time.Duration // how long to gather after the first record; default 0
	BatchBytes int           // of one transaction; default 4 MiB; 64 KiB at least
	// Pace replaces Linger and BatchBytes: it is asked for each load, for the first at its
	// first record; nil: they do not change. It does not wait.
	Pace func() (linger time.Duration, batchBytes int)

	MaxMessageBytes    int32         // of one batch or record before compression; default 1000012
	TransactionTimeout time.Duration // default 15 s
	// Compression is "zstd" (the default), "snappy", "lz4", "gzip" or "none". A
	// Kafka too old for zstd gets snappy.
	Compression string

	// Hint is an LSN below which all is known to be committed, from an earlier
	// run; 0 when nothing is known. It only serves to notice that Kafka has
	// forgotten: the position itself always comes from Kafka.
	Hint tributary.LSN
	// Fresh says that this process drew the ledger's id itself, that nobody else
	// forwards it, and that no earlier Forward of it has begun a transaction. That
	// Kafka has no position of it is then known without reading the positions
	// topic, all of which a new ledger would otherwise read. It holds until Forward
	// begins a transaction: so it is for the first Forward of a ledger, never for a
	// second one. Not with a Hint.
	Fresh bool
	// Copy says that another node wrote the ledger. What is held here may end before its
	// position: that is no loss, and the Observer is told.
	Copy bool
	// Marks say how far other ledgers are, at the mark of a hand-off; nil: this gateway
	// is alone, and marks are passed.
	Marks Marks
	// Hold is how long a ledger that others forward may stand still before a mark that
	// waits for it is passed (R45); default 60 s. Strict: for ever.
	Hold   time.Duration
	Strict bool
	// KafkaClusterID is the Kafka this node has forwarded to before; "" when
	// any Kafka will do.
	KafkaClusterID string

	Logger *slog.Logger // nil: none
}

// SASL is how to log in to Kafka.
type SASL struct {
	Mechanism string // "" (none), "plain", "scram-sha-256" or "scram-sha-512"
	User      string
	Password  string
}

const (
	defaultPositionsTopic      = "tributary.positions"
	defaultPositionsPartitions = 16
	// defaultMaxMessageBytes is kgo's: a little under the default of the
	// brokers' max.message.bytes.
	defaultMaxMessageBytes = 1000012
)

// withDefaults fills the zero fields of c, or says everything that is wrong
// with it.
func (c Config) withDefaults() (Config, error) {
	def(&c.ClientID, "tributary")
	def(&c.PositionsTopic, defaultPositionsTopic)
	def(&c.PositionsPartitions, defaultPositionsPartitions)
	def(&c.Partitions, -1)
	def(&c.ReplicationFactor, -1)
	def(&c.TopicGrace, time.Minute)
	def(&c.BatchBytes, 4<<20)
	def(&c.MaxMessageBytes, defaultMaxMessageBytes)
	def(&c.TransactionTimeout, 15*time.Second)
	def(&c.Compression, "zstd")
	def(&c.Hold, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}

	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		wrong("kafka brokers: none are given")
	}
	if c.Site == "" || strings.ContainsAny(c.Site, "/ \t\r\n") {
		wrong("site %q: must have a name, without spaces and slashes", c.Site)
	}
	if c.BatchBytes < minRoom {
		wrong("kafka batch is %d bytes: %d at least", c.BatchBytes, minRoom)
	}
	if c.MaxMessageBytes < 1024 || c.MaxMessageBytes > 1<<30 {
		wrong("kafka max_message_bytes is %d: must be between 1 KiB and 1 GiB", c.MaxMessageBytes)
	}
	if c.Link != nil && c.Link.BytesPerSecond != 0 && c.Link.BytesPerSecond < LeastBandwidth {
		wrong("kafka max_bandwidth is %d bytes a second: %d at least", c.Link.BytesPerSecond, LeastBandwidth)
	}
	if c.TransactionTimeout < time.Second {
		wrong("kafka transaction_timeout is %v: 1 s at least", c.TransactionTimeout)
	}
	if c.Fresh && c.Hint > 0 {
		wrong("a fresh ledger cannot have been forwarded up to record %d", c.Hint)
	}
	if c.PositionsTopic == c.DeadLetter {
		wrong("dead letters cannot go to the positions topic %q", c.PositionsTopic)
	}
	for _, topic := range []string{c.PositionsTopic, c.DeadLetter} {
		if topic != "" && !validTopic(topic) {
			wrong("%q cannot be the name of a Kafka topic", topic)
		}
	}
	if codecs(c.Compression) == nil {
		wrong("kafka compression %q: must be zstd, snappy, lz4, gzip or none", c.Compression)
	}
	if _, err := c.mechanism(); err != nil {
		errs = append(errs, err)
	}
	if _, err := newDialer(c); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validTopic is Kafka's rule (org.apache.kafka.common.internals.Topic).
func validTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 249 {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// transactionalID is who commits for a ledger, whichever node it is (R20).
func (c Config) transactionalID(l tributary.LedgerID) string {
	return "tributary." + c.Site + "." + l.String()
}

// positionKey is the key of a ledger's position record.
func (c Config) positionKey(l tributary.LedgerID) string {
	return c.Site + "/" + l.String()
}

// linger and batchBytes are what Linger and BatchBytes are now.
func (c Config) linger() time.Duration {
	if c.Pace == nil {
		return c.Linger
	}
	linger, _ := c.Pace()
	return max(linger, 0)
}

func (c Config) batchBytes() int {
	if c.Pace == nil {
		return c.Link.most(c.BatchBytes)
	}
	_, batch := c.Pace()
	return c.Link.most(max(batch, minRoom))
}
