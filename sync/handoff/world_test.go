package handoff

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/sync/peer"
)

// A world is a site in a synctest bubble: gateways with logs in memory that copy to
// each other, a network that delays and loses, and devices that roam.
type world struct {
	t    *testing.T
	seed uint64

	mu    sync.Mutex // guards all
	rng   *rand.Rand
	nodes []*gateway
	loss  int // of a hundred messages
	takes int // hand-offs that were checked
	flags int // of these, those without a promise
}

// A gateway is a node of the world. What is in logs outlives its process.
type gateway struct {
	w       *world
	id      tributary.NodeID
	logs    map[tributary.LedgerID]*copyOf
	order   []tributary.LedgerID
	own     map[tributary.LedgerID]bool
	process *process // nil: it is down
	deaf    bool     // nothing comes in
}

// A copyOf is what a gateway has of a ledger.
type copyOf struct {
	entries []record.Entry
	durable int
}

// A process is one life of a gateway.
type process struct {
	g        *gateway
	nonce    uint64
	live     tributary.LedgerID
	handoffs *Handoffs
	stop     context.CancelFunc
	ended    chan struct{}
	heard    map[*gateway]time.Time
	cut      map[*gateway]cutAt
	acked    map[*gateway]int // of the live ledger, what the peer has durably
	pending  []waiting        // for copies
	clients  map[string]*conn // of devices
	short    bool
}

type cutAt struct {
	at     time.Time
	except uint64
}

type waiting struct {
	lsn  int
	at   time.Time
	tell func()
}

// A conn is a connection of a device.
type conn struct{ closed bool }

const (
	grace    = 5 * time.Second
	aliveFor = 5 * time.Second
)

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func (w *world) soon(most time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(most)))
}

// send has f called at another gateway after a while, or never. mu is held.
func (w *world) send(to *gateway, f func(*process)) {
	if !w.chance(w.loss) && !to.deaf {
		w.deliver(to, 40*time.Millisecond, f)
	}
}

func (w *world) deliver(to *gateway, most time.Duration, f func(*process)) {
	time.AfterFunc(w.soon(most), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if to.process != nil {
			f(to.process)
		}
	})
}

func (g *gateway) copy(id tributary.LedgerID) *copyOf {
	c := g.logs[id]
	if c == nil {
		c = &copyOf{}
		g.logs[id] = c
		g.order = append(g.order, id)
	}
	return c
}

// start begins a life of a gateway. mu is held.
func (g *gateway) start() {
	w := g.w
	p := &process{
		g: g, nonce: w.rng.Uint64(), live: tributary.LedgerID{byte(w.rng.Uint32()), byte(w.rng.Uint32()), byte(w.rng.Uint32()), g.id[0]}, ended: make(chan struct{}),
		heard: map[*gateway]time.Time{}, cut: map[*gateway]cutAt{}, acked: map[*gateway]int{}, clients: map[string]*conn{},
	}
	g.own[p.live] = true
	p.handoffs = New(Config{
		Writes: func(l tributary.LedgerID) bool { return l == p.live },
		Self:   func() peer.Process { return peer.Process{Node: g.id, Nonce: p.nonce} },
		Site:   p, Log: p, Index: NewIndex(p, p.Position), Close: p.close, Append: p.mark, Copies: func() int { return 1 }, Grace: grace,
	})
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	g.process = p
	go func() { defer close(p.ended); p.handoffs.Run(ctx) }()
	go p.live1(ctx)
}

// end ends a life; the power may be cut, which takes what is not durable along. mu is
// held.
func (g *gateway) end(powerCut bool) {
	g.process.stop()
	for _, c := range g.process.clients {
		c.closed = true
	}
	g.process = nil
	if !powerCut {
		return
	}
	for _, c := range g.logs {
		c.entries = c.entries[:c.durable]
	}
}

// live1 is what a process does all the time.
func (p *process) live1(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		p.g.w.mu.Lock()
		if ctx.Err() == nil {
			if p.g.w.chance(60) {
				p.flush()
			}
			p.replicate()
			p.acknowledge()
			if n%20 == 0 {
				p.sayStatus()
			}
		}
		p.g.w.mu.Unlock()
	}
}

