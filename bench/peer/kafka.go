package peer

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// A Kafka is a real Apache Kafka with its data in a directory of its own.
type Kafka struct {
	Addr string
	env  []string
}

const kafkaScript = "../deploy/kafka-dev/kafka.sh"

// StartKafka starts one broker. It returns when the broker answers.
func StartKafka(ctx context.Context, parent string) (*Kafka, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	control, err := FreePort()
	if err != nil {
		return nil, err
	}
	k := &Kafka{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		env: append(os.Environ(), "KAFKA_HOST=127.0.0.1", fmt.Sprintf("KAFKA_PORT=%d", port),
			fmt.Sprintf("KAFKA_CTRL_PORT=%d", control), "KAFKA_DIR="+filepath.Join(parent, "kafka")),
	}
	return k, k.script(ctx, "up")
}

// Stop ends the broker. With a context that is done it does nothing.
func (k *Kafka) Stop(ctx context.Context) error { return k.script(ctx, "down") }

func (k *Kafka) script(ctx context.Context, verb string) error {
	cmd := exec.CommandContext(ctx, kafkaScript, verb)
	cmd.Env, cmd.Stdout, cmd.Stderr = k.env, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", kafkaScript, verb, err)
	}
	return nil
}
