package replica

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
)

// Acks holds back what devices are told of a group until it is durable on as
// many peers as the policy wants (R11). When they are missing it waits for ever,
// or, with Accept, for Grace: then the node is short, and what is durable here is
// acknowledged, counted, until the copies have caught up again (R12).
type Acks struct {
	Copies func() int    // peers that must have a record durably; it may change
	Accept bool          // what is durable here is enough when peers are missing
	Grace  time.Duration // before that; 5 s if 0
	// Deliver is told of groups, as the log tells of them, in the same order, from
	// one goroutine at a time.
	Deliver func(ledger tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error)
	// Short is told when the node becomes short, and when it no longer is; nil: nobody wants to know.
	Short func(short bool)

	delivering sync.Mutex // before mu: whoever has it delivers, in order

	mu          sync.Mutex  // guards what follows
	ledgers     []*progress // of which not all is delivered, and the latest; it is one but for a while after a failed write
	queue       []held
	short       bool
	ending      error // not nil: there is no more patience
	unprotected uint64
	wake        chan struct{}
}

// A progress is how far a ledger is.
type progress struct {
	id      tributary.LedgerID
	durable tributary.LSN // here
	ticked  tributary.LSN // durable at the last tick
	acked   tributary.LSN // below: delivered
	kafka   tributary.LSN // below: in Kafka, which is as good as any copy
	exposed tributary.LSN // below: some was delivered with too few copies
	copies  map[tributary.NodeID]tributary.LSN
}

// held is a group that is durable here and not delivered.
type held struct {
	ledger  tributary.LedgerID
	base    tributary.LSN
	tickets []tributary.Ticket
	err     error
	since   time.Time
}

func (h *held) end() tributary.LSN { return h.base + tributary.LSN(len(h.tickets)) }

const defaultGrace = 5 * time.Second

func (a *Acks) grace() time.Duration {
	if a.Grace > 0 {
		return a.Grace
	}
	return defaultGrace
}

// Committed is the log's OnCommit function.
func (a *Acks) Committed(ledger tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
	a.delivering.Lock()
	defer a.delivering.Unlock()
	h := held{ledger: ledger, base: base, tickets: slices.Clone(tickets), err: err, since: time.Now()}
	a.mu.Lock()
	p := a.of(ledger)
	if p == nil {
		p = &progress{id: ledger, copies: map[tributary.NodeID]tributary.LSN{}}
		a.ledgers = append(slices.DeleteFunc(a.ledgers, func(q *progress) bool { return !a.waits(q.id) }), p)
	}
	if err == nil {
		p.durable = h.end()
	}
	a.queue = append(a.queue, h)
	a.mu.Unlock()
	a.deliver()
	a.signal()
}

// Copied notes how far a peer has the live ledger durably.
func (a *Acks) Copied(node tributary.NodeID, ledger tributary.LedgerID, durable tributary.LSN) {
	a.delivering.Lock()
	defer a.delivering.Unlock()
	a.mu.Lock()
	if p := a.of(ledger); p != nil && durable > p.copies[node] {
		p.copies[node] = durable
	}
	a.mu.Unlock()
	a.deliver()
	a.signal()
}

// InKafka notes that Kafka has all of a ledger below next: nothing else is needed
// there (R11).
func (a *Acks) InKafka(ledger tributary.LedgerID, next tributary.LSN) {
	a.delivering.Lock()
	defer a.delivering.Unlock()
	a.mu.Lock()
	if p := a.of(ledger); p != nil {
		p.kafka = max(p.kafka, min(next, p.durable))
	}
	a.mu.Unlock()
	a.deliver()
	a.signal()
}

// tickEvery is how far copies may lag behind for the node not to be short: with
// devices that never rest they never have everything.
const tickEvery = time.Second

// Run lets the grace of groups run out, until ctx ends.
func (a *Acks) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		a.mu.Lock()
		wake := a.wakeLocked()
		if wait, waits := a.patience(time.Now()); waits {
			timer.Reset(wait)
		}
		a.mu.Unlock()
		select {
		case <-wake:
			continue
		case <-ticker.C:
			a.delivering.Lock()
			a.deliver() // by what was durable at the tick before
			a.tick()
			a.delivering.Unlock()
			continue
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		a.delivering.Lock()
		a.mu.Lock()
		wait, waits := a.patience(time.Now())
		began := waits && wait <= 0 && !a.short
		a.short = a.short || began
		a.mu.Unlock()
		if began {
			a.tick() // what has waited too long is not caught up with, however long ago the last one was
		}
		a.deliver()
		if began && a.Short != nil {
			a.Short(true)
		}
		a.delivering.Unlock()
	}
}

// End has no more patience: what is durable here is delivered at once, as if its
// grace were over, or else handed back with err. It is for the end of a node, when
// the door waits for what it has appended.
func (a *Acks) End(err error) {
	a.delivering.Lock()
	defer a.delivering.Unlock()
	a.mu.Lock()
	a.ending = err
	a.mu.Unlock()
	a.deliver()
}

// tick notes what is durable now.
func (a *Acks) tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.ledgers {
		p.ticked = p.durable
	}
}

