package ingest

import (
	"sync"

	"github.com/tributary-edge/tributary"
)

// maxUnreleased bounds the packet ids of all clients together, because each is
// memory for as long as its client likes: 500 bytes in the worst case, which
// is one id of each client, and so less than 64 MiB.
const maxUnreleased = 100_000

// What a QoS 2 packet id is at. The zero value: not known, so a PUBLISH with
// it is a new message, and a PUBREL for it is a stray.
type q2state uint8

const (
	q2None      q2state = iota
	q2Pending           // the PUBLISH is appended, not durable: no PUBREC yet
	q2Durable           // the PUBLISH is durable: PUBREC is due at once
	q2Releasing         // the PUBREL is appended, not durable: no PUBCOMP yet

	q2OverWindow // not known, and the client has as many ids as it may
	q2OverTotal  // not known, and all clients together have as many ids as they may
)

// A q2entry is what is known of one packet id of one client.
type q2entry struct {
	state  q2state
	logged bool   // the log knows the id, so the log must learn of its end
	seq    uint32 // tells this use of the id from an earlier one
	waiter *conn  // who gets the PUBREC or PUBCOMP that is pending
}

// A q2client is what is known of the packet ids of one client.
type q2client struct {
	ids  map[uint16]q2entry
	held int // of ids, how many are not releasing
}

// qos2 is the receiver's half of QoS 2: the packet ids of each client that
// were published and not yet released (MQTT 5, 4.3.3). A PUBLISH with such an
// id is acknowledged again and not logged again.
//
// It holds two tables. live is what the protocol goes by: it moves when a
// record is appended, so that a second PUBLISH finds the first one even while
// that is on its way to the disk. durable moves only when a group is durable,
// by the records of that group alone: it is at every moment what a replay of
// the log up to next gives, and so is what Snapshot hands out.
//
// It does no I/O. All methods may be called at once.
type qos2 struct {
	window int // how many ids a client may hold that it does not release

	mu      sync.Mutex // guards what follows
	seq     uint32
	live    map[string]*q2client
	total   int // ids in live
	durable unreleased
	ledger  tributary.LedgerID // durable holds what the records of ledger below next say,
	next    tributary.LSN      // and those of earlier ledgers
}

func newQoS2(window int) *qos2 {
	return &qos2{window: window, live: map[string]*q2client{}, durable: unreleased{}}
}

// publish takes up a PUBLISH. It returns what the id was at: for q2None (and
// for q2Releasing, where the client is early) the message is new, the id is
// now pending under seq, and the caller appends a record; for q2Pending the
// PUBREC will go to waiter when the record is durable; for q2Durable it is
// due now. For q2OverWindow and q2OverTotal it took up nothing.
//
// An id whose PUBREL is here does not count against its client's window: after
// a reconnect a client may release as many as the window again, and send as
// many new messages at once (MQTT 5, 4.9).
func (q *qos2) publish(client string, pid uint16, logged bool, waiter *conn) (seq uint32, was q2state) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entry(client, pid)
	switch {
	case e.state == q2Durable:
		return e.seq, q2Durable
	case e.state == q2Pending:
		e.waiter = waiter
		q.put(client, pid, e)
		return e.seq, q2Pending
	case q.held(client) >= q.window:
		return 0, q2OverWindow
	case e.state == q2None && q.total >= maxUnreleased:
		return 0, q2OverTotal
	}
	q.seq++
	q.put(client, pid, q2entry{state: q2Pending, logged: logged, seq: q.seq, waiter: waiter})
	return q.seq, e.state
}

// release takes up a PUBREL. It returns what the id was at: for q2None there
// is nothing to release; for q2Pending the client is ahead of its PUBREC,
// which it must not be; for q2Releasing the PUBCOMP will go to waiter when
// the release is durable. For q2Durable, when logged, the id is now releasing
// under seq and the caller appends a record; when not, the log never knew the
// id, and it is gone.
func (q *qos2) release(client string, pid uint16, waiter *conn) (seq uint32, logged bool, was q2state) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entry(client, pid)
	was = e.state
	switch was {
	case q2None, q2Pending:
		return 0, false, was
	case q2Durable:
		if !e.logged {
			q.remove(client, pid)
			return 0, false, was
		}
		q.seq++
		e.seq = q.seq
	case q2Releasing, q2OverWindow, q2OverTotal:
	}
	e.state, e.waiter = q2Releasing, waiter
	q.put(client, pid, e)
	return e.seq, true, was
}

