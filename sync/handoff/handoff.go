// Package handoff keeps a device in order that comes from another gateway (R40 to
// R47 of docs/REPLICATION.md).
//
// Before a device is let in, all other gateways are asked in two rounds: in the
// first each closes the connection that it may have to the device and takes nothing
// more from it, in the second each says how far the device is in all that it holds.
// What is not in Kafka yet is then written down in a mark, before anything of the
// device, and whoever forwards the ledger stops at the mark. Many devices are asked
// for at once. Start reading at Take, then at batch.run; member.go is the other side,
// and index.go knows which device is where.
package handoff

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/sync/peer"
)

// A Site is the other gateways, as this one sees them. Its methods may be called at
// once, and do not wait, but for CloseStreams.
type Site interface {
	// Members returns all of them, whether they are there or not (R70).
	Members() []tributary.NodeID
	// Alive says whether one was heard of lately.
	Alive(n tributary.NodeID) bool
	// Say sends m to one, and says whether there is a connection.
	Say(to tributary.NodeID, m peer.Message) bool
	// CloseStreams closes what other processes of these nodes, and any of the silent
	// ones, have under way to this node. When it returns nothing of that is taken any
	// more (R17). An error means that this is not so yet.
	CloseStreams(ctx context.Context, of []peer.Process, silent []tributary.NodeID) error
	// Holders returns how many of them have said that they hold a record durably.
	Holders(l tributary.LedgerID, lsn tributary.LSN) int
	// Position returns below which record a ledger is known to be in Kafka.
	Position(l tributary.LedgerID) tributary.LSN
	// Wrote says whether this node has written a ledger.
	Wrote(l tributary.LedgerID) bool
}

// Config is what a Handoffs needs.
type Config struct {
	Self  func() peer.Process
	Site  Site
	Log   Log
	Index *Index
	// Close closes the connections of clients to this node, and returns nil when
	// nothing more is taken from them.
	Close func(ctx context.Context, clients []string) error
	// Append appends a control record to the live ledger. It keeps nothing of r.
	Append func(r *record.Record) error
	// Writes says whether the present process of this node has written a ledger.
	Writes func(l tributary.LedgerID) bool
	Copies func() int    // peers that must have a record durably (min_copies - 1)
	Refuse bool          // records wait for copies for ever
	Grace  time.Duration // T_degrade: how long they wait otherwise; default 5 s
	Logger *slog.Logger  // nil: none
}

// An Arrival is what is known of a device that is let in.
type Arrival struct {
	Epoch      uint64 // of its session
	Unverified bool   // records that it sent before may be found later (R44)
	Doubtful   bool   // QoS 2 messages that it sends again may have been taken before
	Known      []mark.Known
	Gone       []mark.Gone // packet ids that this node took, and another has released since
}

// Errors of Take. The device is not let in, and nothing is lost: it comes again.
var (
	ErrElsewhere = errors.New("the device is being let in by another gateway")
	ErrNotNow    = errors.New("the log of this gateway does not take the mark of a hand-off now; the device may come again")
)

// Bounds of time and memory.
const (
	askEvery    = 250 * time.Millisecond // what has no answer is asked again
	askFor      = time.Second            // those of whom nothing is heard,
	askLivesFor = 3 * time.Second        // and the others
	closeFor    = 2 * time.Second        // a connection has to end
	youngFor    = 5 * time.Second        // after Run began, others may not have been found
	settleFor   = 5 * time.Second        // this node's own log has to become durable
	updateFor   = 500 * time.Millisecond // the index has to catch up; then it answers for all clients

	defaultGrace = 5 * time.Second

	mostBatches = 4
	mostRaises  = 5
	mostKnown   = 200_000
)

// Handoffs are those of one node. Its methods may be called at once.
type Handoffs struct {
	Config

	wake chan struct{}

	mu      sync.Mutex // guards what follows
	known   map[string]*session
	queue   []*arrival
	try     uint64
	asked   map[uint64]chan answer
	leases  map[tributary.NodeID]lease
	losses  map[tributary.NodeID]*loss
	counted Counts
	began   time.Time // Run
}

// session is what is known of a client.
type session struct {
	epoch uint64
	here  bool // it was let in here, and nobody else has since
}

// An arrival is a device that waits to be let in.
type arrival struct {
	client string
	epoch  uint64
	out    Arrival
	err    error
	done   chan struct{} // closed when out and err are set
}

type answer struct {
	from *peer.Hello
	m    peer.Message
}

// Counts are since the start.
type Counts struct {
	Handoffs, Batches, Marks, Unverified uint64
}

// New returns a Handoffs. It does nothing before Run.
func New(c Config) *Handoffs {
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Handoffs{
		Config: c, wake: make(chan struct{}, 1), known: map[string]*session{}, asked: map[uint64]chan answer{},
		leases: map[tributary.NodeID]lease{}, losses: map[tributary.NodeID]*loss{},
	}
}

// Take returns when a client that has connected here may be let in: it is nowhere else
// any more, and the log has the mark, if there is something to wait for. It takes as
// long as two rounds of questions, and where another gateway does not answer, three
// seconds. Besides ctx's error there are ErrElsewhere and what wraps ErrNotNow.
func (h *Handoffs) Take(ctx context.Context, client string) (Arrival, error) {
	a := &arrival{client: client, done: make(chan struct{})}
	h.mu.Lock()
	s := h.session(client)
	s.epoch, s.here = max(s.epoch+1, floor()), true
	a.epoch = s.epoch
	h.counted.Handoffs++
	h.queue = append(h.queue, a)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
	select {
	case <-a.done:
		return a.out, a.err
	case <-ctx.Done():
		return Arrival{}, ctx.Err()
	}
}

// floor is the least that an epoch is, so that it grows even when all gateways have
// forgotten the last one. No rule rests on what the clock says.
func floor() uint64 { return uint64(max(0, time.Now().Unix())) }

// session returns what is known of a client. Called with mu held.
func (h *Handoffs) session(client string) *session {
	s := h.known[client]
	if s == nil {
		for old := range h.known {
			if len(h.known) < mostKnown {
				break
			}
			delete(h.known, old)
		}
		s = &session{}
		h.known[client] = s
	}
	return s
}

// Run lets devices in, until ctx ends.
func (h *Handoffs) Run(ctx context.Context) {
	h.mu.Lock()
	h.began = time.Now()
	h.mu.Unlock()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { h.keepUp(ctx) })
	places := make(chan struct{}, mostBatches)
	for {
		select {
		case <-h.wake:
		case <-ctx.Done():
			return
		}
		for {
			select {
			case places <- struct{}{}: // those who come while all are taken are one batch
			case <-ctx.Done():
				return
			}
			b := h.next()
			if b == nil {
				<-places
				break
			}
			all.Go(func() {
				defer func() { <-places }()
				b.run(ctx)
			})
		}
	}
}

// isYoung says whether others may be there that were not found yet.
func (h *Handoffs) isYoung() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.began) < youngFor
}

// next takes a batch from the queue, or returns nil.
func (h *Handoffs) next() *batch {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		return nil
	}
	n := min(len(h.queue), peer.MaxClients)
	b := &batch{h: h, all: h.queue[:n:n], nonces: map[tributary.NodeID]uint64{}}
	h.queue = h.queue[n:]
	h.counted.Batches++
	return b
}

// keepUp has the index follow what becomes durable.
func (h *Handoffs) keepUp(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	said := ""
	for {
		if err := h.Index.Update(ctx); err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			h.Logger.Warn("could not look at all that this gateway holds; a device that comes from another one may have to wait for more than it must", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Count returns the counts.
func (h *Handoffs) Count() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counted
}
