//go:build attack

package attack

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// publishers are connected devices that publish, each with one message in flight.
type publishers []*bystander

// standMany connects 100 publishers, each with 20 messages a second.
func standMany(t *testing.T, n *node, helloOf func(i int) hello) publishers {
	t.Helper()
	var all publishers
	for i := range 100 {
		all = append(all, stand(t, n, helloOf(i), 50*time.Millisecond))
	}
	return all
}

// leave ends them, and returns how long their acks took.
func (p publishers) leave(t *testing.T) (acks latencies) {
	t.Helper()
	for _, b := range p {
		close(b.end)
	}
	for _, b := range p {
		<-b.done
		_ = b.c.Close()
		if b.err != nil {
			t.Errorf("a connected device was not answered: %v", b.err)
		}
		acks = append(acks, b.acks...)
	}
	return acks
}

// compareAcks measures the acks of connected devices while nothing happens and
// then while the newcomers connect, which must not make their p99 more than three
// times as long. That is done several times over, and the median of the ratios
// counts: other work on this machine may make any of them larger, or smaller. In the
// quick run, whose windows are too short to say more, ten times as long is allowed.
func compareAcks(t *testing.T, n *node, helloOf func(i int) hello, who newcomers) {
	t.Helper()
	const windows = 5
	allowed, quietFor := 3.0, 5*time.Second
	if testing.Short() {
		allowed, quietFor = 10, time.Second
	}
	p := who.start(t)
	var ratios []float64
	for i := range windows {
		quiet := standMany(t, n, helloOf)
		pass(quietFor)
		before := quiet.leave(t)
		busy := standMany(t, n, helloOf)
		entered := p.enter(t)
		during := busy.leave(t)
		ratio := float64(during.at(0.99)) / float64(before.at(0.99))
		ratios = append(ratios, ratio)
		t.Logf("window %d: %v; acks quiet: %v; meanwhile: %v; p99 x %.2f; RSS %s; load %s",
			i+1, entered, before, during, ratio, mb(n.rss(t)), load())
		if entered.Connected != who.Devices {
			t.Errorf("%d of %d devices got in", entered.Connected, who.Devices)
		}
		p.leave(t)
		await(t, patience, "the node to notice that they have left", func() bool { return n.files(t) < who.Devices/2+100 })
	}
	slices.Sort(ratios)
	median := ratios[len(ratios)/2]
	t.Logf("p99 of the acks x %.2f (median of %.2f)", median, ratios)
	if median > allowed {
		t.Errorf("the acks of connected devices have a p99 %.1f times that of a quiet node; %.0f is allowed", median, allowed)
	}
}

// newcomersCount is how many devices connect at once.
func newcomersCount(t *testing.T) int {
	t.Helper()
	if testing.Short() {
		return setting(t, "DEVICES", 500)
	}
	return setting(t, "DEVICES", 10_000)
}

// TestTokenStorm has devices connect at once, each with a token, with TLS and
// without.
func TestTokenStorm(t *testing.T) {
	devices := newcomersCount(t)
	needFiles(t, devices+1000)
	p := newPKI(t)
	tokens := p.tokens(t, devices+100)
	writeFile(t, p.path("tokens"), []byte(strings.Join(tokens, "\n")))
	mqtt := fmt.Sprintf("%s\nmax_clients = %d\njwt_keys_file = %q", p.serverLines(), devices+200, p.path("token.pub"))
	helloOf := func(i int) hello {
		return hello{id: fmt.Sprintf("publisher-%d", i), user: "x", password: tokens[devices+i]}
	}
	t.Run("plain", func(t *testing.T) {
		n := startNode(t, setup{mqtt: mqtt, tls: true})
		compareAcks(t, n, helloOf, newcomers{Address: n.plain, Devices: devices, Tokens: p.path("tokens")})
	})
	t.Run("TLS", func(t *testing.T) {
		n := startNode(t, setup{mqtt: mqtt, tls: true})
		compareAcks(t, n, helloOf, newcomers{Address: n.tls, Devices: devices, Tokens: p.path("tokens"), TLS: true})
	})
}

// TestCertificateStorm has devices connect at once, each with a full handshake and
// a client certificate.
func TestCertificateStorm(t *testing.T) {
	devices := newcomersCount(t)
	needFiles(t, devices+1000)
	p := newPKI(t)
	p.write(t, "device.crt", "CERTIFICATE", p.issue(t, "device", false).Raw)
	mqtt := p.serverLines() + fmt.Sprintf("\nmax_clients = %d\ntls_client_ca_file = %q\nallow_anonymous = true", devices+200, p.path("ca.crt"))
	n := startNode(t, setup{mqtt: mqtt, tls: true})
	compareAcks(t, n,
		func(i int) hello { return hello{id: fmt.Sprintf("publisher-%d", i)} },
		newcomers{Address: n.tls, Devices: devices, TLS: true, Cert: p.path("device.crt"), Key: p.path("door.key")})
}
