package peer

import (
	"context"
	"os"
	"path/filepath"

	"github.com/tributary-edge/tributary/bench/load"
)

// Limit builds and starts the least that a durable MQTT server can be, over
// the same log as Tributary, with the same compression ("none" or "zstd").
func Limit(ctx context.Context, parent, compression string) (*Server, error) {
	log := filepath.Join(parent, "limit", segments)
	if err := emptyRing(log); err != nil {
		return nil, err
	}
	return built(ctx, parent, Server{Name: "limit", Durable: true}, "./limit", log, compression)
}

// Mochi builds and starts the library mochi with nothing added.
func Mochi(ctx context.Context, parent string) (*Server, error) {
	return built(ctx, parent, Server{Name: "mochi"}, "./mochi")
}

// built starts a command of this module, which takes its address and args.
func built(ctx context.Context, parent string, s Server, command string, args ...string) (*Server, error) {
	dir := filepath.Join(parent, s.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	program := filepath.Join(parent, s.Name+"-program")
	if err := build(ctx, program, ".", command, "CGO_ENABLED=0"); err != nil {
		return nil, err
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	s.Plain = load.Broker{Addr: addr}
	return start(ctx, s, dir, program, append([]string{addr}, args...)...)
}
