package ingest

import (
	"errors"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/ingest/session"
	"github.com/tributary-edge/tributary/ingest/topic"
)

// A granted is a subscription that a client asked for and gets.
type granted struct {
	topic.Subscription

	existed bool
}

// subscribe takes a SUBSCRIBE: MQTT 5, 3.8. What is granted to a session that
// outlives its connection is in the log before the client is told.
func (d *Door) subscribe(c *conn, pk *packets.Packet) error {
	codes := make([]byte, len(pk.Filters))
	before := c.sub.Subscriptions()
	var all []granted
	for i := range pk.Filters {
		f := &pk.Filters[i]
		codes[i] = d.subscribeCode(c, f)
		if codes[i] >= 0x80 {
			continue
		}
		s := topic.Subscription{
			Filter: f.Filter, QoS: f.Qos, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished,
			RetainHandling: f.RetainHandling, ID: uint32(f.Identifier),
		}
		existed, err := c.sub.Subscribe(s)
		if err == nil {
			err = d.noteChange(c, c.sub.SubscribedEvent(s))
		}
		if err != nil && !errors.Is(err, session.ErrTooManySubscriptions) {
			restore(c.sub, s.Filter, before)
		}
		switch {
		case errors.Is(err, session.ErrTooManySubscriptions):
			codes[i] = packet.CodeQuotaExceeded
		case err != nil:
			codes[i] = d.failure(err)
		default:
			all = append(all, granted{s, existed})
		}
	}
	noted := c.settle()
	return d.change(c, func() {
		for i := range all {
			d.out.tree.Subscribe(c.sub, all[i].Subscription)
		}
		if !noted {
			return // the client is not told; but session and tree must have the same
		}
		c.send(packet.AppendSuback(nil, &packets.Packet{ProtocolVersion: c.version, PacketID: pk.PacketID, ReasonCodes: codes})...)
		for i := range all {
			d.out.giveRetained(c, &all[i])
		}
	})
}

// noteChange is noteIf for a change of what a session is offered.
func (d *Door) noteChange(c *conn, event []byte) error {
	if event == nil {
		return nil
	}
	if err := d.out.place(true); err != nil {
		return err
	}
	return d.noteIf(c, event)
}

// restore gives a session the subscription that it had, or none, for a filter.
func restore(s *subscriber, filter string, before []topic.Subscription) {
	for i := range before {
		if before[i].Filter == filter {
			_, _ = s.Subscribe(before[i]) // in place of the other: there is room
			return
		}
	}
	s.Unsubscribe(filter)
}

// change has the delivery make a change, behind all that was published before by
// anybody, and waits for it.
func (d *Door) change(c *conn, f func()) error {
	c.enterNote()
	d.behindAll(func() {
		f()
		c.leaveNote()
	})
	if !c.settle() {
		return errStopped
	}
	return nil
}

// subscribeCode returns the QoS that is granted for a filter, or why none is.
// In MQTT 3.1.1 there is one code for that.
func (d *Door) subscribeCode(c *conn, f *packets.Subscription) byte {
	code := f.Qos
	_, filter, _ := packet.ShareOf(f.Filter)
	switch {
	case !packet.FilterValid(f.Filter), strings.Count(filter, "/") >= d.opt.MaxTopicLevels:
		code = packet.CodeTopicFilter
	case !d.opt.Guard.Allows(c.user, c.id, auth.Subscribe, filter):
		code = packet.CodeNotAuthorized
		c.tellDenied("subscribe to", filter)
	}
	if code >= 0x80 {
		d.stat.filters.Add(1)
		if !c.v5 {
			return packet.CodeUnspecified
		}
	}
	return code
}

// unsubscribe takes an UNSUBSCRIBE: MQTT 5, 3.10.
func (d *Door) unsubscribe(c *conn, pk *packets.Packet) error {
	codes := make([]byte, len(pk.Filters))
	for i := range pk.Filters {
		filter := pk.Filters[i].Filter
		switch {
		case !packet.FilterValid(filter):
			codes[i] = packet.CodeTopicFilter
		case !c.sub.Unsubscribe(filter):
			codes[i] = packet.CodeNoSubscription
		default:
			if err := d.noteChange(c, c.sub.UnsubscribedEvent(filter)); err != nil {
				codes[i] = d.failure(err) // it is gone for this process; a later one may have it again
			}
		}
	}
	noted := c.settle()
	return d.change(c, func() {
		for i := range pk.Filters {
			d.out.tree.Unsubscribe(c.sub, pk.Filters[i].Filter)
		}
		if !noted {
			return
		}
		c.send(packet.AppendUnsuback(nil, &packets.Packet{ProtocolVersion: c.version, PacketID: pk.PacketID, ReasonCodes: codes})...)
	})
}