// patience returns how long the oldest group may still wait.
func (a *Acks) patience(now time.Time) (wait time.Duration, waits bool) {
	if !a.Accept || len(a.queue) == 0 {
		return 0, false
	}
	return a.queue[0].since.Add(a.grace()).Sub(now), true
}

func (a *Acks) wakeLocked() chan struct{} {
	if a.wake == nil {
		a.wake = make(chan struct{}, 1)
	}
	return a.wake
}

func (a *Acks) signal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case a.wakeLocked() <- struct{}{}:
	default:
	}
}

// deliver delivers what may be delivered. The caller has delivering.
func (a *Acks) deliver() {
	for {
		a.mu.Lock()
		copies := a.Copies()
		recovered := a.short && !slices.ContainsFunc(a.ledgers, func(p *progress) bool { return p.copied(copies) < p.ticked })
		a.short = a.short && !recovered
		h, ready := a.next(copies)
		a.mu.Unlock()
		if recovered && a.Short != nil {
			a.Short(false)
		}
		if !ready {
			return
		}
		a.Deliver(h.ledger, h.base, h.tickets, h.err)
	}
}

// next takes the next group that may be delivered from the queue.
func (a *Acks) next(copies int) (h held, ready bool) {
	if len(a.queue) == 0 {
		return h, false
	}
	h = a.queue[0]
	p := a.of(h.ledger)
	if safe := p.safe(copies); h.err == nil && h.end() > safe {
		switch {
		case a.short, a.ending != nil && a.Accept:
		case a.ending != nil:
			h.err = a.ending
		default:
			return h, false
		}
		if h.err == nil {
			a.unprotected += uint64(h.end() - max(safe, h.base))
			p.exposed = h.end()
		}
	}
	if h.err == nil {
		p.acked = h.end()
	}
	a.queue = slices.Delete(a.queue, 0, 1)
	if len(a.queue) > 0 && a.queue[0].ledger != h.ledger { // it has ended, and all of it is delivered
		a.ledgers = slices.DeleteFunc(a.ledgers, func(q *progress) bool { return q == p })
	}
	return h, true
}

// waits says whether something of a ledger is not delivered.
func (a *Acks) waits(id tributary.LedgerID) bool {
	return slices.ContainsFunc(a.queue, func(h held) bool { return h.ledger == id })
}

func (a *Acks) of(id tributary.LedgerID) *progress {
	for _, p := range a.ledgers {
		if p.id == id {
			return p
		}
	}
	return nil
}

// safe returns below which record devices may be answered: as many peers as are wanted
// have the ledger durably, or Kafka has it (R11).
func (p *progress) safe(copies int) tributary.LSN { return max(p.kafka, p.copied(copies)) }

// copied returns below which record as many peers as are wanted have the ledger durably.
// By this a node is short no longer (R12), not by what Kafka has: that needs what was
// acknowledged alone, and each record of QoS 2 would wait for its grace anew.
func (p *progress) copied(copies int) tributary.LSN {
	if copies == 0 {
		return p.durable
	}
	all := make([]tributary.LSN, 0, len(p.copies))
	for _, d := range p.copies {
		all = append(all, d)
	}
	slices.Sort(all)
	if len(all) < copies {
		return 0
	}
	return all[len(all)-copies]
}

// Acked returns below which record of the ledger devices have been answered
// (LAC); known is false if nothing of it was durable yet, or no device waits for an
// answer any more.
func (a *Acks) Acked(ledger tributary.LedgerID) (lac tributary.LSN, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.of(ledger); p != nil {
		return p.acked, true
	}
	return 0, false
}

// Slack returns for how long from now on nothing can be delivered with too few copies;
// 0 if something was that is not safe yet: neither have enough peers got it, nor is it
// in Kafka, of which position says below which record that has a ledger (R44).
func (a *Acks) Slack(position func(tributary.LedgerID) tributary.LSN) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	copies := a.Copies()
	if a.short || copies == 0 || a.ending != nil {
		return 0
	}
	for _, p := range a.ledgers {
		if p.exposed > max(position(p.id), p.safe(copies)) {
			return 0
		}
	}
	if wait, waits := a.patience(time.Now()); waits {
		return max(0, wait)
	}
	return a.grace()
}

// Peers returns how far peers have a ledger durably.
func (a *Acks) Peers(ledger tributary.LedgerID) map[tributary.NodeID]tributary.LSN {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.of(ledger); p != nil {
		return maps.Clone(p.copies)
	}
	return nil
}

// Waits returns the ledger of the oldest group that is held back, if one is.
func (a *Acks) Waits() (ledger tributary.LedgerID, some bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		return ledger, false
	}
	return a.queue[0].ledger, true
}

// Waiting returns how many records wait for copies, and since when the oldest does.
func (a *Acks) Waiting() (records int, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.queue {
		records += len(a.queue[i].tickets)
	}
	if len(a.queue) > 0 {
		since = a.queue[0].since
	}
	return records, since
}

// State returns whether the node is short, and how many records it has
// acknowledged while it was, since the start.
func (a *Acks) State() (short bool, unprotected uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.short, a.unprotected
}
