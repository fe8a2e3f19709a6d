package session

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary"
)

// ErrTooMany says that the node has as many sessions as it may. Nothing was
// changed; the client is told 0x97, quota exceeded, and may come again later.
var ErrTooMany = errors.New("the node remembers as many clients as max_sessions allows; " +
	"those that it knows can connect, others when a session has expired")

// Options are the limits. Zero means the default.
type Options struct {
	MaxSessions      int // 40,000
	MaxQueued        int // messages per session, those in flight included: 10,000; fewer when there are many sessions
	MaxSubscriptions int // per session: 1,000
}

func (o Options) withDefaults() Options {
	if o.MaxSessions == 0 {
		o.MaxSessions = 40_000
	}
	if o.MaxQueued == 0 {
		o.MaxQueued = 10_000
	}
	if o.MaxSubscriptions == 0 {
		o.MaxSubscriptions = 1_000
	}
	return o
}

// A Store holds the sessions of a node, by client id. Its methods may be called
// at once, and at once with those of its sessions.
type Store struct {
	opt Options
	seq atomic.Uint64 // of the last event or session
	len atomic.Int64  // of sessions

	mu       sync.Mutex // guards sessions; a session's lock may be taken under it, not the other way round
	sessions map[string]*Session

	changedMu sync.Mutex // guards changed; nothing is locked under it
	changed   map[string]struct{}

	ledgersMu sync.Mutex // guards what follows; nothing is locked under it
	ledgers   map[tributary.LedgerID]*ledger
	newest    uint64 // rank of the newest ledger
	passed    reach  // every message up to it has been offered
}

// NewStore returns an empty store.
func NewStore(opt Options) *Store {
	return &Store{
		opt:      opt.withDefaults(),
		sessions: map[string]*Session{},
		changed:  map[string]struct{}{},
		ledgers:  map[tributary.LedgerID]*ledger{},
	}
}

// Open gives a client its session. It is the one it had (present), unless clean
// or that one belongs to another user: then the old one ends, since nobody takes
// over what another identity is owed. dropped is the session that ended by this,
// or nil; the caller takes its subscriptions out of the tree and appends its
// EndedEvent to the log, before the OpenedEvent of the new one. A new session
// does not outlive its connection until SetExpiry says so.
//
// Until Attach, or Detach if it does not come to that, the session does not
// expire. The only error is ErrTooMany.
func (st *Store) Open(client, user string, clean bool) (s *Session, present bool, dropped *Session, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	old := st.sessions[client]
	if old != nil && !clean && old.User == user {
		old.mu.Lock()
		defer old.mu.Unlock()
		old.detached = time.Time{}
		old.mark()
		return old, true, nil, nil
	}
	if old == nil && len(st.sessions) >= st.opt.MaxSessions {
		return nil, false, nil, ErrTooMany
	}
	if old != nil {
		old.end()
	}
	return st.add(client, user, st.seq.Add(1)), false, old, nil
}

// add puts a new session in the place of whatever the client had.
func (st *Store) add(client, user string, born uint64) *Session {
	s := &Session{Client: client, User: user, born: born, seq: born, store: st, next: 1}
	st.sessions[client] = s
	st.len.Store(int64(len(st.sessions)))
	return s
}

// All sessions together queue so many messages at most, of some 32 bytes each; but
// each may have MinQueued, or Options.MaxQueued if that is less.
const (
	maxQueuedByAll = 1_000_000
	MinQueued      = 100
)

// maxQueued returns how many messages a session may queue now.
func (st *Store) maxQueued() int {
	share := maxQueuedByAll / max(1, int(st.len.Load()))
	return min(st.opt.MaxQueued, max(MinQueued, share))
}

// Get returns the session of a client, or nil.
func (st *Store) Get(client string) *Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sessions[client]
}

// Drop ends the session of a client and returns it, or nil if there is none. The
// caller does with it as with what Open has dropped.
func (st *Store) Drop(client string) *Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.drop(client)
}

func (st *Store) drop(client string) *Session {
	s := st.sessions[client]
	if s != nil {
		delete(st.sessions, client)
		st.len.Store(int64(len(st.sessions)))
		s.end()
	}
	return s
}

// Len returns the number of sessions.
func (st *Store) Len() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.sessions)
}

// Expired ends the sessions without a connection whose expiry has passed at now,
// and returns them. The caller does with them as with what Open has dropped. now
// is of the clock that Detach was told the time of. A caller whose clock may be
// wrong by years does not call it: a session that ended too early is a loss, one
// that ends too late is not.
func (st *Store) Expired(now time.Time) []*Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	var over []*Session
	for _, s := range st.sessions {
		if s.expired(now) {
			over = append(over, s)
		}
	}
	for _, s := range over {
		st.drop(s.Client)
	}
	return over
}

// Severed ends the sessions that do not outlive their connection, and returns them:
// that connection was an earlier process's. Nothing but a will that was still to be
// sent had such a session remembered. It is called after the replay, and before
// Open. The caller does with them as with what Open has dropped.
func (st *Store) Severed() []*Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	var over []*Session
	for _, s := range st.sessions {
		s.mu.Lock()
		if s.expiry == 0 {
			over = append(over, s)
		}
		s.mu.Unlock()
	}
	for _, s := range over {
		st.drop(s.Client)
	}
	return over
}

// Each calls f for every session that there was when it was called. f may call
// any method of the store and of the session.
func (st *Store) Each(f func(*Session)) {
	st.mu.Lock()
	all := slices.Collect(maps.Values(st.sessions))
	st.mu.Unlock()
	for _, s := range all {
		f(s)
	}
}

// mark notes that the checkpoint has to be told of a client.
func (st *Store) mark(client string) {
	st.changedMu.Lock()
	defer st.changedMu.Unlock()
	st.changed[client] = struct{}{}
}
