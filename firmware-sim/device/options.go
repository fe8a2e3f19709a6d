package device

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Options describe a fleet. Zero values stand for what the comments say.
type Options struct {
	// Broker is host:port; Dial, if set, is used instead of a TCP connection to it.
	Broker string
	Dial   func(ctx context.Context) (net.Conn, error)

	// Profiles, if set, says what firmware each device has. A profile decides on
	// Topic, QoS, Versions, Payloads, Clean and KeepAlive, whatever they say here,
	// on Window if it has one in flight, and its name becomes a part of the
	// device's id.
	Profiles Mix

	Devices int    // 1
	Prefix  string // of the device ids, which are the client ids: "sim-"
	Topic   string // {device} stands for the id: "site/sim/{device}/tele"

	// Rate is how many messages a device makes per second, whatever the broker
	// does; what it could not send in time it sends later. 0: as many as Window
	// allows.
	Rate   float64
	Count  uint64 // messages per device, then it stops; 0: no end
	Window int    // messages of QoS 1 and 2 without an answer, per device: 20

	QoS         Mix // of "0", "1", "2", per message: all "1"
	Versions    Mix // of Version311 and Version5, per device: half and half
	Payloads    Mix // of the shapes, per device: all ShapeJSON
	RandomBytes int // length of ShapeRandom: 256

	// Clean makes every connection begin a new session. Otherwise sessions are
	// kept by the broker, with MQTT 5 for Expiry (24 h).
	Clean  bool
	Expiry time.Duration

	Username, Password string // {device} in the name stands for the id
	UserProperties     []Property

	Faults Faults

	KeepAlive   time.Duration // 30 s; NoKeepAlive: none
	AckTimeout  time.Duration // no answer for so long: reconnect: 30 s
	BackoffMax  time.Duration // between attempts to connect: what the profile says, else 5 s
	HalfOpenFor time.Duration // how long a half-open socket is kept: 10 s
	Drain       time.Duration // how long Run waits for outstanding answers at the end; 0: not at all

	Seed     uint64   // of the faults and of the order of the QoS; the same seed repeats them per device
	Recorder Recorder // nil: nothing is recorded

	// Settled, if set, is called when a device has connected and the broker has
	// answered its subscription and its birth message, as Commanded is.
	Settled func(device string)
	// Commanded, if set, is called for each message that comes to a device, by
	// the device itself: many may call at once, and none should wait long.
	Commanded func(Command)

	profile *Profile // of one device
}

// NoKeepAlive is a KeepAlive of 0 in CONNECT: nobody pings.
const NoKeepAlive = -time.Second

// A Command is a message that came to a device.
type Command struct {
	Device, Topic, Payload string
	QoS                    byte
	Retained               bool
}

// Faults are the chances, from 0 to 1, that something happens with one PUBLISH.
// Their sum must not be over 1, Duplicate aside.
type Faults struct {
	Cut        float64 // the connection is cut within the packet
	HalfOpen   float64 // the device goes away and leaves the socket open
	Reboot     float64 // power is gone for a moment; the session was on flash
	RebootLost float64 // the same, and the session was in memory
	Duplicate  float64 // an unanswered PUBLISH is repeated on the same connection

	ClockOff time.Duration // each device's clock is off by at most so much
}

const defaultPrefix = "sim-"

