package ingest

import (
	"time"

	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/ingest/session"
	"github.com/tributary-edge/tributary/ingest/topic"
)

// A share names a shared subscription.
type share struct{ group, filter string }

// maxTurns bounds what is remembered of shared subscriptions.
const maxTurns = 10_000

// choose returns the member of a shared subscription that gets the next message:
// one that is connected, if any is, in turn, and may have it.
func (o *delivery) choose(g *topic.Group[*subscriber], name string) *topic.Match[*subscriber] {
	if len(o.turns) > maxTurns {
		clear(o.turns) // many of them are gone by now
	}
	of := share{g.Name, g.Filter}
	turn := o.turns[of]
	o.turns[of] = turn + 1
	var away *topic.Match[*subscriber]
	for i := range g.Members {
		m := &g.Members[(turn+i)%len(g.Members)]
		if !o.door.opt.Guard.Allows(m.Subscriber.User, m.Subscriber.Client, auth.Read, name) {
			continue
		}
		if m.Subscriber.conn.Load() != nil {
			return m
		}
		away = m
	}
	return away
}

// maxPassed is how many messages of an ended session are passed on in one step.
const maxPassed = 256

// passOn gives what an ended session has left of its shared subscriptions to their
// other members, in turn: MQTT 5, 4.8.2. What no other member is there for is gone,
// as the last member's end is the end of a shared subscription. It is called when
// the tree does not have the session any more.
func (o *delivery) passOn(subs []topic.Subscription, all []session.Message) {
	if len(all) > maxPassed {
		rest := all[maxPassed:]
		all = all[:maxPassed]
		defer o.do(func() { o.passOn(subs, rest) })
	}
	mine := map[share]bool{}
	for i := range subs {
		if group, filter, shared := packet.ShareOf(subs[i].Filter); shared {
			mine[share{group, filter}] = true
		}
	}
	now, heirs := time.Now(), map[*subscriber][]session.Message{}
	for i := range all {
		o.bequeath(mine, &all[i], now, heirs)
	}
	for s, left := range heirs {
		dropped, event := s.Inherit(left)
		o.door.stat.queueLost.Add(uint64(dropped))
		o.door.noteQuietly(event)
		o.wakeUp(s)
	}
}

// bequeath finds who gets a message in place of a member of the shared
// subscriptions that are mine.
func (o *delivery) bequeath(mine map[share]bool, of *session.Message, now time.Time, heirs map[*subscriber][]session.Message) {
	e, err := o.pages.entry(o.ctx, of.Ledger, of.LSN)
	if err != nil {
		if o.ctx.Err() == nil {
			o.door.stat.queueLost.Add(1)
		}
		return
	}
	m := outgoing{ledger: of.Ledger, lsn: of.LSN, entry: e, retain: e.Header(headerRetain) != nil}
	if !m.open(now) {
		return
	}
	o.frames.reset()
	groups := o.tree.MatchBytes(m.name).Groups
	for i := range groups {
		g := &groups[i]
		if !mine[share{g.Name, g.Filter}] {
			continue
		}
		to := o.choose(g, m.topic())
		if to == nil {
			continue
		}
		if qos := min(to.QoS, m.qos); qos == 0 {
			o.giveOne(&m, to)
		} else {
			heirs[to.Subscriber] = append(heirs[to.Subscriber], session.Message{
				Ledger: of.Ledger, LSN: of.LSN, QoS: qos, Retain: m.retain && to.RetainAsPublished, IDs: to.IDs,
			})
		}
	}
}
