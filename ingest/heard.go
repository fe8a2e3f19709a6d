package ingest

import (
	"time"

	"github.com/tributary-edge/tributary"
)

// A heard is what Committed knows of a record: enough to find out who subscribed to
// it, and to put its position into their queues, without reading it back from the
// log. So a subscriber that is away, or does not read, costs those who publish little.
type heard struct {
	to     *routed // nil: not known
	kind   uint8
	retain bool
}

const (
	maxHeard  = 64 << 10 // of all jobs together; beyond that the log is read instead
	heardTurn = 4096     // in one step
)

// hear returns what is known of the records of a group.
func hear(into []heard, tickets []tributary.Ticket) []heard {
	for i := range tickets {
		h := heard{kind: kindNoted}
		switch owner := tickets[i].Owner.(type) {
		case *routed:
			h = heard{owner, uint8(tagKind(tickets[i].Tag)), tickets[i].Tag&tagRetain != 0}
		case *Door:
			h.kind = uint8(tagKind(tickets[i].Tag))
		}
		into = append(into, h)
	}
	return into
}

// message says whether h may be one.
func (h *heard) message() bool { return h.kind <= kindPubrec }

// tell gives records of j to subscribers, and returns from where to go on. It reads
// only those that somebody is to get at once, or that are to be retained.
func (o *delivery) tell(j *job) tributary.LSN {
	now := time.Now()
	next := j.from
	for i := range j.heard[:min(len(j.heard), heardTurn)] {
		h := &j.heard[i]
		if h.message() && !o.offer(j.ledger, next, h) {
			o.giveFromLog(j, next, now)
		}
		next++
	}
	o.gave += int(next - j.from)
	o.door.sessions.Passed(j.ledger, next-1)
	return next
}

// offer gives a message to all who subscribed to its topic. It returns false, having
// done nothing, if that takes more than its position.
func (o *delivery) offer(ledger tributary.LedgerID, lsn tributary.LSN, h *heard) bool {
	if h.to == nil || h.retain {
		return false
	}
	found := o.tree.MatchBytes(h.to.topic)
	if len(found.Groups) > 0 || len(found.Matches) > 0 && h.kind == kindQuiet {
		return false
	}
	for i := range found.Matches {
		if to := &found.Matches[i]; to.QoS == 0 || to.Subscriber.Client == h.to.conn.id {
			return false
		}
	}
	if len(found.Matches) == 0 {
		return true
	}
	m := outgoing{ledger: ledger, lsn: lsn, name: h.to.topic, origin: h.to.conn.id, qos: h.kind}
	for i := range found.Matches {
		o.giveOne(&m, &found.Matches[i])
	}
	o.door.stat.fannedOut.Add(1)
	return true
}

// giveFromLog reads one record of j and gives it to subscribers.
func (o *delivery) giveFromLog(j *job, lsn tributary.LSN, now time.Time) {
	chunk, err := o.pages.next(o.ctx, &job{ledger: j.ledger, from: lsn})
	if err == nil {
		e, missing := find(chunk, lsn)
		if err = missing; err == nil {
			o.give(j.ledger, e, now)
			return
		}
	}
	o.unread(lsn, lsn+1, err)
}
