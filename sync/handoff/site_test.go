package handoff

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
)

// A device roams between gateways, and knows what was acknowledged to it.
type device struct {
	w     *world
	id    string
	next  uint16
	acked []place2
}

// A place2 is where a message of a device is.
type place2 struct {
	ledger tributary.LedgerID
	lsn    int
}

// roam lets the device go from gateway to gateway until ctx ends.
func (d *device) roam(ctx context.Context) {
	w := d.w
	for ctx.Err() == nil {
		w.mu.Lock()
		p, patience, publishes := w.nodes[w.rng.IntN(len(w.nodes))].process, w.soon(8*time.Second), 1+w.rng.IntN(6)
		w.mu.Unlock()
		if p == nil {
			<-time.After(50 * time.Millisecond)
			continue
		}
		known := len(d.acked)
		taking, cancel := context.WithTimeout(ctx, patience)
		a, err := p.handoffs.Take(taking, d.id)
		cancel()
		w.mu.Lock()
		c := &conn{}
		if err == nil && w.nodes[indexOf(w, p)].process == p {
			d.check(p, &a, known)
			p.clients[d.id] = c
		}
		w.mu.Unlock()
		for n := range publishes {
			if err == nil {
				d.publish(p, c, &a, uint64(n)+1)
			}
		}
		w.mu.Lock()
		wait := w.soon(300 * time.Millisecond)
		w.mu.Unlock()
		<-time.After(wait)
	}
}

func indexOf(w *world, p *process) int {
	for i, g := range w.nodes {
		if g == p.g {
			return i
		}
	}
	return -1
}

// publish sends a message, which may take a while to come in, and does not wait.
func (d *device) publish(p *process, c *conn, a *Arrival, n uint64) {
	w := d.w
	w.mu.Lock()
	defer w.mu.Unlock()
	d.next++
	id := d.next
	epoch := a.Epoch
	w.deliver(p.g, 400*time.Millisecond, func(q *process) { // a device's radio is slow
		if q != p || c.closed || q.clients[d.id] != c {
			return
		}
		r := message(d.id, id, &Arrival{Epoch: epoch, Unverified: a.Unverified}, n)
		at := place2{p.live, p.append(r)}
		p.pending = append(p.pending, waiting{at.lsn, time.Now(), func() {
			if !c.closed {
				d.acked = append(d.acked, at)
			}
		}})
	})
}

// check checks what a hand-off has promised: what the device had an acknowledgement for
// comes first, by the mark, and what any log has of it is known (I3, I9). mu is held.
func (d *device) check(p *process, a *Arrival, acked int) {
	w := d.w
	w.takes++
	var deps []mark.Dep
	if c := p.g.logs[p.live]; c != nil {
		for i := range c.entries {
			if e := &c.entries[i]; mark.IsHandoff(&e.Record) {
				if h, err := mark.ParseHandoff(e.Value); err == nil && h.Client == d.id && h.Epoch == a.Epoch {
					deps = h.Deps
				}
			}
		}
	}
	if a.Unverified || a.Doubtful {
		w.flags++
	}
	for _, at := range d.acked[:acked] {
		covered := p.g.own[at.ledger] || a.Unverified
		for _, dep := range deps {
			covered = covered || dep.Ledger == at.ledger && int(dep.End) > at.lsn
		}
		if !covered {
			w.t.Errorf("seed %d: record %d of %v of %s was acknowledged, and comes to gateway %x in epoch %d: the mark waits for %v", w.seed, at.lsn, at.ledger, d.id, p.g.id[0], a.Epoch, deps)
			return
		}
	}
	if a.Doubtful {
		return
	}
	for _, g := range w.nodes {
		for id, c := range g.logs {
			for i := range c.entries {
				e := &c.entries[i]
				if p.g.own[id] || string(e.Header(headerClientID)) != d.id {
					continue
				}
				found := false
				for _, k := range a.Known {
					found = found || k.Ledger == id && k.LSN == e.LSN
				}
				if !found {
					w.t.Errorf("seed %d: gateway %x has record %d of %v of %s, and gateway %x does not know it: %+v", w.seed, g.id[0], i, id, d.id, p.g.id[0], a)
					return
				}
			}
		}
	}
}

