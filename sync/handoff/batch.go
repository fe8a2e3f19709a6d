package handoff

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/sync/peer"
)

// A batch is some devices that are let in together.
type batch struct {
	h       *Handoffs
	all     []*arrival
	began   time.Time
	nonces  map[tributary.NodeID]uint64 // as the last round found them
	answers map[tributary.NodeID]*peer.Collected
}

// run asks all members for the devices of the batch, and lets them in.
func (b *batch) run(ctx context.Context) {
	defer func() {
		for _, a := range b.all {
			if a.err == nil && a.out.Epoch == 0 {
				a.err = ErrNotNow // the node ends
			}
			close(a.done)
		}
	}()
	b.began = time.Now()
	var silent []tributary.NodeID
	if len(b.h.Site.Members()) > 0 {
		silent = b.closeAll(ctx)
		if !noCollect {
			silent = b.collectAll(ctx)
		}
	}
	if ctx.Err() == nil {
		b.finish(ctx, silent)
	}
}

// clients returns who the batch is about, in the order of all.
func (b *batch) clients() []peer.Device {
	all := make([]peer.Device, len(b.all))
	for i, a := range b.all {
		all[i] = peer.Device{ID: a.client, Epoch: a.epoch}
	}
	return all
}

// closeAll is round 1, CLOSE: nobody takes anything more from the devices (R41).
func (b *batch) closeAll(ctx context.Context) (silent []tributary.NodeID) {
	for range mostRaises {
		try, in := b.h.listen()
		again := false
		m := &peer.Close{Try: try, Clients: b.clients()}
		silent = b.ask(ctx, in, m, false, func(a answer) {
			if m, is := a.m.(*peer.Closed); is && len(m.Epochs) == len(b.all) {
				b.nonces[a.from.Node] = a.from.Nonce
				again = b.raise(m.Epochs, m.Held) || again
			}
		})
		b.h.unlisten(try)
		if !again {
			break
		}
	}
	return silent // whoever still holds on says so in round 2
}

// raise makes the epochs of devices higher than what another node knows. It returns
// whether that node has not let go of one of them.
func (b *batch) raise(epochs []uint64, held []bool) (again bool) {
	h := b.h
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, a := range b.all {
		if a.epoch > epochs[i] && !held[i] {
			continue
		}
		again = again || held[i]
		s := h.session(a.client)
		mine := s.here && s.epoch == a.epoch
		a.epoch = max(a.epoch, epochs[i]) + 1
		if mine {
			s.epoch = a.epoch
		}
	}
	return again
}

// collectAll is round 2, COLLECT: each member says how far the devices are in what it
// holds (R42). Whoever is another process than in round 1 has forgotten what it had
// taken meanwhile, and others may have had it: all are asked again. It returns those
// that are silent.
func (b *batch) collectAll(ctx context.Context) (silent []tributary.NodeID) {
	for {
		try, in := b.h.listen()
		changed := false
		b.answers = map[tributary.NodeID]*peer.Collected{}
		silent = b.ask(ctx, in, &peer.Collect{Try: try, Processes: b.processes(), Clients: b.clients()}, true, func(a answer) {
			m, is := a.m.(*peer.Collected)
			if !is || len(m.Epochs) != len(b.all) {
				return
			}
			if b.nonces[a.from.Node] != a.from.Nonce {
				b.nonces[a.from.Node] = a.from.Nonce
				changed = true
			}
			b.answers[a.from.Node] = m
		})
		b.h.unlisten(try)
		if ctx.Err() != nil || !changed {
			return silent
		}
		if time.Since(b.began) > askLivesFor { // it starts again and again: nobody knows what it has
			return b.h.Site.Members()
		}
	}
}

// processes returns who is known to be which process, to those who are asked.
func (b *batch) processes() []peer.Process {
	all := []peer.Process{b.h.Self()}
	for n, nonce := range b.nonces {
		if len(all) < peer.MaxMembers {
			all = append(all, peer.Process{Node: n, Nonce: nonce})
		}
	}
	return all
}

// listen begins a try of a round: only answers to it count (R42).
func (h *Handoffs) listen() (try uint64, in chan answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.try++
	in = make(chan answer, 64)
	h.asked[h.try] = in
	return h.try, in
}

func (h *Handoffs) unlisten(try uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.asked, try)
}

// Answered takes what another node has answered.
func (h *Handoffs) Answered(from *peer.Hello, m peer.Message) {
	var try uint64
	switch m := m.(type) {
	case *peer.Closed:
		try = m.Try
	case *peer.Collected:
		try = m.Try
	default:
		return
	}
	h.mu.Lock()
	in := h.asked[try]
	h.mu.Unlock()
	if in == nil {
		return
	}
	select {
	case in <- answer{from, m}:
	default: // it is asked again
	}
}

