//go:build lab

package edgetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// An event is what the plot has happen at a moment.
type event string

const (
	nodeDies    event = "is killed"
	nodeStarts  event = "starts"
	plugPulled  event = "loses its cable, and is killed"
	plugBack    event = "has its cable again, and starts"
	nodeFreezes event = "stands still (SIGSTOP)"
	nodeThaws   event = "goes on"
	linkMute    event = "is not heard any more by"
	linkHeard   event = "is heard again by"
	uplinkGone  event = "has a black hole for an uplink"
	uplinkBack  event = "reaches Kafka again"
	brokerDies  event = "Kafka is killed"
	brokerBack  event = "Kafka starts"
	allDie      event = "all are killed at once"
	allStart    event = "all start"
	uptimeJumps event = "is killed, and starts with a clock of another boot"

	// A calm comes before what destroys copies: everything that was acknowledged
	// before it is in Kafka then, so that of all else one copy at least is left.
	calm           event = "calm: all is well, and all that was acknowledged is in Kafka"
	imageTaken     event = "has an image taken of its disk"
	nodeRolledBack event = "is killed, and starts with the image in place of its disk"
	nodeWiped      event = "is killed, and joins again with an empty disk"
	cloneStarts    event = "has a clone, which starts"
	cloneEnds      event = "has no clone any more"
)

// A scene is a line of the plot.
type scene struct {
	at     time.Duration // since the last calm
	what   event
	on, to int // gateways, from 1; 0 none
}

func (s scene) String() string {
	line := string(s.what)
	if s.on > 0 {
		line = placeOf(s.on) + " " + line
	}
	if s.to > 0 {
		line += " " + placeOf(s.to)
	}
	return line
}

// A plot is a list of events in the order of time.
type plot []scene

// count says how often the plot has each event.
func (p plot) count() string {
	counts := map[event]int{}
	for _, s := range p {
		counts[s.what]++
	}
	var b strings.Builder
	for _, what := range []event{
		nodeDies, plugPulled, nodeFreezes, linkMute, uplinkGone, brokerDies, allDie, uptimeJumps, nodeWiped, nodeRolledBack, cloneStarts,
	} {
		fmt.Fprintf(&b, "\n  %4d  %s", counts[what], what)
	}
	return b.String()
}

// A plotter draws up a plot. Faults overlap, but each thing is broken by one at a time.
type plotter struct {
	rng    *rand.Rand
	nodes  int
	freeze time.Duration // the longest that a gateway stands still or is away
	done   plot
	act    plot // since the last calm, in no order

	now    time.Duration
	until  []time.Duration // by gateway: when it runs again
	uplink []time.Duration // by gateway
	broker time.Duration
	links  map[[2]int]time.Duration
}

// newPlot draws up a plot with so many faults; the same rng gives the same plot.
// Every tenth fault destroys copies.
func newPlot(rng *rand.Rand, nodes, rounds int, freeze time.Duration) plot {
	p := plotter{rng: rng, nodes: nodes, freeze: freeze}
	p.reset()
	destructions := []func(){p.wipe, p.rollBack, p.clone}
	rng.Shuffle(len(destructions), func(i, j int) { destructions[i], destructions[j] = destructions[j], destructions[i] })
	for round := range rounds {
		p.now += p.between(300*time.Millisecond, 2*time.Second)
		if round%10 == 9 {
			p.calm()
			destructions[round/10%len(destructions)]()
			continue
		}
		for !p.disturb() {
			p.now += 500 * time.Millisecond
		}
	}
	p.calm()
	return p.done
}

func (p *plotter) between(from, to time.Duration) time.Duration {
	return from + time.Duration(p.rng.Int64N(int64(max(1, to-from))))
}

// reset begins the time after a calm.
func (p *plotter) reset() {
	p.now = 0
	p.until, p.uplink, p.broker = make([]time.Duration, p.nodes+1), make([]time.Duration, p.nodes+1), 0
	p.links = map[[2]int]time.Duration{}
}

