package device

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

// A Profile is how one kind of firmware uses MQTT, as it comes out of its box.
// In topics {device} stands for the id of the device, which is Options.Prefix,
// the name of the profile and a number.
type Profile struct {
	Name, About string

	Versions  Mix
	Topic     string // of the readings
	QoS       Mix    // of the readings
	Retain    bool   // the readings are retained
	Payload   string // a shape
	Window    int    // readings of QoS 1 and 2 without an answer
	Clean     bool
	ClientID  Identity
	KeepAlive time.Duration // 0: none
	Retry     time.Duration // fixed pause between attempts to connect; 0: doubled from 100 ms

	// PacketBytes is the size of the buffers: no packet the device sends is
	// longer, and longer messages to it are skipped. 0: 8 KiB to receive, and
	// any to send.
	PacketBytes int

	Status    Status
	Announce  []Announcement // retained, after each CONNACK
	Command   Subscription
	Reply     string // topic of the answer to a command, its payload said again; "": none
	Alias     bool   // MQTT 5: one topic alias, for the readings, if the broker takes any
	Sleepy    bool   // it disconnects when it has sent a reading, until the next one
	Farewells bool   // it publishes Status.Will itself before a DISCONNECT
}

// An Identity is what a device does for a client id.
type Identity byte

// The kinds of Identity.
const (
	StableID   Identity = iota // the device's id, always
	ChangingID                 // another one for each connection
	EmptyID                    // none: the broker assigns one
)

// A Status is the topic that says whether a device is there: a retained birth
// after each CONNACK, and a retained will. No topic: neither.
type Status struct {
	Topic       string
	Birth, Will string
	QoS         byte // of both: 0 or 1
}

// An Announcement is what a device says of itself for home automation systems.
type Announcement struct{ Topic, Payload string }

// A Subscription is where a device takes commands. No filter: nowhere.
type Subscription struct {
	Filter string
	QoS    byte
}