// drop ends a client's session: none of its ids is known any more. It says
// whether the log still knows some, or will, so that a control record is due.
func (q *qos2) drop(client string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	due := len(q.durable[client]) > 0
	if c := q.live[client]; c != nil {
		for _, e := range c.ids {
			due = due || e.logged
		}
	}
	q.removeAll(client)
	return due
}

// holds says whether the client has ids that are not released.
func (q *qos2) holds(client string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.live[client] != nil
}

// knows says whether an id is pending, durable or being released.
func (q *qos2) knows(client string, pid uint16) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.entry(client, pid).state != q2None
}

// unpublish forgets an id whose record was not appended, or failed to become
// durable.
func (q *qos2) unpublish(client string, pid uint16, seq uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.entry(client, pid); e.seq == seq {
		q.remove(client, pid)
	}
}

// unrelease undoes release: the control record was not appended, or failed to
// become durable.
func (q *qos2) unrelease(client string, pid uint16, seq uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.entry(client, pid); e.seq == seq && e.state == q2Releasing {
		e.state, e.waiter = q2Durable, nil
		q.put(client, pid, e)
	}
}

// published notes that a PUBLISH is durable. It returns who waits for the
// PUBREC: nil when the session ended meanwhile.
func (q *qos2) published(client string, pid uint16, seq uint32, logged bool) *conn {
	q.mu.Lock()
	defer q.mu.Unlock()
	if logged {
		q.durable.add(client, pid)
	}
	e := q.entry(client, pid)
	if e.seq != seq || e.state != q2Pending {
		return nil
	}
	waiter := e.waiter
	e.state, e.waiter = q2Durable, nil
	q.put(client, pid, e)
	return waiter
}

// released notes that a release is durable. It returns who waits for the
// PUBCOMP, or nil.
func (q *qos2) released(client string, pid uint16, seq uint32) *conn {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.durable.remove(client, pid)
	e := q.entry(client, pid)
	if e.seq != seq || e.state != q2Releasing {
		return nil
	}
	q.remove(client, pid)
	return e.waiter
}

// cleaned notes that the end of a client's session is durable.
func (q *qos2) cleaned(client string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.durable, client)
}

// advance notes that all records of the ledger below next have been told to
// published, released and cleaned.
func (q *qos2) advance(ledger tributary.LedgerID, next tributary.LSN) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ledger, q.next = ledger, next
}

// forget drops all ids.
func (q *qos2) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.live)
	clear(q.durable)
	q.total = 0
}

// adopt notes an id that another gateway logged, and did not see released.
func (q *qos2) adopt(client string, pid uint16) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.learn(client, pid)
}

// lose forgets an id that is no longer this gateway's, and says whether it knew it.
func (q *qos2) lose(client string, pid uint16) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.entry(client, pid).state == q2None {
		return false
	}
	q.durable.remove(client, pid)
	q.remove(client, pid)
	return true
}

// The rest is called with mu held.

func (q *qos2) entry(client string, pid uint16) q2entry {
	if c := q.live[client]; c != nil {
		return c.ids[pid]
	}
	return q2entry{}
}

func (q *qos2) held(client string) int {
	if c := q.live[client]; c != nil {
		return c.held
	}
	return 0
}

func (q *qos2) put(client string, pid uint16, e q2entry) {
	c := q.live[client]
	if c == nil {
		c = &q2client{ids: map[uint16]q2entry{}}
		q.live[client] = c
	}
	before := len(c.ids)
	c.held += holding(e) - holding(c.ids[pid])
	c.ids[pid] = e
	q.total += len(c.ids) - before
}

func (q *qos2) remove(client string, pid uint16) {
	c := q.live[client]
	if c == nil {
		return
	}
	before := len(c.ids)
	c.held -= holding(c.ids[pid])
	delete(c.ids, pid)
	q.total -= before - len(c.ids)
	if len(c.ids) == 0 {
		delete(q.live, client)
	}
}

func (q *qos2) removeAll(client string) {
	if c := q.live[client]; c != nil {
		q.total -= len(c.ids)
		delete(q.live, client)
	}
}

// holding returns what an entry counts for in its client's window.
func holding(e q2entry) int {
	if e.state == q2Pending || e.state == q2Durable {
		return 1
	}
	return 0
}

// unreleased is the set of packet ids, by client, as the log tells it.
type unreleased map[string]map[uint16]struct{}

func (u unreleased) add(client string, pid uint16) {
	ids := u[client]
	if ids == nil {
		ids = map[uint16]struct{}{}
		u[client] = ids
	}
	ids[pid] = struct{}{}
}

func (u unreleased) remove(client string, pid uint16) {
	ids := u[client]
	delete(ids, pid)
	if len(ids) == 0 {
		delete(u, client)
	}
}