func (p *plotter) add(at time.Duration, what event, on, to int) {
	p.act = append(p.act, scene{at, what, on, to})
}

// calm waits for the end of everything.
func (p *plotter) calm() {
	end := max(p.now, p.broker, slices.Max(p.until), slices.Max(p.uplink))
	for _, until := range p.links {
		end = max(end, until)
	}
	slices.SortStableFunc(p.act, func(a, b scene) int { return cmp.Compare(a.at, b.at) })
	p.done = append(append(p.done, p.act...), scene{at: end, what: calm})
	p.act = nil
	p.reset()
}

// disturb adds a fault that heals, or returns false if what was drawn is broken
// already.
func (p *plotter) disturb() bool {
	n := 1 + p.rng.IntN(p.nodes)
	away := p.between(100*time.Millisecond, 4*time.Second)
	if p.rng.IntN(6) == 0 {
		away = p.between(p.freeze*2/3, p.freeze)
	}
	switch roll := p.rng.IntN(100); {
	case roll < 22:
		return p.breakNode(n, away, nodeDies, nodeStarts)
	case roll < 30:
		return p.breakNode(n, away, plugPulled, plugBack)
	case roll < 42:
		if p.rng.IntN(4) == 0 {
			away = p.freeze
		}
		return p.breakNode(n, away, nodeFreezes, nodeThaws)
	case roll < 46:
		return p.breakNode(n, 0, uptimeJumps, "")
	case roll < 60:
		return p.breakLink(n, p.other(n), p.between(2*time.Second, 12*time.Second))
	case roll < 72:
		to, length := p.other(n), p.between(2*time.Second, 12*time.Second)
		return p.links[[2]int{to, n}] <= p.now && p.breakLink(n, to, length) && p.breakLink(to, n, length)
	case roll < 82:
		return p.breakUplinks(p.between(3*time.Second, 15*time.Second), n)
	case roll < 88:
		return p.breakUplinks(p.between(3*time.Second, 10*time.Second), p.all()...)
	case roll < 96:
		if p.broker > p.now {
			return false
		}
		p.broker = p.now + p.between(500*time.Millisecond, 5*time.Second)
		p.add(p.now, brokerDies, 0, 0)
		p.add(p.broker, brokerBack, 0, 0)
		return true
	default:
		if slices.Max(p.until) > p.now {
			return false
		}
		p.add(p.now, allDie, 0, 0)
		end := p.now + p.between(100*time.Millisecond, 3*time.Second)
		p.add(end, allStart, 0, 0)
		for _, n := range p.all() {
			p.until[n] = end
		}
		return true
	}
}

func (p *plotter) all() (all []int) {
	for n := 1; n <= p.nodes; n++ {
		all = append(all, n)
	}
	return all
}

// other draws a gateway that is not n.
func (p *plotter) other(n int) int { return 1 + (n+p.rng.IntN(p.nodes-1))%p.nodes }

func (p *plotter) breakNode(n int, length time.Duration, what, end event) bool {
	if p.until[n] > p.now {
		return false
	}
	p.until[n] = p.now + length
	p.add(p.now, what, n, 0)
	if end != "" {
		p.add(p.until[n], end, n, 0)
	}
	return true
}

func (p *plotter) breakLink(from, to int, length time.Duration) bool {
	if p.links[[2]int{from, to}] > p.now {
		return false
	}
	p.links[[2]int{from, to}] = p.now + length
	p.add(p.now, linkMute, from, to)
	p.add(p.now+length, linkHeard, from, to)
	return true
}

func (p *plotter) breakUplinks(length time.Duration, of ...int) bool {
	for _, n := range of {
		if p.uplink[n] > p.now {
			return false
		}
	}
	for _, n := range of {
		p.uplink[n] = p.now + length
		p.add(p.now, uplinkGone, n, 0)
		p.add(p.uplink[n], uplinkBack, n, 0)
	}
	return true
}

