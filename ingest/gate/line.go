package gate

// A waiter waits for a place.
type waiter struct {
	turn   chan struct{} // closed when it has one
	called bool          // turn is closed
	left   bool          // it waits no more
}

// A line is those who wait for one kind of place.
type line struct {
	waiting int       // about how many: who has left is counted until its turn
	begun   []*waiter // who had a place before, on the same connection: what was done is not to be in vain
	hosts   []*host   // that have somebody waiting, the next to have a turn first
	byName  map[string]*host
}

// A host is an address, and those who wait there.
type host struct {
	name    string
	waiters []*waiter
}

func (l *line) add(me *waiter, w Work, name string) {
	l.waiting++
	if w == Token || w == Finish {
		l.begun = append(l.begun, me)
		return
	}
	h := l.byName[name]
	if h == nil {
		if l.byName == nil {
			l.byName = map[string]*host{}
		}
		h = &host{name: name}
		l.byName[name] = h
		l.hosts = append(l.hosts, h)
	}
	h.waiters = append(h.waiters, me)
}

// take returns who is next, or nil if nobody waits.
func (l *line) take() *waiter {
	for l.waiting > 0 {
		if me := l.shift(); !me.left {
			return me
		}
	}
	return nil
}

// shift takes the first out of the line.
func (l *line) shift() *waiter {
	l.waiting--
	if len(l.begun) > 0 {
		me := l.begun[0]
		l.begun = l.begun[1:]
		return me
	}
	h := l.hosts[0]
	l.hosts = l.hosts[1:]
	me := h.waiters[0]
	if h.waiters = h.waiters[1:]; len(h.waiters) > 0 {
		l.hosts = append(l.hosts, h)
	} else {
		delete(l.byName, h.name)
	}
	return me
}
