package edge

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest"
	"github.com/tributary-edge/tributary/sync/peer"
)

// An alike sees to it that all gateways know the same retained messages (R52). What
// clients here retain and clear is told to those that are connected. Each second a
// gateway tells the others a hash of all that it knows; who has another one asks for
// what differs. So one that was away, or is new, or has missed something, finds out.
type alike struct {
	door   *ingest.Door
	logger *slog.Logger
	wake   chan struct{} // one slot: there is something to tell
	heirs  heirs

	mu     sync.Mutex // guards what follows
	say    func(to tributary.NodeID, m peer.Message) bool
	peers  func() []tributary.NodeID
	out    [][]byte // to be told
	behind map[tributary.NodeID]*comparison
}

// A comparison is when another gateway was last asked for what differs.
type comparison struct {
	at   time.Time
	wait time.Duration // before it is asked again
}

const (
	mostTold      = 4096 // items that wait to be told; what is beyond that is found out
	tellBytes     = 256 << 10
	differBytes   = 1 << 20
	compareEvery  = 2 * time.Second
	compareSeldom = time.Minute // at most, while nothing comes of it: there may be no room
)

func newAlike(logger *slog.Logger) *alike {
	return &alike{logger: logger, wake: make(chan struct{}, 1), behind: map[tributary.NodeID]*comparison{}}
}

// share is the door's Share.
func (a *alike) share(item []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.out) >= mostTold {
		return
	}
	a.out = append(a.out, item)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run tells the others, until ctx ends.
func (a *alike) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-a.wake:
			a.mu.Lock()
			out := a.out
			a.out = nil
			a.mu.Unlock()
			for len(out) > 0 {
				n, size := 0, 0
				for n < len(out) && (n == 0 || size+len(out[n]) <= tellBytes) {
					size += len(out[n])
					n++
				}
				a.tell(&peer.Shared{Items: out[:n:n]})
				out = out[n:]
			}
		case <-tick.C:
			sum, _ := a.door.Hashes()
			a.tell(&peer.Hashes{Sum: sum})
			a.heirs.look(a.door, time.Now())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tell says m to all who are connected.
func (a *alike) tell(m peer.Message) {
	for _, to := range a.peers() {
		a.say(to, m)
	}
}

// heard takes what a peer says, and returns what it is told.
func (a *alike) heard(from tributary.NodeID, m peer.Message) peer.Message {
	switch m := m.(type) {
	case *peer.Hashes:
		if len(m.All) > 0 {
			items, more := a.door.Differing(m.All, differBytes)
			return &peer.Shared{Items: items, More: more}
		}
		a.compare(from, m.Sum)
	case *peer.Shared:
		a.take(from, m, func(int) {})
	}
	return nil
}

// compare asks a peer for what differs, if something does.
func (a *alike) compare(with tributary.NodeID, theirs uint64) {
	sum, all := a.door.Hashes()
	if sum == theirs {
		return
	}
	a.mu.Lock()
	c := a.behind[with]
	if c == nil {
		c = &comparison{wait: compareEvery}
		a.behind[with] = c
	}
	now := time.Now()
	due := now.Sub(c.at) >= c.wait
	if due {
		c.at = now
	}
	a.mu.Unlock()
	if due {
		a.say(with, &peer.Hashes{Sum: sum, All: all})
	}
}

// answered takes what a peer has answered to compare.
func (a *alike) answered(from tributary.NodeID, m *peer.Shared) {
	more := m.More
	a.take(from, m, func(news int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		c := a.behind[from]
		switch {
		case c == nil:
		case news == 0:
			c.wait = min(2*c.wait, compareSeldom)
		case more:
			c.wait, c.at = compareEvery, time.Time{}
		default:
			c.wait = compareEvery
		}
	})
}

func (a *alike) take(from tributary.NodeID, m *peer.Shared, done func(news int)) {
	if err := a.door.TakeShared(m.Items, done); err != nil {
		a.logger.Warn("could not take up what another gateway knows", "from", from.String(), "error", err)
	}
}

// connect says how the others are reached. It is called before run.
func (a *alike) connect(say func(to tributary.NodeID, m peer.Message) bool, peers func() []tributary.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.say, a.peers = say, peers
}

// share returns the door's Share.
func (s *site) share() func(item []byte) {
	if s == nil {
		return nil
	}
	return s.alike.share
}

// shared is the Keeper's Shared.
func (s *site) shared(from *peer.Hello, m peer.Message) peer.Message {
	return s.alike.heard(from.Node, m)
}

// sharers returns the others that are probably there.
func (s *site) sharers() (all []tributary.NodeID) {
	for _, n := range s.nodes() {
		all = append(all, n.ID)
	}
	return slices.Clip(all)
}
