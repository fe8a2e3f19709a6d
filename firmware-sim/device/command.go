package device

// commands are the packet ids of the QoS 2 messages to a device that it has
// taken and the broker has not released. They live as long as the session.
type commands map[uint16]bool

// take says whether a QoS 2 message is new (MQTT 5.0 section 4.3.3).
func (c commands) take(packetID uint16) bool {
	fresh := !c[packetID]
	c[packetID] = true
	return fresh
}

// obey takes a message that came to the device: acknowledges it, shows it to
// whoever watches, and answers it the way the firmware does. One that is too
// long is skipped, and not acknowledged: the packet id was in it.
func (x *exchange) obey(p packet) {
	m := &p.publish
	counts := &x.fleet.counts
	if m.tooLong {
		counts.skipped.Add(1)
		return
	}
	switch m.qos {
	case 1:
		x.replies = appendAck(x.replies, typePuback, p.packetID)
	case 2:
		x.replies = appendAck(x.replies, typePubrec, p.packetID)
		if !x.commands.take(p.packetID) {
			return
		}
	}
	counts.commands.Add(1)
	if x.opt.Commanded != nil {
		x.opt.Commanded(Command{Device: x.id, Topic: m.topic, Payload: m.payload, QoS: m.qos, Retained: m.retained})
	}
	if x.profile.Reply != "" && !m.retained {
		x.say(publish{topic: x.profile.Reply, payload: []byte(m.payload)})
	}
}
