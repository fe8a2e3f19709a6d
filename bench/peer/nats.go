package peer

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/tributary-edge/tributary/bench/load"
)

// sync_interval "always" is what makes its file store durable before it
// acknowledges; the default is every two minutes.
const natsConf = `
server_name: bench
listen: 127.0.0.1:-1
jetstream {
  store_dir: "DIR/store"
  SYNC
}
mqtt { listen: "127.0.0.1:PORT" }
`

// NATS builds and starts nats-server (the tool that go.mod pins) as an MQTT
// broker over JetStream's file store, every write synced. A subscription is
// left behind, because it keeps only messages that somebody waits for.
func NATS(ctx context.Context, parent string) (*Server, error) {
	return nats(ctx, parent, Server{Name: "nats-always", Durable: true}, "sync_interval: always")
}

// NATSDefault is NATS as it is when nobody sets anything: it syncs every two
// minutes.
func NATSDefault(ctx context.Context, parent string) (*Server, error) {
	return nats(ctx, parent, Server{Name: "nats"}, "")
}

func nats(ctx context.Context, parent string, settings Server, sync string) (*Server, error) {
	program := filepath.Join(parent, "nats-server")
	if err := build(ctx, program, ".", "github.com/nats-io/nats-server/v2"); err != nil {
		return nil, err
	}
	dir, addr, conf, err := prepare(parent, settings.Name, strings.Replace(natsConf, "SYNC", sync, 1))
	if err != nil {
		return nil, err
	}
	settings.Plain.Addr = addr
	s, err := start(ctx, settings, dir, program, "-c", conf)
	if err != nil {
		return nil, err
	}
	if err := load.KeepSubscription(ctx, s.Plain, "bench/#"); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}
