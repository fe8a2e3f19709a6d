package edge

import (
	"slices"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest"
	"github.com/tributary-edge/tributary/log/group"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/peer"
)

// A fanout sees to it that the subscribers of this gateway get what others take
// (R53). It reads the copies that lie here: as long as somebody subscribes to
// something, this gateway says so to the others, and each of them has it keep a copy
// of what it writes, whoever else does. What is durable in the copy is given: it is
// then on two disks, and goes to Kafka whoever dies, so it need not wait for what
// the writer tells its devices. Nothing is written here for it.
type fanout struct {
	door *ingest.Door
	log  *store.Log
	news func() // something was taken from others, and somebody here subscribes

	mu         sync.Mutex // guards what follows; the door's locks are taken under it
	writers    map[tributary.NodeID]*writer
	wroteBy    map[tributary.LedgerID]tributary.NodeID
	ends       map[tributary.LedgerID]tributary.LSN // below: durable here
	asked      map[tributary.LedgerID]tributary.LSN // below: the door was asked for it, or it is no news
	holds      map[tributary.LedgerID]tributary.LSN // from there on the log keeps the copy for subscribers
	subscribed map[tributary.NodeID]bool            // others whose clients subscribe to something
	saved      map[tributary.LedgerID]ingest.Followed
}

// A writer is another gateway.
type writer struct {
	ledgers []peer.Held // what it wrote, in its order; the live one is the last
	known   bool        // it was heard of, or an earlier process has followed it: what it writes from then on is news

	waits tributary.LedgerID // of it more is to come than is here: later ones wait,
	at    tributary.LSN      // as long as it is not too long that it ends here
	since time.Time
}

// fanoutPatience is how long the ledgers of a writer wait for the rest of an earlier
// one, so that subscribers get what it took in its order.
const fanoutPatience = 10 * time.Second

func newFanout(door *ingest.Door, log *store.Log, news func()) *fanout {
	f := &fanout{
		door: door, log: log, news: news, writers: map[tributary.NodeID]*writer{}, wroteBy: map[tributary.LedgerID]tributary.NodeID{},
		ends: map[tributary.LedgerID]tributary.LSN{}, asked: map[tributary.LedgerID]tributary.LSN{},
		holds: map[tributary.LedgerID]tributary.LSN{}, subscribed: map[tributary.NodeID]bool{},
	}
	return f
}

// begin goes on where an earlier process has come to. It is called after the replay,
// before anybody is let in.
func (f *fanout) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saved = f.door.Followed()
	for id, was := range f.saved {
		f.wroteBy[id], f.asked[id], f.holds[id] = was.Writer, was.Next, was.Next
		f.writer(was.Writer).known = true
	}
	for _, l := range f.log.Ledgers() {
		if !l.Copy {
			continue
		}
		f.ends[l.ID] = l.To
		if by, ok := f.wroteBy[l.ID]; ok {
			w := f.writer(by)
			w.ledgers = append(w.ledgers, peer.Held{Ledger: l.ID, Base: l.From, Durable: l.To})
		}
	}
	for id, w := range f.writers {
		f.advance(id, w, time.Now())
	}
}

func (f *fanout) writer(id tributary.NodeID) *writer {
	w := f.writers[id]
	if w == nil {
		w = &writer{}
		f.writers[id] = w
	}
	return w
}

// heard takes what another gateway says of itself.
func (f *fanout) heard(from tributary.NodeID, st *peer.Status, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subscribed[from] = st.Subscribers
	w := f.writer(from)
	own := slices.DeleteFunc(slices.Clone(st.Held), func(h peer.Held) bool { return !h.Own })
	earlier := slices.DeleteFunc(w.ledgers, func(h peer.Held) bool {
		return slices.ContainsFunc(own, func(o peer.Held) bool { return o.Ledger == h.Ledger })
	})
	for i := range earlier {
		earlier[i].Durable = f.ends[earlier[i].Ledger] // it has no more of it
	}
	w.ledgers = append(earlier, own...)
	for i := range own {
		id := own[i].Ledger
		f.wroteBy[id] = from
		if _, known := f.asked[id]; !known && !w.known { // what it took before this gateway knew it is no news
			f.start(from, id, own[i].Durable)
		}
	}
	w.known = true // what it begins later is news: of a ledger without a record it does not tell
	f.advance(from, w, now)
}

// start takes up a ledger, of which all from a record on is news.
func (f *fanout) start(by tributary.NodeID, id tributary.LedgerID, at tributary.LSN) {
	f.asked[id], f.holds[id] = f.door.Follow(by, id, at, at), at
}

// kept is told what is durable of a copy. The committer calls it.
func (f *fanout) kept(id tributary.LedgerID, next tributary.LSN) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[id] = max(f.ends[id], next)
	if by, ok := f.wroteBy[id]; ok {
		f.advance(by, f.writer(by), time.Now())
	}
}

