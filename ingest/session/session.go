// Package session is what the node remembers of a client between and during
// its connections: subscriptions, the messages that it is still owed, the
// packet ids that are in flight, its will, and when all that ends.
//
// It is pure state: no files, no sockets, no goroutines, and no clock of its
// own. What must survive the process leaves it in two forms, which
// docs/format/session.md describes: events, which the caller appends to the
// log as control records, and the states of a checkpoint. Start reading at
// Store, then at Offer and Take.
package session

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary/ingest/topic"
)

// ErrTooManySubscriptions says that a session has as many subscriptions as it
// may. Nothing was changed; the client is told 0x97, quota exceeded.
var ErrTooManySubscriptions = errors.New("the session has as many subscriptions as max_subscriptions allows")

// Never is the expiry of a session that never ends by itself (MQTT 5, 3.1.2.11.2).
const Never = 0xFFFFFFFF

// A Session is what the node remembers of one client. Its methods may be called
// at once. A session that has ended (Drop, Expired, a clean Open) takes nothing
// and gives nothing any more.
type Session struct {
	Client, User string // never change
	born         uint64 // tells the sessions of one client apart
	store        *Store

	mu       sync.Mutex // guards what follows
	lasting  bool       // outlives its connection, and so is in events and in the checkpoint
	traced   bool       // events or a state of it may exist
	dirty    bool       // store.dirty has it
	gone     bool       // has ended
	leaves   bool       // has ended, and what it was owed is for Left
	attached bool       // a connection serves it
	served   bool       // a connection has served it in this process
	expiry   uint32     // seconds after its connection
	clear    uint16     // so many packet ids from next on are free for sure
	next     uint16     // the packet id to try next
	window   int        // Receive Maximum of the connection
	sent     int        // of flight, so many were sent on this connection; the others are to be sent again
	seq      uint64     // of its last event
	restored uint64     // events up to this one are in the state that it was restored from
	detached time.Time  // when it lost its connection; zero: it has one, or that is not known
	last     reach      // the last that were offered
	lost     []span     // dropped, and not known to be in the log
	told     int        // of lost, so many were taken on this connection
	losing   int        // those of lost from here on go on: nothing was taken since
	flight   line       // in the order of sending
	queue    line       // in the order of offering
	subs     []topic.Subscription
	will     *Will
}

// A Will is what is published for a client whose connection breaks. It is not
// changed after SetWill.
type Will struct {
	Topic        string
	Payload      []byte
	QoS          byte
	Retain       bool
	DelaySeconds uint32
	Properties   []byte // of the PUBLISH, encoded as MQTT 5 does; the session does not look into it
}

// SetExpiry says for how many seconds the session outlives its connection, and
// whether it does at all. With Never it has no end. The caller then appends
// OpenedEvent to the log.
func (s *Session) SetExpiry(seconds uint32, lasting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expiry, s.lasting = seconds, lasting
	s.traced = s.traced || lasting
	s.mark()
}

// Subscribe adds a subscription, or replaces the one with the same filter;
// existed says which. The only error is ErrTooManySubscriptions. The caller then
// appends SubscribedEvent to the log.
func (s *Session) Subscribe(sub topic.Subscription) (existed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(sub.Filter) < 0 && len(s.subs) >= s.store.opt.MaxSubscriptions {
		return false, ErrTooManySubscriptions
	}
	return s.subscribe(sub), nil
}

func (s *Session) subscribe(sub topic.Subscription) (existed bool) {
	s.mark()
	if i := s.find(sub.Filter); i >= 0 {
		s.subs[i] = sub
		return true
	}
	s.subs = append(s.subs, sub)
	return false
}

// Unsubscribe takes a subscription out and says whether it was there. What was
// offered for it is still delivered. The caller then appends UnsubscribedEvent
// to the log.
func (s *Session) Unsubscribe(filter string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsubscribe(filter)
}

func (s *Session) unsubscribe(filter string) bool {
	i := s.find(filter)
	if i < 0 {
		return false
	}
	s.subs = slices.Delete(s.subs, i, i+1)
	s.mark()
	return true
}

// find returns the index of a subscription, or -1. A search through all is
// good enough for a thousand, and a map would cost every idle client more than
// its one or two subscriptions.
func (s *Session) find(filter string) int {
	return slices.IndexFunc(s.subs, func(sub topic.Subscription) bool { return sub.Filter == filter })
}

// Subscriptions returns a copy, in the order in which they were made.
func (s *Session) Subscriptions() []topic.Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.subs)
}

// SetWill keeps a will, or with nil forgets the one that there was. The caller
// then appends WillEvent to the log.
func (s *Session) SetWill(w *Will) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.will = w
	s.mark()
}

// Will returns what SetWill was given last.
func (s *Session) Will() *Will {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.will
}

// mark notes that the checkpoint has to be told of the session.
func (s *Session) mark() {
	if s.dirty || s.gone || !s.traced {
		return
	}
	s.dirty = true
	s.store.mark(s.Client)
}

// end makes a session one that has ended.
func (s *Session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.traced {
		s.store.mark(s.Client)
	}
	s.gone, s.attached = true, false
	if s.leaves = s.shares(); !s.leaves {
		s.flight, s.queue = line{}, line{}
	}
}

// expired says whether the session is over at now. What is not known to have
// lost its connection (it was restored, or is just being opened) has as long as
// if it had lost it now.
func (s *Session) expired(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached {
		return false
	}
	if s.detached.IsZero() {
		if s.lasting {
			s.detached = now
			s.mark()
		}
		return false
	}
	return !s.lasting || s.expiry != Never && now.Sub(s.detached) >= time.Duration(s.expiry)*time.Second
}
