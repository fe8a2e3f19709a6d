// Package ingest is the MQTT door: devices connect to it, what they publish
// goes to the log, they are answered when the log says it is durable, and those
// who subscribed are given what others publish.
//
// The parts, in the way of a message: listen.go and limits.go let connections
// in, newcomer.go a few at a time; input.go, output.go and flush.go are the socket,
// cut into packets, with writes that never block; serve.go reads a connection to its end, connect.go and
// session.go give it its session, recheck.go ends what new rules do not let in;
// publish.go takes a PUBLISH up, intake.go takes what came with it to the log, and
// committed.go answers; qos2.go and qos2_replay.go remember packet ids; headers.go and
// outgoing.go turn a message into a record and back; delivery.go gives what is durable
// to subscribers, by what heard.go knows of it or by reading it, and shared.go chooses
// among the members of a shared subscription.
package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/gate"
	"github.com/tributary-edge/tributary/ingest/session"
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
	// AppendAll is Append for each of rs with its place in ts, in order, to the ledger
	// named, or to the live one if none is. It returns which, and how many were appended;
	// with less than all, why not the next one, and it has not tried those behind. Once
	// a ledger has ended nothing is appended to it.
	AppendAll(to tributary.LedgerID, rs []record.Record, ts []tributary.Ticket) (tributary.LedgerID, int, error)
}

