package device

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// firmware is the program of one device. One goroutine runs it; a second one
// reads while there is a connection.
type firmware struct {
	fleet   *Fleet
	opt     *Options
	id      string
	profile Profile // of this device; the zero Profile if there is none
	hello   connect
	topic   string
	props   []byte
	aliased []byte // props and a topic alias; nil: the device uses none
	shape   string
	rng     *rand.Rand
	clock   time.Duration // how far the device's clock is ahead
	session *session

	making   bool // more messages are to come
	lastSeq  uint64
	endSeq   uint64 // 0: no end
	nextQoS  byte
	due      time.Time // when the next message is made
	interval time.Duration

	met       bool // it has been connected before
	birthOwed bool // the birth message was sent in this session, and not acknowledged
	commands  commands
	retryAt   time.Time // when refused messages may be sent again
	retryWait time.Duration

	out, payload []byte // buffers, used again and again
}

// errFinished ends a connection whose device has nothing left to do.
var errFinished = errors.New("nothing left to send")

// A recorderError ends the whole fleet: without a record nothing may be sent.
type recorderError struct{ cause error }

func (e *recorderError) Error() string {
	return fmt.Sprintf("record before sending: %v; nothing unrecorded was sent", e.cause)
}
func (e *recorderError) Unwrap() error { return e.cause }

func newFirmware(fleet *Fleet, n int) *firmware {
	opt := fleet.optionsOf(n)
	id := opt.id(n)
	v := v311
	if opt.Versions.spread(n, versionStep) == Version5 {
		v = v5
	}
	state := opt.Recorder.Resume(id)
	d := &firmware{
		fleet: fleet, opt: opt, id: id,
		hello:   opt.hello(id, v),
		topic:   strings.ReplaceAll(opt.Topic, "{device}", id),
		shape:   opt.Payloads.spread(n, shapeStep),
		rng:     rand.New(rand.NewPCG(opt.Seed, uint64(n))),
		session: newSession(state), commands: commands{},
		making:  true,
		lastSeq: state.LastSeq,
	}
	if v == v5 {
		d.props = publishProperties(contentTypes[d.shape], opt.UserProperties, 0)
	}
	if opt.profile != nil {
		d.profile = opt.profile.Of(id)
	}
	if v == v5 && d.profile.Alias {
		d.aliased = publishProperties(contentTypes[d.shape], opt.UserProperties, 1)
	}
	if opt.Count > 0 {
		d.endSeq = d.lastSeq + opt.Count
	}
	if opt.Rate > 0 {
		d.interval = time.Duration(float64(time.Second) / opt.Rate)
	}
	if off := opt.Faults.ClockOff; off > 0 {
		d.clock = time.Duration(d.rng.Int64N(int64(2*off))) - off
	}
	d.nextQoS = d.drawQoS()
	fleet.counts.outstanding.Add(int64(d.unanswered()))
	return d
}

// live runs the device until it is finished or hard ends; soft ends the making
// of messages. An error is a recorderError.
func (d *firmware) live(soft, hard context.Context) error {
	defer d.stopMaking()
	wait := d.upTo(min(time.Second, time.Duration(d.opt.Devices)*time.Millisecond))
	d.due = time.Now().Add(wait + d.upTo(d.interval))
	if d.profile.Sleepy {
		wait = time.Until(d.due)
	}
	failures := 0
	for d.pause(soft, hard, wait) {
		l, err := d.connect(hard)
		if err == nil {
			var progress bool
			wait, progress, err = newExchange(d, l).run(soft, hard)
			if progress {
				failures = 0
			}
		}
		fatal, failed := errors.AsType[*recorderError](err)
		switch {
		case failed:
			return fatal
		case errors.Is(err, errFinished):
			return nil
		case err != nil && hard.Err() == nil:
			d.fleet.failed(d.id, err)
			wait = d.backoff(failures)
			failures++
		}
	}
	return nil
}

// backoff returns how long to wait after that many failures in a row: from
// 100 ms, doubled each time, less up to a half, so that a fleet does not come
// back in one wave. Some firmware does not think of that.
func (d *firmware) backoff(failures int) time.Duration {
	if d.profile.Retry > 0 {
		return min(d.profile.Retry, d.opt.BackoffMax)
	}
	full := min(100*time.Millisecond<<min(failures, 16), d.opt.BackoffMax)
	return full - d.upTo(full/2)
}

