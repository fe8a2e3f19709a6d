package session

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/topic"
	"github.com/tributary-edge/tributary/log/record"
)

// seeds returns the seeds that a random test is run with: n of them, or what the
// environment says.
//
//	SEED=7 go test -run TestCrash ./ingest/session/         that seed again, the same run
//	SEEDS=100000 go test -run TestCrash ./ingest/session/   more of them
func seeds(t *testing.T, n uint64) []uint64 {
	t.Helper()
	if s := os.Getenv("SEED"); s != "" {
		return []uint64{number(t, s)}
	}
	if s := os.Getenv("SEEDS"); s != "" {
		n = number(t, s)
	}
	all := make([]uint64, n)
	for i := range all {
		all[i] = uint64(i)
	}
	return all
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// D1: over crashes with all that was not flushed lost, checkpoints of any age,
// checkpoints that are ahead and checkpoints that failed: a client gets every
// message that it was promised, unless it was reported as dropped; one of QoS 2
// exactly once.
func TestCrash(t *testing.T) {
	for _, seed := range seeds(t, 400) {
		w := newWorld(t, seed)
		for range 1500 {
			w.step()
			if t.Failed() {
				break
			}
		}
		if !t.Failed() {
			w.finish()
		}
		if t.Failed() {
			t.Fatalf("repeat it with: SEED=%d go test -run TestCrash ./ingest/session/", seed)
		}
	}
}

// A logged is a record of the log of a world: a message, or an event.
type logged struct {
	ledger tributary.LedgerID
	lsn    tributary.LSN
	topic  string // "" for an event
	event  []byte
}

// A world is a node, with a log and a checkpoint, and its clients. It does what
// the package asks of its caller.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	opt     Options
	st      *Store
	log     []logged
	durable int // records of log that a crash leaves
	offered int // records of log that were offered
	ledgers []tributary.LedgerID
	lsn     tributary.LSN
	saved   map[string][]byte // the checkpoint
	from    int               // where a replay begins
	now     time.Time
	copies  int64
	clients []*client

	replaying bool
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 21)), saved: map[string][]byte{}, now: start}
	w.opt = Options{MaxQueued: []int{3, 8, 100_000}[seed%3]}
	w.boot()
	for i := range 3 {
		w.clients = append(w.clients, &client{w: w, id: fmt.Sprint("client ", i)})
		w.clients[i].fresh()
	}
	return w
}

// boot starts the node with a new ledger, whose id says nothing about its age.
func (w *world) boot() {
	w.st = NewStore(w.opt)
	for _, id := range w.ledgers {
		w.st.Begin(id)
	}
	id := tributary.LedgerID{byte(w.rng.Uint32()), byte(w.rng.Uint32()), byte(len(w.ledgers) + 1)}
	w.ledgers, w.lsn = append(w.ledgers, id), 0
	w.st.Begin(id)
}

func (w *world) append(name string, event []byte) (index int) {
	w.log = append(w.log, logged{w.ledgers[len(w.ledgers)-1], w.lsn, name, event})
	w.lsn++
	return len(w.log) - 1
}

// event appends an event, if there is one, and makes it durable.
func (w *world) event(event []byte) {
	if event != nil {
		w.append("", event)
		w.durable = len(w.log)
	}
}

func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(2000)) * time.Millisecond)
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch n := w.rng.IntN(1000); {
	case n < 250:
		w.append(fmt.Sprint("t", w.rng.IntN(3)), nil)
	case n < 350:
		w.durable = len(w.log)
	case n < 500:
		w.deliver(1 + w.rng.IntN(5))
	case n < 650:
		c.pump(1 + w.rng.IntN(4))
	case n < 780:
		c.receive(1 + w.rng.IntN(4))
	case n < 900:
		c.acknowledge(1 + w.rng.IntN(4))
	case n < 930:
		c.toggle()
	case n < 955:
		c.subscribe()
	case n < 960:
		c.retained()
	case n < 985:
		w.checkpoint()
	case n < 990:
		for _, s := range w.st.Expired(w.now) {
			w.event(s.EndedEvent())
		}
	default:
		w.crash()
	}
}

