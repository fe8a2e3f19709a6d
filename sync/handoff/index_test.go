package handoff

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/sync/peer"
)

// shelf is a log that does not change by itself.
type shelf struct {
	t       *testing.T
	ledgers map[tributary.LedgerID][]record.Entry
	from    map[tributary.LedgerID]tributary.LSN
	broken  bool
	read    int // records
}

func (s *shelf) Held() (all []Held) {
	for id, entries := range s.ledgers {
		all = append(all, Held{id, s.from[id], tributary.LSN(len(entries))})
	}
	return all
}

func (s *shelf) Read(id tributary.LedgerID) (Reader, error) { return &shelfReader{s, id}, nil }
func (s *shelf) Settle(context.Context) error               { return nil }

type shelfReader struct {
	shelf *shelf
	id    tributary.LedgerID
}

func (r *shelfReader) GroupStart(lsn tributary.LSN) tributary.LSN { return lsn - lsn%3 } // groups of three
func (r *shelfReader) Close()                                     {}

func (r *shelfReader) Read(_ context.Context, from tributary.LSN, _ int) (record.Chunk, error) {
	if r.shelf.broken {
		return record.Chunk{}, context.DeadlineExceeded
	}
	all := r.shelf.ledgers[r.id]
	next := min(from+3, tributary.LSN(len(all)))
	r.shelf.read += int(next - from)
	return record.Chunk{From: from, Next: next, Entries: all[from:next]}, nil
}

func (s *shelf) add(id tributary.LedgerID, r record.Record) {
	s.ledgers[id] = append(s.ledgers[id], record.Entry{LSN: tributary.LSN(len(s.ledgers[id])), Record: r})
}

// ending is the end of a packet id of client c.
func ending(key string, id uint16, epoch uint64) record.Record {
	e := mark.Ending{PacketID: id, Epoch: epoch, Client: "c"}
	return record.Record{Key: []byte(key), Value: e.Append(nil)}
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	return &shelf{t: t, ledgers: map[tributary.LedgerID][]record.Entry{}, from: map[tributary.LedgerID]tributary.LSN{}}
}

var x, y, z = tributary.LedgerID{1}, tributary.LedgerID{2}, tributary.LedgerID{3}

// ask returns what the index says of one client: its end and its packet ids by ledger.
func ask(i *Index, client string) (ends map[tributary.LedgerID]tributary.LSN, ids map[tributary.LedgerID][]peer.PacketID, said *peer.Collected) {
	said = i.look([]peer.Device{{ID: "nobody"}, {ID: client}}, make([]uint64, 2))
	ends, ids = map[tributary.LedgerID]tributary.LSN{}, map[tributary.LedgerID][]peer.PacketID{}
	for _, e := range said.Ends {
		if e.Client == 1 {
			ends[said.Ledgers[e.Ledger].Ledger] = e.End
		}
	}
	for _, p := range said.IDs {
		l := said.Ledgers[p.Ledger].Ledger
		ids[l] = append(ids[l], p)
	}
	return ends, ids, said
}

// R42: an index knows the last record of each client that Kafka may lack, in each ledger,
// reads each record once, and forgets what Kafka has.
func TestIndexEnds(t *testing.T) {
	s := newShelf(t)
	position := map[tributary.LedgerID]tributary.LSN{}
	i := NewIndex(s, func(l tributary.LedgerID) tributary.LSN { return position[l] })
	a := &Arrival{Epoch: 7}
	for n := range 10 {
		s.add(x, message([]string{"even", "odd"}[n%2], uint16(n), a, 1))
	}
	h := mark.Handoff{Client: "even", Epoch: 9}
	s.add(y, h.Record())
	if err := i.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	ends, _, said := ask(i, "even")
	if len(ends) != 2 || ends[x] != 9 || ends[y] != 1 || said.Epochs[1] != 9 || said.Epochs[0] != 0 || said.Partial {
		t.Errorf("ends %v, %+v", ends, said)
	}
	s.add(x, message("even", 11, a, 1))
	if err := i.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	position[x] = 10
	if ends, _, _ := ask(i, "even"); ends[x] != 11 {
		t.Errorf("ends %v", ends)
	}
	if ends, _, _ := ask(i, "odd"); len(ends) > 0 {
		t.Errorf("ends %v of what Kafka has", ends)
	}
	if s.read > 15 {
		t.Errorf("it has read %d records of 12", s.read)
	}
}

// R42: what was not looked at, any client may be in: until it was.
func TestIndexBehind(t *testing.T) {
	s := newShelf(t)
	i := NewIndex(s, func(tributary.LedgerID) tributary.LSN { return 0 })
	s.add(x, message("one", 1, &Arrival{}, 1))
	s.broken = true
	if i.Update(t.Context()) == nil {
		t.Error("it has looked")
	}
	if _, _, said := ask(i, "other"); len(said.Ledgers) != 1 || !said.Ledgers[0].All || said.Ledgers[0].To != 1 || !said.Partial {
		t.Errorf("%+v", said)
	}
	s.broken = false
	if err := i.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, said := ask(i, "other"); said.Ledgers[0].All || said.Partial {
		t.Errorf("%+v", said)
	}
	s.add(x, message("one", 2, &Arrival{}, 1)) // durable, and not looked at
	if _, _, said := ask(i, "other"); !said.Ledgers[0].All || said.Ledgers[0].To != 2 {
		t.Errorf("%+v", said)
	}
}

