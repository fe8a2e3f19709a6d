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
	n.site.view.Wait(view.Patience{WriterGone: 2 * time.Second, WriterLives: 4 * time.Second, PerRank: time.Second})
	n.site.holdFor = 3 * time.Second
}