func (o Options) withDefaults() Options {
	setDefault(&o.Devices, 1)
	setDefault(&o.Prefix, defaultPrefix)
	setDefault(&o.Topic, "site/sim/{device}/tele")
	setDefault(&o.Window, 20)
	setDefault(&o.RandomBytes, 256)
	setDefault(&o.Expiry, 24*time.Hour)
	setDefault(&o.KeepAlive, 30*time.Second)
	setDefault(&o.AckTimeout, 30*time.Second)
	setDefault(&o.BackoffMax, 5*time.Second)
	setDefault(&o.HalfOpenFor, 10*time.Second)
	if len(o.QoS) == 0 {
		o.QoS = Mix{{"1", 1}}
	}
	if len(o.Versions) == 0 {
		o.Versions = Mix{{Version311, 1}, {Version5, 1}}
	}
	if len(o.Payloads) == 0 {
		o.Payloads = Mix{{ShapeJSON, 1}}
	}
	if o.Recorder == nil {
		o.Recorder = forgetful{}
	}
	if o.Dial == nil && o.Broker != "" {
		address := o.Broker
		o.Dial = func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o Options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Dial != nil, "no broker to connect to")
	check(o.Devices > 0 && o.Devices <= 100_000, "%d devices; 1 to 100000 are possible", o.Devices)
	check(ValidID(o.id(o.Devices-1)), "device id %q: 1 to 64 letters, digits and -_.: are possible", o.id(o.Devices-1))
	check(!strings.ContainsAny(o.Topic, "+#\x00"), "topic %q: a topic to publish to has no wildcards", o.Topic)
	if p := o.profile; p != nil && p.PacketBytes > 0 {
		check(o.longest() <= p.PacketBytes, "profile %s: a packet of %d bytes does not fit its buffer of %d: shorten the prefix or the user name",
			p.Name, o.longest(), p.PacketBytes)
	}
	check(len(o.Topic)+maxIDBytes < 32<<10, "topic of %d bytes is too long", len(o.Topic))
	check(o.Rate >= 0, "rate %v is negative", o.Rate)
	check(o.Window > 0 && o.Window <= 10_000, "window %d; 1 to 10000 are possible", o.Window)
	check(o.RandomBytes > 0 && o.RandomBytes <= 1<<20, "random payloads of %d bytes; 1 to 1 MiB are possible", o.RandomBytes)
	check(o.KeepAlive == NoKeepAlive || o.KeepAlive >= time.Second && o.KeepAlive <= 65535*time.Second, "keep-alive %v; 1 s to 65535 s are possible", o.KeepAlive)
	fs := o.Faults
	sum := 0.0
	for _, chance := range []float64{fs.Cut, fs.HalfOpen, fs.Reboot, fs.RebootLost} {
		check(chance >= 0, "chance %v of a fault is negative", chance)
		sum += chance
	}
	check(sum <= 1, "the chances of faults add up to %v", sum)
	check(fs.Duplicate >= 0 && fs.Duplicate <= 1, "chance %v of a duplicate", fs.Duplicate)
	errs = append(errs, o.checkMix("qos", o.QoS, "0", "1", "2"),
		o.checkMix("versions", o.Versions, Version311, Version5),
		o.checkMix("payloads", o.Payloads, ShapeJSON, ShapeSparkplug, ShapeCBOR, ShapeRandom, ShapeShort))
	return errors.Join(errs...)
}

func (o Options) checkMix(field string, m Mix, known ...string) error {
	parts := make([]string, len(m))
	for i, s := range m {
		parts[i] = fmt.Sprintf("%s:%d", s.Name, s.Weight)
	}
	if _, err := ParseMix(strings.Join(parts, ","), known...); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
}

// id names device n, from 0.
func (o Options) id(n int) string { return fmt.Sprintf("%s%04d", o.Prefix, n+1) }

// hello returns the CONNECT of a device.
func (o Options) hello(id string, v version) connect {
	c := connect{
		version: v, clientID: id, clean: o.Clean,
		username: strings.ReplaceAll(o.Username, "{device}", id), password: o.Password,
		keepAliveSeconds: uint16(max(0, o.KeepAlive) / time.Second),
	}
	if p := o.profile; p != nil {
		c.maxPacketBytes = uint32(p.PacketBytes)
		if p.Status.Topic != "" {
			c.will = p.Of(id).Status.will()
		}
	}
	if !o.Clean {
		c.expirySeconds = uint32(min(o.Expiry/time.Second, 0xFFFFFFFE))
	}
	return c
}
