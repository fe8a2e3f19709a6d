package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/log/store"
)

// replay gives the door what earlier processes knew of QoS 2 packet ids: the
// checkpoint, and every record after it. It then tells the log how far Kafka is
// known to be.
func (n *Node) replay(ctx context.Context) error {
	start := time.Now()
	c, ok, err := n.meta.Checkpoint()
	if err != nil {
		return err
	}
	ledgers := n.log.Ledgers()
	first, known := 0, false
	if ok {
		for first < len(ledgers) && ledgers[first].ID != c.Ledger {
			first++
		}
		if first == len(ledgers) { // the ledger is gone, so all that is here came later, or nothing did
			first = 0
		}
		if err := n.door.Restore(c.State); err != nil {
			n.logger.Warn("the QoS 2 checkpoint cannot be read; all ledgers are replayed instead", "error", err)
			ok, first = false, 0
		}
		known = ok && first < len(ledgers) && ledgers[first].ID == c.Ledger
	}
	records := 0
	for _, l := range ledgers[first:] {
		from := l.From
		switch { // what is behind the checkpoint is not given up: before l.From it is damaged
		case known && l.ID == c.Ledger:
			from = c.Next
		case known:
			from = 0
		}
		read, err := n.replayLedger(ctx, l, from)
		records += read
		if err != nil {
			return fmt.Errorf("replay ledger %v: %w", l.ID, err)
		}
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

// replayLedger gives the door the records of a closed ledger from LSN from on, and
// returns how many. A gap may have held a release.
func (n *Node) replayLedger(ctx context.Context, l store.LedgerInfo, from tributary.LSN) (records int, err error) {
	r, err := n.log.Reader(l.ID)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for from < l.To {
		c, err := r.Read(ctx, from, readBytes)
		switch {
		case errors.Is(err, io.EOF):
			return records, nil
		case err != nil:
			return records, err
		case c.Gap != nil:
			n.door.ForgetPacketIDs()
		}
		for i := range c.Entries {
			if err := n.door.Replay(c.Entries[i]); err != nil {
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
		n.log.Forwarded(p.Ledger, p.Next)
	}
	return nil
}

const (
	keepEvery  = 10 * time.Second // bbolt costs two flushes and 20 KiB each time
	lookEvery  = time.Second
	lowOnSpace = 4 // segments, at most a quarter of the log: then positions are noted at once, so that it can use its segments again
)

// keep notes positions and the QoS 2 checkpoint now and then. Only after that
// may the log use the segments again whose records they cover.
func (n *Node) keep(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last, said := time.Now(), announcer{colour: status.Green}
	for {
		select {
		case <-tick.C:
			r := n.Report()
			said.look(n.logger, &r, time.Now())
		case <-n.up.moved:
			if s := n.log.Stats(); s.FreeBytes > min(lowOnSpace*n.cfg.Log.SegmentBytes, s.MaxBytes/4) {
				continue
			}
			last = time.Time{}
		case <-ctx.Done():
			return nil // Run saves once more at its end
		}
		if time.Since(last) < keepEvery || !n.up.changed() && !n.behind() {
			continue
		}
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
	ledger, next, state := n.door.Snapshot()
	positions := n.up.positions()
	if live := n.log.Ledger(); n.up.position(live).Ledger != live { // known to be drawn here: what a later start misses of it was never in Kafka
		positions = append(positions, tributary.Position{Ledger: live})
	}
	held := map[tributary.LedgerID]bool{n.log.Ledger(): true}
	c := meta.Checkpoint{Ledger: ledger, Next: next, State: state}
	for _, l := range n.log.Ledgers() {
		held[l.ID] = true
		if next == 0 && !l.Live { // the live one may never get a record: name the newest that has
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
		return fmt.Errorf("save positions: %w", err)
	}
	n.checkpointOf, n.checkpointed = ledger, next
	for _, p := range kept {
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
