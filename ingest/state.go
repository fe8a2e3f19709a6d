package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/session"
	"github.com/tributary-edge/tributary/log/record"
)

// A State is what a later process needs beside the records of the log from Next
// on, those of Ledger first and then those of later ledgers. It may be ahead of
// them: to replay what it has already does no harm.
type State struct {
	Ledger    tributary.LedgerID // none, and Next 0, as long as nothing is durable
	Next      tributary.LSN
	PacketIDs []byte // of QoS 2: published and not released

	// What has changed since the last State, or for Restore all there is: sessions
	// that outlive their connection by client id, retained messages by topic. A
	// value that is nil is gone.
	Sessions map[string][]byte
	Retained map[string][]byte
}

// Snapshot returns the state. It may be called at any time. If it could not be
// saved, the caller gives it to Unsaved.
func (d *Door) Snapshot() State {
	var s State
	s.Ledger, s.Next, s.PacketIDs = d.q2.snapshot()
	s.Ledger, s.Next = d.out.position(s.Ledger, s.Next)
	s.Sessions, s.Retained = d.sessions.Dirty(), d.out.kept.changes()
	return s
}

// Unsaved takes back a state that could not be saved.
func (d *Door) Unsaved(s State) {
	d.sessions.Redo(s.Sessions)
	d.out.kept.again(s.Retained)
}

// Next returns the position that Snapshot has, without the cost of a snapshot. It
// may be called at any time.
func (d *Door) Next() (ledger tributary.LedgerID, next tributary.LSN) {
	d.q2.mu.Lock()
	ledger, next = d.q2.ledger, d.q2.next
	d.q2.mu.Unlock()
	return d.out.position(ledger, next)
}

// Owed returns the oldest record of each ledger that a subscriber is still owed.
// It may be called at any time.
func (d *Door) Owed() map[tributary.LedgerID]tributary.LSN {
	oldest := map[tributary.LedgerID]tributary.LSN{}
	d.sessions.Each(func(s *session.Session) { s.Oldest(oldest) })
	return oldest
}

// Begin names a ledger of the log, or the live one once there is another. They
// are named in their order, oldest first, before anything is replayed or becomes
// durable in them.
func (d *Door) Begin(ledger tributary.LedgerID) { d.sessions.Begin(ledger) }

// Restore takes up what earlier processes saved. It is called before Replay and
// before Run. What cannot be read is left out: damaged says of how much, and the
// first reason.
func (d *Door) Restore(s State) (damaged int, err error) {
	note := func(e error) {
		if e != nil {
			damaged++
			err = errors.Join(err, e)
		}
	}
	note(d.q2.restore(s.PacketIDs))
	for client, state := range s.Sessions {
		if e := d.sessions.Restore(client, state); e != nil {
			note(e)
			continue
		}
		d.plant(client)
	}
	for _, state := range s.Retained {
		note(d.out.kept.restore(state))
	}
	return damaged, err
}

// Replay takes up one record of an earlier ledger. The node calls it for all
// records from State.Next on, in order, oldest ledger first, before Run. An error
// means a control record that this version of the program cannot read.
func (d *Door) Replay(ledger tributary.LedgerID, e *record.Entry) error {
	if e.Stream == "" && string(e.Key) == session.EventKey && len(e.Headers) == 0 {
		change, err := d.sessions.Apply(e.Value)
		if err != nil {
			return fmt.Errorf("replay record %d: %w", e.LSN, err)
		}
		for _, s := range []*session.Session{change.Ended, change.Session} {
			if s != nil {
				d.plant(s.Client)
			}
		}
		d.passOnReplayed(change.Ended)
		return nil
	}
	d.Recall(e)
	d.out.give(ledger, e, time.Now())
	d.sessions.Passed(ledger, e.LSN)
	return d.q2.replay(e)
}

// Recall takes up one record that the restored state has already: devices that
// send it again are recognised by it. The node calls it as it does Replay.
func (d *Door) Recall(e *record.Entry) {
	if !d.opt.ResentIsNew {
		d.recents.replay(e, time.Now())
	}
}

// passOnReplayed passes on, once the delivery runs, what a session had left that
// ended in a replay. The log does not say which member of a shared subscription a
// message was given to, so this may be what another one had, or has acknowledged:
// QoS 1 bears that, QoS 2 does not.
func (d *Door) passOnReplayed(ended *session.Session) {
	if ended == nil {
		return
	}
	left := slices.DeleteFunc(ended.Left(), func(m session.Message) bool { return m.QoS == 2 })
	if subs := ended.Subscriptions(); len(left) > 0 {
		d.out.do(func() { d.out.passOn(subs, left) })
	}
}

// plant makes the tree have the subscriptions that a client's session has.
func (d *Door) plant(client string) {
	s := d.sessions.Get(client)
	was := d.subs[client]
	if was != nil {
		for _, filter := range was.planted {
			d.out.tree.Unsubscribe(was, filter)
		}
		was.planted = nil
	}
	if s == nil {
		delete(d.subs, client)
		return
	}
	sub := d.subscriberOf(s)
	for _, one := range s.Subscriptions() {
		d.out.tree.Subscribe(sub, one)
		sub.planted = append(sub.planted, one.Filter)
	}
}

// endSevered ends the sessions that ended with their connection when an earlier
// process did. Their wills go first, so that a kill in between sends one twice
// rather than never. It is called before anybody is let in.
func (d *Door) endSevered() {
	for _, s := range d.sessions.Severed() {
		if w := d.restoredWill(s); w != nil {
			d.sendWill(w)
		}
		d.end(s, 0)
	}
}

// resumeWills sees to the wills of clients that were connected, or whose will was
// delayed, when an earlier process ended: they have gone, and their sessions
// have not.
func (d *Door) resumeWills() {
	d.sessions.Each(func(s *session.Session) {
		if w := d.restoredWill(s); w != nil {
			d.delayWill(w)
		}
	})
}

// restoredWill returns the will that an earlier process has left, or nil.
func (d *Door) restoredWill(s *session.Session) *will {
	w := s.Will()
	if w == nil {
		return nil
	}
	c := &conn{door: d, id: s.Client, user: s.User, claimed: s.User, idBytes: []byte(s.Client), lasting: true, v5: true, sub: d.subscriberOf(s)}
	return &will{c: c, delay: w.DelaySeconds, message: message{
		topic: []byte(w.Topic), payload: w.Payload, qos: w.QoS, retain: w.Retain, props: decodeWill(w.Properties),
	}}
}

// The saved form of a retained message: version 1 (1 byte), its time (8 bytes, big
// endian, Unix milliseconds), and the record as Kafka's format v2 has it.
const retainedVersion = 1

var errRetained = errors.New("a retained message of the checkpoint is damaged, or of a newer version; it is left out")

func appendEntry(dst []byte, e *record.Entry) []byte {
	dst = append(dst, retainedVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Millis))
	return record.Append(dst, &e.Record, 0, 0)
}

func parseEntry(b []byte) (*record.Entry, error) {
	if len(b) < 9 || b[0] != retainedVersion {
		return nil, errRetained
	}
	var e record.Entry
	_, rest, err := record.Decode(b[9:], &e.Record)
	if err != nil || len(rest) > 0 {
		return nil, errRetained
	}
	e.Millis = int64(binary.BigEndian.Uint64(b[1:]))
	return &e, nil
}
