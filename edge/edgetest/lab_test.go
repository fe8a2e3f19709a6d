//go:build lab

package edgetest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestLab attacks I1, I2, I3 and I9 with a site of real processes on a real
// network, the real Kafka, and devices on bad radios. It plays a plot of faults that
// overlap, and counts at the end what a careful consumer finds in Kafka.
//
// Devices wait for copies, so that every acknowledged message is on two disks, and
// what destroys a disk comes when all that was acknowledged before is in Kafka: so
// one counted copy survives, always, and nothing may be lost.
//
// Environment: NODES, ROUNDS (faults), DEVICES, RATE (messages a minute and
// device), FREEZE (seconds: the longest that a gateway is away), ROAM (0: devices
// do not change gateways by themselves), HANDOFF (0: nobody asks for order, and QoS 2 once, over
// the gateways that they change to and disks that were rolled back), SEED, and BREAK: a
// build tag with which a promise is broken, and the lab must fail.
func TestLab(t *testing.T) {
	nodes, rounds := int(setting(t, "NODES", 3)), int(setting(t, "ROUNDS", 30))
	devices, rate := int(setting(t, "DEVICES", 200)), setting(t, "RATE", 120)
	freeze := setting(t, "FREEZE", 30)
	roam, handOff := setting(t, "ROAM", 1), setting(t, "HANDOFF", 1)
	seed := setting(t, "SEED", rand.Int64N(1_000_000))
	if nodes < 2 || nodes >= mostGateways || freeze == 0 {
		t.Fatalf("%d gateways: from 2 to %d are possible; they are away for %d s at most: 1 or more", nodes, mostGateways-1, freeze)
	}
	again := fmt.Sprintf("make lab NODES=%d ROUNDS=%d DEVICES=%d RATE=%d FREEZE=%d ROAM=%d HANDOFF=%d SEED=%d",
		nodes, rounds, devices, rate, freeze, roam, handOff, seed)
	t.Logf("to repeat: %s", again)
	p := newPlot(rand.New(rand.NewPCG(uint64(seed), 0)), nodes, rounds, time.Duration(freeze)*time.Second)

	dir := artifacts(t)
	l := newLab(t, dir, newKafka(t, dir), labConfig{
		name: "lab", nodes: nodes, devices: devices, perSecond: float64(rate) / 60, roams: roam > 0, handOff: handOff > 0, seed: uint64(seed),
		policy: policy{topic: "lab", refuse: true, kafka: quick},
	})
	began := time.Now()
	l.crowd.start(t)
	for at, late := time.Now(), time.Duration(0); len(p) > 0; p = p[1:] {
		pass(time.Until(at.Add(p[0].at + late)))
		doing := time.Now()
		l.happen(t, p[0])
		if late += time.Since(doing); p[0].what == calm {
			at, late = time.Now(), 0
		}
	}
	p = newPlot(rand.New(rand.NewPCG(uint64(seed), 0)), nodes, rounds, time.Duration(freeze)*time.Second)
	r := l.end(t)
	t.Logf("%d faults in %v on %d gateways:%s\nto repeat: %s", rounds, time.Since(began).Round(time.Second), nodes, p.count(), again)
	if r.Acked == 0 || l.crowd.stats().Cuts == 0 {
		t.Error("the devices said nothing, or their radios were too good to show anything")
	}
}

// A labConfig says how large a lab is.
type labConfig struct {
	name      string // what the ids of the devices begin with
	nodes     int
	devices   int
	perSecond float64 // messages of a device
	roams     bool
	handOff   bool // see witness.judge
	seed      uint64
	policy    policy
}

// A lab is a site with its devices, and who reads in Kafka what became of what they said.
type lab struct {
	labConfig

	dir      string
	binary   string
	kafka    *kafka
	gateways []*gateway // by number, from 1
	clone    *gateway   // nil: there is none
	crowd    *crowd
	witness  *witness
	writers  map[string]string // which gateway, in which of its lives, wrote a ledger
	began    time.Time
}

// chanceToRoam is that of a device that connects, with ROAM=1, to do so at another gateway.
const chanceToRoam = 0.3

