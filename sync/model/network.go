package model

import "time"

// delay is how long something takes through the network.
func (w *world) delay() time.Duration {
	if w.faulty && w.chance(w.Rates.Spike) {
		return w.between(100*ms, 2500*ms)
	}
	return w.between(1*ms, 8*ms)
}

// send lets do happen at node b, unless it is lost: late, out of order,
// twice, or never. Everything that nodes say to each other must bear that;
// what needs a stream checks by itself (R17).
func (w *world) send(a, b *node, do func()) {
	if !w.links[a.index][b.index] || w.faulty && w.chance(w.Rates.Drop) {
		return
	}
	times := 1
	if w.faulty && w.chance(w.Rates.Drop/3) {
		times = 2
	}
	for range times {
		w.after(w.delay()+w.slow[a.index][b.index], func() {
			if b.up && w.links[a.index][b.index] {
				do()
			}
		})
	}
}

// mend restores every link.
func (w *world) mend() {
	for a := range w.links {
		w.uplinks[a] = true
		clear(w.slow[a])
		for b := range w.links[a] {
			w.links[a][b] = true
		}
	}
}

// cutLink cuts one direction, until heal is called.
func (w *world) cutLink(a, b int) (heal func()) {
	w.links[a][b] = false
	return func() { w.links[a][b] = true }
}

// An answer is what Kafka says, or that it says nothing.
type answer int

const (
	fine       answer = iota
	concurrent        // CONCURRENT_TRANSACTIONS: ask again
	fenced            // INVALID_PRODUCER_EPOCH
	unstable          // a transaction is being completed: ask again
	outOfSequence
	badState
	noAnswer // of an unknown outcome
)

const kafkaTimeout = 800 * ms

// ask makes a request to Kafka. The request or its answer may be lost, and
// either may be late; then is called once, unless the process has ended or
// the forwarder (nil: a read on the side) has started something else since.
func ask[T any](n *node, f *forwarder, request func() (T, answer), then func(T, answer)) {
	w, run := n.w, n.run
	var task int
	if f != nil {
		task = f.task
	}
	told := false
	finish := func(v T, a answer) {
		if told || n.run != run || !n.up || f != nil && f.task != task {
			return
		}
		told = true
		then(v, a)
	}
	reachable := func() bool { return w.kafka.up && w.uplinks[n.index] }
	if reachable() && !(w.faulty && w.chance(w.Rates.Drop)) {
		w.after(w.delay()+2*ms+w.lags[n.index], func() {
			if !w.kafka.up {
				return
			}
			v, a := request()
			if w.faulty && w.chance(w.Rates.Drop) || !reachable() {
				return
			}
			w.after(w.delay()+2*ms, func() { finish(v, a) })
		})
	}
	w.after(kafkaTimeout, func() {
		var nothing T
		finish(nothing, noAnswer)
	})
}
