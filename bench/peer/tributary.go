package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build compiles a command, in the module that holds the directory module, unless
// the program is there.
func build(ctx context.Context, program, module, command string, env ...string) error {
	if _, err := os.Stat(program); err == nil {
		return nil
	}
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
	Name    string // of the Server; "" means tributary
	Program string // made by BuildTributary
	Dir     string // its data stays here from start to start
	Topic   string // where all messages go
	Brokers string // host:port of a Kafka; one that nobody listens on is "away"

	// Compression is that of the log, "none" or "zstd"; "" is the default.
	Compression string
	// Pressed is a node for many clients, with a log of 1 GiB whose oldest records
	// are dropped, so that it takes messages for as long as one likes. It starts with
	// nothing, and with all segments of its log on the disk.
	Pressed bool
	// Certificate, if not nil, is for a listener with TLS. A program that does not
	// know of such is started without.
	Certificate *Certificate
}

const nodeConf = `
[node]
name     = "bench"
data_dir = "DIR/data"

[mqtt]
listen = ["127.0.0.1:PORT"]
MQTT

[log]
LOG

[kafka]
brokers = ["BROKERS"]

[default_route]
topic = "TOPIC"
`

// Tributary starts a node.
func Tributary(ctx context.Context, n Node) (*Server, error) {
	s := Server{Name: cmp.Or(n.Name, "tributary"), Durable: true}
	if n.Certificate != nil {
		var err error
		if s.Secure, err = n.Certificate.broker(); err != nil {
			return nil, err
		}
	}
	dir, addr, file, err := prepare(n.Dir, s.Name, n.conf(s.Secure.Addr))
	if err != nil {
		return nil, err
	}
	s.Plain.Addr = addr
	if n.Pressed {
		data := filepath.Join(dir, "data")
		if err := errors.Join(forgetBut(data, segments), emptyRing(filepath.Join(data, segments))); err != nil {
			return nil, err
		}
	}
	return start(ctx, s, dir, filepath.Clean(n.Program), "run", "-c", file)
}

func (n *Node) conf(secureAddr string) string {
	log, mqtt := `max_size = "8GiB"`, ""
	if n.Pressed {
		mqtt = "max_clients = 20000"
		log = "max_size = \"1GiB\"\non_full = \"drop-oldest\""
	}
	if n.Certificate != nil {
		mqtt += fmt.Sprintf("\nlisten_tls = [%q]\ntls_cert_file = %q\ntls_key_file = %q", secureAddr, n.Certificate.CertFile, n.Certificate.KeyFile)
	}
	if n.Compression != "" {
		log += fmt.Sprintf("\ncompression = %q", n.Compression)
	}
	return strings.NewReplacer("BROKERS", n.Brokers, "TOPIC", n.Topic, "LOG", log, "MQTT", mqtt).Replace(nodeConf)
}
