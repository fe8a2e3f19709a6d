package packet

import (
	"encoding/binary"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A Publish is one PUBLISH from a client. Its slices are parts of the frame it
// was parsed from, and good for as long as that is.
type Publish struct {
	Topic    []byte // empty only when Alias stands for it
	Payload  []byte
	PacketID uint16 // 0 for QoS 0
	QoS      byte
	Retain   bool
	Dup      bool
	Alias    uint16 // MQTT 5: the topic alias; 0: none. Whether it is in range the caller knows

	expiry  uint32
	expires bool
	props   []byte // without their length; nil when there are none, or none but the alias
}

// Parse makes p what frame says, which should be exactly one PUBLISH. It
// allocates nothing, except for the *Error that it returns for a frame that is
// not well-formed; p is worth nothing then.
func (p *Publish) Parse(frame []byte, version byte) error {
	r := open(frame, version)
	if r.err == nil && frame[0]>>4 != TypePublish {
		r.fail(CodeProtocolError, "a PUBLISH was expected")
	}
	if r.err != nil {
		return r.notOpened(frame)
	}
	first := frame[0]
	*p = Publish{
		QoS:    first & flagQoS >> 1,
		Retain: first&flagRetain != 0,
		Dup:    first&flagDup != 0,
	}
	p.Topic = r.name("topic name", CodeMalformed, "[MQTT-3.3.2-2]")
	if p.QoS > 0 {
		p.PacketID = r.packetID()
	}
	if version == version5 {
		props := r.properties(TypePublish)
		p.Alias, p.expiry, p.expires = props.alias, props.expiry, props.has(propExpiry)
		if props.seen != 1<<propTopicAlias {
			p.props = props.raw
		}
	}
	p.Payload = slices.Clip(r.b)
	if len(p.Topic) == 0 && p.Alias == 0 {
		r.fail(CodeProtocolError, "no topic name, and no alias for one [3.3.2.1] [MQTT-4.7.3-1]")
	}
	return r.result(TypePublish)
}

// notOpened returns why open refused a frame.
func (r *reader) notOpened(frame []byte) error {
	if len(frame) == 0 {
		return r.result(0)
	}
	return r.result(frame[0] >> 4)
}

// Expiry returns the Message Expiry Interval, in seconds, and whether there is
// one. 0 seconds is one: such a message must not wait.
func (p *Publish) Expiry() (seconds uint32, ok bool) { return p.expiry, p.expires }

// HasProperties says whether there are properties besides the alias.
func (p *Publish) HasProperties() bool { return len(p.props) > 0 }

// Properties decodes the properties, without the alias, which is between the
// client and this server. They are a copy, and the caller's. mochi's struct
// has no way to say that a Message Expiry Interval or a Content Type is there
// when it is 0 or empty; for the first there is Expiry.
func (p *Publish) Properties() (packets.Properties, error) {
	b := make([]byte, 0, len(p.props)+4)
	b = binary.AppendUvarint(b, uint64(len(p.props)))
	return decodeProperties(append(b, p.props...))
}
