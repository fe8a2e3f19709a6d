package model

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	ms  = time.Millisecond
	sec = time.Second
)

// A world is one run: all nodes, devices and Kafka, and what the checks have
// to know of its past. It has no goroutines: what happens are the events of
// one queue, in the order of virtual time.
type world struct {
	Config
	seed uint64
	rng  *rand.Rand

	now    time.Duration // since the start of the run; the time of no clock in the world
	events queue
	queued uint64
	faulty bool // the phase in which faults happen; afterwards everything heals

	nodes   []*node
	devices []*device
	kafka   *kafka
	links   [][]bool          // links[a][b]: what a sends reaches b
	slow    [][]time.Duration // slow[a][b]: it takes so much longer
	uplinks []bool            // of each node
	lags    []time.Duration   // of each node: its requests to Kafka come later by so much

	ledgers  []*ledger // every ledger ever opened, by number
	downlink []int     // the site's command partition in Kafka: the device of each
	uid      int64     // of the youngest record or flag: the order in which things happened
	serials  int       // of disks

	oracle oracle
	counts Counts
	trace  *trace // nil: nobody watches
}

// newWorld returns a world at time zero in which everything runs.
func newWorld(c Config, seed uint64, watched bool) *world {
	w := &world{Config: c, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x7269627574617279)), faulty: true}
	if watched {
		w.trace = &trace{}
	}
	most := c.Nodes + spareNodes
	w.links = make([][]bool, most)
	w.slow = make([][]time.Duration, most)
	w.uplinks = make([]bool, most)
	w.lags = make([]time.Duration, most)
	for i := range w.links {
		w.links[i] = make([]bool, most)
		w.slow[i] = make([]time.Duration, most)
	}
	w.oracle = newOracle(c.Devices)
	w.mend()
	w.kafka = newKafka(w)
	for range c.Nodes {
		w.join().start()
	}
	for i := range c.Devices {
		d := &device{w: w, id: i, at: i % c.Nodes}
		w.devices = append(w.devices, d)
		w.after(w.between(1*ms, 200*ms), d.loop)
	}
	w.after(500*ms, w.fault)
	if c.Commands {
		w.after(100*ms, w.command)
	}
	if c.Script != nil {
		c.Script(w)
	}
	return w
}

// join adds a node with a blank disk; the caller starts it.
func (w *world) join() *node {
	n := &node{w: w, index: len(w.nodes), name: len(w.nodes), disk: w.blankDisk()}
	n.disk.lying = w.chance(w.Rates.Lying)
	n.clockRate = 0.95 + 0.1*w.rng.Float64() // R44 allows for it
	n.clockAhead = w.between(0, time.Hour)
	w.nodes = append(w.nodes, n)
	return n
}

// after calls do when d has passed.
func (w *world) after(d time.Duration, do func()) {
	w.queued++
	w.events.push(event{at: w.now + d, seq: w.queued, do: do})
}

// runUntil lets everything happen that happens before t.
func (w *world) runUntil(t time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= t {
		e := w.events.pop()
		w.now = e.at
		e.do()
	}
	w.now = t
}

func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

func (w *world) broken(b Break) bool { return w.Broken&b != 0 }

// nextUID numbers what happens, for the checks alone.
func (w *world) nextUID() int64 {
	w.uid++
	return w.uid
}

// An event is something that will happen. Of two at one time, the one that
// was planned first happens first.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// A queue is a binary heap of events, the next one first. (container/heap
// would allocate for each event.)
type queue []event

func (q *queue) push(e event) {
	h := append(*q, e)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	*q = h
}

func (q *queue) pop() event {
	h := *q
	first := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h[last] = event{}
	h = h[:last]
	for i := 0; ; {
		down := 2*i + 1
		if down >= last {
			break
		}
		if down+1 < last && h[down+1].before(&h[down]) {
			down++
		}
		if !h[down].before(&h[i]) {
			break
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
	*q = h
	return first
}

// A trace is what happened, in words. Only a run that is repeated to show a
// violation has one.
type trace struct {
	lines []traceLine
}

type traceLine struct {
	at     time.Duration
	ledger ledgerNo // none: a matter of the whole site
	device int      // nobody: a matter of no device
	first  int64    // the records that it is about, to last; first > last: about none
	last   int64
	text   string
}

// logf adds a line about a ledger (or none) and a device (or nobody).
func (w *world) logf(l ledgerNo, device int, format string, args ...any) {
	if w.trace != nil {
		w.trace.lines = append(w.trace.lines, traceLine{w.now, l, device, 0, -1, fmt.Sprintf(format, args...)})
	}
}

// logRecords adds a line about records of a ledger, up to last.
func (w *world) logRecords(l ledgerNo, device int, first, last int64, format string, args ...any) {
	if w.trace != nil {
		w.trace.lines = append(w.trace.lines, traceLine{w.now, l, device, first, last, fmt.Sprintf(format, args...)})
	}
}

// about returns the lines that concern what a violation is about, and the
// faults between them; of many, the first and the last.
func (t *trace) about(v *Violation, most int) []string {
	var out []string
	publish := regexp.MustCompile(`d\d+ seq \d+ `).FindString(v.Text)
	for _, line := range t.lines {
		ofLedger := v.ledger != none && line.ledger == v.ledger
		ofDevice := v.device != nobody && line.device == v.device
		site := line.ledger == none && line.device == nobody || v.ledger == none && v.device == nobody
		if v.lsn >= 0 && line.first <= line.last { // a record of a ledger: its own lines alone
			site, ofDevice = false, false
			ofLedger = ofLedger && line.first <= v.lsn && v.lsn <= line.last
		}
		if v.lsn < 0 && line.first <= line.last && publish != "" { // a publish: its own lines alone
			ofDevice = strings.Contains(line.text, publish)
		}
		if site || ofLedger || ofDevice {
			out = append(out, fmt.Sprintf("%9.4f %s", line.at.Seconds(), line.text))
		}
	}
	if len(out) <= most {
		return out
	}
	return slices.Concat(out[:most/3], []string{"..."}, out[len(out)-2*most/3:])
}

// at returns s[i], or the zero value where s does not reach that far.
func at[I ~int | ~int64, T any](s []T, i I) (v T) {
	if int(i) < len(s) {
		v = s[i]
	}
	return v
}

// put sets (*s)[i] and makes s as long as that needs.
func put[I ~int | ~int64, T any](s *[]T, i I, v T) {
	for len(*s) <= int(i) {
		var zero T
		*s = append(*s, zero)
	}
	(*s)[i] = v
}