// profiles are sorted by what people ask for first.
var profiles = []Profile{
	{
		Name: "tasmota", About: "QoS 0 only, LWT Online/Offline, discovery, 30 s keep-alive, retry 10 s",
		Versions: Mix{{Version311, 1}}, Topic: "tele/{device}/SENSOR", QoS: Mix{{"0", 1}}, Payload: ShapeJSON,
		Clean: true, KeepAlive: 30 * time.Second, Retry: 10 * time.Second, PacketBytes: 1200,
		Status: Status{Topic: "tele/{device}/LWT", Birth: "Online", Will: "Offline"}, Farewells: true,
		Announce: []Announcement{
			{"tasmota/discovery/{device}/config", `{"t":"{device}","ft":"%prefix%/%topic%/","tp":["cmnd","stat","tele"],"ofln":"Offline","onln":"Online","ver":1}`},
			{"tasmota/discovery/{device}/sensors", `{"sn":{"temperature":0},"ver":1}`},
		},
		Command: Subscription{Filter: "cmnd/{device}/#"}, Reply: "stat/{device}/RESULT",
	},
	{
		Name: "esphome", About: "QoS 0, retained readings, kept session, birth and will, discovery, 15 s keep-alive",
		Versions: Mix{{Version311, 1}}, Topic: "{device}/sensor/room/state", QoS: Mix{{"0", 1}}, Retain: true, Payload: ShapeJSON,
		KeepAlive: 15 * time.Second, PacketBytes: 1024,
		Status: Status{Topic: "{device}/status", Birth: "online", Will: "offline"}, Farewells: true,
		Announce: []Announcement{
			{"homeassistant/sensor/{device}/room/config", `{"name":"room","stat_t":"{device}/sensor/room/state","avty_t":"{device}/status","uniq_id":"{device}"}`},
			{"homeassistant/switch/{device}/relay/config", `{"name":"relay","cmd_t":"{device}/switch/relay/command","avty_t":"{device}/status"}`},
		},
		Command: Subscription{Filter: "{device}/switch/relay/command"}, Reply: "{device}/switch/relay/state",
	},
	{
		Name: "shelly", About: "Gen2: QoS 1, one in flight, online true/false, RPC over MQTT, 60 s keep-alive",
		Versions: Mix{{Version311, 1}}, Topic: "{device}/events/rpc", QoS: Mix{{"1", 1}}, Payload: ShapeJSON, Window: 1,
		Clean: true, KeepAlive: 60 * time.Second,
		Status:  Status{Topic: "{device}/online", Birth: "true", Will: "false", QoS: 1},
		Command: Subscription{Filter: "{device}/rpc", QoS: 1}, Reply: "{device}/status/rpc",
	},
	{
		Name: "zephyr", About: "QoS 1, one in flight, kept session, 128-byte buffers both ways, 60 s keep-alive",
		Versions: Mix{{Version311, 1}}, Topic: "sensors/{device}/t", QoS: Mix{{"1", 1}}, Payload: ShapeShort, Window: 1,
		KeepAlive: 60 * time.Second, PacketBytes: 128,
		Status:  Status{Topic: "sensors/{device}/up", Birth: "1", Will: "0", QoS: 1},
		Command: Subscription{Filter: "sensors/{device}/set", QoS: 1},
	},
	{
		Name: "pubsubclient", About: "Arduino: QoS 0 only, 256-byte buffer, 15 s keep-alive, retry 5 s",
		Versions: Mix{{Version311, 1}}, Topic: "arduino/{device}/out", QoS: Mix{{"0", 1}}, Payload: ShapeJSON,
		Clean: true, KeepAlive: 15 * time.Second, Retry: 5 * time.Second, PacketBytes: 256,
		Status:  Status{Topic: "arduino/{device}/state", Birth: "up", Will: "down"},
		Command: Subscription{Filter: "arduino/{device}/in"},
	},
	{
		Name: "esp-idf", About: "QoS 1, MQTT 3.1.1 or 5 with a topic alias, 1 KiB buffer, 120 s keep-alive, retry 10 s",
		Versions: Mix{{Version311, 1}, {Version5, 1}}, Topic: "esp/{device}/telemetry", QoS: Mix{{"1", 1}}, Payload: ShapeJSON,
		Clean: true, KeepAlive: 120 * time.Second, Retry: 10 * time.Second, PacketBytes: 1024, Alias: true,
		Status:  Status{Topic: "esp/{device}/status", Birth: "online", Will: "offline", QoS: 1},
		Command: Subscription{Filter: "esp/{device}/cmd/#", QoS: 1}, Reply: "esp/{device}/reply",
	},
	{
		Name: "sleepy", About: "wakes up, sends one reading with QoS 1, disconnects; kept session, fixed id",
		Versions: Mix{{Version311, 1}, {Version5, 1}}, Topic: "sleepy/{device}/reading", QoS: Mix{{"1", 1}}, Payload: ShapeShort, Window: 1,
		KeepAlive: 60 * time.Second, Sleepy: true,
		Command: Subscription{Filter: "sleepy/{device}/set", QoS: 1},
	},
	{
		Name: "changing-id", About: "QoS 1 and 2 in a session that is to be kept, under another client id each time",
		Versions: Mix{{Version311, 1}, {Version5, 1}}, Topic: "lost/{device}/reading", QoS: Mix{{"1", 2}, {"2", 1}}, Payload: ShapeJSON,
		ClientID: ChangingID, KeepAlive: 60 * time.Second,
		Status:  Status{Topic: "lost/{device}/status", Birth: "online", Will: "offline"},
		Command: Subscription{Filter: "lost/{device}/set", QoS: 1},
	},
	{
		Name: "empty-id", About: "QoS 1 without a client id: the node assigns one for each connection",
		Versions: Mix{{Version311, 1}, {Version5, 1}}, Topic: "nameless/{device}/reading", QoS: Mix{{"1", 1}}, Payload: ShapeJSON,
		Clean: true, ClientID: EmptyID, KeepAlive: 60 * time.Second,
		Command: Subscription{Filter: "nameless/{device}/set"},
	},
	{
		Name: "no-keep-alive", About: "QoS 1 and 2, keep-alive 0: it sends no PINGREQ, and nobody is told when it is gone",
		Versions: Mix{{Version311, 1}, {Version5, 1}}, Topic: "silent/{device}/reading", QoS: Mix{{"1", 1}, {"2", 1}}, Payload: ShapeJSON,
		Status:  Status{Topic: "silent/{device}/status", Birth: "online", Will: "offline"},
		Command: Subscription{Filter: "silent/{device}/set", QoS: 1},
	},
}