// flush makes durable all that this gateway has, and tells those who wrote it.
func (p *process) flush() {
	g := p.g
	for id, c := range g.logs {
		if c.durable == len(c.entries) {
			continue
		}
		c.durable = len(c.entries)
		for _, to := range g.w.nodes {
			if to != g && to.own[id] {
				durable := c.durable
				g.w.send(to, func(q *process) {
					if q.live == id {
						q.acked[g] = max(q.acked[g], durable)
						q.acknowledge()
					}
				})
			}
		}
	}
}

// replicate streams the live ledger to one other gateway, which has a part of it.
func (p *process) replicate() {
	g := p.g
	mine := g.logs[p.live]
	if mine == nil {
		return
	}
	to := g.w.nodes[(slices.Index(g.w.nodes, g)+1)%len(g.w.nodes)]
	from := min(p.acked[to], mine.durable)
	part, sent, nonce, id := slices.Clone(mine.entries[from:mine.durable]), time.Now(), p.nonce, p.live
	g.w.send(to, func(q *process) {
		if cut, was := q.cut[g]; was && !sent.After(cut.at) && cut.except != nonce {
			return
		}
		c := q.g.copy(id)
		if have := len(c.entries); from <= have && have < from+len(part) {
			c.entries = append(c.entries, part[have-from:]...)
		} else if have := c.durable; have > from { // it may not know
			g.w.send(g, func(p *process) {
				if p.live == id {
					p.acked[q.g] = max(p.acked[q.g], have)
				}
			})
		}
	})
}

// acknowledge tells devices what is on two disks, or after a while on one.
func (p *process) acknowledge() {
	mine := p.g.logs[p.live]
	for len(p.pending) > 0 {
		next := &p.pending[0]
		safe := 0
		for _, n := range p.acked {
			safe = max(safe, n)
		}
		if next.lsn >= mine.durable {
			return
		}
		if next.lsn >= safe {
			if time.Since(next.at) < grace {
				return
			}
			p.short = true // and for ever, so that this life promises nothing any more
		}
		next.tell()
		p.pending = p.pending[1:]
	}
}

func (p *process) sayStatus() {
	sent, g := time.Now(), p.g
	for _, to := range g.w.nodes {
		if to == g {
			continue
		}
		g.w.send(to, func(q *process) {
			q.heard[g] = time.Now()
			e := &peer.Echo{Copies: 1}
			if !q.short && !q.unprotected() {
				slack := grace
				if len(q.pending) > 0 {
					slack -= time.Since(q.pending[0].at)
				}
				e.SlackMillis = uint64(max(0, slack.Milliseconds()))
			}
			from := &peer.Hello{Node: q.g.id, Nonce: q.nonce}
			g.w.send(g, func(p *process) { p.handoffs.Echoed(from, sent, e) })
		})
	}
}

// unprotected says whether there are records of earlier lives that nobody else has.
func (p *process) unprotected() bool {
	for id, c := range p.g.logs {
		if id == p.live || len(c.entries) == 0 {
			continue
		}
		lives, held := false, false
		for _, g := range p.g.w.nodes {
			lives = lives || g.process != nil && g.process.live == id
			held = held || g != p.g && g.logs[id] != nil && g.logs[id].durable >= len(c.entries)
		}
		if !lives && !held {
			return true
		}
	}
	return false
}

// What follows implements Site, Log and Reader. The methods that Handoffs call take mu.

func (p *process) Members() (all []tributary.NodeID) {
	for _, g := range p.g.w.nodes {
		if g != p.g {
			all = append(all, g.id)
		}
	}
	return all
}

func (p *process) node(id tributary.NodeID) *gateway {
	return p.g.w.nodes[slices.IndexFunc(p.g.w.nodes, func(g *gateway) bool { return g.id == id })]
}

func (p *process) Alive(n tributary.NodeID) bool {
	p.g.w.mu.Lock()
	defer p.g.w.mu.Unlock()
	return time.Since(p.heard[p.node(n)]) < aliveFor
}

