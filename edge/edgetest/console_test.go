//go:build kafka

package edgetest

import (
	"maps"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRoutesToConsole publishes with mosquitto_pub and reads with Kafka's own
// console consumer, as a person would on the first day.
func TestRoutesToConsole(t *testing.T) {
	dir := artifacts(t)
	k := newKafka(t, dir)
	n := newNode(t, dir, "node", build(t, dir, "cmd/tributary", ""), brokerAddr, `
[[route]]
match = "plant/{line}/{device}/tele/#"
topic = "telemetry.{line}"
key = "{device}"

[default_route]
topic = "rest"
`)
	n.start(t)
	n.awaitReady(t)

	for _, args := range [][]string{
		{"-i", "press-7", "-q", "1", "-t", "plant/north/press7/tele/oil", "-m", "21.5"},
		{"-i", "press-7", "-q", "2", "-t", "plant/north/press7/tele/oil/max", "-m", "22.5"},
		{"-i", "press-7", "-q", "0", "-t", "plant/north/press7/tele", "-m", "on"},
		{"-i", "gate-1", "-q", "1", "-r", "-t", "plant/gate", "-m", "open"},
		{
			"-V", "mqttv5", "-i", "meter-3", "-q", "2", "-t", "plant/south/meter3/tele/kwh", "-m", `{"kwh":7}`,
			"-D", "publish", "content-type", "application/json",
			"-D", "publish", "user-property", "unit", "kWh", "-D", "publish", "user-property", "batch", "42",
		},
	} {
		host, port, _ := strings.Cut(brokerAddr, ":")
		if out, err := exec.Command("mosquitto_pub", append([]string{"-h", host, "-p", port}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub %q: %v\n%s", args, err, out)
		}
	}

	press := map[string]string{"mqtt.client_id": "press-7"}
	north := []consumed{
		{key: "press7", value: "21.5", headers: with(press, "mqtt.topic", "plant/north/press7/tele/oil", "mqtt.qos", "1")},
		{key: "press7", value: "22.5", headers: with(press, "mqtt.topic", "plant/north/press7/tele/oil/max", "mqtt.qos", "2")},
		{key: "press7", value: "on", headers: with(press, "mqtt.topic", "plant/north/press7/tele", "mqtt.qos", "0")},
	}
	expect(t, k, "telemetry.north", north)
	expect(t, k, "telemetry.south", []consumed{{key: "meter3", value: `{"kwh":7}`, headers: map[string]string{
		"mqtt.topic": "plant/south/meter3/tele/kwh", "mqtt.qos": "2", "mqtt.client_id": "meter-3",
		"content-type": "application/json", "unit": "kWh", "batch": "42",
	}}})
	expect(t, k, "rest", []consumed{{key: "gate-1", value: "open", headers: map[string]string{
		"mqtt.topic": "plant/gate", "mqtt.qos": "1", "mqtt.client_id": "gate-1", "mqtt.retain": "1",
	}}})
	n.stop(t, 20*time.Second)
}

// consumed is a record as the console consumer shows it.
type consumed struct {
	key, value string
	headers    map[string]string
}

// with returns a copy of headers and more names and values.
func with(headers map[string]string, more ...string) map[string]string {
	all := maps.Clone(headers)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// expect reads a topic with the console consumer until it has shown as many
// records as are wanted, and compares. The uplink's own two headers need only
// be there.
func expect(t *testing.T, k *kafka, topic string, want []consumed) {
	t.Helper()
	var out []byte
	await(t, time.Minute, "records in "+topic, func() bool { // it gives up early while the topic is missing
		out, _ = k.command("consume", topic, "--max-messages", strconv.Itoa(len(want)), "--timeout-ms", "5000").Output()
		return strings.Count(string(out), "\n") >= len(want)
	})
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Split(line, "\t")
		if len(fields) != 5 {
			t.Fatalf("%s: not partition, offset, headers, key and value: %q", topic, line)
		}
		headers := map[string]string{}
		for header := range strings.SplitSeq(fields[2], ",") {
			name, value, _ := strings.Cut(header, ":")
			headers[name] = value
		}
		for _, own := range []string{"tributary.ledger", "tributary.lsn"} {
			if headers[own] == "" {
				t.Errorf("%s: record %d has no header %s: %s", topic, i, own, line)
			}
			delete(headers, own)
		}
		if fields[3] != want[i].key || fields[4] != want[i].value || !maps.Equal(headers, want[i].headers) {
			t.Errorf("%s: record %d:\n got key %q, value %q, headers %v\nwant key %q, value %q, headers %v", topic, i,
				fields[3], fields[4], headers, want[i].key, want[i].value, want[i].headers)
		}
	}
}
