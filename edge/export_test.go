package edge

import (
	"context"
	"log/slog"
	"time"

	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/mdns"
	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/sync/view"
)

// OpenWithClock is Open on a machine whose clock says what the test wants.
func OpenWithClock(ctx context.Context, cfg *config.Config, logger *slog.Logger, source clock.Source) (*Node, error) {
	return OpenOn(ctx, cfg, logger, Machine{Clock: source})
}

// ReserveFor is how much of a log is for alarms alone.
var ReserveFor = reserveFor //nolint:gochecknoglobals // for tests alone

// Services is what a node announces on the local network.
func (n *Node) Services() []mdns.Service { return n.services() }

// Hurry makes a node take over soon what others do not forward.
func (n *Node) Hurry() {
	n.site.alike.heirs.after = 2 * time.Second
	n.site.view.Wait(view.Patience{WriterGone: 2 * time.Second, WriterLives: 4 * time.Second, PerRank: time.Second})
	n.site.holdFor = 3 * time.Second
}

// Hush makes a node dial the others no more, as if they were gone: they hear nothing of it.
// Call what it returns, and it does again.
func (n *Node) Hush() (speak func()) {
	s := n.site
	set := func(m Members) (was Members) {
		s.mu.Lock()
		defer s.mu.Unlock()
		was, s.members = s.members, m
		return was
	}
	was := set(nil)
	return func() { set(was) }
}

// Follows says whether a node has heard of another one, so that its subscribers get what that
// one takes from then on.
func (n *Node) Follows() bool {
	f := n.site.fan
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.writers) > 0
}