// With too many clients nobody is told apart, until Kafka has what they sent.
func TestIndexCrowded(t *testing.T) {
	s := newShelf(t)
	position := tributary.LSN(0)
	i := NewIndex(s, func(tributary.LedgerID) tributary.LSN { return position })
	i.places = mostPlaces
	s.add(x, message("one", 1, &Arrival{}, 1))
	if err := i.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, said := ask(i, "other"); !said.Ledgers[0].All {
		t.Errorf("%+v", said)
	}
	i.places, position = 0, 1
	s.add(x, message("one", 2, &Arrival{}, 1))
	if err := i.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ends, _, said := ask(i, "one"); said.Ledgers[0].All || ends[x] != 2 {
		t.Errorf("%+v", said)
	}
}

// A start looks at the last records that are in Kafka too, for their packet ids, and at
// no more.
func TestIndexLooksBack(t *testing.T) {
	s := newShelf(t)
	i := NewIndex(s, func(tributary.LedgerID) tributary.LSN { return lookBack + 10 })
	for range lookBack + 10 {
		s.add(x, record.Record{})
	}
	s.ledgers[x][8].Record = message("old", 1, &Arrival{}, 1)
	s.ledgers[x][11].Record = message("new", 1, &Arrival{}, 1)
	if err := i.Update(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ids, _ := ask(i, "old"); len(ids) > 0 {
		t.Errorf("%v", ids)
	}
	if ends, ids, _ := ask(i, "new"); len(ids[x]) != 1 || len(ends) > 0 {
		t.Errorf("%v, %v", ends, ids)
	}
}

// steps are what ledgers say of a client's packet ids, and what follows for a gateway
// that has written ledger z.
func TestPacketIDs(t *testing.T) {
	e1, e2 := &Arrival{Epoch: 1}, &Arrival{Epoch: 2}
	type step struct {
		l tributary.LedgerID
		r record.Record
	}
	for name, c := range map[string]struct {
		steps   []step
		earlier bool // process of this node wrote z
		known   []uint16
		gone    []uint16
	}{
		"taken here before a restart":           {steps: []step{{z, message("c", 5, e1, 1)}}, earlier: true, known: []uint16{5}},
		"and released":                          {steps: []step{{z, message("c", 5, e1, 1)}, {z, ending(mark.ReleaseKey, 5, 1)}}, earlier: true},
		"taken elsewhere":                       {steps: []step{{x, message("c", 5, e1, 1)}}, known: []uint16{5}},
		"of somebody else":                      {steps: []step{{x, message("d", 5, e1, 1)}}},
		"released":                              {steps: []step{{x, message("c", 5, e1, 1)}, {x, ending(mark.ReleaseKey, 5, 1)}}},
		"released by an old program":            {steps: []step{{x, message("c", 5, e1, 1)}, {x, ending(mark.ReleaseKey, 5, 0)}}},
		"released at another gateway":           {steps: []step{{x, message("c", 5, e1, 1)}, {y, ending(mark.ReleaseKey, 5, 2)}}},
		"and used anew there":                   {steps: []step{{x, message("c", 5, e1, 1)}, {y, ending(mark.ReleaseKey, 5, 2)}, {y, message("c", 5, e2, 1)}}, known: []uint16{5}},
		"and released there":                    {steps: []step{{x, message("c", 5, e1, 1)}, {y, ending(mark.ReleaseKey, 5, 2)}, {y, message("c", 5, e2, 1)}, {y, ending(mark.ReleaseKey, 5, 2)}}},
		"taken here":                            {steps: []step{{z, message("c", 5, e1, 1)}}},
		"taken here, released there":            {steps: []step{{z, message("c", 5, e1, 1)}, {x, ending(mark.ReleaseKey, 5, 2)}}, gone: []uint16{5}},
		"taken here, used anew there":           {steps: []step{{z, message("c", 5, e1, 1)}, {x, ending(mark.ReleaseKey, 5, 2)}, {x, message("c", 5, e2, 1)}}, known: []uint16{5}, gone: []uint16{5}},
		"used anew, and over only where it was": {steps: []step{{x, message("c", 5, e1, 1)}, {y, ending(mark.CleanKey, 0, 2)}, {y, message("c", 5, e2, 1)}, {x, ending(mark.ReleaseKey, 5, 1)}}, known: []uint16{5}},
		"a new session at another":              {steps: []step{{x, message("c", 5, e1, 1)}, {y, ending(mark.CleanKey, 0, 2)}}},
		"that uses it anew":                     {steps: []step{{x, message("c", 5, e1, 1)}, {y, ending(mark.CleanKey, 0, 2)}, {y, message("c", 5, e2, 1)}}, known: []uint16{5}},
		"taken here, new session there":         {steps: []step{{z, message("c", 5, e1, 1)}, {y, ending(mark.CleanKey, 0, 2)}}, gone: []uint16{5}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			for _, step := range c.steps {
				s.add(step.l, step.r)
			}
			i := NewIndex(s, func(tributary.LedgerID) tributary.LSN { return 0 })
			if err := i.Update(t.Context()); err != nil {
				t.Fatal(err)
			}
			writes := func(tributary.LedgerID) bool { return !c.earlier }
			b := &batch{h: &Handoffs{Config: Config{Site: writer{}, Writes: writes}}, all: []*arrival{{client: "c"}}}
			sum := b.sum([]*peer.Collected{i.look([]peer.Device{{ID: "c"}}, make([]uint64, 1))})
			known, gone := sum.ids(0)
			var ids []uint16
			for _, k := range known {
				ids = append(ids, k.PacketID)
			}
			var over []uint16
			for _, g := range gone {
				over = append(over, g.PacketID)
				if g.Epoch != 1 {
					t.Errorf("%+v, and this node took it in the first session", g)
				}
			}
			if !slices.Equal(ids, c.known) || !slices.Equal(over, c.gone) {
				t.Errorf("known %v and gone %v, should be %v and %v", ids, over, c.known, c.gone)
			}
		})
	}
}

