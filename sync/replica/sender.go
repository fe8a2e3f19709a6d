package replica

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/sync/peer"
)

// A Sender streams what this node writes to one peer, which keeps a copy of it.
type Sender struct {
	Log Log
	// Wanted says whether the peer is to keep a copy of the ledger; it may change.
	Wanted func(ledger tributary.LedgerID) bool
	// Copied is told how far the peer has a ledger of this node durably, with its
	// base and in growing order for one ledger and connection (R10).
	Copied func(ledger tributary.LedgerID, durable tributary.LSN)
	// Waits returns a ledger of which devices wait for copies, before all others: it is
	// not the live one if a write has failed. nil: none does.
	Waits func() (ledger tributary.LedgerID, some bool)
	// Acked returns below which record devices have been answered (LAC).
	Acked func(ledger tributary.LedgerID) tributary.LSN
	// Full is told that the peer has no room for a copy of the ledger (R34): it is
	// asked again after a while. nil: nobody wants to know.
	Full func(ledger tributary.LedgerID)
	Pace *Pace // nil: no bound
	// Diverged is told that the peer has another history of the live ledger than
	// this process: two processes write to it (R16).
	Diverged func(ledger tributary.LedgerID, at tributary.LSN)
	// Status returns what this node says of itself each second.
	Status func() *peer.Status
	// Answer is given what else the peer answers: to a Status, and to what others
	// have sent on the same connection.
	Answer func(from *peer.Hello, m peer.Message)
}

// stream is one connection that this node has dialed.
type stream struct {
	*Sender

	conn *peer.Conn

	mu     sync.Mutex // guards what follows
	ledger tributary.LedgerID
	next   tributary.LSN // to be sent
	begun  bool          // next is known
	turn   int           // counts how often the peer has set next
	rests  time.Time     // nothing is sent before: the peer has no room
	again  context.CancelFunc
	flight []sent
	bytes  int // in flight
	room   chan struct{}
}

// sent is a group, or a pack, that has no Ack yet.
type sent struct {
	next  tributary.LSN
	chain uint64
	bytes int
}