// advance gives what is here of a writer's ledgers, one after the other.
func (f *fanout) advance(by tributary.NodeID, w *writer, now time.Time) {
	wanted := f.door.Subscribed()
	for i := range w.ledgers {
		h := &w.ledgers[i]
		end, here := f.ends[h.Ledger]
		if !wanted {
			end, here = max(end, h.Durable), true // nobody is there who could miss it
		}
		if _, known := f.asked[h.Ledger]; !known && here {
			base, _, _, _ := f.log.Held(h.Ledger)
			f.start(by, h.Ledger, base)
		}
		if here {
			f.asked[h.Ledger] = f.door.Follow(by, h.Ledger, 0, end)
		}
		if i == len(w.ledgers)-1 || f.asked[h.Ledger] >= h.Durable {
			continue
		}
		if w.waits != h.Ledger || w.at != end {
			w.waits, w.at, w.since = h.Ledger, end, now
		}
		if now.Sub(w.since) < fanoutPatience {
			break
		}
	}
	if wanted {
		f.news()
	}
}

// pulls returns what this gateway wants to have of another one for its subscribers:
// the rest of what it wrote before its present ledger, whether Kafka has it or not.
func (f *fanout) pulls(of tributary.NodeID) (all []peer.Pull) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.writers[of]
	if w == nil || len(w.ledgers) == 0 || !f.door.Subscribed() {
		return nil
	}
	for _, h := range w.ledgers[:len(w.ledgers)-1] {
		if end := f.ends[h.Ledger]; f.asked[h.Ledger] < h.Durable {
			all = append(all, peer.Pull{Ledger: h.Ledger, From: end})
		}
	}
	return all
}

// wants says whether another gateway has subscribers, and so is to have a copy of
// all that this one takes.
func (f *fanout) wants(node tributary.NodeID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.subscribed[node]
}

// mostRecent is how many ledgers others are told of that Kafka has all of: a gateway
// that was away for so many starts of this one can give its subscribers all of it.
const mostRecent = 4

// recent returns the last ledgers of this gateway, if somebody subscribes elsewhere.
func (f *fanout) recent(all []store.LedgerInfo) map[tributary.LedgerID]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := map[tributary.LedgerID]bool{}
	for _, does := range f.subscribed {
		for i := len(all) - 1; does && i >= 0 && len(last) < mostRecent; i-- {
			if !all[i].Copy {
				last[all[i].ID] = true
			}
		}
	}
	return last
}

// limit returns up to where the log may give up what it has of a ledger, of which
// Kafka has all below next: not what subscribers here are owed.
func (f *fanout) limit(id tributary.LedgerID, next tributary.LSN) tributary.LSN {
	if !f.door.Subscribed() {
		return next
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if hold, held := f.holds[id]; held {
		return min(next, hold)
	}
	return next
}

// hold notes what the checkpoint has, and what subscribers are owed beside. Without
// subscribers, and when room is short (owed is nil), nothing is kept for them.
func (f *fanout) hold(given map[tributary.LedgerID]ingest.Followed, owed map[tributary.LedgerID]tributary.LSN) {
	wanted := f.door.Subscribed()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saved = given
	clear(f.holds)
	if owed == nil || !wanted {
		return
	}
	for id, g := range given {
		f.holds[id] = g.Next
		if oldest, some := owed[id]; some {
			f.holds[id] = min(g.Next, oldest)
		}
	}
}

// forget drops ledgers that nobody has any more.
func (f *fanout) forget(held map[tributary.LedgerID]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, by := range f.wroteBy {
		w := f.writer(by)
		last := len(w.ledgers) - 1
		said := slices.ContainsFunc(w.ledgers, func(h peer.Held) bool { return h.Ledger == id && h.Durable > f.ends[id] })
		if held[id] || said || last < 0 || w.ledgers[last].Ledger == id {
			continue
		}
		w.ledgers = slices.DeleteFunc(w.ledgers, func(h peer.Held) bool { return h.Ledger == id })
		delete(f.wroteBy, id)
		delete(f.ends, id)
		delete(f.asked, id)
		delete(f.holds, id)
		f.door.Unfollow(id)
	}
}

// changed says whether the checkpoint lacks what subscribers were given since.
func (f *fanout) changed() bool {
	if f == nil || !f.door.Subscribed() {
		return false
	}
	now := f.door.Followed()
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, g := range now {
		if f.saved[id].Next != g.Next {
			return true
		}
	}
	return false
}

// limit, given and hold are those of the fanout, if there is one.
func (s *site) limit(id tributary.LedgerID, next tributary.LSN) tributary.LSN {
	if s == nil {
		return next
	}
	return s.fan.limit(id, next)
}

func (s *site) given() bool { return s != nil && s.fan.changed() }

func (s *site) hold(given map[tributary.LedgerID]ingest.Followed, owed map[tributary.LedgerID]tributary.LSN, held map[tributary.LedgerID]bool) {
	if s == nil {
		return
	}
	s.fan.hold(given, owed)
	s.fan.forget(held)
}

// AppendCopy implements replica.Log, and has subscribers given what was added.
func (c copied) AppendCopy(s *group.Sealed, done func(error)) error {
	fan := c.site.fan
	if end, _, _ := c.CopyEnd(s.Ledger); s.Base > end { // the writer has given up what lies between, and so must subscribers here
		c.Log.Forwarded(s.Ledger, c.site.position(s.Ledger))
	}
	id, next := s.Ledger, s.Next()
	return c.Log.AppendCopy(s, func(err error) {
		done(err)
		if err == nil {
			fan.kept(id, next)
		}
	})
}

// Forwarded implements replica.Log.
func (c copied) Forwarded(id tributary.LedgerID, next tributary.LSN) {
	c.Log.Forwarded(id, c.site.fan.limit(id, next))
}
