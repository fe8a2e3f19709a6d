package device

import (
	"errors"
	"fmt"
)

// errAsleep ends a connection whose device has said what it woke up for.
var errAsleep = errors.New("asleep until the next reading")

// greet puts what a device says when it has connected before all else: where
// it takes commands, that it is there, and what it is. Readings wait until the
// broker has answered.
func (x *exchange) greet() {
	p := &x.profile
	if p.Command.Filter != "" {
		x.replies = subscribe{x.hello.version, subscribeID, p.Command.Filter, p.Command.QoS}.append(x.replies)
		x.greeted++
	}
	if p.Status.Topic != "" {
		x.birthAgain = x.birthOwed
		x.sayBirth(x.birthOwed)
	}
	for _, a := range p.Announce {
		x.say(publish{topic: a.Topic, payload: []byte(a.Payload), retain: true})
	}
	x.settle()
}

// sayBirth says that the device is there. What the broker has not acknowledged
// it gets again, with DUP, and once it has, the new birth message: the will
// may have come in between, and who takes the first for a repetition must not
// take the device for gone.
func (x *exchange) sayBirth(dup bool) {
	birth := x.profile.Status.birth()
	if birth.qos > 0 {
		birth.packetID, birth.dup = birthID, dup
		x.birthOwed = true
		x.greeted++
	}
	x.say(birth)
}

// say puts a message that is not a reading before all else. Nobody counts
// those.
func (x *exchange) say(p publish) {
	if x.hello.version == v5 {
		p.props = publishProperties("", nil, 0)
	}
	x.replies = p.append(x.replies)
}

// welcome takes the answer to something that greet said.
func (x *exchange) welcome(p packet) {
	counts := &x.fleet.counts
	known := p.kind == typeSuback && p.packetID == subscribeID || p.kind == typePuback && p.packetID == birthID
	if !known || x.greeted == 0 {
		counts.strays.Add(1)
		return
	}
	x.greeted--
	if p.packetID == birthID {
		x.birthOwed = false
		if x.birthAgain {
			x.birthAgain = false
			x.sayBirth(false)
		}
	}
	if p.refused() {
		counts.refused.Add(1)
		x.fleet.failed(x.id, fmt.Errorf("the broker answered with packet type %d and reason code 0x%02x", p.kind, p.code))
	}
	x.settle()
}

// settle tells whoever watches when the device can be spoken to.
func (x *exchange) settle() {
	if x.greeted == 0 && x.opt.Settled != nil {
		x.opt.Settled(x.id)
	}
}

// leave disconnects. A broker sends no will after a DISCONNECT, so whoever
// wants others to know has to tell them.
func (x *exchange) leave() {
	if x.profile.Farewells {
		will := x.profile.Status.will()
		will.qos = 0 // nobody waits for the answer
		x.replies = x.replies[:0]
		x.say(will)
		if x.link.write(x.replies) != nil {
			x.link.close(false)
			return
		}
	}
	x.link.goodbye()
}

// shorten lets a topic alias stand for the topic where it can.
func (x *exchange) shorten(p *publish) {
	if x.aliased == nil || x.link.connack.topicAliases == 0 {
		return
	}
	p.props = x.aliased
	if x.aliasUp {
		p.topic = ""
	}
	x.aliasUp = true
}
