package model

// kafkaExact are the scenarios about the way to Kafka whose outcome is known
// exactly.
var kafkaExact = []Scenario{
	{Name: "T8", About: "the owner has no uplink: a peer forwards its ledger, and it goes on itself afterwards", Set: exactly(2, func(w *world) {
		w.then(4*sec, func() {
			w.cutUplink(0, 10*sec)
			l := w.nodes[0].liveOf()
			at4 := w.position(l)
			w.then(13500*ms, func() {
				if w.position(l) <= at4 {
					w.wrong("the position of %v has not moved for 9 s", l)
				}
			})
		})
	}, func(w *world, n *Counts) any {
		return all(noLoss(n), noFlags(n), wants(n.TakeOvers > 0, "nobody took over"))
	}, func(c *Config) { c.RunFor = 25 * sec })},
	{Name: "T9", About: "a forwarder stands still in a transaction, a peer takes over, and it goes on: it is fenced", Set: exactly(2, func(w *world) {
		w.then(4*sec, func() { w.lags[0] = 8 * sec })
		w.then(5*sec, func() { w.uplinks[0] = false }) // what it has sent is on its way; it gets no answer
		w.then(13*sec, func() { w.lags[0], w.uplinks[0] = 0, true })
	}, func(_ *world, n *Counts) any {
		return all(noLoss(n), noFlags(n), wants(n.TakeOvers > 0, "nobody took over"))
	})},
	{Name: "T10", About: "requests to end transactions come after the next one has begun, old transactions", Set: exactly(2, lateRequests, noLossNoFlags, func(c *Config) { c.TV2 = false })},
	{Name: "T10_TV2", About: "the same, transactions of KIP-890", Set: exactly(2, lateRequests, noLossNoFlags, func(c *Config) { c.TV2 = true })},
	{Name: "T11", About: "Kafka is down, the owner dies, its peer ingests, Kafka returns, then the owner", Set: exactly(2, func(w *world) {
		w.then(3*sec, func() { w.stopKafka(12 * sec) })
		w.then(6*sec, func() {
			w.nodes[0].off(11 * sec)
			w.moveTo(1)
		})
	}, func(_ *world, n *Counts) any { return noLoss(n) }, func(c *Config) { c.RunFor = 25 * sec })},
	{Name: "T18", About: "the position in Kafka is lower than it was: forwarding stops, and nothing is sent twice", Set: exactly(2, func(w *world) {
		w.then(5*sec, func() { w.stopKafka(4 * sec) })
		w.then(8*sec, func() {
			for l := range w.kafka.positions {
				w.kafka.positions[l] = position{next: 1, found: true}
			}
			for _, n := range w.nodes { // a forwarder that runs would notice at its next fence
				n.crash()
				n.restart(50*ms, 100*ms)
			}
		})
	}, func(_ *world, n *Counts) any { return wants(n.Stuck > 0, "nobody noticed") }, func(c *Config) {
		c.NotPromised = func(i Invariant) bool { return i == I1 || i == I5 || i == I7 }
	})},
	{Name: "T20", About: "two nodes fight for a ledger: it goes on", Set: exactly(2, func(w *world) {
		w.every(100*ms, 4*sec, 16*sec, func() {
			if l := w.nodes[0].liveOf(); l != none && w.nodes[1].disk.copyOf(l) != nil && at(w.nodes[1].forwarders, l) == nil {
				w.nodes[1].fence(w.nodes[1].newForwarder(l))
			}
		})
		w.then(16*sec, func() {
			l := w.nodes[0].liveOf()
			if w.position(l) < w.written(l)/2 {
				w.wrong("%v is in Kafka up to %d of %d", l, w.position(l), w.written(l))
			}
		})
	}, func(_ *world, n *Counts) any { return all(noLoss(n), noFlags(n), wants(n.Fenced > 5, "no fight")) })},
	{Name: "T33", About: "Kafka is away: nothing above the position is trimmed", Set: exactly(2, func(w *world) {
		w.then(3*sec, func() { w.stopKafka(16 * sec) })
		w.then(18*sec, func() {
			for l := range w.ledgers {
				for _, n := range w.nodes {
					if c := n.disk.copyOf(ledgerNo(l)); c != nil && c.base > w.position(ledgerNo(l)) {
						w.wrong("node %d has trimmed %v", n.index, ledgerNo(l))
					}
				}
			}
		})
	}, noLossNoFlags)},
}

// lateRequests delays what both nodes send to Kafka beyond their patience,
// again and again, so that late requests meet the next transaction.
func lateRequests(w *world) {
	w.every(700*ms, 2*sec, 18*sec, func() {
		for i := range w.nodes {
			w.lags[i] = w.between(0, 1500*ms)
			w.after(w.between(50*ms, 300*ms), func() { w.lags[i] = 0 })
		}
	})
}
