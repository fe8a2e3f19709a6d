package session

import (
	"github.com/tributary-edge/tributary/log/record"
)

// An item is a message that waits or is in flight, in 32 bytes.
type item struct {
	at       position
	more     *more  // nil for most
	id       uint16 // in flight
	qos      byte   // 1 or 2
	origin   origin
	retain   bool
	received bool // QoS 2: the client has it, and is owed a PUBREL
	noted    bool // QoS 2, in flight: the log, or the checkpoint, has it as it stands here
	again    bool // was sent on an earlier connection, perhaps
}

// An origin says how a message came to a session.
type origin byte

const (
	inPlace   origin = iota // in the order of the log
	copied                  // it is not read from the log: more has it, until it is received
	inherited               // from a session that has ended, when later ones may have been sent
)

// more is what few messages have. It is never changed.
type more struct {
	entry *record.Entry // a copy of the message, which is then not read from the log
	ids   []uint32      // subscription identifiers
}

func (it *item) entry() *record.Entry {
	if it.more == nil {
		return nil
	}
	return it.more.entry
}

func (it *item) ids() []uint32 {
	if it.more == nil {
		return nil
	}
	return it.more.ids
}

// inLog says whether the message still has to be read from the log.
func (it *item) inLog() bool { return it.origin != copied && !it.received }

// receive notes that the client has the message, so that we need it no more.
func (it *item) receive() { it.received, it.noted, it.more = true, false, nil }

// same says whether two items are the same message.
func (it *item) same(other *item) bool {
	return it.at == other.at && (it.origin == copied) == (other.origin == copied)
}

// message returns what the caller has offered.
func (it *item) message() Message {
	m := Message{LSN: it.at.lsn, QoS: it.qos, Retain: it.retain, Copy: it.entry(), IDs: it.ids()}
	if it.at.ledger != nil {
		m.Ledger = it.at.ledger.id
	}
	return m
}

// A line is a queue of items from which others than the first can be taken. The
// empty line costs nothing.
type line struct {
	items []item
	head  int // items before it are free
}

// keepItems is how many items an empty line keeps the room of.
const keepItems = 8

func (l *line) len() int       { return len(l.items) - l.head }
func (l *line) at(i int) *item { return &l.items[l.head+i] }

func (l *line) push(it item) {
	if len(l.items) == cap(l.items) && l.head > len(l.items)/2 {
		n := copy(l.items, l.items[l.head:])
		clear(l.items[n:])
		l.items, l.head = l.items[:n], 0
	}
	l.items = append(l.items, it)
}

// remove takes the item i out. That is cheap near the front, where it mostly is.
func (l *line) remove(i int) item {
	it := *l.at(i)
	copy(l.items[l.head+1:], l.items[l.head:l.head+i])
	l.items[l.head] = item{}
	l.head++
	if l.head == len(l.items) {
		l.items, l.head = l.items[:0], 0
		if cap(l.items) > keepItems {
			l.items = nil
		}
	}
	return it
}

// move takes the item i to the place to, which is behind it or the same.
func (l *line) move(i, to int) {
	it := *l.at(i)
	for ; i < to; i++ {
		*l.at(i) = *l.at(i + 1)
	}
	*l.at(to) = it
}

// find returns the index of the item with a packet id, or -1.
func (l *line) find(id uint16) int {
	for i := range l.len() {
		if l.at(i).id == id {
			return i
		}
	}
	return -1
}

// keep removes the items for which f is false, and returns how many those are.
func (l *line) keep(f func(i int, it *item) bool) (removed int) {
	kept := l.items[:l.head]
	for i := range l.len() {
		if it := l.at(i); f(i, it) {
			kept = append(kept, *it)
		}
	}
	removed = len(l.items) - len(kept)
	clear(l.items[len(kept):])
	l.items = kept
	return removed
}