func (p *process) Say(to tributary.NodeID, m peer.Message) bool {
	w := p.g.w
	w.mu.Lock()
	defer w.mu.Unlock()
	other, self := p.node(to), peer.Hello{Node: p.g.id, Nonce: p.nonce}
	if other.process == nil {
		return false
	}
	w.send(other, func(q *process) {
		from := peer.Hello{Node: q.g.id, Nonce: q.nonce}
		go func() {
			said := q.handoffs.Answer(context.Background(), &self, m)
			if said == nil {
				return
			}
			b := peer.Encode(nil, said)
			again, err := peer.Decode(b[4], b[5:])
			if err != nil {
				w.t.Error(err)
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if q.g.process == q {
				w.send(p.g, func(p *process) { p.handoffs.Answered(&from, again) })
			}
		}()
	})
	return true
}

func (p *process) CloseStreams(_ context.Context, of []peer.Process, silent []tributary.NodeID) error {
	p.g.w.mu.Lock()
	defer p.g.w.mu.Unlock()
	for _, o := range of {
		if o.Node != p.g.id {
			p.cut[p.node(o.Node)] = cutAt{time.Now(), o.Nonce}
		}
	}
	for _, n := range silent {
		p.cut[p.node(n)] = cutAt{at: time.Now()}
	}
	return nil
}

func (p *process) Holders(l tributary.LedgerID, lsn tributary.LSN) (n int) { return 1 }

func (p *process) Position(tributary.LedgerID) tributary.LSN { return 0 }

func (p *process) Wrote(l tributary.LedgerID) bool { return p.g.own[l] }

func (p *process) Held() (all []Held) {
	p.g.w.mu.Lock()
	defer p.g.w.mu.Unlock()
	for _, id := range p.g.order {
		if c := p.g.logs[id]; c.durable > 0 {
			all = append(all, Held{Ledger: id, To: tributary.LSN(c.durable)})
		}
	}
	return all
}

func (p *process) Settle(ctx context.Context) error {
	p.g.w.mu.Lock()
	wait := p.g.w.soon(20 * time.Millisecond)
	p.g.w.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.g.w.mu.Lock()
	defer p.g.w.mu.Unlock()
	if p.g.process != p {
		return errors.New("the process has ended")
	}
	p.flush()
	return nil
}

func (p *process) Read(id tributary.LedgerID) (Reader, error) { return &reader{p.g, id}, nil }

type reader struct {
	g  *gateway
	id tributary.LedgerID
}

func (r *reader) GroupStart(lsn tributary.LSN) tributary.LSN { return lsn }
func (r *reader) Close()                                     {}

func (r *reader) Read(_ context.Context, from tributary.LSN, _ int) (record.Chunk, error) {
	r.g.w.mu.Lock()
	defer r.g.w.mu.Unlock()
	c := r.g.logs[r.id]
	if int(from) >= c.durable {
		return record.Chunk{}, io.EOF
	}
	return record.Chunk{From: from, Next: tributary.LSN(c.durable), Entries: slices.Clone(c.entries[from:c.durable])}, nil
}

// append adds a record to the live ledger. mu is held.
func (p *process) append(r record.Record) int {
	c := p.g.copy(p.live)
	c.entries = append(c.entries, record.Entry{LSN: tributary.LSN(len(c.entries)), Record: r})
	return len(c.entries) - 1
}

func (p *process) mark(r *record.Record) error {
	p.g.w.mu.Lock()
	defer p.g.w.mu.Unlock()
	if p.g.process != p {
		return errors.New("the process has ended")
	}
	p.append(*r)
	return nil
}

func (p *process) close(_ context.Context, clients []string) error {
	p.g.w.mu.Lock()
	defer p.g.w.mu.Unlock()
	for _, id := range clients {
		if c := p.clients[id]; c != nil {
			c.closed = true
			delete(p.clients, id)
		}
	}
	return nil
}

// message returns the record of a QoS 2 message, whose packet id is its number.
func message(client string, id uint16, a *Arrival, n uint64) record.Record {
	s := mark.Stamp{Epoch: a.Epoch, N: n}
	if a.Unverified {
		s.Flags = mark.Unverified
	}
	return record.Record{Stream: "s", Value: []byte(fmt.Sprint(id)), Headers: []record.Header{
		{Key: headerTopic, Value: []byte("t")},
		{Key: headerClientID, Value: []byte(client)},
		{Key: headerQoS, Value: []byte("2")},
		{Key: headerPacketID, Value: binary.BigEndian.AppendUint16(nil, id)},
		{Key: mark.StampKey, Value: s.Append(nil)},
	}}
}
