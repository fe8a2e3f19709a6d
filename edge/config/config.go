// Package config reads the configuration of a gateway and says, in words for
// people, everything that is wrong with it at once, each thing with its place.
//
// It opens the configuration file and those in conf.d beside it, and nothing else:
// files that are named in them are opened by whoever needs them.
package config

import (
	"cmp"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tributary-edge/tributary/ingest/route"
)

// A Config is a configuration without mistakes. Every value is within the range
// that its comment gives; what the file leaves out has its default.
type Config struct {
	Node         Node
	Site         Site
	MQTT         MQTT
	Ack          Ack
	Log          Log
	Kafka        Kafka
	Routes       []route.Rule // [[route]], in order; none by default. One for alarms is Urgent unless it says urgent = false
	DefaultRoute DefaultRoute
	Status       Status
	Logging      Logging

	Table *route.Table // Routes and DefaultRoute, compiled
}

// Node is [node]: who this gateway is.
type Node struct {
	Name    string // name: letters, digits, '.', '_', '-'; default the host name
	DataDir string // data_dir: the log and all else that must survive; default /var/lib/tributary
	Site    string // site: a-z, 0-9, '.', '_', '-'; part of the transactional.id; default "default"
}

// Site is [site]: the other gateways of the site, which keep copies of what this one
// takes. Its name is [node] site.
type Site struct {
	Listen    string   // listen: HOST:PORT where they connect, with TLS; default "", this gateway is alone
	Gossip    string   // gossip: HOST:PORT, TCP and UDP; default the host of Listen and port 7883
	Advertise string   // advertise: the IP address at which they reach both; default what this machine reaches others from
	Seeds     []string // seeds: HOST:PORT of the gossip of some of them; default none, those that tributary join was told of
	// MaxBandwidth is max_bandwidth: bytes of copies that this gateway sends to the
	// others in a second, 1KiB to 1GiB; default 0, as many as the network takes.
	MaxBandwidth int
	// Strict is handoff = "strict": what a device sends that has come from another
	// gateway waits for ever for what that one took. The default is "hold": a minute.
	Strict bool
}

// Ack is [ack]: when a device gets its acknowledgement. Its key level takes only
// "disk" in this version: after the record is on this node's disk, and on those of
// Copies peers.
type Ack struct {
	Copies int // copies: of other gateways that must have a record, 0 to 3; default 1. It counts once the site has another gateway
	// RefuseAlone is if_peers_missing = "refuse": devices wait for as long as too few
	// of them can be reached. The default is "accept": after five seconds the disk of
	// this node is enough, and that is said.
	RefuseAlone bool

	WindowAuto bool          // window = "auto", the default: chosen by the kind of disk
	Window     time.Duration // window: how long to gather records for one flush, 0 to 500ms, when not auto
}

// GossipPort is where gateways look for one another, if the file does not say.
const GossipPort = 7883

// FlashWindow is how long "auto" gathers on an SD card or eMMC, where each flush
// costs life.
const FlashWindow = 100 * time.Millisecond

// WindowOn returns the window for a disk that is flash, an SD card or eMMC, or is
// not.
func (a *Ack) WindowOn(flash bool) time.Duration {
	if a.WindowAuto && flash {
		return FlashWindow
	}
	return a.Window
}

// Log is [log]: what is kept on this node's disk.
type Log struct {
	MaxPercent   int           // max_size = "75%" of the file system, 1 to 95, the default; 0 when MaxBytes counts
	MaxBytes     int64         // max_size = "8GiB", at least 4 segments; 0 when MaxPercent counts
	MaxAge       time.Duration // max_age: records in Kafka are deleted after it; 0 keeps them while there is room; default 30d
	SegmentBytes int64         // segment: 4MiB to 64MiB, in steps of 4KiB; default 12MiB
	Compression  Compression   // compression: auto, the default, zstd or none

	// DropOldest is on_full = "drop-oldest": when the log is full, the oldest
	// segment goes, and a gap record says in Kafka what went. The default is
	// on_full = "refuse": devices are told to wait, and nothing is lost.
	DropOldest bool
	// AlarmReserve is alarm_reserve: the bytes of max_size that only records of
	// alarm routes may use, 1MiB to 1TiB. It is less than half of MaxBytes; where
	// MaxPercent counts, it may be more than there is: then a node does not start.
	// 0 is "auto", the default: 2 % of max_size, or of what the disk has for the
	// log if that is less, if HasAlarms; else nothing.
	AlarmReserve int64

	EnduranceBytes int64 // endurance: how much may be written to the card in its life; default 0, not known
}

// Compression is when groups are compressed as they are written.
type Compression int

// The values of Compression. With the first, what a disk is made of decides: an SD
// card or eMMC wears with each page, and elsewhere the processor's time counts
// for more. What lies in a log that runs short of room is compressed in any case.
const (
	CompressAuto Compression = iota
	CompressAlways
	CompressNever
)

// On says whether groups are compressed on a disk that is flash, an SD card or
// eMMC, or is not.
func (c Compression) On(flash bool) bool {
	return c == CompressAlways || c == CompressAuto && flash
}