// What destroys copies comes while the gateway cannot reach Kafka: otherwise there
// would be little to lose.
func (p *plotter) wipe() {
	n := 1 + p.rng.IntN(p.nodes)
	p.add(0, uplinkGone, n, 0)
	p.now = p.between(time.Second, 4*time.Second)
	p.add(p.now, nodeWiped, n, 0)
	p.add(p.now, uplinkBack, n, 0)
	p.until[n], p.uplink[n] = p.now, p.now
}

func (p *plotter) rollBack() {
	n := 1 + p.rng.IntN(p.nodes)
	image := time.Duration(p.rng.IntN(2)) * time.Second
	p.add(image, imageTaken, n, 0)
	p.add(500*time.Millisecond, uplinkGone, n, 0)
	p.now = image + time.Second
	for range p.rng.IntN(3) { // then the image has counted fewer starts than the others know of
		p.add(p.now, nodeDies, n, 0)
		p.add(p.now+300*time.Millisecond, nodeStarts, n, 0)
		p.now += p.between(2*time.Second, 4*time.Second)
	}
	p.now += p.between(0, 3*time.Second)
	p.add(p.now, nodeRolledBack, n, 0)
	p.add(p.now, uplinkBack, n, 0)
	p.until[n], p.uplink[n] = p.now, p.now
}

func (p *plotter) clone() {
	n := 1 + p.rng.IntN(p.nodes)
	p.add(0, uplinkGone, n, 0)
	p.add(time.Second, cloneStarts, n, 0)
	p.add(p.between(2*time.Second, 4*time.Second), uplinkBack, n, 0)
	p.now = p.between(4*time.Second, 8*time.Second)
	p.add(p.now, cloneEnds, n, 0)
	p.until[n], p.uplink[n] = p.now, p.now
}

// TestPlot makes sure that every plot is fit to be played: what is broken was
// whole, what heals was broken, and copies are destroyed in a calm alone.
func TestPlot(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		nodes, rounds := 2+rng.IntN(2), rng.IntN(60)
		p := newPlot(rng, nodes, rounds, 30*time.Second)
		broken := map[string]bool{}
		faults, destructions, last := 0, 0, time.Duration(0)
		change := func(s scene, what string, to bool) {
			if broken[what] == to {
				t.Fatalf("seed %d: at %v it cannot be that %v", seed, s.at, s)
			}
			if broken[what] = to; !to {
				delete(broken, what)
			}
		}
		for _, s := range p {
			if s.at < last {
				t.Fatalf("seed %d: %v comes at %v, after %v", seed, s, s.at, last)
			}
			last = s.at
			node, link, uplink := fmt.Sprint("node ", s.on), fmt.Sprint("link ", s.on, s.to), fmt.Sprint("uplink ", s.on)
			switch s.what {
			case nodeDies, plugPulled, nodeFreezes:
				change(s, node, true)
				faults++
			case nodeStarts, plugBack, nodeThaws:
				change(s, node, false)
			case linkMute:
				change(s, link, true)
			case linkHeard:
				change(s, link, false)
			case uplinkGone:
				change(s, uplink, true)
			case uplinkBack:
				change(s, uplink, false)
			case brokerDies:
				change(s, "broker", true)
			case brokerBack:
				change(s, "broker", false)
			case allDie, allStart:
				for n := 1; n <= nodes; n++ {
					change(s, fmt.Sprint("node ", n), s.what == allDie)
				}
			case uptimeJumps, imageTaken:
				change(s, node, true)
				change(s, node, false)
			case nodeRolledBack, nodeWiped, cloneStarts:
				change(s, node, true)
				change(s, node, false)
				destructions++
			case cloneEnds:
			case calm:
				last, destructions = 0, 0
			}
			if s.what == calm && len(broken) > 0 || destructions > 1 {
				t.Fatalf("seed %d: at %v: %v, with %v, %d destroyed", seed, s.at, s, broken, destructions)
			}
		}
		if len(broken) > 0 || len(p) < rounds {
			t.Fatalf("seed %d: in the end not all is well: %v, %d lines", seed, broken, len(p))
		}
	}
}
