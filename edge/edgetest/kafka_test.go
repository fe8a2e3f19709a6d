//go:build kafka || lab

package edgetest

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func kafkaScript() string {
	return filepath.Join(repository(), "deploy/kafka-dev/kafka.sh")
}

// A kafka is the real Apache Kafka, one broker, in the centre.
type kafka struct {
	dir string
	env []string
	*process
}

// newKafka starts a Kafka without data and returns when it answers.
func newKafka(t *testing.T, dir string) *kafka {
	t.Helper()
	k := &kafka{dir: dir, env: []string{
		"KAFKA_HOST=" + centreIP, "KAFKA_PORT=" + kafkaPort, "KAFKA_DIR=" + filepath.Join(dir, "kafka"),
	}}
	k.start(t)
	k.awaitAnswer(t)
	return k
}

// start starts it with the data it has; it does not wait until it answers.
func (k *kafka) start(t *testing.T) {
	t.Helper()
	k.process = startProcess(t, k.dir, "kafka", k.env, inCentre(kafkaScript(), "run")...)
}

// awaitAnswer waits until clients can connect.
func (k *kafka) awaitAnswer(t *testing.T) {
	t.Helper()
	await(t, time.Minute, "an answer of Kafka", func() bool {
		if !k.running() {
			t.Fatalf("Kafka ended by itself: %v\n%s", k.err, k.tail())
		}
		return k.command("status").Run() == nil
	})
}

// command is kafka.sh with arguments, at home in the centre: it works while
// the site is cut off.
func (k *kafka) command(args ...string) *exec.Cmd {
	words := inCentre(append([]string{kafkaScript()}, args...)...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(cmd.Environ(), k.env...)
	return cmd
}
