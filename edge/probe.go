package edge

import (
	"context"

	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/sync/uplink"
)

// ProbeKafka tries what a node with configuration c does with Kafka, for each topic
// that its routes name without a variable: see uplink.Probe. It may be called while
// the node runs. An error says that a file of [kafka] cannot be read.
func ProbeKafka(ctx context.Context, c *config.Config) ([]uplink.Probed, error) {
	cfg, err := uplinkConfig(c)
	if err != nil {
		return nil, err
	}
	return uplink.Probe(ctx, cfg, c.Table.Topics()), nil
}