// newLab starts a site, whose devices are switched off.
func newLab(t *testing.T, dir string, k *kafka, c labConfig) *lab {
	t.Helper()
	if err := layLAN(); err != nil {
		t.Fatal(err)
	}
	mend(t)
	t.Cleanup(func() { mend(t) })
	dir = filepath.Join(dir, c.name)
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	l := &lab{labConfig: c, dir: dir, kafka: k, gateways: []*gateway{nil}, writers: map[string]string{}, began: time.Now()}
	l.binary = build(t, dir, "cmd/tributary", os.Getenv("BREAK"))
	for range c.nodes {
		l.add(t)
	}
	for _, g := range l.all() {
		await(t, 30*time.Second, "the peers of "+g.name, func() bool { return g.meets(c.nodes - 1) })
	}
	l.witness = newWitness(t, c.policy.topic)
	roam := 0.0
	if c.roams {
		roam = chanceToRoam
	}
	l.crowd = newCrowd(t, dir, c.name, c.nodes, c.devices, c.perSecond, roam, c.seed)
	return l
}

// add adds a gateway to the site.
func (l *lab) add(t *testing.T) *gateway {
	t.Helper()
	g := newGateway(t, l.dir, l.binary, len(l.gateways), l.policy)
	if len(l.gateways) > 1 {
		g.join(t, l.gateways[1])
	}
	g.start(t)
	g.awaitReady(t)
	l.gateways = append(l.gateways, g)
	return g
}

func (l *lab) all() []*gateway { return l.gateways[1:] }

// happen does what the plot says.
func (l *lab) happen(t *testing.T, s scene) {
	t.Helper()
	t.Logf("%7.1fs  %v", time.Since(l.began).Seconds(), s)
	var g *gateway
	if s.on > 0 {
		g = l.gateways[s.on]
	}
	switch s.what {
	case nodeDies:
		g.kill(t)
	case nodeStarts:
		g.start(t)
	case plugPulled:
		unplug(t, s.on)
		g.kill(t)
	case plugBack:
		plugIn(t, s.on)
		g.start(t)
	case nodeFreezes:
		g.freeze(t)
	case nodeThaws:
		g.signal(t, syscall.SIGCONT)
	case linkMute:
		mute(t, s.on, s.to)
	case linkHeard:
		unmute(t, s.on, s.to)
	case uplinkGone:
		swallow(t, s.on)
	case uplinkBack:
		release(t, s.on)
	case brokerDies:
		l.kafka.kill(t)
	case brokerBack:
		l.kafka.start(t)
	case allDie:
		for _, g := range l.all() {
			g.kill(t)
		}
	case allStart:
		for _, g := range l.all() {
			g.start(t)
		}
	case uptimeJumps:
		g.kill(t)
		g.ahead += 7 * time.Hour
		g.start(t)
	case calm:
		l.settle(t)
	case imageTaken:
		g.takeImage(t, g.image())
	case nodeRolledBack:
		l.rollBack(t, g)
	case nodeWiped:
		l.wipe(t, g)
	case cloneStarts:
		l.startClone(t, g)
	case cloneEnds:
		is := l.clone.status()
		l.clone.kill(t)
		remove(t, l.clone.data())
		if of := g.status(); is != nil && of != nil && is.NodeID != of.NodeID {
			g.forget(t, is.NodeID) // it had taken an id of its own
		}
	}
}

// settle waits until all gateways run and all that was acknowledged by now is in Kafka.
func (l *lab) settle(t *testing.T) {
	t.Helper()
	l.kafka.awaitAnswer(t)
	for _, g := range l.all() {
		g.awaitReady(t)
	}
	l.arrive(t, time.Now(), drain)
}