// deliver offers up to n durable records to whoever subscribed to them.
func (w *world) deliver(n int) {
	for ; n > 0 && w.offered < w.durable; n-- {
		w.offer(w.log[w.offered])
		w.offered++
	}
}

func (w *world) offer(e logged) {
	if e.topic != "" {
		w.st.Each(func(s *Session) {
			c := w.client(s.Client)
			for _, sub := range s.Subscriptions() {
				if sub.Filter != e.topic {
					continue
				}
				n := s.Offer(Message{Ledger: e.ledger, LSN: e.lsn, QoS: sub.QoS, IDs: []uint32{sub.ID}})
				c.dropped += n
				c.overflowed = c.overflowed || n > 0
				if !w.replaying {
					c.promised[fmt.Sprint(e.ledger, "@", e.lsn, false)] = true
				}
			}
		})
	}
	w.st.Passed(e.ledger, e.lsn)
}

func (w *world) client(id string) *client {
	i := slices.IndexFunc(w.clients, func(c *client) bool { return c.id == id })
	return w.clients[i]
}

// checkpoint saves what is dirty, with a position that is up to now or older;
// sometimes that fails.
func (w *world) checkpoint() {
	from := w.from + w.rng.IntN(w.offered-w.from+1)
	if w.rng.IntN(2) == 0 {
		from = w.offered
	}
	states := w.st.Dirty()
	if w.rng.IntN(4) == 0 {
		w.st.Redo(states)
		return
	}
	for id, state := range states {
		if state == nil {
			delete(w.saved, id)
		} else {
			w.saved[id] = state
		}
	}
	w.from = from
}

// crash loses all that is not durable, starts the node again, and compares what
// the sessions have with what they had.
func (w *world) crash() {
	w.deliver(len(w.log)) // what a replay will offer, so that the two can be compared
	old := w.st
	w.log = w.log[:w.durable]
	overflowed := map[string]bool{}
	for _, c := range w.clients {
		c.lose()
		overflowed[c.id] = c.overflowed
	}
	w.boot()
	for id, state := range w.saved {
		if err := w.st.Restore(id, state); err != nil {
			w.t.Fatal(err)
		}
	}
	w.replaying = true
	for _, e := range w.log[w.from:] {
		if e.topic != "" {
			w.offer(e)
			continue
		}
		if err := w.st.Replay(e.event); err != nil {
			w.t.Fatal(err)
		}
	}
	w.offered, w.replaying = w.durable, false
	for _, c := range w.clients {
		c.overflowed = overflowed[c.id]
	}
	old.Each(func(s *Session) {
		if s.lasting {
			w.compare(s, w.st.Get(s.Client))
		} else if now := w.st.Get(s.Client); now != nil {
			w.t.Errorf("%s was not to be remembered", s.Client)
		}
	})
}

func (w *world) compare(was, is *Session) {
	if is == nil {
		w.t.Errorf("the session of %s is lost", was.Client)
		return
	}
	if !slices.Equal(is.subs, was.subs) || is.User != was.User || is.expiry != was.expiry || !is.lasting {
		w.t.Errorf("%s: subscriptions %v, expiry %d; were %v and %d", was.Client, is.subs, is.expiry, was.subs, was.expiry)
	}
	if (was.will == nil) != (is.will == nil) || was.will != nil && was.will.Topic != is.will.Topic {
		w.t.Errorf("%s: will %v, was %v", was.Client, is.will, was.will)
	}
	c, items := w.client(was.Client), map[string]*item{}
	for _, l := range []*line{&is.flight, &is.queue} {
		for i := range l.len() {
			items[name(l.at(i))] = l.at(i)
		}
	}
	for _, l := range []*line{&was.flight, &was.queue} {
		for i := range l.len() {
			it := l.at(i)
			if now := items[name(it)]; c.noted[name(it)] && (now == nil || !now.received || now.id != it.id) {
				w.t.Errorf("%s: PUBREC of %s, id %d, is forgotten: %+v", was.Client, name(it), it.id, now)
			}
			if items[name(it)] == nil && !it.copied && !c.overflowed {
				w.t.Errorf("%s: lost %s: %+v", was.Client, name(it), it)
			}
		}
	}
	if n := is.queue.len(); n > w.opt.MaxQueued {
		w.t.Errorf("%s: %d messages wait", was.Client, n)
	}
}