// Profiles returns all profiles. The caller may change the slice, not what it
// leads to.
func Profiles() []Profile { return slices.Clone(profiles) }

// ProfileNames returns the names of all profiles.
func ProfileNames() []string {
	names := make([]string, len(profiles))
	for i, p := range profiles {
		names[i] = p.Name
	}
	return names
}

// Of returns p with {device} replaced in all topics and payloads.
func (p Profile) Of(device string) Profile {
	fill := strings.NewReplacer("{device}", device).Replace
	p.Topic, p.Reply, p.Command.Filter, p.Status.Topic = fill(p.Topic), fill(p.Reply), fill(p.Command.Filter), fill(p.Status.Topic)
	p.Announce = slices.Clone(p.Announce)
	for i, a := range p.Announce {
		p.Announce[i] = Announcement{fill(a.Topic), fill(a.Payload)}
	}
	return p
}

// birth returns the PUBLISH that says that the device is there.
func (s Status) birth() publish {
	return publish{topic: s.Topic, payload: []byte(s.Birth), qos: s.QoS, retain: true}
}

// will returns the PUBLISH that says that it is gone.
func (s Status) will() publish {
	return publish{topic: s.Topic, payload: []byte(s.Will), qos: s.QoS, retain: true}
}

// kinds returns the options of the devices of each profile, complete and checked.
func (o Options) kinds() (map[string]*Options, error) {
	if len(o.Profiles) == 0 {
		return nil, nil
	}
	if err := o.checkMix("profiles", o.Profiles, ProfileNames()...); err != nil {
		return nil, err
	}
	kinds := map[string]*Options{}
	var errs []error
	for _, share := range o.Profiles {
		i := slices.IndexFunc(profiles, func(p Profile) bool { return p.Name == share.Name })
		kind := o.with(&profiles[i]).withDefaults()
		errs = append(errs, kind.validate())
		kinds[share.Name] = &kind
	}
	return kinds, errors.Join(errs...)
}

// longest returns the length of the longest packet a device sends.
func (o Options) longest() int {
	id := o.id(o.Devices - 1)
	v := v311
	if o.Versions.has(Version5) {
		v = v5
	}
	p := o.profile.Of(id)
	reading := publish{topic: p.Topic, qos: 1, payload: appendPayload(nil, p.Payload, id, math.MaxInt64, 0, 0)}
	if v == v5 {
		reading.props = publishProperties(contentTypes[p.Payload], o.UserProperties, 1)
	}
	longest := max(len(o.hello(id, v).encode()), len(reading.append(nil)))
	for _, a := range p.Announce {
		longest = max(longest, len(publish{topic: a.Topic, payload: []byte(a.Payload)}.append(nil)))
	}
	return longest
}

// with returns o with what a profile decides in its place.
func (o Options) with(p *Profile) Options {
	o.profile = p
	o.Prefix = cmp.Or(o.Prefix, defaultPrefix) + p.Name + "-"
	o.Topic, o.Clean = p.Topic, p.Clean
	o.QoS, o.Versions, o.Payloads = p.QoS, p.Versions, Mix{{p.Payload, 1}}
	o.Window = cmp.Or(p.Window, o.Window)
	o.KeepAlive = cmp.Or(p.KeepAlive, NoKeepAlive)
	o.BackoffMax = cmp.Or(o.BackoffMax, p.Retry)
	return o
}