// arrive waits until all that was acknowledged before a time is in Kafka.
func (l *lab) arrive(t *testing.T, before time.Time, limit time.Duration) {
	t.Helper()
	over := time.Now().Add(limit)
	for {
		err := l.witness.look(t.Context(), l.crowd)
		n, one := l.crowd.owing(before)
		if n == 0 {
			return
		}
		if time.Now().After(over) {
			for _, g := range l.all() {
				if g.running() {
					text, _ := exec.Command(g.binary, "status", "-c", g.config).CombinedOutput()
					t.Logf("%s:\n%s", g.name, text)
				}
			}
			t.Fatalf("%d acknowledged messages are not in Kafka after %v, of which one is %+v; reading said: %v", n, limit, one, err)
		}
		pass(300 * time.Millisecond)
	}
}

// wipe gives a gateway an empty disk.
func (l *lab) wipe(t *testing.T, g *gateway) {
	t.Helper()
	old, host := g.status(), l.gateways[1+g.number%(len(l.gateways)-1)]
	l.bury(t, g)
	if old != nil {
		host.forget(t, old.NodeID)
	}
	g.join(t, host)
	g.start(t)
}

// bury ends a gateway and its disk.
func (l *lab) bury(t *testing.T, g *gateway) {
	t.Helper()
	g.kill(t)
	g.writes(t, l.writers)
	g.lives++
	remove(t, g.data())
}

// mostLives is how often a gateway with an old image is started until the others
// take it for one that they know: each start counts.
const mostLives = 20

// rollBack gives a gateway the disk that it had when its image was taken. It becomes
// another node, and the operator removes the one that it was.
func (l *lab) rollBack(t *testing.T, g *gateway) {
	t.Helper()
	old := g.status()
	l.bury(t, g)
	if err := os.Rename(g.image(), g.data()); err != nil {
		t.Fatal(err)
	}
	for range mostLives {
		g.start(t)
		g.awaitReady(t)
		over := time.Now().Add(8 * time.Second)
		for time.Now().Before(over) {
			if g.copied() {
				if now := g.status(); old != nil && now != nil && now.NodeID != old.NodeID {
					g.forget(t, old.NodeID)
				}
				return
			}
			pass(200 * time.Millisecond)
		}
		g.kill(t)
	}
	t.Fatalf("%s has been started %d times since it was rolled back, and no peer keeps copies for it", g.name, mostLives)
}

// startClone starts another process with a copy of a gateway's disk.
func (l *lab) startClone(t *testing.T, g *gateway) {
	t.Helper()
	l.clone = newGateway(t, l.dir, l.binary, mostGateways, l.policy)
	g.takeImage(t, l.clone.data())
	l.clone.start(t)
}

// end switches the devices off and waits until all is in Kafka. What it returns
// is the verdict, of which it has told the test.
func (l *lab) end(t *testing.T) verdict {
	t.Helper()
	began := time.Now()
	l.crowd.finish(t)
	l.arrive(t, time.Now(), drain)
	took := time.Since(began)
	for _, g := range l.all() {
		if g.running() {
			g.stop(t, 30*time.Second)
		}
		g.writes(t, l.writers)
	}
	// Once more, for what may be there twice.
	if err := l.witness.look(t.Context(), l.crowd); err != nil {
		t.Error(err)
	}
	r := l.witness.judge(t, l.crowd, l.writers, l.handOff)
	s := l.crowd.stats()
	t.Logf("devices: %d messages, %d connections after the first, %d sessions, %d cuts, %d half open, %d reboots, %d duplicates, %d strays; "+
		"%d ledgers, %d records, flagged %v; settled in %v;\n"+
		"not counted below: %d out of order over the ledgers of a gateway, without hand-off; %d of QoS 2 twice, flagged, or by a disk that was rolled back without hand-off\n%v",
		s.Sent, s.Reconnects, s.Sessions, s.Cuts, s.HalfOpen, s.Reboots, s.Duplicates, s.Strays,
		len(l.witness.lsns), len(l.witness.sights), l.witness.flagged, took.Round(time.Second),
		r.late, r.redone, r.Report)
	if !r.OK() || r.Unknown > 0 {
		t.Errorf("%d lost, %d twice, %d out of order, %d never sent", r.Lost, r.Twice, r.OutOfOrder, r.Unknown)
	}
	for i, sentence := range l.witness.twice {
		if i < 20 {
			t.Error(sentence)
		}
	}
	return r
}
