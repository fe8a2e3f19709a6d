package uplink

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
)

// Marks are what a Forward has to know at the mark of a hand-off, which says that
// parts of other ledgers must be in Kafka first. The methods may be called at once,
// and return soon.
type Marks interface {
	// Position returns below which record Kafka is known to have a ledger.
	Position(l tributary.LedgerID) tributary.LSN
	// Holds says whether this node has all below end that Kafka lacks of a ledger: then
	// it will forward it, if nobody else does.
	Holds(l tributary.LedgerID, end tributary.LSN) bool
	// KafkaRead returns when everything in Kafka was last known to have been read.
	KafkaRead() time.Time
	// Found notes a position that was read from Kafka.
	Found(p tributary.Position)
	// Holding says that the Forward of a ledger waits at a mark, or does so no longer.
	Holding(l tributary.LedgerID, is bool)
}

const (
	lookAtMark   = 50 * time.Millisecond // how often it is looked whether a mark can be passed
	askAtMark    = time.Second           // before Kafka itself is asked, and then
	askAgain     = 10 * time.Second
	askAtMarkFor = 20 * time.Second
	readBreak    = 5 * time.Second // Kafka was away if it was not read for so long: then no time counts

	mostLate = 100_000
)

// hold is what a Forward waits for at marks. It outlives sessions.
type hold struct {
	marks  Marks
	ledger tributary.LedgerID
	limit  time.Duration // 0: for ever

	// Touched by whoever gathers. What was given up stays: the next mark that waits for
	// it is passed at once.
	waits map[tributary.LedgerID]*wait

	mu   sync.Mutex // guards what follows
	late map[lateSession]struct{}
}

// A wait is for the position of one ledger.
type wait struct {
	next   tributary.LSN // where it stands
	waited time.Duration // since when, while Kafka could be read
	read   time.Time     // as of when Kafka was read last
	began  time.Time
	asked  time.Time // when Kafka itself was asked last
	sure   bool      // it has answered since the wait began
}

// A lateSession is one before which something of its device may come late.
type lateSession struct {
	client string
	epoch  uint64
}

func newHold(c Config, ledger tributary.LedgerID) *hold {
	if c.Marks == nil {
		return nil
	}
	h := &hold{marks: c.Marks, ledger: ledger, limit: c.Hold, waits: map[tributary.LedgerID]*wait{}, late: map[lateSession]struct{}{}}
	if c.Strict {
		h.limit = 0
	}
	return h
}

// pass is appetite.pass: the mark of a hand-off holds back the group that it is in,
// and all that comes later, until what it waits for is in Kafka (R45).
//
// Not more than that group: two forwarders that hold back records before their marks
// could wait for each other for ever (R46).
func (s *session) pass(ctx context.Context, c record.Chunk, some bool) (record.Chunk, error) {
	h := s.hold
	if ok, err := h.mayPass(&c, s.cfg.Logger.Warn); ok || err != nil {
		return c, err
	}
	from := c.From
	c, err := s.src.Read(ctx, from, 1) // one group
	if err != nil {
		return c, fmt.Errorf("read the log at record %d: %w", from, err)
	}
	if c.Gap != nil || some {
		if ok, err := h.mayPass(&c, s.cfg.Logger.Warn); ok && c.Gap == nil || err != nil {
			return c, err
		}
		return record.Chunk{From: from, Next: from}, nil
	}
	return c, s.waitAtMark(ctx, &c)
}

// waitAtMark returns when all marks of c may be passed.
func (s *session) waitAtMark(ctx context.Context, c *record.Chunk) error {
	h, holding := s.hold, false
	defer func() {
		if holding {
			h.marks.Holding(h.ledger, false)
		}
	}()
	for {
		if ok, err := h.mayPass(c, s.cfg.Logger.Warn); ok || err != nil {
			return err
		}
		if !holding {
			holding = true
			h.marks.Holding(h.ledger, true)
		}
		for id, w := range h.waits {
			s.askAtMark(ctx, id, w)
		}
		select {
		case <-time.After(lookAtMark):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// askAtMark asks Kafka how far a ledger is, if that was not heard of for a while:
// what was committed long ago nobody may have said.
func (s *session) askAtMark(ctx context.Context, id tributary.LedgerID, w *wait) {
	now := time.Now()
	if now.Sub(w.began) < askAtMark || now.Sub(w.asked) < askAgain {
		return
	}
	w.asked = now
	ctx, cancel := context.WithTimeout(ctx, askAtMarkFor)
	defer cancel()
	at, err := s.positionOf(ctx, id)
	if err != nil {
		w.asked = time.Now().Add(askAtMark - askAgain) // soon
		return
	}
	w.sure = true
	if at.Next > 0 {
		s.hold.marks.Found(at)
	}
}

// mayPass says whether all marks of c may be passed. A ledger that does not move, and
// that others are to forward, is given up after a while: then the order of the device
// is flagged.
func (h *hold) mayPass(c *record.Chunk, warn func(string, ...any)) (pass bool, err error) {
	pass = true
	for i := range c.Entries {
		e := &c.Entries[i]
		if !mark.IsHandoff(&e.Record) {
			continue
		}
		m, err := mark.ParseHandoff(e.Value)
		if err != nil {
			return false, fmt.Errorf("the mark of a hand-off at record %d: %w", e.LSN, err)
		}
		pass = h.look(&m, warn) && pass
	}
	return pass, nil
}

func (h *hold) look(m *mark.Handoff, warn func(string, ...any)) (pass bool) {
	pass = true
	var late []tributary.LedgerID
	for _, d := range m.Deps {
		next := h.marks.Position(d.Ledger)
		if next >= d.End {
			delete(h.waits, d.Ledger)
			continue
		}
		w := h.waits[d.Ledger]
		if w == nil || w.next != next {
			w = &wait{next: next, began: time.Now()}
			h.waits[d.Ledger] = w
		}
		w.count(h.marks.KafkaRead())
		if h.limit > 0 && w.sure && w.waited > h.limit && !h.marks.Holds(d.Ledger, d.End) {
			late = append(late, d.Ledger)
			continue
		}
		pass = false
	}
	if pass && len(late) > 0 {
		warn("a device was at another gateway before, and what that took does not reach Kafka; what the device sends now goes first, and is flagged",
			"client", m.Client, "ledger", late[0].String(), "waited", h.limit.String())
		h.flag(m)
	}
	return pass
}

// count counts the time during which Kafka could be read: while it is away, nobody is
// to blame.
func (w *wait) count(read time.Time) {
	if since := read.Sub(w.read); !w.read.IsZero() && since > 0 && since < readBreak {
		w.waited += since
	}
	w.read = read
}

func (h *hold) flag(m *mark.Handoff) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.late) >= mostLate {
		clear(h.late)
	}
	h.late[lateSession{m.Client, m.Epoch}] = struct{}{}
}

// isLate says whether a record is of a session before which something may come late.
func (h *hold) isLate(e *record.Entry, s *mark.Stamp) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.late) == 0 {
		return false
	}
	_, late := h.late[lateSession{string(e.Header(headerClientID)), s.Epoch}]
	return late
}

const headerClientID = "mqtt.client_id" // ingest has all of them
