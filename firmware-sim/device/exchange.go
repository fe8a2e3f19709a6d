package device

import (
	"context"
	"errors"
	"time"
)

// batchBytes ends the gathering of packets for one write.
const batchBytes = 32 << 10

// An exchange is the traffic of one device over one connection.
type exchange struct {
	*firmware

	link      *link
	quota     int // PUBLISHes without a final answer the broker allows
	keepAlive time.Duration

	mishap   mishap // strikes during the next write
	packetAt int    // where the packet it strikes begins in out
	progress bool   // the broker acknowledged something

	replies    []byte // packets that are due to the broker, in order
	greeted    int    // answers to the first of them that have not come
	birthAgain bool   // the birth message of an earlier connection is due before that of this one
	aliasUp    bool   // the broker knows the topic alias
	spoke      bool   // a new reading was sent

	timer  *time.Timer
	heard  time.Time // the last answer, or when there was nothing to answer
	wrote  time.Time
	pinged time.Time // zero: no PINGRESP is due
}

// A mishap is what the outside world does to a device.
type mishap byte

const (
	none mishap = iota
	cut
	halfOpen
	reboot
	rebootLost
)

var errSilent = errors.New("the broker is silent")

func newExchange(d *firmware, l *link) *exchange {
	x := &exchange{firmware: d, link: l, quota: int(l.connack.receiveMaximum), keepAlive: d.opt.KeepAlive}
	if s := l.connack.keepAliveSeconds; s > 0 {
		x.keepAlive = time.Duration(s) * time.Second
	}
	x.greet()
	x.heard = time.Now()
	x.wrote = x.heard
	x.timer = time.NewTimer(x.keepAlive)
	return x
}

// run talks to the broker until the connection ends or a mishap strikes, and
// says how long the device is then offline, and whether the connection was of
// any use. errFinished means that there is nothing left to do. The connection
// is closed, or left to the fleet.
func (x *exchange) run(soft, hard context.Context) (offline time.Duration, progress bool, err error) {
	counts := &x.fleet.counts
	counts.connected.Add(1)
	defer counts.connected.Add(-1)
	defer x.timer.Stop()
	defer context.AfterFunc(hard, func() { _ = x.link.conn.Close() })() // ends a write as well
	for err == nil && x.mishap == none {
		err = x.turn(soft, hard)
	}
	switch {
	case errors.Is(err, errFinished):
		x.leave()
	case errors.Is(err, errAsleep):
		x.leave()
		return max(0, time.Until(x.due)), true, nil
	case err == nil:
		return x.suffer(), true, nil
	default:
		x.link.close(false)
	}
	return 0, x.progress, err
}

// turn sends what can be sent, and waits for something to happen.
func (x *exchange) turn(soft, hard context.Context) error {
	now := time.Now()
	if soft.Err() != nil {
		x.stopMaking()
	}
	more := x.fill(now)
	if x.mishap != none {
		return x.flush() // suffer writes
	}
	if err := x.push(now); err != nil {
		return err
	}
	if x.session.idle() && x.greeted == 0 {
		switch {
		case !x.making:
			return errFinished
		case x.profile.Sleepy && (x.spoke || now.Before(x.due)):
			return errAsleep
		}
	}
	if more {
		return x.listen(hard)
	}
	deadline, err := x.deadline(now)
	if err != nil {
		return err
	}
	x.timer.Reset(deadline.Sub(now))
	stop := soft.Done()
	if !x.making {
		stop = nil
	}
	select {
	case p, ok := <-x.link.answers:
		if !ok {
			return x.link.err
		}
		x.take(p)
		return x.listen(hard)
	case <-x.timer.C:
	case <-stop:
	case <-hard.Done():
		return hard.Err()
	}
	return nil
}

// listen takes what has been answered by now.
func (x *exchange) listen(hard context.Context) error {
	for {
		select {
		case p, ok := <-x.link.answers:
			if !ok {
				return x.link.err
			}
			x.take(p)
		default:
			return hard.Err()
		}
	}
}

