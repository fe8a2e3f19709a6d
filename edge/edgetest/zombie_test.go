//go:build kafka

package edgetest

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// initProducerID is the nftables match of a Kafka request with API key 22, the
// fence: the key follows the TCP header (32 bytes: Linux sends timestamps) and
// the length of the request.
const initProducerID = "ip saddr " + siteIP + " tcp dport " + kafkaPort + " @th,288,16 22"

// TestZombie attacks U1 and U3: a forwarder that was thought dead commits while
// its successor takes over, at the worst moment.
func TestZombie(t *testing.T) {
	r := takeOver(t, "")
	if r.Lost+r.Twice+r.OutOfOrder != 0 {
		t.Errorf("the successor lost or repeated records:\n%s", r.text)
	}
}

// takeOver lets a node commit while another one, that has a copy of its disk,
// takes its ledger over: after the successor would have read the position, were
// it to do so before the fence, and before the fence reaches Kafka. It returns
// what the devices of the first node find in Kafka in the end.
func takeOver(t *testing.T, tags string) report {
	t.Helper()
	dir := artifacts(t)
	newKafka(t, dir)
	tributary, sim := build(t, dir, "cmd/tributary", tags), build(t, dir, "firmware-sim", "")
	const early, late = 10, 100 // messages of each device
	const devices = 10
	const linger = 5 * time.Second // time enough to stop the zombie before it sends

	zombie := newNode(t, dir, "zombie", tributary, brokerAddr, fmt.Sprintf("linger = %q", linger.String()))
	zombie.start(t)
	zombie.awaitReady(t)
	first := newFleet(dir, "first", sim)
	publish := func(f *fleet, at string, messages int) {
		f.start(t, at, "--devices", fmt.Sprint(devices), "--count", fmt.Sprint(messages), "--rate", "0")
		f.finish(t, time.Minute)
	}
	inKafka := func(f *fleet, n int) {
		t.Helper()
		if r := f.verify(t, time.Minute); r.InKafka != n {
			t.Fatalf("%d messages of fleet %q are in Kafka, not %d:\n%s", r.InKafka, f.name, n, r.text)
		}
	}
	publish(first, brokerAddr, early)
	inKafka(first, devices*early) // so the zombie has its producer id

	// It stops with acknowledged records that it has not sent: it lingers.
	publish(first, brokerAddr, late)
	if err := zombie.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if n := first.verify(t, 0).InKafka; n != devices*early {
		t.Fatalf("%d messages are in Kafka, not %d: the zombie was not stopped in time, so this run shows nothing", n, devices*early)
	}
	pass(linger) // so that it commits as soon as it is awake

	drop(t, "fence", "", initProducerID)
	successor := newNode(t, dir, "successor", tributary, "127.0.0.1:1884", "")
	if out, err := exec.Command("cp", "-a", zombie.data(), successor.data()).CombinedOutput(); err != nil {
		t.Fatalf("copy the disk: %v\n%s", err, out)
	}
	successor.start(t)
	await(t, 30*time.Second, "the successor's InitProducerID", func() bool { return dropped(t, "fence") })
	if err := zombie.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	inKafka(first, devices*(early+late))
	lift(t, "fence")

	// Earlier ledgers go first, so what is published at the successor now comes
	// after everything it has to say about the zombie's ledger.
	second := newFleet(dir, "second", sim)
	publish(second, successor.mqtt, 1)
	inKafka(second, devices)
	return first.verify(t, 0)
}
