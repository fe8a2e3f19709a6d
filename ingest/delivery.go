package ingest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/session"
	"github.com/tributary-edge/tributary/ingest/topic"
	"github.com/tributary-edge/tributary/log/record"
)

// linger is how long the delivery rests after a turn that had many messages, when
// nothing but new ones waits: at 20,000 of them a second there are several groups in
// that time, and each turn wakes a processor and ends with a write to each
// subscriber. Where messages come one by one, as questions and answers do, none waits.
const (
	linger = 2 * time.Millisecond
	many   = 16
)

const (
	batchBytes = 32 << 10 // QoS 0 messages for one client are handed over together
	maxJobs    = 1024
)

// A job is one step of the delivery: a stretch of a ledger whose messages are to
// be delivered, or a change that counts for all messages behind it.
type job struct {
	ledger   tributary.LedgerID
	from, to tributary.LSN
	other    bool             // another gateway writes the ledger:
	writer   tributary.NodeID // this one
	heard    []heard          // what is known of the records from on, all of them; empty: nothing, as of other
	do       func()
}

// A delivery gives durable messages to local subscribers. Everything that
// matters for who gets what happens on one goroutine, in the order of the log:
// a subscription counts for the messages behind it, and a retained message is
// there for the subscriptions behind it. It reads messages back from the log, so
// that it holds no memory for those it has not come to; nobody who publishes
// waits for it, and it waits for no socket.
type delivery struct {
	door *Door
	tree *topic.Tree[*subscriber]
	kept *retained
	wake chan struct{} // one slot: there is something to do at once
	news chan struct{} // one slot: there are new messages

	// Touched by run alone.
	ctx     context.Context //nolint:containedctx // of run, for the reads
	pages   pages
	gave    int // records, in the turn that was last
	touched []*conn
	frames  frames
	turns   map[share]int // of shared subscriptions: whose turn it is

	offered bool // something of the stretch that is being given was offered to a session

	copies atomic.Uint64 // the number of the last copy of a retained message that was offered

	placing sync.Mutex // held by whoever notes in the log what was given of other ledgers; before mu

	mu       sync.Mutex // guards what follows
	jobs     []job      // in order; stretches of a ledger do not overlap
	heard    int        // of all jobs
	woken    []*subscriber
	others   map[tributary.LedgerID]*other
	unplaced []tributary.LedgerID // of others: something was offered that the log does not know of
}

func newDelivery(d *Door) *delivery {
	return &delivery{
		door: d, tree: topic.NewTree[*subscriber](), kept: newRetained(&d.opt), wake: make(chan struct{}, 1), news: make(chan struct{}, 1),
		pages: pages{reader: d.opt.Reader}, turns: map[share]int{}, others: map[tributary.LedgerID]*other{},
	}
}

// want asks for the records from (included) to (excluded) of a ledger to be
// given to subscribers; known is what is known of them, or empty. Calls come in the
// order of ledgers and LSNs. It does not wait, and keeps nothing of known.
func (o *delivery) want(ledger tributary.LedgerID, from, to tributary.LSN, known []heard) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer signal(o.news)
	if o.heard+len(known) > maxHeard {
		known = nil
	}
	if n := len(o.jobs); n > 0 && o.jobs[n-1].do == nil && o.jobs[n-1].ledger == ledger {
		last := &o.jobs[n-1]
		switch {
		case n >= maxJobs: // what lies between is delivered as well
			o.heard -= len(last.heard)
			last.heard, last.to = nil, to
			return
		case last.to == from && (len(last.heard) > 0) == (len(known) > 0):
			o.heard += len(known)
			last.heard, last.to = append(last.heard, known...), to
			return
		}
	}
	o.heard += len(known)
	o.jobs = append(o.jobs, job{ledger: ledger, from: from, to: to, heard: append([]heard(nil), known...)})
}

// do asks for f to be called behind everything that was asked for so far.
func (o *delivery) do(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.jobs = append(o.jobs, job{do: f})
	signal(o.wake)
}

// position returns from where on a later process must deliver anew, given how far
// the log is durable.
func (o *delivery) position(ledger tributary.LedgerID, next tributary.LSN) (tributary.LedgerID, tributary.LSN) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.jobs {
		if j := &o.jobs[i]; j.do == nil && !j.other {
			return j.ledger, j.from
		}
	}
	return ledger, next
}