// writer is a site in which this node has written ledger z.
type writer struct{ Site }

func (writer) Wrote(l tributary.LedgerID) bool           { return l == z }
func (writer) Position(tributary.LedgerID) tributary.LSN { return 0 }

// Of two answers about a ledger the one counts that has looked further, but for what it
// has not looked at.
func TestFurtherAnswerCounts(t *testing.T) {
	p := peer.PacketID{ID: 5, LSN: 4, Epoch: 1}
	short := &peer.Collected{Epochs: []uint64{0}, Held: []bool{false}, Ledgers: []peer.Looked{{Ledger: x, To: 5}}, IDs: []peer.PacketID{p}, Ends: []peer.ClientEnd{{End: 5}}}
	for _, c := range []struct {
		long  peer.Looked
		known int
		end   tributary.LSN
	}{
		{peer.Looked{Ledger: x, To: 9}, 0, 5},
		{peer.Looked{Ledger: x, From: 5, To: 9}, 1, 5},
		{peer.Looked{Ledger: x, To: 9, All: true}, 1, 9},
		{peer.Looked{Ledger: x, To: 4, All: true}, 1, 5},
	} {
		long := &peer.Collected{Epochs: []uint64{0}, Held: []bool{false}, Ledgers: []peer.Looked{c.long}}
		b := &batch{h: &Handoffs{Config: Config{Site: writer{}}}, all: []*arrival{{client: "c"}}}
		sum := b.sum([]*peer.Collected{short, long})
		known, _ := sum.ids(0)
		deps := sum.deps(0)
		if len(known) != c.known || len(deps) != 1 || deps[0].End != c.end {
			t.Errorf("%+v: known %v, waits for %v", c.long, known, deps)
		}
	}
}

// R44: who is covered for by a lease, and who is not.
func TestLease(t *testing.T) {
	n := tributary.NodeID{9}
	from := &peer.Hello{Node: n, Nonce: 1}
	now := time.Now()
	for name, c := range map[string]struct {
		sent    time.Time
		echo    peer.Echo
		silent  int
		covered bool
	}{
		"a promise":          {now, peer.Echo{SlackMillis: 5000, Copies: 1}, 1, true},
		"that is over":       {now.Add(-4600 * time.Millisecond), peer.Echo{SlackMillis: 5000, Copies: 1}, 1, false},
		"none":               {now, peer.Echo{Copies: 1}, 1, false},
		"waits for ever":     {now.Add(-time.Hour), peer.Echo{Refuses: true, Copies: 1}, 1, true},
		"too many are gone":  {now, peer.Echo{SlackMillis: 5000, Copies: 1}, 2, false},
		"it makes no copies": {now, peer.Echo{SlackMillis: 5000}, 1, false},
	} {
		h := New(Config{Copies: func() int { return 1 }, Self: func() peer.Process { return peer.Process{} }})
		h.Echoed(from, c.sent, &c.echo)
		silent := []tributary.NodeID{n}
		for len(silent) < c.silent {
			h.Echoed(&peer.Hello{Node: tributary.NodeID{8}}, now, &peer.Echo{SlackMillis: 5000, Copies: 1})
			silent = append(silent, tributary.NodeID{8})
		}
		if got := h.covers(silent); got != c.covered {
			t.Errorf("%s: %t", name, got)
		}
		h.Echoed(&peer.Hello{Node: n, Nonce: 2}, now.Add(-time.Hour), &peer.Echo{SlackMillis: 1, Copies: 1})
		if !c.echo.Refuses && h.covers(silent) {
			t.Errorf("%s: another process has no lease yet", name)
		}
	}
	if h := New(Config{Copies: func() int { return 1 }}); h.covers([]tributary.NodeID{n}) || !h.covers(nil) {
		t.Error("who was never heard of has no lease, and nobody needs none")
	}
}
