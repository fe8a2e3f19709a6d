package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// An other is a ledger that another gateway writes, and how much of it was given
// to subscribers here. Guarded by delivery.mu.
type other struct {
	writer tributary.NodeID
	asked  tributary.LSN // below: was asked for, or nobody was there who wants it
	given  tributary.LSN // below: was given to all that it was for
	from   tributary.LSN // from there on sessions were offered what the log of this node does not know of
	noted  bool          // the log knows all of that
}

// mostOthers bounds the ledgers of other gateways that are remembered. Beyond it
// what a gateway took that is started again every minute is not given.
const mostOthers = 4096

// Follow asks for the records [from, to) of a ledger that another gateway writes,
// all of them durable here, to be given to the subscribers of this one (R53). It
// takes the calls for one ledger in their order, and what was asked for before is not
// given again, nor after a restart: from counts for the first call alone. The calls
// of all ledgers of one writer come in the order of these, and their messages are
// given so (M1). It does not wait, and costs nothing where nobody subscribes to anything.
// Nothing of it is ever sent to another gateway, or to Kafka. It returns below which
// record all of the ledger was asked for.
func (d *Door) Follow(writer tributary.NodeID, ledger tributary.LedgerID, from, to tributary.LSN) (asked tributary.LSN) {
	o := d.out
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.others[ledger]
	if t == nil {
		if len(o.others) >= mostOthers {
			return to
		}
		t = d.followLocked(ledger, &other{writer: writer, asked: from, given: from, from: from})
		if o.tree.Len() != 0 { // or a kill could make it look as if this gateway had never heard of it
			o.jobs = append(o.jobs, job{do: func() { _ = o.place(true) }}) // the next event of a session tries again
			signal(o.wake)
		}
	}
	if to <= t.asked {
		return t.asked
	}
	from, t.asked = t.asked, to
	if o.tree.Len() == 0 && t.from == from {
		t.given, t.from, t.noted = to, to, false
		d.sessions.Passed(ledger, to-1)
		return to
	}
	for i := range o.jobs {
		if j := &o.jobs[i]; j.other && j.ledger == ledger { // or there would be ever more of them
			j.to = to
			return to
		}
	}
	o.jobs = append(o.jobs, job{ledger: ledger, from: from, to: to, other: true, writer: writer})
	signal(o.news)
	return to
}

// followLocked takes up a ledger. Called with o.mu held, before anything of it is given.
func (d *Door) followLocked(ledger tributary.LedgerID, t *other) *other {
	d.sessions.BeginOther(ledger)
	d.out.others[ledger] = t
	return t
}

// Followed returns which ledgers of other gateways were followed, whose they are,
// and below which record all was given. It may be called at any time.
func (d *Door) Followed() map[tributary.LedgerID]Followed {
	o := d.out
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make(map[tributary.LedgerID]Followed, len(o.others))
	for id, t := range o.others {
		all[id] = Followed{t.writer, t.given}
	}
	return all
}

// A Followed is how far a ledger of another gateway was given to subscribers.
type Followed struct {
	Writer tributary.NodeID
	Next   tributary.LSN
}

// Unfollow forgets a ledger of which nothing will come any more.
func (d *Door) Unfollow(ledger tributary.LedgerID) {
	o := d.out
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.others, ledger)
}

// Subscribed says whether anybody has subscribed to anything, those who are away
// included. It may be called at any time.
func (d *Door) Subscribed() bool { return d.out.tree.Len() != 0 }

// giveOther gives one record that another gateway took to all who subscribed to its
// topic. What is retained is told as well, but perhaps not yet.
func (o *delivery) giveOther(j *job, e *record.Entry, now time.Time) {
	name := e.Header(headerTopic)
	if name == nil {
		return
	}
	if o.kept.stamps != nil && e.Header(headerRetain) != nil && e.Header(headerWritten) != nil {
		o.kept.set(string(name), e, stampOf(e, j.writer))
	}
	o.spread(j.ledger, name, e, now)
}

// passedOther notes that all of a ledger below next was given.
func (o *delivery) passedOther(ledger tributary.LedgerID, next tributary.LSN) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.others[ledger]
	switch {
	case t == nil:
		return
	case t.from < t.given: // it is on the list
	case o.offered:
		o.unplaced = append(o.unplaced, ledger)
	default:
		t.from = next // no session knows of it
	}
	t.given, t.noted = next, false
}

// place lets the log know what of other ledgers was offered to sessions up to now:
// before an event of a session that may speak of it. Before one that changes what is
// offered, it lets it know all that was passed over as well. So a replay offers it in
// the same place. It may be called at any time.
func (o *delivery) place(all bool) error {
	o.placing.Lock()
	defer o.placing.Unlock()
	o.mu.Lock()
	ids := o.unplaced
	o.unplaced = nil
	if all {
		for id, t := range o.others {
			if !t.noted && t.from == t.given {
				ids = append(ids, id)
			}
		}
	}
	o.mu.Unlock()
	for i, id := range ids {
		if err := o.placeOne(id); err != nil {
			o.mu.Lock()
			o.unplaced = append(o.unplaced, ids[i:]...)
			o.mu.Unlock()
			return err
		}
	}
	return nil
}