// ask asks all members until each has answered, or has been given up: those are
// returned. Patient is it with those that live.
func (b *batch) ask(ctx context.Context, in <-chan answer, m peer.Message, patient bool, took func(answer)) (silent []tributary.NodeID) {
	waiting := map[tributary.NodeID]bool{}
	for _, n := range b.h.Site.Members() {
		waiting[n] = true
	}
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		gone, lives := b.say(m, waiting)
		if first {
			for _, n := range gone {
				delete(waiting, n)
			}
			silent = gone
		}
		if over := time.Since(b.began); over > askLivesFor || over > askFor && (!patient || !lives) {
			return append(silent, slices.Collect(maps.Keys(waiting))...)
		}
		for asked := false; !asked; {
			if len(waiting) == 0 {
				return silent
			}
			select {
			case a := <-in:
				took(a)
				delete(waiting, a.from.Node)
			case <-tick.C:
				asked = true
			case <-ctx.Done():
				return silent
			}
		}
	}
}

// say says m to some nodes. It returns which of them are not there, and whether any
// of the others lives, or may.
func (b *batch) say(m peer.Message, to map[tributary.NodeID]bool) (gone []tributary.NodeID, lives bool) {
	young := b.h.isYoung()
	for n := range to {
		connected, alive := b.h.Site.Say(n, m), b.h.Site.Alive(n)
		lives = lives || connected && alive || young
		if !connected && !alive && !young {
			gone = append(gone, n)
		}
	}
	return gone, lives
}

// finish looks at this node itself, last, and lets the devices in (R42 to R44).
func (b *batch) finish(ctx context.Context, silent []tributary.NodeID) {
	h := b.h
	own, err := h.lookHere(ctx, b.processes(), silent, b.clients())
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrNotNow, err)
	}
	all := []*peer.Collected{own}
	for _, m := range b.answers {
		all = append(all, m)
	}
	var sum *summary
	if err == nil {
		sum = b.sum(all)
	}
	covered := h.covers(silent)
	for i, a := range b.all {
		switch {
		case err != nil:
			a.err = err
		case b.elsewhere(i, a):
			a.err = ErrElsewhere
		default:
			a.err = b.letIn(sum, i, a, covered, len(silent) > 0)
		}
	}
	if len(silent) > 0 {
		h.Logger.Info("gateways did not answer for devices that have come", "devices", len(b.all), "silent", len(silent), "verified", covered)
	}
}

// elsewhere says whether another node has the device by now.
func (b *batch) elsewhere(i int, a *arrival) bool {
	for _, m := range b.answers {
		if m.Held[i] {
			return true
		}
	}
	b.h.mu.Lock()
	defer b.h.mu.Unlock()
	s := b.h.session(a.client)
	return !s.here && s.epoch >= a.epoch
}

// letIn lets one device in.
func (b *batch) letIn(sum *summary, i int, a *arrival, covered, missing bool) error {
	h := b.h
	for _, m := range sum.answers {
		a.epoch = max(a.epoch, m.Epochs[i]+1) // an index may know more than any session
	}
	deps := sum.deps(i)
	unverified := !covered || len(deps) > mark.MaxDeps
	out := Arrival{Epoch: a.epoch, Unverified: unverified, Doubtful: missing || sum.partial}
	out.Known, out.Gone = sum.ids(i)
	if len(deps) > 0 {
		hand := mark.Handoff{Client: a.client, Epoch: a.epoch, Deps: deps[:min(len(deps), mark.MaxDeps)]}
		r := hand.Record()
		if err := h.Append(&r); err != nil {
			return fmt.Errorf("%w: %w", ErrNotNow, err)
		}
	}
	a.out = out
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.session(a.client); s.here {
		s.epoch = max(s.epoch, a.epoch)
	}
	if len(deps) > 0 {
		h.counted.Marks++
	}
	if unverified {
		h.counted.Unverified++
	}
	return nil
}

// A summary is what all answers say together.
type summary struct {
	h       *Handoffs
	answers []*peer.Collected
	looked  map[tributary.LedgerID]*looked
	ends    []map[tributary.LedgerID]tributary.LSN // by client
	found   []map[uint16][]found                   // the same, by packet id
	partial bool
}

// looked is how far somebody has looked at a ledger, and how far nobody has who could
// tell its clients apart.
type looked struct{ to, all tributary.LSN }

// found is what one answer says of a packet id.
type found struct {
	peer.PacketID

	ledger tributary.LedgerID
}

