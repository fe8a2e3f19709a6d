package peer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build compiles a command, in the module that holds the directory module.
func build(ctx context.Context, program, module, command string, env ...string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, command)
	cmd.Dir, cmd.Env = module, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", command, err, out)
	}
	return nil
}

// BuildTributary compiles the command as it is shipped: static and stripped.
// env may name another GOARCH.
func BuildTributary(ctx context.Context, program string, env ...string) error {
	return build(ctx, program, "..", "./cmd/tributary", append([]string{"CGO_ENABLED=0"}, env...)...)
}

// A Node says how to start a Tributary.
type Node struct {
	Program string // made by BuildTributary
	Dir     string // its data stays here from start to start
	Topic   string // where all messages go
	Brokers string // host:port of a Kafka; one that nobody listens on is "away"
}

const nodeConf = `
[node]
name     = "bench"
data_dir = "DIR/data"

[mqtt]
listen = ["127.0.0.1:PORT"]

[log]
max_size = "8GiB"

[kafka]
brokers = ["BROKERS"]

[default_route]
topic = "TOPIC"
`

// Tributary starts a node.
func Tributary(ctx context.Context, n Node) (*Server, error) {
	conf := strings.NewReplacer("BROKERS", n.Brokers, "TOPIC", n.Topic).Replace(nodeConf)
	dir, addr, file, err := prepare(n.Dir, "tributary", conf)
	if err != nil {
		return nil, err
	}
	return start(ctx, Server{Name: "tributary", Addr: addr, Durable: true}, dir, filepath.Clean(n.Program), "run", "-c", file)
}
