// Package ingest is the MQTT door: devices connect to it, what they publish
// goes to the log, and they are answered when the log says it is durable.
//
// The parts, bottom up: qos2.go and qos2_replay.go remember packet ids;
// headers.go turns a PUBLISH into a record and back; conn.go is the socket,
// with writes that never block; publish.go takes a PUBLISH to the log and
// committed.go answers it, whoever took it out of the stream; hook.go is the
// one who does, at present: it sits in the MQTT engine (mochi), which keeps
// sessions, subscriptions and retained messages; fanout.go gives what is
// durable to local subscribers; listen.go and run.go let connections in and
// out.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// An Appender is the log that makes records durable.
type Appender interface {
	// Append gives r the next LSN, and a time if r.Millis is 0, and returns
	// before r is durable. It keeps nothing of r. It blocks while too much is pending. An error for which
	// Options.IsFull is true means that there is no room, and nothing was
	// appended; any other error, that the log has failed for good. For every
	// record appended, the log passes t to Committed once.
	Append(r *record.Record, t tributary.Ticket) (tributary.LSN, error)
}

// A Reader reads what is durable.
type Reader interface {
	// Read returns whole groups of a ledger from the record from on, about
	// maxBytes of them but at least one. It blocks until something durable is
	// there.
	Read(ctx context.Context, ledger tributary.LedgerID, from tributary.LSN, maxBytes int) (record.Chunk, error)
}

// A Router says where a message goes.
type Router interface {
	// Route returns where the messages of a topic go. An error sends them to
	// the dead-letter stream, with the error's text as the reason; Urgent and
	// Alarm count all the same. Equal arguments give equal results: a
	// connection remembers them. Route may be called at once.
	Route(topic, clientID, username string) (Destination, error)
}

// A Destination is where a message goes, and how the log is to treat it.
type Destination struct {
	Stream string // empty: it stays on this node
	Key    []byte // nobody changes it afterwards
	Urgent bool   // as in record.Record
	Alarm  bool   // as in record.Record
}

// Options say how a Door works. Listen, Log, Reader, Router, IsFull and
// DeadLetter are required; for the rest zero means the default.
type Options struct {
	Listen []string // addresses, as for net.Listen("tcp", …)

	Log        Appender
	Reader     Reader
	Router     Router
	IsFull     func(error) bool // whether an error of Log.Append means: no room
	DeadLetter string           // the stream for what Router refuses

	MaxClients     int // connections at once; default 10,000
	MaxPacketBytes int // the largest MQTT packet taken; default 1 MiB
	// MaxTopicLevels bounds the levels of a topic and of a filter; default 32.
	// The engine's topic tree takes time that grows with their square, under one
	// lock.
	MaxTopicLevels int
	// ReceiveMaximum bounds the QoS 1 and 2 messages in flight per connection,
	// and the QoS 2 packet ids that a client does not release, over all its
	// connections; default 1,024.
	ReceiveMaximum int

	ConnectTimeout time.Duration // from accept to a complete CONNECT; default 5 s
	DrainTimeout   time.Duration // how long Run waits, when it ends, for what is appended to become durable; default 5 s

	Logger *slog.Logger // default: none
}

func (o Options) withDefaults() (Options, error) {
	var errs []error
	if o.Log == nil || o.Reader == nil || o.Router == nil || o.IsFull == nil {
		errs = append(errs, errors.New("one of Log, Reader, Router and IsFull is missing"))
	}
	if o.DeadLetter == "" {
		errs = append(errs, errors.New("there is no dead-letter stream"))
	}
	setDefault(&o.MaxClients, 10_000)
	setDefault(&o.MaxPacketBytes, 1<<20)
	setDefault(&o.MaxTopicLevels, 32)
	setDefault(&o.ReceiveMaximum, 1024)
	setDefault(&o.ConnectTimeout, 5*time.Second)
	setDefault(&o.DrainTimeout, 5*time.Second)
	if o.ReceiveMaximum < 1 || o.ReceiveMaximum > 65535 {
		errs = append(errs, fmt.Errorf("receive maximum is %d; it may be 1 to 65535", o.ReceiveMaximum))
	}
	if o.MaxPacketBytes < 1<<10 || o.MaxPacketBytes > 256<<20 {
		errs = append(errs, fmt.Errorf("the largest packet is %d bytes; it may be 1 KiB to 256 MiB", o.MaxPacketBytes))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(errs...)
}

func setDefault[T int | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// A Door serves MQTT 3.1.1 and 5. Make one with New, then let it Run.
type Door struct {
	opt  Options
	srv  *mqtt.Server
	q2   *qos2
	fan  *fanout
	stat counters

	listen func(ctx context.Context, address string) (net.Listener, error)
	ready  chan struct{}

	failed    atomic.Bool   // a group has failed: the log may hold what its clients were not told of
	pending   atomic.Int64  // records appended and not yet committed
	committed chan struct{} // one slot: pending has fallen
	dirty     []*conn       // touched by Committed alone: who has answers to send

	mu      sync.Mutex // guards what follows; Committed never takes it
	addrs   []net.Addr
	closing bool
	conns   map[*conn]struct{}      // every open connection
	owners  map[string]*conn        // who holds the session of a client id
	wills   map[string]*delayedWill // by client id
	serving sync.WaitGroup          // goroutines that serve a connection
}

// New returns a Door that does nothing yet. The log may call Committed from
// now on.
func New(o Options) (*Door, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open the MQTT door: %w", err)
	}
	d := &Door{
		opt:       o,
		q2:        newQoS2(o.ReceiveMaximum),
		listen:    listenTCP,
		ready:     make(chan struct{}),
		committed: make(chan struct{}, 1),
		conns:     map[*conn]struct{}{},
		owners:    map[string]*conn{},
		wills:     map[string]*delayedWill{},
	}
	d.srv = newEngine(&o)
	if err := d.srv.AddHook(&hook{door: d}, nil); err != nil {
		return nil, fmt.Errorf("open the MQTT door: %w", err)
	}
	d.fan = newFanout(o.Reader, d.srv, &d.stat, o.Logger)
	return d, nil
}

// newEngine returns mochi with the settings that make it bearable: the limits
// bound its memory before and after authentication, no message gets an expiry
// that its publisher did not ask for, and its own log, which would hold whole
// packets with their payloads, goes nowhere.
func newEngine(o *Options) *mqtt.Server {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumClients = int64(o.MaxClients)
	c.MaximumPacketSize = uint32(o.MaxPacketBytes)
	c.ReceiveMaximum = uint16(o.ReceiveMaximum)
	c.TopicAliasMaximum = topicAliasMaximum
	c.MaximumMessageExpiryInterval = 0
	c.MaximumClientWritesPending = engineQueue
	c.MaximumInflight = 512
	c.Compatibilities.NoInheritedPropertiesOnAck = true
	c.Compatibilities.ObscureNotAuthorized = true
	return mqtt.New(&mqtt.Options{
		Capabilities:            c,
		SysTopicResendInterval:  60,
		ClientNetReadBufferSize: 4096,
		Logger:                  slog.New(slog.DiscardHandler),
	})
}

// Ready is closed when Run listens on all addresses.
func (d *Door) Ready() <-chan struct{} { return d.ready }

// Addrs returns the addresses that Run listens on, in the order of
// Options.Listen, once Ready is closed.
func (d *Door) Addrs() []net.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.addrs
}
