package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/ingest"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/log/store"
)

// replay gives the door what earlier processes knew of packet ids, sessions and
// retained messages: the checkpoint, and every record after it. It then tells the log how far Kafka is
// known to be.
func (n *Node) replay(ctx context.Context) error {
	start := time.Now()
	c, ok, err := n.meta.Checkpoint()
	if err != nil {
		return err
	}
	ledgers := slices.DeleteFunc(n.log.Ledgers(), func(l store.LedgerInfo) bool { return l.Copy })
	for _, l := range ledgers {
		n.door.Begin(l.ID)
	}
	n.door.Begin(n.log.Ledger())
	if ok {
		damaged, err := n.door.Restore(ingest.State{PacketIDs: c.State, Others: c.Others, Sessions: c.Sessions, Retained: c.Retained})
		if err != nil {
			n.logger.Warn("a part of the checkpoint cannot be read; all ledgers are replayed instead", "damaged", damaged, "error", err)
			ok = false
		}
	}
	records := 0
	for _, p := range planReplay(ledgers, c, ok) {
		read, err := n.replayLedger(ctx, p)
		records += read
		if err != nil {
			return fmt.Errorf("replay ledger %v: %w", p.ID, err)
		}
	}
	if n.site != nil {
		n.site.fan.begin()
	}
	if err := n.recallPositions(); err != nil {
		return err
	}
	if records > 0 {
		n.logger.Info("replayed", "records", records, "took", time.Since(start).Round(time.Millisecond).String())
	}
	if records < worthSaving {
		return nil
	}
	return n.save() // a node that is killed again and again does not start slower each time
}

// worthSaving is after how many replayed records a start notes its checkpoint
// at once.
const worthSaving = 10_000

// resendRecords is how many of the last records are replayed even if the checkpoint
// has them: devices send again what they had no acknowledgement for, and are
// recognised by that.
const resendRecords = 2000

// A replayPlan says what to replay of a ledger.
type replayPlan struct {
	store.LedgerInfo

	from   tributary.LSN
	behind tributary.LSN // the checkpoint has all below it
}

// planReplay returns what is to be replayed, given a checkpoint that can be used,
// or not. What is behind the checkpoint is not given up: before the first record
// that is there it is damaged.
func planReplay(ledgers []store.LedgerInfo, c meta.Checkpoint, usable bool) []replayPlan {
	at := -1 // of the checkpoint's ledger; else that is gone, so all that is here came later, or nothing did
	for i := range ledgers {
		if usable && ledgers[i].ID == c.Ledger {
			at = i
		}
	}
	plans := make([]replayPlan, len(ledgers))
	left := tributary.LSN(resendRecords)
	for i := len(ledgers) - 1; i >= 0; i-- {
		p := replayPlan{LedgerInfo: ledgers[i], from: ledgers[i].From}
		switch {
		case at < 0:
		case i > at:
			p.from = 0
		case i == at:
			p.from, p.behind = c.Next, c.Next
		default:
			p.from, p.behind = p.To, p.To
		}
		last := p.To - min(left, p.To-min(p.To, p.From))
		left -= p.To - last
		p.from = min(p.from, last)
		plans[i] = p
	}
	return plans
}

// replayLedger gives the door the records of a closed ledger, and returns how many.
// A gap may have held a release.
func (n *Node) replayLedger(ctx context.Context, p replayPlan) (records int, err error) {
	if p.from >= p.To {
		return 0, nil
	}
	r, err := n.log.Reader(p.ID)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for from := r.GroupStart(p.from); from < p.To; {
		c, err := r.Read(ctx, from, readBytes)
		switch {
		case errors.Is(err, io.EOF):
			return records, nil
		case err != nil:
			return records, err
		case c.Gap != nil && c.Next > p.behind:
			n.door.ForgetPacketIDs()
		}
		for i := range c.Entries {
			e := &c.Entries[i]
			if e.LSN < p.behind {
				n.door.Recall(e)
			} else if err := n.door.Replay(p.ID, e); err != nil {
				return records, err
			}
		}
		records += len(c.Entries)
		from = c.Next
	}
	return records, nil
}

// readBytes is how much is read at once where nobody waits for it.
const readBytes = 1 << 20

// recallPositions tells the log what the last process knew to be in Kafka.
func (n *Node) recallPositions() error {
	positions, err := n.meta.Positions()
	if err != nil {
		return err
	}
	for _, p := range positions {
		n.up.recall(p)
		if n.log.Forwarded(p.Ledger, n.site.limit(p.Ledger, p.Next)); n.site != nil {
			n.site.view.Moved(p.Ledger, p.Next, n.started)
		}
	}
	return nil
}