func (o *delivery) placeOne(id tributary.LedgerID) error {
	o.mu.Lock()
	t := o.others[id]
	if t == nil {
		o.mu.Unlock()
		return nil
	}
	g := given{id, t.writer, t.from, t.given}
	o.mu.Unlock()
	r := controlRecord(keyGiven, g.append(nil))
	if err := o.door.append(&r, tributary.Ticket{Owner: o.door, Tag: tag(kindNoted, 0, 0)}); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if t.from = g.to; t.given == g.to {
		t.noted = true
	} else { // it went on meanwhile
		o.unplaced = append(o.unplaced, id)
	}
	return nil
}

// A control record of the log says what of another gateway's ledger was offered in
// this place. Its value: version 1 (1 byte), the ledger and the node that writes it
// (16 bytes each), from and to (8 bytes each, big endian).
const (
	keyGiven   = "given"
	givenBytes = 1 + 16 + 16 + 8 + 8
)

// A given is such a record.
type given struct {
	ledger   tributary.LedgerID
	writer   tributary.NodeID
	from, to tributary.LSN
}

func (g *given) append(b []byte) []byte {
	b = append(append(append(b, controlVersion), g.ledger[:]...), g.writer[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(g.from))
	return binary.BigEndian.AppendUint64(b, uint64(g.to))
}

func parseGiven(b []byte) (g given, err error) {
	if len(b) != givenBytes || b[0] != controlVersion {
		return g, fmt.Errorf("a note of what was given of another ledger has %d bytes: it is damaged, or of a newer version", len(b))
	}
	copy(g.ledger[:], b[1:])
	copy(g.writer[:], b[17:])
	g.from, g.to = tributary.LSN(binary.BigEndian.Uint64(b[33:])), tributary.LSN(binary.BigEndian.Uint64(b[41:]))
	return g, nil
}

// replayGiven gives the sessions again what of another gateway's ledger was given in
// this place of the log.
func (d *Door) replayGiven(value []byte) error {
	g, err := parseGiven(value)
	if err != nil {
		return err
	}
	o := d.out
	o.mu.Lock()
	t := o.others[g.ledger]
	if t == nil {
		t = d.followLocked(g.ledger, &other{given: g.from})
	}
	from := max(g.from, t.given)
	o.mu.Unlock()
	for j := (&job{ledger: g.ledger, from: from, to: g.to, other: true, writer: g.writer}); j.from < g.to; {
		chunk, err := o.pages.next(d.ctx, j)
		if err != nil {
			d.opt.Logger.Warn("a copy lacks messages that subscribers here were offered; who has not had them misses them",
				"ledger", g.ledger.String(), "from", j.from, "to", g.to, "error", err)
			break
		}
		o.giveAll(j, chunk)
		j.from = min(chunk.Next, g.to)
	}
	if from < g.to {
		d.sessions.Passed(g.ledger, g.to-1)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	t.writer, t.given = g.writer, max(t.given, g.to)
	t.asked, t.from = t.given, t.given
	return nil
}

// The saved form of what was followed, in order: version 1 (1 byte); how many ledgers
// (uvarint); for each its id and its writer (16 bytes each) and below which record
// all was given (uvarint); the CRC-32C of all that (4 bytes, big endian).
const othersVersion = 1

var errOthers = errors.New("what was given of other gateways' ledgers is damaged in the checkpoint")

// appendOthers returns the saved form.
func (o *delivery) appendOthers(b []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.others) == 0 {
		return nil
	}
	b = binary.AppendUvarint(append(b, othersVersion), uint64(len(o.others)))
	for id, t := range o.others {
		b = append(append(b, id[:]...), t.writer[:]...)
		b = binary.AppendUvarint(b, uint64(t.given))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// parseOthers reads it.
func parseOthers(b []byte) (map[tributary.LedgerID]other, error) {
	body := len(b) - 4
	if body < 2 || b[0] != othersVersion || crc32.Checksum(b[:body], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[body:]) {
		return nil, errOthers
	}
	rest := b[1:body]
	count, n := binary.Uvarint(rest)
	if n <= 0 || count > mostOthers {
		return nil, errOthers
	}
	rest = rest[n:]
	all := make(map[tributary.LedgerID]other, count)
	for range count {
		if len(rest) < 32 {
			return nil, errOthers
		}
		var t other
		id := tributary.LedgerID(rest[:16])
		t.writer = tributary.NodeID(rest[16:32])
		next, n := binary.Uvarint(rest[32:])
		if n <= 0 {
			return nil, errOthers
		}
		t.asked, t.given, t.from = tributary.LSN(next), tributary.LSN(next), tributary.LSN(next)
		all[id], rest = t, rest[32+n:]
	}
	if len(rest) > 0 || len(all) != int(count) {
		return nil, errOthers
	}
	return all, nil
}

// restoreOthers takes up the saved form, before anything that speaks of those ledgers.
func (d *Door) restoreOthers(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	all, err := parseOthers(b)
	if err != nil {
		return err
	}
	d.out.mu.Lock()
	defer d.out.mu.Unlock()
	for id, t := range all {
		d.followLocked(id, &t)
		if t.given > 0 {
			d.sessions.Passed(id, t.given-1)
		}
	}
	return nil
}
