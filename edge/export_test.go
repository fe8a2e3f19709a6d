package edge

import "github.com/tributary-edge/tributary/edge/mdns"

// OpenWithClock is Open on a machine whose clock says what the test wants.
var OpenWithClock = open //nolint:gochecknoglobals // for tests alone

// ReserveFor is how much of a log is for alarms alone.
var ReserveFor = reserveFor //nolint:gochecknoglobals // for tests alone

// Services is what a node announces on the local network.
func (n *Node) Services() []mdns.Service { return n.services() }