const (
	keepEvery  = 10 * time.Second // bbolt costs two flushes and 20 KiB each time
	lookEvery  = time.Second
	lowOnSpace = 4 // segments, at most a quarter of the log: then positions are noted at once, so that it can use its segments again
	dropShare  = 8 // of a log that drops its oldest records, such a part at most is in no checkpoint: else a new session could be dropped before one has it
)

// keep notes positions and the QoS 2 checkpoint now and then. Only after that
// may the log use the segments again whose records they cover.
func (n *Node) keep(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last, said, saved := time.Now(), announcer{colour: status.Green}, int64(0) // saved: bytes that were written before the last checkpoint
	for {
		select {
		case <-tick.C:
			r := n.Report()
			now := time.Now()
			said.look(n.logger, &r, now)
			n.look(&r, now)
		case <-n.up.moved:
			if s := n.log.Stats(); s.FreeBytes > min(lowOnSpace*n.cfg.Log.SegmentBytes, s.MaxBytes/4) {
				continue
			}
			last = time.Time{}
		case <-n.grown:
			if s := n.log.Stats(); s.WrittenBytes-saved < s.MaxBytes/dropShare {
				continue
			}
			last = time.Time{}
		case <-ctx.Done():
			return nil // Run saves once more at its end
		}
		if time.Since(last) < keepEvery || !n.up.changed() && !n.behind() && !n.site.given() {
			continue
		}
		saved = n.log.Stats().WrittenBytes
		if err := n.save(); err != nil {
			n.logger.Warn("could not note how far Kafka is; nothing is lost, the next start reads it from Kafka", "error", err)
		}
		last = time.Now()
	}
}

// behind says whether the checkpoint saved last lacks records: a start reads
// those again, also when Kafka is away and no position moves.
func (n *Node) behind() bool {
	n.saving.Lock()
	defer n.saving.Unlock()
	ledger, next := n.door.Next()
	return ledger != n.checkpointOf || next > n.checkpointed
}

// save notes positions and the checkpoint, and tells the log.
func (n *Node) save() error {
	n.saving.Lock()
	defer n.saving.Unlock()
	given := n.door.Followed() // not more than what the checkpoint has
	state := n.door.Snapshot()
	ledger, next := state.Ledger, state.Next
	positions := n.up.positions()
	if live := n.log.Ledger(); n.up.position(live).Ledger != live { // known to be drawn here: what a later start misses of it was never in Kafka
		positions = append(positions, tributary.Position{Ledger: live})
	}
	held := map[tributary.LedgerID]bool{n.log.Ledger(): true}
	positions = append(positions, n.site.ofCopies()...)
	c := meta.Checkpoint{Ledger: ledger, Next: next, State: state.PacketIDs, Others: state.Others, Sessions: state.Sessions, Retained: state.Retained}
	for _, l := range n.log.Ledgers() {
		held[l.ID] = true
		if next == 0 && !l.Live && !l.Copy { // the live one may never get a record: name the newest that has
			c.Ledger, c.Next = l.ID, l.To
		}
	}
	keep := func(id tributary.LedgerID) bool { return held[id] }
	kept := positions[:0:0]
	for _, p := range positions {
		if keep(p.Ledger) {
			kept = append(kept, p)
		}
	}
	if err := n.meta.Save(kept, &c, keep); err != nil {
		n.door.Unsaved(state)
		return fmt.Errorf("save positions: %w", err)
	}
	n.checkpointOf, n.checkpointed = ledger, next
	owed := n.owed()
	n.site.hold(given, owed, held)
	for _, p := range kept {
		if oldest, some := owed[p.Ledger]; some {
			p.Next = min(p.Next, oldest)
		}
		p.Next = n.site.limit(p.Ledger, p.Next)
		switch p.Ledger {
		case ledger:
			p.Next = min(p.Next, next) // packet ids above are not in the checkpoint yet
		case n.log.Ledger():
			continue // none of its packet ids is
		}
		n.log.Forwarded(p.Ledger, p.Next)
	}
	return nil
}

// owed returns the oldest record of each ledger that a local subscriber is still
// owed, and that the log should keep for it. Once less than a quarter of the log
// is free, nothing is kept for subscribers: devices come first.
func (n *Node) owed() map[tributary.LedgerID]tributary.LSN {
	if s := n.log.Stats(); s.FreeBytes < s.MaxBytes/4 {
		return nil
	}
	return n.door.Owed()
}