// A Reader reads what is durable.
type Reader interface {
	// Read returns whole groups of a ledger, from the one that has the record from
	// on, about maxBytes of them but at least one. It blocks until something durable
	// is there.
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

// A Guard decides who may connect, and what they may publish and subscribe to.
// Its methods may be called at once.
type Guard interface {
	// Authenticate says who this is. An error that is no *auth.Refusal means
	// "not authorized" to the client.
	Authenticate(ctx context.Context, c *auth.Credentials) (auth.Identity, error)
	// Allows says whether a user may use a topic; for auth.Subscribe it is a
	// filter. It is asked for each message.
	Allows(user, clientID string, a auth.Access, topic string) bool
	// Stands returns nil if a client that Authenticate let in would be let in
	// again, and else why not. cs is of its connection, nil without TLS.
	Stands(i *auth.Identity, cs *tls.ConnectionState) error
	// Generation moves when the answers may have changed.
	Generation() uint64
}

// Options say how a Door works. Log, Reader, Router, Guard, IsFull and
// DeadLetter are required; for the rest zero means the default.
type Options struct {
	Listen    []string    // addresses, as for net.Listen("tcp", …)
	ListenTLS []string    // the same, with TLS
	ListenWS  []string    // the same, with WebSocket (MQTT 5, 6)
	ListenWSS []string    // the same, with WebSocket in TLS
	TLS       *tls.Config // for ListenTLS and ListenWSS
	// ListenOn is net.ListenConfig.Listen, or stands for it; default that.
	ListenOn func(ctx context.Context, network, address string) (net.Listener, error)

	Log        Appender
	Reader     Reader
	Router     Router
	Guard      Guard
	IsFull     func(error) bool // whether an error of Log.Append means: no room
	DeadLetter string           // the stream for what Router refuses
	Handoff    Handoff          // the other gateways of the site; nil: this one is alone
	Gate       *gate.Gate       // gives out the places for handshakes and CONNECTs, and should for the Guard too; default: one of its own

	MaxClients     int // connections at once; default 10,000
	MaxPacketBytes int // the largest MQTT packet taken; default 1 MiB
	MaxTopicLevels int // of a topic and of a filter; default 32
	MaxPerAddress  int // connections from one address at once; default 0, no limit

	// What one client may send in a second, before it has to wait; default 0, no
	// limit.
	MaxMessagesPerSecond, MaxBytesPerSecond int
	// MaxSlowed is how long a client may be made to wait so without a break, before
	// it is disconnected; default 0, no limit.
	MaxSlowed time.Duration

	// Retained messages are held in memory; beyond either of these, those of new
	// topics are refused. Defaults 100,000 and 64 MiB. What an earlier process kept
	// is kept all the same.
	MaxRetained, MaxRetainedBytes int

	// Node is this gateway, and Share is given what its clients retain and clear, for
	// the other gateways of the site: see TakeShared. It does not wait, and owns what
	// it is given. Share is nil where there are no others.
	Node  tributary.NodeID
	Share func(item []byte)

	// SessionExpirySeconds is how long the session of an MQTT 3.1.1 client, which
	// cannot say it, outlives its connection; default 0xffffffff, for ever.
	SessionExpirySeconds uint32
	Sessions             session.Options
	// ReceiveMaximum bounds the QoS 1 and 2 messages in flight per connection,
	// and the QoS 2 packet ids that a client does not release, over all its
	// connections; default 1,024.
	ReceiveMaximum int

	// ConnectTimeout is from accept to a complete CONNECT, but for the time that
	// the client waits for others; default 5 s, and three times that with TLS.
	ConnectTimeout time.Duration
	DrainTimeout   time.Duration // how long Run waits, when it ends, for what is appended to become durable; default 5 s

	// ServerReference is where MQTT 5 clients are told to go when Run ends: MQTT 5,
	// 4.11; default "", nowhere.
	ServerReference string

	// ResentIsNew has a QoS 1 message that is sent again logged again if an earlier process
	// has logged it: where copies count, what is in this log alone is no reason to
	// acknowledge it (R47).
	ResentIsNew bool

	Version string       // what $SYS says that this is
	Logger  *slog.Logger // default: none
}

func (o Options) withDefaults() (Options, error) {
	var errs []error
	if o.Log == nil || o.Reader == nil || o.Router == nil || o.Guard == nil || o.IsFull == nil {
		errs = append(errs, errors.New("one of Log, Reader, Router, Guard and IsFull is missing"))
	}
	if o.DeadLetter == "" {
		errs = append(errs, errors.New("there is no dead-letter stream"))
	}
	setDefault(&o.MaxClients, 10_000)
	setDefault(&o.MaxPacketBytes, 1<<20)
	setDefault(&o.MaxTopicLevels, 32)
	setDefault(&o.ReceiveMaximum, 1024)
	setDefault(&o.MaxRetained, 100_000)
	setDefault(&o.MaxRetainedBytes, 64<<20)
	setDefault(&o.ConnectTimeout, 5*time.Second)
	setDefault(&o.DrainTimeout, 5*time.Second)
	if o.ReceiveMaximum < 1 || o.ReceiveMaximum > 65535 {
		errs = append(errs, fmt.Errorf("receive maximum is %d; it may be 1 to 65535", o.ReceiveMaximum))
	}
	if o.MaxPacketBytes < 1<<10 || o.MaxPacketBytes > 256<<20 {
		errs = append(errs, fmt.Errorf("the largest packet is %d bytes; it may be 1 KiB to 256 MiB", o.MaxPacketBytes))
	}
	if len(o.ListenTLS)+len(o.ListenWSS) > 0 && o.TLS == nil {
		errs = append(errs, errors.New("there is no certificate to listen with TLS"))
	}
	setDefault(&o.Sessions.MaxQueued, 10_000)
	setDefault(&o.Sessions.MaxSessions, sessionsPerClient*o.MaxClients)
	if o.SessionExpirySeconds == 0 {
		o.SessionExpirySeconds = neverExpires
	}
	if o.ListenOn == nil {
		o.ListenOn = (&net.ListenConfig{}).Listen
	}
	if o.Gate == nil {
		o.Gate = gate.New(gate.Places())
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(errs...)
}

// sessionsPerClient bounds the sessions that are kept for clients that are
// away: so many times Options.MaxClients in all. Client ids cost nothing, and
// a session is memory.
const sessionsPerClient = 4

func setDefault[T int | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// A Door serves MQTT 3.1, 3.1.1 and 5. Make one with New, then let it Run.
type Door struct {
	opt     Options
	q2      *qos2
	recents *recents
	out     *delivery
	stat    counters

	sessions *session.Store
	ctx      context.Context //nolint:containedctx // ends when Run is told to end, for checks of passwords
	cancel   context.CancelFunc

	ready chan struct{}

	failed    atomic.Bool   // a group has failed: the log may hold what its clients were not told of
	pending   atomic.Int64  // records appended and not yet committed
	appended  atomic.Int64  // records that were ever appended
	settled   atomic.Int64  // records that were ever committed, or failed
	committed chan struct{} // one slot: pending has fallen
	rechecked atomic.Int64  // when Recheck was called last, in ns since 1970; 0: never
	unsent    atomic.Int64  // bytes that clients have left unread, of all connections
	dirty     []*conn       // touched by Committed alone: who has answers to send
	heard     []heard       // the same: what is known of a group

	flusher  flusher
	barriers barriers

	limits         atomic.Pointer[Limits]
	reroutes       atomic.Uint64 // calls of Reroute
	room           *room         // for large packets on their way
	maxConnections int           // open at once; set by New
	sockets        atomic.Int64  // accepted and not closed

	mu      sync.Mutex // guards what follows; Committed never takes it
	addrs   []net.Addr
	closing bool
	conns   map[*conn]struct{}     // every open connection
	owners  map[string]*conn       // who holds the session of a client id
	subs    map[string]*subscriber // by client id: who has a session
	wills   map[string]*will       // delayed ones, by client id
	hosts   map[string]int         // connections by address
	serving sync.WaitGroup         // goroutines that serve a connection
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
		recents:   newRecents(),
		sessions:  session.NewStore(o.Sessions),
		room:      newRoom(),
		ready:     make(chan struct{}),
		committed: make(chan struct{}, 1),
		conns:     map[*conn]struct{}{},
		owners:    map[string]*conn{},
		subs:      map[string]*subscriber{},
		wills:     map[string]*will{},
		hosts:     map[string]int{},
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.out = newDelivery(d)
	d.SetLimits(Limits{
		MaxPerAddress: o.MaxPerAddress, MaxMessagesPerSecond: o.MaxMessagesPerSecond, MaxBytesPerSecond: o.MaxBytesPerSecond,
		MaxSlowed: o.MaxSlowed, MaxRetained: o.MaxRetained, MaxRetainedBytes: o.MaxRetainedBytes,
	})
	d.limitConnections()
	return d, nil
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