// Kafka is [kafka]: where the records go.
type Kafka struct {
	Brokers            []string      // brokers: HOST:PORT each; at least one, no default
	ClientID           string        // client_id: what Kafka's logs and quotas call this gateway; default "tributary"
	Linger             time.Duration // linger: longest wait before a transaction is opened, 0 to 1h; default 1s
	BatchBytes         int           // batch: bytes of records per transaction, 16KiB to 64MiB; default 2MiB
	CreateTopics       bool          // create_topics: create topics that are missing; default true
	Partitions         int32         // partitions: of topics we create, 1 to 10000; default 3
	ReplicationFactor  int16         // replication_factor: of topics we create, 1 to 100; default -1, what the brokers say
	PositionsTopic     string        // positions_topic: how far each log is in Kafka; default "tributary.positions"
	TransactionTimeout time.Duration // transaction_timeout: 5s to 15m; default 15s
	MaxBandwidth       int           // max_bandwidth: bytes a second that are sent to Kafka, 16KiB to 1GiB; default 0, no limit
	SOCKS5             string        // socks5: HOST:PORT of a proxy on the way to Kafka; default "", none
	TLS                bool          // tls; default false
	CAFile             string        // ca_file: certificates to trust; default "", those of the system
	CertFile, KeyFile  string        // cert_file, key_file: our certificate; default "", none
	SASL               SASL          // sasl; default "none"
	Username           string        // username, with sasl
	PasswordFile       string        // password_file, with sasl: a file that holds the password
}

// DefaultRoute is [default_route]: for messages that no route takes.
type DefaultRoute struct {
	Topic      string // topic: "" keeps them on this gateway; default "mqtt"
	Key        string // key; default "{client_id}"
	DeadLetter string // dead_letter: for records whose own topic is impossible; default "tributary.dead-letter"
}

// Status is [status]: how people and programs look at a running node.
type Status struct {
	Listen string // listen: HOST:PORT for the page, /api/status, /metrics, /healthz and /readyz; default "", none
	// TokenFile is token_file: a file that holds what who looks must know; default "",
	// none, which is for a Listen on loopback alone.
	TokenFile string
	Socket    string // socket: unix socket of the commands; default admin.sock in DataDir
}

// Logging is [logging]: what the node writes to standard error.
type Logging struct {
	Level  slog.Level // level: debug, info, warn or error; default info
	Format LogFormat  // format: auto, text or json; default auto
}

// SASL is how we log in to Kafka. It is a number because a decoder can forget to
// check a string.
type SASL int

// The values of [kafka] sasl.
const (
	NoSASL SASL = iota
	Plain
	ScramSHA256
	ScramSHA512
)

// LogFormat is how a log line looks.
type LogFormat int

// The values of [logging] format.
const (
	Auto LogFormat = iota // the node chooses by where its output goes
	Text
	JSON
)

// HasAlarms reports whether any route is an alarm route.
func (c *Config) HasAlarms() bool {
	return slices.ContainsFunc(c.Routes, func(r route.Rule) bool { return r.Alarm })
}

// Load reads the configuration at path, what lies in conf.d beside it, and the
// environment of this process, as Input.Read does.
func Load(path string) (*Config, []Problem, error) {
	read, err := (&Input{Path: path, Environ: os.Environ()}).Read()
	if err != nil {
		return nil, nil, err
	}
	return read.Config, read.Problems, nil
}

// Parse reads a configuration of one file, without an environment; name is what the
// problems call it. See Reading for what it returns. src is not kept.
func Parse(name string, src []byte) (*Config, []Problem) {
	read := parse(sources{files: []textFile{{name, src}}, in: folder{dir: filepath.Dir(name)}})
	return read.Config, read.Problems
}

// parse reads a configuration from what was read already.
func parse(from sources) *Reading {
	c := defaults()
	r := newReader(from, c)
	if r.readText(from) {
		r.fillNodeName()
		r.fillUrgent()
		r.checkTogether()
		r.checkRoutes()
		r.checkStrictly()
	}
	read := &Reading{Problems: r.sorted(), DataDir: c.Node.DataDir, Socket: cmp.Or(c.Status.Socket, socketIn(c.Node.DataDir)), settings: r.settings, in: from.in}
	if !r.failed() {
		read.Config = c
	}
	return read
}

// defaults returns what an empty file means, but for brokers, which has no
// default, and what depends on other keys: the node's name and the socket.
func defaults() *Config {
	return &Config{
		Node: Node{DataDir: "/var/lib/tributary", Site: "default"},
		MQTT: MQTT{
			Listen:         []string{"127.0.0.1:1883"},
			MaxClients:     1000,
			MaxPacketBytes: 256 << 10,
			ReceiveMaximum: 1024,
			MaxTopicLevels: 32,

			MaxRetained:      100_000,
			MaxRetainedBytes: 64 << 20,
		},
		Ack: Ack{WindowAuto: true, Copies: 1},
		Log: Log{MaxPercent: 75, MaxAge: 30 * day, SegmentBytes: 12 << 20},
		Kafka: Kafka{
			ClientID:           "tributary",
			Linger:             time.Second,
			BatchBytes:         2 << 20,
			CreateTopics:       true,
			Partitions:         3,
			ReplicationFactor:  -1,
			PositionsTopic:     "tributary.positions",
			TransactionTimeout: 15 * time.Second,
		},
		DefaultRoute: DefaultRoute{Topic: "mqtt", Key: route.DefaultKey, DeadLetter: "tributary.dead-letter"},
	}
}