// fill gathers packets in out: PUBRELs, what must be sent again, then what is
// new. It stops when there is nothing to send, a mishap is to strike, or the
// write is large enough; it returns true for the last.
func (x *exchange) fill(now time.Time) (more bool) {
	x.out = append(x.out[:0], x.replies...)
	x.replies = x.replies[:0]
	for _, f := range x.session.releases {
		f.released()
		x.out = appendPubrel(x.out, f.packetID)
	}
	x.session.releases = x.session.releases[:0]
	for x.mishap == none {
		if len(x.out) >= batchBytes {
			return true
		}
		if !x.next(now) {
			return false
		}
	}
	return false
}

// next adds one PUBLISH to out, unless none may be sent now.
func (x *exchange) next(now time.Time) bool {
	s := x.session
	if x.greeted > 0 {
		return false
	}
	room := s.quota < x.quota
	if f := s.unsent(); f != nil {
		if room {
			x.transmit(f)
		}
		return room
	}
	room = room && s.open < x.opt.Window
	if len(s.retries) > 0 {
		if !room || now.Before(x.retryAt) {
			return false
		}
		m := s.retries[0]
		s.retries = s.retries[1:]
		x.heard = now
		x.transmit(s.place(m))
		return true
	}
	if !x.making || now.Before(x.due) || x.profile.Sleepy && x.spoke || x.nextQoS > 0 && !room {
		return false
	}
	x.make(now)
	return true
}

// make sends a new message, and perhaps repeats an older one.
func (x *exchange) make(now time.Time) {
	x.lastSeq++
	x.spoke = true
	m := message{seq: x.lastSeq, qos: x.nextQoS, millis: now.Add(x.clock).UnixMilli(), born: now}
	x.due = x.due.Add(x.interval)
	x.nextQoS = x.drawQoS()
	if x.lastSeq == x.endSeq {
		x.stopMaking()
	}
	x.fleet.counts.sent.Add(1)
	s := x.session
	if s.open == 0 {
		x.heard = now
	}
	if m.qos > 0 {
		x.fleet.counts.outstanding.Add(1)
		x.transmit(s.place(m))
	} else {
		x.publish(m, 0, false)
	}
	if x.mishap == none && x.rng.Float64() < x.opt.Faults.Duplicate && x.mayRepeat() {
		x.fleet.counts.duplicates.Add(1)
		x.transmit(s.order[x.rng.IntN(len(s.order))])
	}
}

// mayRepeat says whether a PUBLISH may be repeated on a live connection. A
// broker that never answers the repetition must not use up the quota.
func (x *exchange) mayRepeat() bool {
	s := x.session
	return len(s.order) > 0 && s.quota < x.quota && s.doubts() < max(1, x.quota/4)
}

// transmit adds the PUBLISH of a flight to out.
func (x *exchange) transmit(f *flight) {
	dup := x.session.sent(f)
	x.publish(f.message, f.packetID, dup)
}

func (x *exchange) publish(m message, packetID uint16, dup bool) {
	x.record(Event{
		Kind: Sent, Seq: m.seq, QoS: m.qos, PacketID: packetID,
		Session: x.session.number, Millis: m.millis,
	})
	x.fleet.counts.transmissions.Add(1)
	x.payload = appendPayload(x.payload[:0], x.shape, x.id, m.seq, m.millis, x.opt.RandomBytes)
	x.packetAt = len(x.out)
	p := publish{
		topic: x.topic, qos: m.qos, dup: dup, retain: x.profile.Retain, packetID: packetID, props: x.props, payload: x.payload,
	}
	x.shorten(&p)
	x.out = p.append(x.out)
	x.mishap = x.opt.Faults.strike(x.rng.Float64())
}

// strike returns what happens when the die shows roll, from 0 to 1.
func (f Faults) strike(roll float64) mishap {
	for i, chance := range [...]float64{f.Cut, f.HalfOpen, f.Reboot, f.RebootLost} {
		if roll < chance {
			return mishap(i + 1)
		}
		roll -= chance
	}
	return none
}

