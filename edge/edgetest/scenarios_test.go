//go:build lab

package edgetest

import (
	"testing"
	"time"
)

// TestLabScenarios plays scenes with exact outcomes, each with a site of its own: real
// processes, real network, real Kafka.
func TestLabScenarios(t *testing.T) {
	dir := artifacts(t)
	k := newKafka(t, dir)
	open := func(t *testing.T, name string, nodes int, refuse bool) *lab {
		t.Helper()
		l := newLab(t, dir, k, labConfig{
			name: name, nodes: nodes, devices: 40, perSecond: 5, seed: 1,
			policy: policy{topic: name, refuse: refuse, kafka: quick},
		})
		l.crowd.start(t)
		l.settleTraffic(t)
		return l
	}
	t.Run("DiesForGood", func(t *testing.T) { diesForGood(t, open(t, "dies", 2, false)) })
	t.Run("ReturnsAfterDrain", func(t *testing.T) { returnsAfterDrain(t, open(t, "returns", 2, false)) })
	t.Run("ApartBothWithUplink", func(t *testing.T) { apart(t, open(t, "apart", 2, false)) })
	t.Run("JoinsAndLeaves", func(t *testing.T) { joinsAndLeaves(t, open(t, "joins", 2, true)) })
	t.Run("RollingUpgrade", func(t *testing.T) { rollingUpgrade(t, open(t, "upgrade", 3, true)) })
}

// settleTraffic waits until devices at all gateways have been answered.
func (l *lab) settleTraffic(t *testing.T) {
	t.Helper()
	at := l.crowd.stats().Acked + int64(10*l.devices)
	await(t, time.Minute, "acknowledgements", func() bool { return l.crowd.stats().Acked > at })
}

// protected says whether all that a gateway has acknowledged is on a peer as well.
func (g *gateway) protected(t *testing.T) bool {
	t.Helper()
	r := g.status()
	if r == nil {
		t.Fatalf("%s does not say how it is", g.name)
	}
	return r.Gateways.Unprotected == 0
}

// fillAlone lets devices speak for a while at a gateway that cannot reach Kafka, and
// kills it. It returns when that was.
func (l *lab) fillAlone(t *testing.T, g *gateway) time.Time {
	t.Helper()
	swallow(t, g.number)
	l.settleTraffic(t)
	if !g.protected(t) {
		t.Fatalf("%s has acknowledged without copies, though its peer is there: this run shows nothing", g.name)
	}
	g.kill(t)
	died := time.Now()
	if err := l.witness.look(t.Context(), l.crowd); err != nil {
		t.Fatal(err)
	}
	if n, _ := l.crowd.owing(died); n == 0 {
		t.Fatal("Kafka has all of the dead gateway: this run shows nothing")
	}
	return died
}

// diesForGood: one of two gateways burns with records that Kafka lacks. The other one
// forwards them, from its copies.
func diesForGood(t *testing.T, l *lab) {
	t.Helper()
	died := l.fillAlone(t, l.gateways[1])
	g := l.gateways[1]
	g.writes(t, l.writers)
	remove(t, g.data())
	l.crowd.move(1, 2)
	l.arrive(t, died, time.Minute)
	t.Logf("all of the dead gateway was in Kafka %v after its death", time.Since(died).Round(100*time.Millisecond))
	l.settleTraffic(t)
	l.end(t)
}

// returnsAfterDrain: the dead gateway returns when its peer has forwarded all that it had,
// and goes on.
func returnsAfterDrain(t *testing.T, l *lab) {
	t.Helper()
	died := l.fillAlone(t, l.gateways[1])
	l.arrive(t, died, time.Minute)
	release(t, 1)
	l.gateways[1].start(t)
	l.gateways[1].awaitReady(t)
	l.settleTraffic(t)
	await(t, time.Minute, "a peer that keeps copies for the gateway that has returned", l.gateways[1].copied)
	l.end(t)
}

// apart: two gateways do not hear each other, and both reach Kafka. Devices are
// answered at both, after five seconds alone; when they meet again nothing is there twice.
func apart(t *testing.T, l *lab) {
	t.Helper()
	mute(t, 1, 2)
	mute(t, 2, 1)
	for _, g := range l.all() {
		await(t, time.Minute, g.name+" to acknowledge alone", func() bool { return !g.protected(t) })
	}
	l.settleTraffic(t)
	l.arrive(t, time.Now(), time.Minute)
	unmute(t, 1, 2)
	unmute(t, 2, 1)
	for _, g := range l.all() {
		await(t, time.Minute, "the copies of "+g.name, func() bool {
			r := g.status()
			return r != nil && !r.Gateways.Short && g.copied()
		})
	}
	l.settleTraffic(t)
	l.end(t)
}

// joinsAndLeaves: a third gateway joins under load, the devices of the first move away,
// and it stops for good.
func joinsAndLeaves(t *testing.T, l *lab) {
	t.Helper()
	l.add(t)
	await(t, 30*time.Second, "the peers of the third gateway", func() bool { return l.gateways[3].meets(2) })
	l.crowd.move(1, 2, 3)
	l.gateways[1].stop(t, 30*time.Second)
	l.settleTraffic(t)
	await(t, 30*time.Second, "copies of the second gateway at the third", l.gateways[2].copied)
	l.end(t)
}

// rollingUpgrade: each of three gateways is restarted under load. No device has to begin
// a new session, so nothing of QoS 2 is sent again as new.
func rollingUpgrade(t *testing.T, l *lab) {
	t.Helper()
	for _, g := range l.all() {
		g.stop(t, 30*time.Second)
		g.start(t)
		g.awaitReady(t)
		await(t, 30*time.Second, "a peer that keeps copies for "+g.name, g.copied)
		l.settleTraffic(t)
	}
	if r := l.end(t); r.QoS[2].Resent > 0 || r.late > 0 {
		t.Errorf("%d messages of QoS 2 are in Kafka again, because a gateway forgot sessions; %d are out of order", r.QoS[2].Resent, r.late)
	}
}
