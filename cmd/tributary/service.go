package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/sdnotify"
)

// inBackground calls f with a context that the function it returns ends; that waits
// for f.
func inBackground(ctx context.Context, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { f(ctx) })
	return func() {
		cancel()
		done.Wait()
	}
}

// supervise tells systemd when the node serves and when, with stopping, it is to end,
// and feeds the watchdog until ctx ends: also while the node stops.
func supervise(ctx, stopping context.Context, node *edge.Node, cfg *config.Config, systemd *sdnotify.Service) {
	select {
	case <-node.Ready():
	case <-ctx.Done():
		return
	}
	systemd.Ready(serving(node, cfg))
	defer context.AfterFunc(stopping, systemd.Stopping)()
	systemd.Watch(ctx, node.Alive, func() string {
		r := node.Report()
		said := fmt.Sprintf("%s: %d devices, %d records wait for Kafka", r.Colour, r.MQTT.Connections, r.Uplink.Waiting)
		if len(r.Reasons) > 0 {
			said += "; " + r.Reasons[0]
		}
		return said
	})
}

// serving says in one line what the node does.
func serving(node *edge.Node, cfg *config.Config) string {
	return fmt.Sprintf("devices connect to %s, records go to Kafka at %s",
		strings.Join(node.Report().MQTT.Listen, ", "), strings.Join(cfg.Kafka.Brokers, ", "))
}