// run delivers until ctx is done.
func (o *delivery) run(ctx context.Context) {
	o.ctx = ctx
	rest := time.NewTimer(linger)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		case <-o.news:
			if o.gave < many {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-o.wake:
			case <-rest.C:
			}
		}
		o.gave = 0
		for o.step() && ctx.Err() == nil {
		}
		if o.gave >= many {
			rest.Reset(linger)
		}
	}
}

// step does a bounded piece of what is to be done, and says whether there was any.
func (o *delivery) step() bool {
	o.mu.Lock()
	woken := o.woken
	o.woken = nil
	var j job
	if len(o.jobs) > 0 {
		j = o.jobs[0]
	}
	o.mu.Unlock()
	for _, s := range woken {
		s.woken.Store(false)
		o.pump(s)
	}
	next := j.from
	switch {
	case j.do != nil:
		j.do()
	case len(j.heard) > 0:
		next = o.tell(&j)
	case j.from < j.to:
		next = o.deliver(&j)
	default:
		o.sendTouched()
		return len(woken) > 0
	}
	o.sendTouched()
	o.mu.Lock()
	defer o.mu.Unlock()
	if done := min(int(next-j.from), len(o.jobs[0].heard)); done > 0 {
		o.heard -= done
		o.jobs[0].heard = o.jobs[0].heard[done:]
	}
	switch o.jobs[0].from = next; {
	case j.do != nil || next >= o.jobs[0].to:
		o.jobs[0] = job{}
		o.jobs = o.jobs[1:]
	case j.other:
		o.giveWay()
	}
	return true
}

// giveWay puts the first job behind all but those of the same writer, which follow it:
// what another gateway has taken in an hour must not stand before what clients here
// publish, or before a subscription. Called with mu held.
func (o *delivery) giveWay() {
	first, n := o.jobs[0], 1
	for n < len(o.jobs) && !(o.jobs[n].other && o.jobs[n].writer == first.writer) {
		n++
	}
	copy(o.jobs, o.jobs[1:n])
	o.jobs[n-1] = first
}

// deliver gives some records of j to subscribers, and returns from where to go on.
func (o *delivery) deliver(j *job) tributary.LSN {
	chunk, err := o.pages.next(o.ctx, j)
	if err != nil {
		o.unread(j.from, j.to, err)
		if o.offered = false; j.other {
			o.passedOther(j.ledger, j.to)
		}
		return j.to
	}
	o.giveAll(j, chunk)
	next := min(chunk.Next, j.to) // want may have made the job longer meanwhile: what is beyond j.to was not given to anybody
	o.passed(j, next)
	return next
}

// giveAll gives what chunk has of j to subscribers.
func (o *delivery) giveAll(j *job, chunk *record.Chunk) {
	now := time.Now()
	o.offered = false
	for i := range chunk.Entries {
		e := &chunk.Entries[i]
		switch {
		case e.LSN < j.from || e.LSN >= j.to:
		case j.other:
			o.giveOther(j, e, now)
		default:
			o.give(j.ledger, e, now)
		}
	}
	if chunk.Gap != nil {
		o.door.stat.fanoutError.Add(1)
		o.door.opt.Logger.Warn("local subscribers miss messages that the log does not have any more", "ledger", j.ledger.String(), "from", j.from, "to", chunk.Next)
	}
	o.gave += len(chunk.Entries)
}

// passed notes that all of j below next was given.
func (o *delivery) passed(j *job, next tributary.LSN) {
	if next <= j.from {
		return
	}
	o.door.sessions.Passed(j.ledger, next-1)
	if j.other {
		o.passedOther(j.ledger, next)
	}
}

// unread counts records that could not be read back.
func (o *delivery) unread(from, to tributary.LSN, err error) {
	if o.ctx.Err() == nil {
		o.door.stat.fanoutError.Add(1)
		o.door.opt.Logger.Warn("local subscribers miss messages that could not be read back; what goes to Kafka is not touched by this",
			"from", from, "to", to, "error", err)
	}
}