// Run streams the live ledger on c until the connection ends or ctx does, and
// then closes c. When the live ledger is another one, because a write has failed,
// it first sends the rest of the one before.
func (s *Sender) Run(ctx context.Context, c *peer.Conn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	t := &stream{Sender: s, conn: c, room: make(chan struct{}, 1)}
	var heard sync.WaitGroup
	heard.Go(func() { cancel(t.hear()) })
	heard.Go(func() { cancel(t.report(ctx)) })
	defer heard.Wait()
	defer func() { _ = c.Close() }()
	for ctx.Err() == nil {
		err := t.sendEarlier(ctx)
		if err == nil {
			err = t.send(ctx, s.Log.Ledger())
		}
		if err != nil {
			cancel(err)
		}
	}
	if err := context.Cause(ctx); !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// report says how this node is, each second.
func (t *stream) report(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := errors.Join(t.conn.Send(t.Status()), t.conn.Flush()); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendEarlier sends the rest of a ledger that a failed write has ended, if devices wait
// for copies of it. What cannot be read is left.
func (t *stream) sendEarlier(ctx context.Context) error {
	if t.Waits == nil {
		return nil
	}
	id, waits := t.Waits()
	if !waits || id == t.Log.Ledger() || !t.Wanted(id) {
		return nil
	}
	err := t.send(ctx, id)
	if errors.As(err, new(*unreadableError)) && ctx.Err() == nil {
		return nil
	}
	return err
}

// An unreadableError says that the log does not give what is to be sent.
type unreadableError struct{ error }

// Unwrap is for errors.Is.
func (e *unreadableError) Unwrap() error { return e.error }

// send sends a ledger to its end, and returns when the peer has answered for that.
func (t *stream) send(ctx context.Context, id tributary.LedgerID) error {
	r, err := t.Log.Read(id)
	if err != nil {
		return err
	}
	defer r.Close()
	t.mu.Lock()
	t.ledger, t.next, t.begun, t.flight, t.bytes = id, r.Base(), false, nil, 0
	t.mu.Unlock()
	for {
		if !t.Wanted(id) || t.resting() {
			if id != t.Log.Ledger() {
				return nil
			}
			if err := t.pause(ctx); err != nil {
				return err
			}
			continue
		}
		err := t.sendMore(ctx, r)
		if errors.Is(err, io.EOF) {
			return t.drain(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// drainFor is how long the answers to the end of a ledger are waited for.
const drainFor = 5 * time.Second

// drain returns when nothing is under way, or the peer takes too long.
func (t *stream) drain(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	_ = t.waitForRoom(wait, 0, 0) // what has no answer by then is not counted
	return ctx.Err()
}

// fullRest is how long a peer without room is left alone.
const fullRest = 10 * time.Second

// resting says whether the peer has said of late that it has no room.
func (t *stream) resting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.rests)
}

// pause waits a little, because somebody else keeps the copy.
func (t *stream) pause(ctx context.Context) error {
	select {
	case <-time.After(time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendMore sends what is there, once there is something. It returns early when
// the peer has said that it wants something else.
func (t *stream) sendMore(ctx context.Context, r Reader) error {
	if err := t.waitForRoom(ctx, windowBytes-1, mostInWindow-1); err != nil {
		return err
	}
	wait, again := context.WithCancel(ctx)
	defer again()
	t.mu.Lock()
	from, turn := max(t.next, r.Base()), t.turn
	t.again = again
	t.mu.Unlock()
	all, err := r.Sealed(wait, from, batchBytes)
	if err != nil {
		if wait.Err() != nil && ctx.Err() == nil {
			return nil
		}
		return &unreadableError{err}
	}
	for i := range all {
		if !t.claim(&all[i], turn) {
			return t.conn.Flush()
		}
		if err := t.pace(ctx, &all[i]); err != nil {
			return err
		}
		m := peer.Append{
			Ledger: t.ledger, Position: t.Log.Position(t.ledger), LAC: t.Acked(t.ledger),
			Codec: all[i].Codec, Sealed: all[i].Bytes,
		}
		if err := t.conn.Send(&m); err != nil {
			return err
		}
	}
	return t.conn.Flush()
}

// pace waits until so much may be sent: what devices wait for goes first.
func (t *stream) pace(ctx context.Context, s *group.Sealed) error {
	for wait := t.Pace.Delay(); wait > 0 && s.Next() <= t.Acked(t.ledger); wait = t.Pace.Delay() {
		if err := t.conn.Flush(); err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return t.Pace.Urgent(ctx, len(s.Bytes))
}

// claim notes that s is under way, unless the peer wants something else.
func (t *stream) claim(s *group.Sealed, turn int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.turn != turn {
		return false
	}
	t.next = s.Next()
	t.flight = append(t.flight, sent{s.Next(), s.Header.Chain(), len(s.Bytes)})
	t.bytes += len(s.Bytes)
	return true
}

// waitForRoom returns when no more than so much is under way.
func (t *stream) waitForRoom(ctx context.Context, bytes, groups int) error {
	for {
		t.mu.Lock()
		room := t.bytes <= bytes && len(t.flight) <= groups
		t.mu.Unlock()
		if room {
			return nil
		}
		select {
		case <-t.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hear takes the answers.
func (t *stream) hear() error {
	for {
		m, err := t.conn.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *peer.Ack:
			t.acked(m)
		case *peer.Nack:
			if err := t.refused(m); err != nil {
				return err
			}
		default:
			t.Answer(t.conn.Peer(), m)
		}
	}
}

// acked takes note of what is durable at the peer. An Ack counts only with the
// chain that was sent: another one is of another history (R10).
func (t *stream) acked(m *peer.Ack) {
	t.mu.Lock()
	if m.Ledger != t.ledger || m.Base > t.Log.Position(m.Ledger) && m.Base > 0 {
		t.mu.Unlock()
		return
	}
	n := 0
	for n < len(t.flight) && t.flight[n].next <= m.Durable {
		n++
	}
	counts := n > 0 && t.flight[n-1].next == m.Durable && t.flight[n-1].chain == m.Chain
	if counts {
		for i := range t.flight[:n] {
			t.bytes -= t.flight[i].bytes
		}
		t.flight = t.flight[n:]
		select {
		case t.room <- struct{}{}:
		default:
		}
	}
	t.mu.Unlock()
	if counts {
		t.Copied(m.Ledger, m.Durable)
	}
}

// refused goes on where the copy of the peer ends.
func (t *stream) refused(m *peer.Nack) error {
	if m.Ledger != t.ledger {
		return nil // of an earlier one
	}
	if m.Reason == peer.Failed {
		return &RefusedError{Reason: m.Reason}
	}
	r, err := t.Log.Read(m.Ledger)
	if err != nil {
		return err
	}
	defer r.Close()
	if chain, known := r.ChainAt(m.End); m.Reason == peer.Diverged || known && chain != m.Chain {
		t.Diverged(m.Ledger, m.End)
		return &RefusedError{Reason: peer.Diverged}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next, t.flight, t.bytes = m.End, nil, 0
	if m.End >= r.Base() && m.End > 0 {
		t.flight = append(t.flight, sent{next: m.End, chain: m.Chain}) // its Ack is under way, or was
	}
	if t.turn++; m.Reason == peer.Full {
		t.rests = time.Now().Add(fullRest)
		if t.Full != nil {
			t.Full(m.Ledger)
		}
	}
	if t.again != nil {
		t.again()
	}
	return nil
}

// A RefusedError says that a peer does not keep a copy, and why.
type RefusedError struct{ Reason peer.Reason }

// Error implements error.
func (e *RefusedError) Error() string {
	switch e.Reason {
	case peer.Full:
		return "the peer has no room for copies"
	case peer.Diverged:
		return "the peer has another history of this ledger: two processes have written to it"
	case peer.Failed:
		return "the disk of the peer has failed"
	case peer.Gap:
		return "the copy of the peer has a gap"
	default:
		return "the peer does not keep a copy"
	}
}
