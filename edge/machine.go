package edge

import (
	"context"
	"net"

	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/sync/member"
	"github.com/tributary-edge/tributary/sync/uplink"
)

// A Machine is what a node uses of the computer that it runs on. The zero value is
// this computer; a test has others, with disks and a network of its own.
type Machine struct {
	Clock  clock.Source                       // Wall is nil: the system's clocks
	Folder func(path string) (disk.FS, error) // opens a folder, or makes it; nil: disk.Dir
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	// Kafka changes how Kafka is reached; nil: what the configuration says.
	Kafka func(*uplink.Config)
	// Members returns the list of the other nodes; nil: that of gossip.
	Members func(member.Config) (Members, error)
}

// Members is the list of the other nodes of the site; see sync/member.Members.
type Members interface {
	Run(ctx context.Context) error
	List() []member.Member
}

// withDefaults fills in what m leaves out.
func (m Machine) withDefaults() Machine {
	if m.Clock.Wall == nil {
		m.Clock = clock.System()
	}
	if m.Folder == nil {
		m.Folder = disk.Dir
	}
	if m.Listen == nil {
		m.Listen = (&net.ListenConfig{}).Listen
	}
	if m.Dial == nil {
		m.Dial = (&net.Dialer{}).DialContext
	}
	if m.Kafka == nil {
		m.Kafka = func(*uplink.Config) {}
	}
	if m.Members == nil {
		m.Members = func(c member.Config) (Members, error) { return member.New(c) }
	}
	return m
}