// run runs a world for a while.
func run(t *testing.T, seed uint64, powerCuts bool) (w *world) {
	t.Helper()
	w = newWorld(t, seed)
	w.loss = w.rng.IntN(15)
	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	var all sync.WaitGroup
	for i := range 3 {
		d := &device{w: w, id: fmt.Sprint("device-", i)}
		all.Go(func() { d.roam(ctx) })
	}
	for ctx.Err() == nil { // faults
		w.mu.Lock()
		wait := w.soon(9 * time.Second)
		w.mu.Unlock()
		<-time.After(wait)
		w.mu.Lock()
		g := w.nodes[w.rng.IntN(len(w.nodes))]
		if g.process == nil {
			g.start()
		} else {
			g.end(powerCuts && w.chance(50))
			time.AfterFunc(w.soon(6*time.Second), func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				if g.process == nil && ctx.Err() == nil {
					g.start() //nolint:contextcheck // a gateway lives longer than who starts it
				}
			})
		}
		w.mu.Unlock()
	}
	all.Wait()
	<-time.After(10 * time.Second)
	w.end()
	return w
}

// newWorld returns a site of three gateways, which run.
func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1))}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range 3 {
		w.nodes = append(w.nodes, &gateway{w: w, id: tributary.NodeID{byte(i + 1)}, logs: map[tributary.LedgerID]*copyOf{}, own: map[tributary.LedgerID]bool{}})
	}
	for _, g := range w.nodes {
		g.start()
	}
	return w
}

// end ends all gateways, and all that is under way.
func (w *world) end() {
	w.mu.Lock()
	for _, g := range w.nodes {
		if g.process != nil {
			g.end(false)
		}
	}
	w.mu.Unlock()
	<-time.After(10 * time.Second)
}

// I3, I9: devices roam between three gateways that are killed, lose their power, and hear
// only a part of what the others say: a hand-off that promises something keeps it.
func TestSite(t *testing.T) {
	takes, flags := 0, 0
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			w := run(t, seed, seed%2 == 1)
			takes, flags = takes+w.takes, flags+w.flags
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d hand-offs, %d without a promise", takes, flags)
	if flags > takes*2/3 {
		t.Errorf("of %d hand-offs %d promise nothing: the test shows little", takes, flags)
	}
}

// A thousand devices that come at once are asked for in a few batches, and are in soon.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		defer w.end()
		<-time.After(time.Second)
		p, began := w.nodes[0].process, time.Now()
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				if a, err := p.handoffs.Take(t.Context(), fmt.Sprint("device-", i)); err != nil || a.Unverified {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		all.Wait()
		if c, took := p.handoffs.Count(), time.Since(began); c.Handoffs != 1000 || c.Batches > 12 || took > time.Second {
			t.Errorf("%+v, in %v", c, took)
		}
	})
}

// A1: a gateway that does not answer costs three seconds at most, while it seems to be
// there, one when it does not, and nothing when it cannot be reached.
func TestSilentCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		defer w.end()
		<-time.After(6 * time.Second)
		p := w.nodes[0].process
		take := func(what string, most time.Duration, unverified bool) {
			t.Helper()
			began := time.Now()
			a, err := p.handoffs.Take(t.Context(), "device")
			if took := time.Since(began); err != nil || took > most+3*askEvery || a.Unverified != unverified || !a.Doubtful {
				t.Errorf("%s: %+v, %v, after %v", what, a, err, took)
			}
		}
		w.mu.Lock()
		w.nodes[1].deaf = true // and so it does not say anything either, of what it is asked
		w.mu.Unlock()
		take("it seems to be there", askLivesFor, false)
		<-time.After(10 * time.Second)
		w.mu.Lock()
		w.nodes[1].end(false)
		w.mu.Unlock()
		take("its process has ended a moment ago", askFor, true)
		<-time.After(10 * time.Second)
		take("it has been away for long", 0, true)
	})
}
