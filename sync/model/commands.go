package model

// command is the cloud: it writes a command for some device.
func (w *world) command() {
	if !w.faulty {
		return
	}
	w.downlink = append(w.downlink, w.rng.IntN(len(w.devices)))
	w.after(w.between(20*ms, 300*ms), w.command)
}

// deliverCommands is R60 and R61: every node copies the site's commands, each
// known by its offset in Kafka; the node with the session sends the next one
// when the device has acknowledged the one before.
func (n *node) deliverCommands() {
	w := n.w
	if !w.Commands {
		return
	}
	if from := n.disk.commands; from < len(w.downlink) {
		ask(n, nil, func() (int, answer) { return min(len(w.downlink), from+10), fine }, func(to int, a answer) {
			if a == fine && to > n.disk.commands {
				n.disk.commands = to
				n.flush()
			}
		})
	}
	for _, s := range n.sessions {
		if s == nil || !s.ready || s.outside != nobody {
			continue
		}
		for o := s.cursor; o < n.disk.commandsKept; o++ {
			if w.downlink[o] == s.device {
				s.outside = o
				if w.broken(CommandsSkip) {
					n.commandAcked(s, o)
				}
				n.toDevice(s.conn, func(d *device) { d.hearCommand(o) })
				break
			}
		}
	}
}

// commandAcked moves the cursor: a record like any other, so that it travels
// with the device (R61, R62).
func (n *node) commandAcked(s *session, offset int) {
	if s.outside != offset {
		return
	}
	s.outside, s.cursor = nobody, offset+1
	lsn := n.append(record{kind: commandAck, device: s.device, seq: offset, epoch: s.epoch})
	n.pending = append(n.pending, pendingAck{lsn: lsn, device: nobody, at: n.w.now})
}
