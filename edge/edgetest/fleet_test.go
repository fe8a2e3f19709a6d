//go:build kafka

package edgetest

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A fleet is a number of simulated devices and the file of what they know.
type fleet struct {
	binary string
	dir    string
	name   string // also the beginning of the device ids
	*process
}

func newFleet(dir, name, binary string) *fleet {
	return &fleet{dir: dir, name: name, binary: binary}
}

func (f *fleet) ledger() string { return filepath.Join(f.dir, f.name+".ledger") }

// start lets the fleet publish, with the options of firmware-sim, or go on
// where it stopped.
func (f *fleet) start(t *testing.T, broker string, options ...string) {
	t.Helper()
	args := []string{f.binary, "run", "--json", "--broker", broker, "--prefix", f.name + "-", "--ledger", f.ledger()}
	f.process = startProcess(t, f.dir, f.name, nil, append(args, options...)...)
}

// A summary is what the fleet says at its end of what it did.
type summary struct {
	Outstanding, Cuts, Reboots, Duplicates int
	HalfOpen                               int `json:"half_open"`

	text []byte
}

// finish waits until every device has sent all and got every acknowledgement.
func (f *fleet) finish(t *testing.T, limit time.Duration) summary {
	t.Helper()
	f.wait(t, limit)
	lines := bytes.Split(bytes.TrimSpace(f.tail()), []byte("\n"))
	s := summary{text: lines[len(lines)-1]}
	if err := json.Unmarshal(s.text, &s); f.err != nil || err != nil || s.Outstanding > 0 {
		t.Fatalf("the fleet did not finish: %v, %v\n%s", f.err, err, f.tail())
	}
	return s
}

// A report is what `firmware-sim verify --json` found in Kafka.
type report struct {
	figures
	OutOfOrder int        `json:"out_of_order"`
	Unknown    int        `json:"unknown"`
	QoS        [3]figures `json:"by_qos"`

	text []byte // as it was written
}

type figures struct {
	Sent    int `json:"sent"`
	Acked   int `json:"acked"`
	InKafka int `json:"in_kafka"`
	Lost    int `json:"lost"`
	Twice   int `json:"twice"`
	Resent  int `json:"resent"`
}

// verify compares what the devices know with what a read_committed reader of
// Kafka sees, after it has waited for what is acknowledged and not yet there.
func (f *fleet) verify(t *testing.T, wait time.Duration) report {
	t.Helper()
	cmd := exec.Command(f.binary, "verify", "--json", "--ledger", f.ledger(), "--kafka", kafkaAddr,
		"--topics", "mqtt", "--wait", wait.String())
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	r := report{text: out}
	if wrong := json.Unmarshal(out, &r); wrong != nil {
		t.Fatalf("firmware-sim verify: %v, %v\n%s%s", err, wrong, out, complaints.Bytes())
	}
	if bad := r.Lost+r.Twice+r.OutOfOrder > 0; bad != (err != nil) {
		t.Fatalf("firmware-sim verify: %v, and it reports\n%s", err, out)
	}
	return r
}
