package handoff

import (
	"context"
	"slices"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/mark"
	"github.com/tributary-edge/tributary/sync/peer"
)

// Answer returns what this node answers to another one that asks for devices, or nil
// if it cannot answer: then it is asked again, or counts as silent. It takes as long
// as this node's log takes to become durable.
func (h *Handoffs) Answer(ctx context.Context, from *peer.Hello, m peer.Message) peer.Message {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	switch m := m.(type) {
	case *peer.Close:
		epochs, held, err := h.letGo(ctx, from.Node, m.Clients)
		if err != nil {
			return nil
		}
		return &peer.Closed{Try: m.Try, Epochs: epochs, Held: held}
	case *peer.Collect:
		epochs, held, err := h.letGo(ctx, from.Node, m.Clients)
		if err != nil {
			return nil
		}
		silent := slices.DeleteFunc(h.Site.Members(), func(n tributary.NodeID) bool { return n == from.Node || h.Site.Alive(n) })
		said, err := h.lookHere(ctx, m.Processes, silent, m.Clients)
		if err != nil {
			return nil
		}
		for i := range epochs {
			said.Epochs[i] = max(said.Epochs[i], epochs[i])
		}
		said.Try, said.Held = m.Try, held
		return said
	}
	return nil
}

// letGo closes the connections of clients, unless this node has let them in with a
// higher epoch (R41). Of equal epochs the node with the higher id has the higher one.
func (h *Handoffs) letGo(ctx context.Context, to tributary.NodeID, clients []peer.Device) (epochs []uint64, held []bool, err error) {
	epochs, held = make([]uint64, len(clients)), make([]bool, len(clients))
	var leave []string
	self := h.Self().Node
	h.mu.Lock()
	for i := range clients {
		c := &clients[i]
		s := h.known[c.ID]
		if s != nil {
			epochs[i] = s.epoch
		}
		if s != nil && s.here && (s.epoch > c.Epoch || s.epoch == c.Epoch && slices.Compare(self[:], to[:]) > 0) {
			held[i] = true
			continue
		}
		s = h.session(c.ID)
		s.epoch, s.here = max(s.epoch, c.Epoch), false
		leave = append(leave, c.ID)
	}
	h.mu.Unlock()
	if len(leave) == 0 {
		return epochs, held, nil
	}
	ctx, cancel := context.WithTimeout(ctx, closeFor)
	defer cancel()
	return epochs, held, h.Close(ctx, leave)
}

// lookHere closes what must not come any more, makes durable what this node holds, and
// then looks how far clients are in it.
func (h *Handoffs) lookHere(ctx context.Context, of []peer.Process, silent []tributary.NodeID, clients []peer.Device) (*peer.Collected, error) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	if err := h.Site.CloseStreams(ctx, of, silent); err != nil {
		return nil, err
	}
	if err := h.Log.Settle(ctx); err != nil {
		return nil, err
	}
	short, cancel := context.WithTimeout(ctx, updateFor)
	defer cancel()
	_ = h.Index.Update(short) // what it has not looked at, it says of all clients
	return h.Index.look(clients, make([]uint64, len(clients))), nil
}

// Decide returns whether a QoS 2 message that is known to be in the log of another
// node is to be appended again: if not, it is to be acknowledged. It waits until
// that is known (R47).
func (h *Handoffs) Decide(ctx context.Context, k *mark.Known) (again bool, err error) {
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if h.Site.Position(k.Ledger) > k.LSN {
			return false, nil
		}
		there, here := h.Site.Holders(k.Ledger, k.LSN), false
		for _, held := range h.Log.Held() {
			here = here || held.Ledger == k.Ledger && held.From <= k.LSN && k.LSN < held.To
		}
		copies := there
		if here {
			copies++
		}
		late := time.Since(began) > h.Grace
		switch {
		case copies > h.Copies(), late && here && !h.Refuse:
			return false, nil
		case late && copies == 0:
			return true, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// A lease is until when another process cannot have acknowledged anything with too few
// copies.
type lease struct {
	nonce   uint64
	until   time.Time
	refuses bool
	copies  int
}

// Echoed notes what another node has said of itself in answer to a Status, which this
// node sent at the given time (R44).
func (h *Handoffs) Echoed(from *peer.Hello, sent time.Time, e *peer.Echo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.leases[from.Node]
	if l.nonce != from.Nonce {
		l = lease{nonce: from.Nonce}
	}
	l.refuses, l.copies = e.Refuses, int(e.Copies)
	// Two clocks run at speeds that may differ by a tenth.
	slack := time.Duration(min(e.SlackMillis, 1<<20)) * time.Millisecond * 9 / 10
	switch until := sent.Add(slack); {
	case slack == 0:
		l.until = time.Time{}
	case until.After(l.until):
		l.until = until
	}
	h.leases[from.Node] = l
}

// covers says whether all that devices have an acknowledgement for is known although
// these nodes are silent (R44).
func (h *Handoffs) covers(silent []tributary.NodeID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	missing := len(silent) + h.unsettled()
	for _, n := range silent {
		l, known := h.leases[n]
		if !known || missing > min(l.copies, h.Copies()) || !l.refuses && !now.Before(l.until) {
			return false
		}
	}
	return true
}