func (b *batch) sum(all []*peer.Collected) *summary {
	s := &summary{
		h: b.h, answers: all, looked: map[tributary.LedgerID]*looked{},
		ends: make([]map[tributary.LedgerID]tributary.LSN, len(b.all)), found: make([]map[uint16][]found, len(b.all)),
	}
	for _, m := range all {
		s.partial = s.partial || m.Partial
		for i := range m.Ledgers {
			s.note(&m.Ledgers[i])
		}
		for i := range m.Ends {
			e := &m.Ends[i]
			if s.ends[e.Client] == nil {
				s.ends[e.Client] = map[tributary.LedgerID]tributary.LSN{}
			}
			l := m.Ledgers[e.Ledger].Ledger
			s.ends[e.Client][l] = max(s.ends[e.Client][l], e.End)
		}
		for i := range m.IDs {
			s.find(m, &m.IDs[i])
		}
	}
	return s
}

func (s *summary) note(at *peer.Looked) {
	l := s.looked[at.Ledger]
	if l == nil {
		l = &looked{}
		s.looked[at.Ledger] = l
	}
	if at.All {
		l.all = max(l.all, at.To)
	} else {
		l.to = max(l.to, at.To)
	}
}

// find takes up what an answer says of a packet id, unless another one knows more of
// the ledger: whoever has looked further knows what came after.
func (s *summary) find(m *peer.Collected, p *peer.PacketID) {
	at := &m.Ledgers[p.Ledger]
	for _, other := range s.answers {
		for i := range other.Ledgers {
			o := &other.Ledgers[i]
			if o.Ledger == at.Ledger && !o.All && o.To > at.To && o.From <= p.LSN {
				return
			}
		}
	}
	if s.found[p.Client] == nil {
		s.found[p.Client] = map[uint16][]found{}
	}
	s.found[p.Client][p.ID] = append(s.found[p.Client][p.ID], found{*p, at.Ledger})
}

// deps returns what must be in Kafka before what a client sends from now on. What this
// node has written is, in any case.
func (s *summary) deps(i int) (deps []mark.Dep) {
	for id, l := range s.looked {
		end := s.ends[i][id]
		if l.all > l.to {
			end = max(end, l.all)
		}
		if end > 0 && !s.h.Site.Wrote(id) && s.h.Site.Position(id) < end {
			deps = append(deps, mark.Dep{Ledger: id, End: end})
		}
	}
	slices.SortFunc(deps, func(a, b mark.Dep) int { return slices.Compare(a.Ledger[:], b.Ledger[:]) })
	return deps
}

// ids returns the packet ids that a client has not released, of those that other
// nodes took, or earlier processes of this one; and those of this node's that another has released, or has taken anew. Of
// several ledgers the one with the latest session counts.
func (s *summary) ids(i int) (known []mark.Known, gone []mark.Gone) {
	var cleared *found
	for j := range s.found[i][0] {
		if f := &s.found[i][0][j]; cleared == nil || f.after(cleared) {
			cleared = f
		}
	}
	for id, all := range s.found[i] {
		if id == 0 {
			continue
		}
		last, own := s.latest(all)
		over := last.Released || cleared != nil && cleared.after(last)
		switch mine := s.h.Site.Wrote(last.ledger); {
		case !over && mine && !s.h.Writes(last.ledger):
			known = append(known, mark.Known{PacketID: id, Ledger: last.ledger, LSN: last.LSN, Here: true})
		case !over && !mine:
			known = append(known, mark.Known{PacketID: id, Ledger: last.ledger, LSN: last.LSN, Sum: last.Sum})
			if own > 0 {
				gone = append(gone, mark.Gone{PacketID: id, Epoch: own})
			}
		case over && own > 0 && !(mine && last.Released):
			gone = append(gone, mark.Gone{PacketID: id, Epoch: own})
		}
	}
	return known, gone
}

// latest returns the latest of what is found of a packet id, and in which session this
// node took it last; 0: it has not.
func (s *summary) latest(all []found) (last *found, own uint64) {
	last = &all[0]
	for i := range all {
		f := &all[i]
		if f.after(last) {
			last = f
		}
		if !f.Released && s.h.Site.Wrote(f.ledger) {
			own = max(own, f.Epoch, 1)
		}
	}
	return last, own
}

// after says whether f tells of what came later.
func (f *found) after(g *found) bool {
	switch {
	case f.Epoch != g.Epoch:
		return f.Epoch > g.Epoch
	case f.ledger == g.ledger:
		return f.LSN > g.LSN
	default:
		return f.Released && !g.Released
	}
}