// upTo draws a duration below limit.
func (d *firmware) upTo(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return time.Duration(d.rng.Int64N(int64(limit)))
}

// pause waits without a connection, and says whether there is a reason to
// connect after that.
func (d *firmware) pause(soft, hard context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		if soft.Err() != nil {
			d.stopMaking()
		}
		if !d.making && d.session.idle() {
			return false
		}
		stop := soft.Done()
		if !d.making {
			stop = nil
		}
		select {
		case <-timer.C:
			return hard.Err() == nil
		case <-stop:
		case <-hard.Done():
			return false
		}
	}
}

// stopMaking notes, once, that this device makes no more messages.
func (d *firmware) stopMaking() {
	if d.making {
		d.making = false
		d.fleet.stopped()
	}
}

// connect opens a connection and agrees with the broker on whether the session
// goes on.
func (d *firmware) connect(ctx context.Context) (*link, error) {
	if d.profile.ClientID != StableID {
		d.session.discard = false // nobody can have a session under an id that is new
		d.hello.clientID = d.newClientID()
	}
	if d.session.discard && !d.opt.Clean {
		if err := d.throwAway(ctx); err != nil {
			return nil, fmt.Errorf("discard the old session: %w", err)
		}
	}
	l, err := dial(ctx, d.opt.Dial, d.hello, 4*d.opt.Window+16, cmp.Or(d.profile.PacketBytes, maxPacketBytes))
	if err != nil {
		return nil, err
	}
	if err := d.agree(l.connack); err != nil {
		l.close(false)
		return nil, err
	}
	d.session.connected()
	if d.met {
		d.fleet.counts.reconnects.Add(1)
	}
	d.met = true
	return l, nil
}

// newClientID returns what a device without a fixed client id says next.
func (d *firmware) newClientID() string {
	if d.profile.ClientID == EmptyID {
		return ""
	}
	return fmt.Sprintf("%s-%08x", d.id, d.rng.Uint32())
}

// throwAway makes the broker forget the session it may hold. This takes a
// connection of its own: with 3.1.1 a session that began with Clean Session
// would end together with its connection.
func (d *firmware) throwAway(ctx context.Context) error {
	hello := d.hello
	hello.clean, hello.expirySeconds = true, 0
	l, err := dial(ctx, d.opt.Dial, hello, 1, maxPacketBytes)
	if err != nil {
		return err
	}
	l.goodbye()
	return nil
}

// agree compares what both sides know of a session. If the broker has none,
// the device's ends as well [MQTT-3.2.2-5].
func (d *firmware) agree(c connack) error {
	for _, share := range d.opt.QoS {
		if share.Weight > 0 && share.Name > string('0'+c.maximumQoS) {
			return fmt.Errorf("the broker takes QoS %d at most; the mix has QoS %s", c.maximumQoS, share.Name)
		}
	}
	if c.sessionPresent && (d.opt.Clean || d.session.discard) {
		d.fleet.counts.strays.Add(1)
		return errors.New("the broker went on with a session that was discarded [MQTT-3.2.2-2]")
	}
	if c.sessionPresent {
		return nil
	}
	d.session.begin()
	d.birthOwed = false
	clear(d.commands)
	d.fleet.counts.sessions.Add(1)
	d.record(Event{Kind: NewSession, Session: d.session.number})
	return d.flush() // before the broker can say that the session is known
}

func (d *firmware) record(e Event) { d.opt.Recorder.Record(d.id, e) }

func (d *firmware) flush() error {
	if err := d.opt.Recorder.Flush(); err != nil {
		return &recorderError{err}
	}
	return nil
}

// unanswered counts the messages the broker has not taken responsibility for.
func (d *firmware) unanswered() int { return len(d.session.order) + len(d.session.retries) }

// drawQoS draws the QoS of the next message.
func (d *firmware) drawQoS() byte { return d.opt.QoS.pick(d.rng)[0] - '0' }

// forget is what a reboot without a flash memory does.
func (d *firmware) forget() {
	lost := int64(d.unanswered())
	d.fleet.counts.forgotten.Add(lost)
	d.fleet.counts.outstanding.Add(-lost)
	d.session.forget()
	d.record(Event{Kind: Forgotten})
}
