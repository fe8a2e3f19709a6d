package session

import (
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
	given  *given // not nil: a note of what was given of another ledger
}

// An elsewhere is a ledger of another node, which never loses anything.
type elsewhere struct {
	id      tributary.LedgerID
	log     []logged
	offered int // records of log that were
	placed  int // below: the own log knows
	saved   int // offered, by the checkpoint
}

// A given is what was offered of another ledger.
type given struct {
	of       *elsewhere
	from, to int
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
	others  []*elsewhere

	replaying bool
	crashes   int
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 21)), saved: map[string][]byte{}, now: start}
	w.opt = Options{MaxQueued: []int{3, 8, 100_000}[seed%3]}
	for i := range seed % 3 {
		w.others = append(w.others, &elsewhere{id: tributary.LedgerID{byte(w.rng.Uint32()), byte(i), 0xee}})
	}
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
	for _, o := range w.others {
		w.st.BeginOther(o.id)
	}
}

// place notes what was offered of other ledgers.
func (w *world) place() {
	for _, o := range w.others {
		if o.placed < o.offered {
			g := &given{o, o.placed, o.offered}
			o.placed = o.offered
			w.log = append(w.log, logged{ledger: w.ledgers[len(w.ledgers)-1], lsn: w.lsn, given: g})
			w.lsn++
		}
	}
}

func (w *world) append(name string, event []byte) (index int) {
	if event != nil {
		w.place()
	}
	w.log = append(w.log, logged{ledger: w.ledgers[len(w.ledgers)-1], lsn: w.lsn, topic: name, event: event})
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
	case n < 250 && len(w.others) > 0 && w.rng.IntN(2) == 0:
		o := w.others[w.rng.IntN(len(w.others))]
		o.log = append(o.log, logged{ledger: o.id, lsn: tributary.LSN(len(o.log)), topic: fmt.Sprint("t", w.rng.IntN(3))})
	case n < 250:
		w.append(fmt.Sprint("t", w.rng.IntN(3)), nil)
	case n < 350:
		w.durable = len(w.log)
	case n < 500:
		w.deliver(1 + w.rng.IntN(5))
		for _, o := range w.others {
			w.follow(o, o.offered+w.rng.IntN(3))
		}
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

// follow offers what there is of another ledger up to some record.
func (w *world) follow(o *elsewhere, to int) {
	for ; o.offered < min(to, len(o.log)); o.offered++ {
		w.offer(o.log[o.offered])
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
	given := make([]int, len(w.others))
	for i, o := range w.others {
		given[i] = o.offered
		if w.rng.IntN(3) == 0 { // the states are ahead of it
			w.follow(o, len(o.log))
		}
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
	for i, o := range w.others {
		o.saved = given[i]
	}
}

// crash loses all that is not durable, starts the node again, and compares what
// the sessions have with what they had.
func (w *world) crash() {
	w.deliver(len(w.log)) // what a replay will offer, so that the two can be compared
	for _, o := range w.others {
		w.follow(o, len(o.log))
	}
	old := w.st
	w.crashes++
	w.log = w.log[:w.durable]
	overflowed := map[string]bool{}
	for _, c := range w.clients {
		c.lose()
		overflowed[c.id] = c.overflowed
	}
	if w.rng.IntN(4) == 0 { // it depends on how many sessions there are; then a replay could keep what was dropped
		w.opt.MaxQueued++
	}
	w.boot()
	for _, o := range w.others {
		o.offered, o.placed = o.saved, o.saved
	}
	for id, state := range w.saved {
		if err := w.st.Restore(id, state); err != nil {
			w.t.Fatal(err)
		}
	}
	w.replaying = true
	for _, e := range w.log[w.from:] {
		switch {
		case e.topic != "":
			w.offer(e)
			continue
		case e.given != nil:
			o := e.given.of
			o.offered = max(o.offered, e.given.from)
			w.follow(o, e.given.to)
			o.placed = max(o.placed, e.given.to)
			continue
		}
		if err := w.st.Replay(e.event); err != nil {
			w.t.Fatal(err)
		}
	}
	w.offered, w.replaying = w.durable, false
	for _, o := range w.others {
		w.follow(o, len(o.log))
	}
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
			if items[name(it)] == nil && it.origin != copied && !c.overflowed {
				w.t.Errorf("%s: lost %s: %+v", was.Client, name(it), it)
			}
		}
	}
	if n := is.queue.len(); n > w.opt.MaxQueued {
		w.t.Errorf("%s: %d messages wait", was.Client, n)
	}
}

func name(it *item) string {
	return fmt.Sprint(it.at.ledger.id, "@", it.at.lsn, it.origin == copied)
}

// finish lets all clients have what they are owed, and looks for what is missing.
func (w *world) finish() {
	w.durable = len(w.log)
	w.deliver(w.durable)
	for _, o := range w.others {
		w.follow(o, len(o.log))
	}
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