func name(it *item) string {
	return fmt.Sprint(it.at.ledger.id, "@", it.at.lsn, it.copied)
}

// finish lets all clients have what they are owed, and looks for what is missing.
func (w *world) finish() {
	w.durable = len(w.log)
	w.deliver(w.durable)
	for _, c := range w.clients {
		if !c.connected {
			c.toggle()
		}
		for range 3 * len(w.log) {
			c.pump(100)
			w.durable = len(w.log)
			c.receive(100)
			c.acknowledge(100)
		}
		if q, f := c.s.Waiting(); q+f > 0 || len(c.out)+len(c.in) > 0 {
			w.t.Errorf("%s: %d wait and %d are in flight at the end, %d and %d are on their way", c.id, q, f, len(c.out), len(c.in))
		}
		c.missing()
	}
}

// A client is a device, and what the node does for its connection.
type client struct {
	w         *world
	id        string
	s         *Session
	connected bool
	lasting   bool
	window    int
	open      int      // publishes on this connection that are not acknowledged
	out       []packet // to the client
	in        []packet // from the client
	filters   map[string]byte
	dropped   int // messages of this session, replays counted again

	// overflowed says that messages were dropped while others, older ones, were in
	// flight. A replay does not know which were in flight, and drops those: then
	// what is lost is not what was lost, but there is no more of it, and it is counted.
	overflowed bool

	promised map[string]bool   // what it must get in this session
	got      map[string]bool   // what it has got in this session
	once     map[string]bool   // of that, what was QoS 2
	held     map[uint16]string // packet ids of QoS 2 that are not released
	noted    map[string]bool   // of these the PUBREC is durable
	latest   [3]int            // by QoS, how far in the log it has got
}

type packet struct {
	Delivery
	puback, pubrec, pubcomp bool
	event                   int // is durable before the packet is sent
}

// fresh makes it a client that knows of no session.
func (c *client) fresh() {
	c.promised, c.got, c.once, c.held = map[string]bool{}, map[string]bool{}, map[string]bool{}, map[uint16]string{}
	c.filters, c.dropped, c.overflowed = map[string]byte{}, 0, false
	c.latest, c.noted = [3]int{}, map[string]bool{}
}

// lose is what a broken connection does.
func (c *client) lose() {
	c.connected, c.out, c.in, c.open = false, nil, nil, 0
	if !c.lasting {
		c.fresh()
	}
}

