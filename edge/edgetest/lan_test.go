//go:build lab

package edgetest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// The gateways of the lab are on one network of the site, each in a network
// namespace of its own, with a cable to a switch. The devices are at the switch,
// which also is the router on the way to Kafka.
const (
	lan   = "10.78.0.0/24"
	lanIP = "10.78.0.254"

	mostGateways = 5 // the last place is for a clone
)

// placeOf names the namespace of gateway n, from 1, and its cable.
func placeOf(n int) string { return fmt.Sprintf("g%d", n) }

func ipOf(n int) string { return fmt.Sprintf("10.78.0.%d", n) }

// doorOf is where gateway n listens for devices.
func doorOf(n int) string { return ipOf(n) + ":1883" }

// layLAN makes switch, cables and namespaces, once for all tests.
//
//nolint:gochecknoglobals // the network is one as well
var layLAN = sync.OnceValue(func() error {
	lines := []string{
		"ip link add switch type bridge",
		"ip addr add " + lanIP + "/24 dev switch",
		"ip link set switch up",
		"ip -n " + centre + " route add " + lan + " via " + siteIP,
	}
	for n := 1; n <= mostGateways; n++ {
		place := placeOf(n)
		lines = append(lines,
			"ip netns add "+place,
			"ip link add "+place+" type veth peer name lan netns "+place,
			"ip link set "+place+" master switch up",
			"ip -n "+place+" link set lo up",
			"ip -n "+place+" addr add "+ipOf(n)+"/24 dev lan",
			"ip -n "+place+" link set lan up",
			"ip -n "+place+" route add default via "+lanIP,
		)
	}
	for _, line := range lines {
		if err := run(line, ""); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600)
})

// mute lets nothing of one gateway arrive at another: a cable that works in one
// direction alone.
func mute(t *testing.T, from, to int) {
	t.Helper()
	block(t, placeOf(to), "from_"+placeOf(from), "input", "ip saddr "+ipOf(from))
}

func unmute(t *testing.T, from, to int) {
	t.Helper()
	unblock(t, placeOf(to), "from_"+placeOf(from))
}

// swallow makes the way between a gateway and Kafka a black hole.
func swallow(t *testing.T, n int) {
	t.Helper()
	block(t, "", "uplink_"+placeOf(n), "forward",
		"ip saddr "+ipOf(n)+" ip daddr "+centreIP, "ip saddr "+centreIP+" ip daddr "+ipOf(n))
}

func release(t *testing.T, n int) {
	t.Helper()
	unblock(t, "", "uplink_"+placeOf(n))
}

// unplug takes the cable of a gateway out of the switch.
func unplug(t *testing.T, n int) {
	t.Helper()
	if err := run("ip link set "+placeOf(n)+" down", ""); err != nil {
		t.Fatal(err)
	}
}

func plugIn(t *testing.T, n int) {
	t.Helper()
	if err := run("ip link set "+placeOf(n)+" up", ""); err != nil {
		t.Fatal(err)
	}
}

// mend ends all that the lab does to its network.
func mend(t *testing.T) {
	t.Helper()
	for n := 1; n <= mostGateways; n++ {
		plugIn(t, n)
		release(t, n)
		for other := 1; other <= mostGateways; other++ {
			unmute(t, other, n)
		}
	}
}
