//go:build kafka

package edgetest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestChaos attacks D1, D3, U1, U2 and A1 with everything at once: a fleet on
// bad radios publishes while the node and Kafka are killed with SIGKILL, again
// and again, and the uplink is a black hole now and then. In the end every
// acknowledged message is in Kafka, once if its QoS is 2, no more often than it
// was sent if it is 1, and each device's are in the order it sent them.
//
// Environment: DEVICES, MESSAGES (in all), KILLS (of the node), KAFKA_KILLS,
// CUTS, SEED.
func TestChaos(t *testing.T) {
	r := chaos(t, "", ordeal{
		devices: setting(t, "DEVICES", 200), messages: setting(t, "MESSAGES", 100_000),
		kills: setting(t, "KILLS", 20), kafkaKills: setting(t, "KAFKA_KILLS", 3), cuts: setting(t, "CUTS", 3),
	})
	if r.Lost != 0 {
		t.Errorf("%d acknowledged messages are not in Kafka", r.Lost)
	}
	if r.Twice != 0 {
		t.Errorf("%d records are in Kafka too often", r.Twice)
	}
	// What a device sends again in a new session may be there again; but the
	// only ones who begin new sessions here are devices that forgot what they
	// had sent. The node keeps its sessions, or it cheats.
	if r.QoS[2].Resent != 0 {
		t.Errorf("%d QoS 2 messages are in Kafka again because the node forgot sessions", r.QoS[2].Resent)
	}
	if r.OutOfOrder != 0 {
		t.Errorf("%d messages are out of order", r.OutOfOrder)
	}
	if r.Unknown != 0 {
		t.Errorf("%d records were never sent", r.Unknown)
	}
}

// An ordeal is what a node has to go through.
type ordeal struct {
	devices, messages, kills, kafkaKills, cuts int64
}

// chaos puts a node that was built with tags through an ordeal, waits until
// all is well again and reports what is in Kafka then. It prints the seed first
// and the figures at the end.
func chaos(t *testing.T, tags string, o ordeal) report {
	t.Helper()
	seed := setting(t, "SEED", rand.Int64N(1_000_000))
	t.Logf("%+v; to repeat: SEED=%d", o, seed)
	faults := newScript(rand.New(rand.NewPCG(uint64(seed), 0)), int(o.kills), int(o.kafkaKills), int(o.cuts))
	t.Logf("the script:%v", faults)

	dir := artifacts(t)
	k := newKafka(t, dir)
	n := newNode(t, dir, "node", build(t, dir, "cmd/tributary", tags), brokerAddr, `
linger = "50ms" # many transactions, so that most faults hit one
batch = "64KiB"
`)
	n.start(t)
	n.awaitReady(t)
	f := newFleet(dir, "radio", build(t, dir, "firmware-sim", ""))
	count := max(1, o.messages/o.devices)
	f.start(t, n.mqtt, "--devices", fmt.Sprint(o.devices), "--count", fmt.Sprint(count),
		// The messages last as long as the faults.
		"--rate", fmt.Sprintf("%.2f", float64(count)/(faults.length()+2*time.Second).Seconds()),
		"--qos", "0:1,1:3,2:3", "--versions", "3.1.1:1,5:1", "--payload", "json,sparkplug,cbor,random",
		"--cut", "0.003", "--half-open", "0.001", "--reboot", "0.002", "--reboot-lost", "0.001",
		"--duplicate", "0.03", "--clock-off", "72h", "--backoff", "1s", "--ack-timeout", "10s",
		"--drain", drain.String(), "--seed", fmt.Sprint(seed+1)) // 0 would be another one each time
	faults.play(t, k, n)
	began := time.Now()
	radio := f.finish(t, 2*drain)
	t.Logf("the devices were done %v after the last fault: %s", time.Since(began).Round(time.Second), radio.text)
	if radio.Cuts == 0 || radio.HalfOpen == 0 || radio.Reboots == 0 || radio.Duplicates == 0 {
		t.Errorf("the radios were too good to show anything: %s", radio.text)
	}

	r := f.verify(t, drain)
	t.Logf("%d kills of the node, %d of Kafka, %d black holes; to repeat: SEED=%d\n%s", faults.count(killNode, killSender, killReborn),
		faults.count(killKafka), faults.count(cutUplink), seed, r.text)
	if int64(r.Sent) < o.devices*count {
		t.Errorf("%d messages were sent, not %d", r.Sent, o.devices*count)
	}
	n.stop(t, 30*time.Second)
	if after := f.verify(t, 0); after.InKafka < r.InKafka || after.Twice != r.Twice {
		t.Errorf("something changed after all was settled:\n%s", after.text)
	}
	return r
}