func (c *client) toggle() {
	w := c.w
	if c.connected {
		c.s.Detach(w.now)
		if !c.lasting {
			w.st.Drop(c.id)
		}
		c.lose()
		return
	}
	s, present, old, err := w.st.Open(c.id, "user", w.rng.IntN(10) == 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if old != nil {
		w.event(old.EndedEvent())
	}
	if !present {
		c.fresh()
		c.lasting = w.rng.IntN(4) > 0
	}
	expiry := []uint32{Never, 3600, 3}[w.rng.IntN(3)]
	s.SetExpiry(expiry, c.lasting)
	w.event(s.OpenedEvent())
	s.SetWill([]*Will{nil, {Topic: fmt.Sprint("will ", len(w.log))}}[w.rng.IntN(2)])
	w.event(s.WillEvent())
	c.s, c.connected, c.window = s, true, 1+w.rng.IntN(6)
	if w.rng.IntN(2) == 0 {
		s.next, s.clear = 1+uint16(w.rng.IntN(8)), 0 // as if 65,535 ids had gone by
	}
	s.Attach(c.window)
}

// subscribe subscribes or unsubscribes, at a moment when all is delivered, so
// that it is known what is promised.
func (c *client) subscribe() {
	if !c.connected {
		return
	}
	w := c.w
	w.durable = len(w.log)
	w.deliver(w.durable)
	filter := fmt.Sprint("t", w.rng.IntN(3))
	if _, has := c.filters[filter]; has && w.rng.IntN(2) == 0 {
		delete(c.filters, filter)
		if !c.s.Unsubscribe(filter) {
			w.t.Errorf("%s: had not subscribed to %s", c.id, filter)
		}
		w.event(c.s.UnsubscribedEvent(filter))
		return
	}
	sub := topic.Subscription{Filter: filter, QoS: 1 + byte(w.rng.IntN(2)), ID: uint32(w.rng.IntN(3))}
	if _, err := c.s.Subscribe(sub); err != nil {
		w.t.Fatal(err)
	}
	w.event(c.s.SubscribedEvent(sub))
	w.deliver(w.durable)
	c.filters[filter] = sub.QoS
}

// retained offers a retained message: a copy.
func (c *client) retained() {
	if !c.connected {
		return
	}
	c.w.copies++
	n := c.s.Offer(Message{
		Ledger: c.w.ledgers[0], LSN: tributary.LSN(1e6 + c.w.copies), QoS: 1 + byte(c.w.rng.IntN(2)), Retain: true,
		Copy: &record.Entry{Offset: c.w.copies, Record: record.Record{Value: []byte("v")}},
	})
	c.dropped += n
}

// pump takes what is due.
func (c *client) pump(n int) {
	if !c.connected {
		return
	}
	for range n {
		d, ok := c.s.Take()
		if !ok {
			return
		}
		if d.QoS == 2 && (d.Event != nil) != c.lasting {
			c.w.t.Errorf("%s: lasting %v, event % x of %+v", c.id, c.lasting, d.Event, d)
		}
		c.out = append(c.out, packet{Delivery: d, event: c.event(d.Event)})
	}
}

func (c *client) event(event []byte) int {
	if event == nil {
		return -1
	}
	return c.w.append("", event)
}

// receive lets the client have what was sent, in its order.
func (c *client) receive(n int) {
	for ; n > 0 && len(c.out) > 0 && c.out[0].event < c.w.durable; n-- {
		p := c.out[0]
		c.out = c.out[1:]
		if p.Release {
			if what, holds := c.held[p.PacketID]; holds && c.lasting {
				c.noted[what] = true
			}
			delete(c.held, p.PacketID)
			c.in = append(c.in, packet{Delivery: p.Delivery, pubcomp: true})
			continue
		}
		c.publish(p)
		c.open++
		if c.open > c.window {
			c.w.t.Errorf("%s: %d messages in a window of %d", c.id, c.open, c.window)
		}
	}
}

func (c *client) publish(p packet) {
	t := c.w.t
	what := fmt.Sprint(p.Ledger, "@", p.LSN, p.Copy != nil)
	if (p.Copy != nil) != p.Retain || p.Copy != nil && (string(p.Copy.Value) != "v" || p.Copy.Offset != int64(p.LSN-1e6)) {
		t.Errorf("%s: a copy that is none: %+v", c.id, p.Delivery)
	}
	held, holds := c.held[p.PacketID]
	switch {
	case p.QoS == 1:
		c.in = append(c.in, packet{Delivery: p.Delivery, puback: true})
	case holds && (held != what || !p.Dup):
		t.Errorf("%s: %s with the id of %s, DUP %v: the client would drop it", c.id, what, held, p.Dup)
	case !holds && c.once[what]:
		t.Errorf("%s: %s of QoS 2 came twice", c.id, what)
	case p.QoS == 2:
		c.held[p.PacketID], c.once[what] = what, true
		fallthrough
	default:
		c.in = append(c.in, packet{Delivery: p.Delivery, pubrec: true})
	}
	if holds && p.QoS == 1 {
		t.Errorf("%s: %s of QoS 1 has an id that is in use", c.id, what)
	}
	if p.Copy == nil && !c.promised[what] {
		t.Errorf("%s: %s was published before it had subscribed, or after", c.id, what)
	}
	if place := c.w.place(p.Message); p.Copy == nil && !c.got[what] {
		if place <= c.latest[p.QoS] && !c.overflowed { // what was dropped may come after all, late, with a replay
			t.Errorf("%s: %s of QoS %d is out of order", c.id, what, p.QoS)
		}
		c.latest[p.QoS] = place
	}
	c.got[what] = true
}

// place returns where in the log a message is.
func (w *world) place(m Message) int {
	return 1 + slices.IndexFunc(w.log, func(e logged) bool { return e.ledger == m.Ledger && e.lsn == m.LSN })
}

// acknowledge gives the node what the client has answered.
func (c *client) acknowledge(n int) {
	for ; n > 0 && len(c.in) > 0; n-- {
		p := c.in[0]
		c.in = c.in[1:]
		known := true
		var event []byte
		switch {
		case p.puback:
			known = c.s.Puback(p.PacketID)
			c.open--
		case p.pubrec:
			known, event = c.s.Pubrec(p.PacketID, false)
			c.out = append(c.out, packet{Delivery: Delivery{PacketID: p.PacketID, Release: true}, event: c.event(event)})
		case p.pubcomp:
			known = c.s.Pubcomp(p.PacketID)
			c.open = max(c.open-1, 0) // it may be of an earlier connection's
		}
		if !known {
			c.w.t.Errorf("%s: the node does not know %+v", c.id, p)
		}
	}
}

// missing looks for promised messages that did not come.
func (c *client) missing() {
	var lost []string
	for what := range c.promised {
		if !c.got[what] {
			lost = append(lost, what)
		}
	}
	if len(lost) > c.dropped {
		slices.SortFunc(lost, cmp.Compare)
		c.w.t.Errorf("%s: %d promised, %d dropped, %d missing: %v", c.id, len(c.promised), c.dropped, len(lost), lost)
	}
}

// A state that is gone from the checkpoint, and states of clients that are not
// there, leave nothing behind.
func TestDirty(t *testing.T) {
	st := NewStore(Options{})
	s := open(t, st, "lasting")
	if _, _, _, err := st.Open("other", "", false); err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(maps.Keys(st.Dirty())); !slices.Equal(got, []string{"lasting"}) {
		t.Errorf("dirty: %v", got)
	}
	if got := st.Dirty(); len(got) > 0 {
		t.Errorf("nothing has changed, and %v is dirty", got)
	}
	for name, change := range map[string]func(){
		"offer":     func() { s.Offer(at(ledgerA, 1, 1)) },
		"attach":    func() { s.Attach(1) },
		"take":      func() { s.Take() },
		"puback":    func() { s.Puback(1) },
		"subscribe": func() { _, _ = s.Subscribe(topic.Subscription{Filter: "a"}) },
		"will":      func() { s.SetWill(nil) },
		"expiry":    func() { s.SetExpiry(1, true) },
		"detach":    func() { s.Detach(start) },
	} {
		st.Dirty()
		change()
		if name == "take" || name == "puback" {
			continue // it depends on the order
		}
		if got := st.Dirty(); got["lasting"] == nil {
			t.Errorf("%s: not dirty", name)
		}
	}
	st.Dirty()
	s.SetWill(nil)
	states := st.Dirty()
	st.Redo(states)
	if got := st.Dirty(); len(states) != 1 || len(got) != 1 {
		t.Errorf("redo: %v of %v", got, states)
	}
	st.Drop("lasting")
	if state, ok := st.Dirty()["lasting"]; !ok || state != nil {
		t.Error("the end of the session is not said")
	}
}