// push writes what is in out, and PINGREQ when it is time for it. Everything
// in it has been recorded by then.
func (x *exchange) push(now time.Time) error {
	if x.keepAlive > 0 && x.pinged.IsZero() && now.Sub(x.wrote) >= x.keepAlive*3/4 {
		x.out = appendPingreq(x.out)
		x.pinged = now
	}
	if len(x.out) == 0 {
		return nil
	}
	x.wrote = now
	if err := x.flush(); err != nil {
		return err
	}
	return x.link.write(x.out)
}

// deadline returns when something is due although the broker says nothing.
func (x *exchange) deadline(now time.Time) (time.Time, error) {
	at := x.wrote.Add(x.keepAlive * 3 / 4)
	if x.keepAlive <= 0 {
		at = now.Add(time.Hour)
	}
	if !x.pinged.IsZero() {
		at = x.pinged.Add(x.opt.AckTimeout)
	}
	s := x.session
	if s.open > 0 || x.greeted > 0 {
		at = earlier(at, x.heard.Add(x.opt.AckTimeout))
	}
	if !now.Before(at) {
		return at, errSilent
	}
	room := s.quota < x.quota && s.open < x.opt.Window
	switch {
	case x.greeted > 0:
	case len(s.retries) > 0:
		if room && s.unsent() == nil {
			at = earlier(at, x.retryAt)
		}
	case x.making && (room || x.nextQoS == 0) && s.unsent() == nil:
		at = earlier(at, x.due)
	}
	return at, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// take handles a packet from the broker.
func (x *exchange) take(p packet) {
	now := time.Now()
	switch p.kind {
	case typePingresp:
		x.pinged = time.Time{}
		return
	case typePublish:
		x.obey(p)
		return
	case typePubrel:
		delete(x.commands, p.packetID)
		x.replies = appendAck(x.replies, typePubcomp, p.packetID)
		return
	case typePuback, typePubrec, typePubcomp, typeSuback:
	default:
		x.fleet.counts.strays.Add(1)
		return
	}
	x.heard = now
	if p.packetID >= firstOwnID {
		x.welcome(p)
		return
	}
	result, m := x.session.answer(p)
	counts := &x.fleet.counts
	switch result {
	case stray:
		counts.strays.Add(1)
	case acked, taken:
		x.progress = true
		x.retryWait = 0
		counts.acked.Add(1)
		counts.outstanding.Add(-1)
		x.record(Event{Kind: Acked, Seq: m.seq})
	case done:
		x.record(Event{Kind: Released, Seq: m.seq})
	case denied:
		counts.refused.Add(1)
		x.record(Event{Kind: Refused, Seq: m.seq})
		x.retryWait = min(max(2*x.retryWait, 100*time.Millisecond), x.opt.BackoffMax)
		x.retryAt = now.Add(x.retryWait)
	case nothing:
	}
	if (result == acked || result == done) && !m.born.IsZero() {
		x.fleet.latency[m.qos].add(now.Sub(m.born))
	}
}

// suffer lets the mishap strike while out is written, and returns how long the
// device is offline after it. What is in out has been recorded.
func (x *exchange) suffer() time.Duration {
	packet := len(x.out) - x.packetAt
	part := x.packetAt + 1 + x.rng.IntN(packet-1)
	counts := &x.fleet.counts
	switch x.mishap {
	case cut:
		counts.cuts.Add(1)
		_ = x.link.write(x.out[:part])
		x.link.close(x.rng.IntN(2) == 0)
		return x.upTo(100 * time.Millisecond)
	case halfOpen:
		counts.halfOpen.Add(1)
		if x.rng.IntN(2) == 0 {
			part = len(x.out)
		}
		_ = x.link.write(x.out[:part])
		x.fleet.abandon(x.link.abandon())
		return x.upTo(100 * time.Millisecond)
	case none, reboot, rebootLost:
		counts.reboots.Add(1)
		_ = x.link.write(x.out)
		x.link.close(true)
		if x.mishap == rebootLost {
			x.forget()
		}
	}
	return 200*time.Millisecond + x.upTo(300*time.Millisecond)
}