// give gives one record to all who subscribed to its topic.
func (o *delivery) give(ledger tributary.LedgerID, e *record.Entry, now time.Time) {
	name := e.Header(headerTopic)
	if name == nil {
		return
	}
	if e.Header(headerRetain) != nil {
		o.retain(string(name), e)
	}
	o.spread(ledger, name, e, now)
}

// spread gives a message of a topic to all who subscribed to it.
func (o *delivery) spread(ledger tributary.LedgerID, name []byte, e *record.Entry, now time.Time) {
	found := o.tree.MatchBytes(name)
	if len(found.Matches) == 0 && len(found.Groups) == 0 {
		return
	}
	m := outgoing{ledger: ledger, lsn: e.LSN, entry: e, retain: e.Header(headerRetain) != nil}
	if !m.open(now) {
		return
	}
	o.frames.reset()
	for i := range found.Matches {
		to := &found.Matches[i]
		if to.Subscriber.Client != m.origin {
			o.giveOne(&m, to)
		} else if own := ownMatch(to, m.topic()); own != nil {
			o.giveOne(&m, own)
		}
	}
	for i := range found.Groups {
		if member := o.choose(&found.Groups[i], m.topic()); member != nil {
			o.giveOne(&m, member)
		}
	}
	o.door.stat.fannedOut.Add(1)
}

// ownMatch returns what the publisher of a message gets of it: by those of its
// filters alone that do not have No Local (MQTT-3.8.3-3); nil: nothing.
func ownMatch(all *topic.Match[*subscriber], name string) *topic.Match[*subscriber] {
	if all.NoLocal {
		return nil
	}
	own := topic.Match[*subscriber]{Subscriber: all.Subscriber}
	for _, sub := range all.Subscriber.Subscriptions() {
		if sub.NoLocal || !topic.Matches(sub.Filter, name) {
			continue
		}
		own.QoS = max(own.QoS, sub.QoS)
		own.RetainAsPublished = own.RetainAsPublished || sub.RetainAsPublished
		if sub.ID != 0 {
			own.IDs = append(own.IDs, sub.ID)
		}
	}
	slices.Sort(own.IDs)
	return &own
}

// giveOne gives a message to one subscriber.
func (o *delivery) giveOne(m *outgoing, to *topic.Match[*subscriber]) {
	s := to.Subscriber
	c := s.conn.Load()
	qos := min(to.QoS, m.qos)
	switch {
	case c == nil && qos == 0,
		!o.door.opt.Guard.Allows(s.User, s.Client, auth.Read, m.topic()):
		return
	case qos > 0:
		dropped := s.Offer(session.Message{Ledger: m.ledger, LSN: m.lsn, QoS: qos, Retain: m.retain && to.RetainAsPublished, IDs: to.IDs})
		o.door.stat.queueLost.Add(uint64(dropped))
		o.offered = true
		if c != nil {
			o.wakeUp(s)
		}
		return
	}
	frame := o.frames.of(m, c.version, m.retain && to.RetainAsPublished, to.IDs)
	if c.maxPacket > 0 && len(frame) > c.maxPacket {
		return // MQTT 5, 3.1.2.11.4: as if it had been sent
	}
	o.batch(c, frame)
}

// batch puts a QoS 0 message behind what goes to c with the next write.
func (o *delivery) batch(c *conn, frame []byte) {
	if len(c.batch) == 0 {
		o.touched = append(o.touched, c)
	}
	c.batch = append(c.batch, frame...)
	c.batched++
	o.door.stat.sent.Add(1)
	if len(c.batch) >= batchBytes {
		o.hand(c)
		c.flushNow()
	}
}

func (o *delivery) hand(c *conn) {
	if len(c.batch) > 0 && !c.sendDroppable(c.batch) {
		o.door.stat.fanoutLost.Add(uint64(c.batched))
	}
	c.batch, c.batched = c.batch[:0], 0
}

func (o *delivery) sendTouched() {
	for _, c := range o.touched {
		o.hand(c)
		if cap(c.batch) > keepBytes {
			c.batch = nil // a thousand subscribers that had a burst would hold 64 MiB
		}
	}
	o.door.flusher.flush(o.touched)
	clear(o.touched)
	o.touched = o.touched[:0]
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
