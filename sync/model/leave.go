package model

// leave is R70, of a node that knows that it is removed: once all that it
// holds is in Kafka it gives away what it alone knows of the sessions, which
// is what was in trimmed records. When one of the others has that, nobody has
// to ask this node any more.
func (n *node) leave() {
	w := n.w
	if w.broken(LeavesEarly) {
		n.left = n.told
	}
	if !n.told || n.left || !n.isDrained() {
		return
	}
	seen, cursor := make([]int, w.Devices), make([]int, w.Devices)
	for d := range w.Devices {
		f := n.scan(d)
		seen[d], cursor[d] = f.last+1, f.cursor
	}
	for _, m := range w.nodes {
		if m == n || m.removed || !n.alive(m.index) {
			continue
		}
		w.send(n, m, func() {
			for d := range w.Devices {
				m.disk.seen[d] = max(m.disk.seen[d], seen[d])
				m.disk.cursor[d] = max(m.disk.cursor[d], cursor[d])
			}
			w.send(m, n, func() { n.left = true })
		})
	}
}

// isDrained says whether all that the node holds is in Kafka.
func (n *node) isDrained() bool {
	for l, c := range n.disk.copies {
		if c != nil && !c.bad && c.end() > n.disk.position(ledgerNo(l)).next {
			return false
		}
	}
	return true
}
