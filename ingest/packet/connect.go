package packet

// Bits of the connect flags: MQTT 5, 3.1.2.3.
const (
	connectReserved   = 0x01
	connectClean      = 0x02
	connectWill       = 0x04
	connectWillQoS    = 0x18
	connectWillRetain = 0x20
	connectPassword   = 0x40
	connectUser       = 0x80
)

// ConnectVersion returns the version that a frame speaks which should be a
// CONNECT, or 0 when it is not one or speaks none that is known here. It is
// for whoever has to answer a CONNECT that Parse has refused.
func ConnectVersion(frame []byte) byte {
	r := open(frame, 0)
	if r.err != nil || frame[0]>>4 != TypeConnect {
		return 0
	}
	return r.protocol()
}

// protocol reads the protocol's name and level, and returns the version, or 0.
func (r *reader) protocol() byte {
	name := r.binary("protocol name")
	level := r.byte("protocol level")
	switch {
	case r.err != nil:
	case string(name) == "MQTT" && (level == version311 || level == version5):
		return level
	case string(name) == "MQIsdp" && level == version31:
		return level
	default:
		r.fail(CodeUnsupportedProtocol, "neither MQTT 3.1, 3.1.1 nor 5 [MQTT-3.1.2-1] [MQTT-3.1.2-2]")
	}
	return 0
}

// connect checks a CONNECT, and returns its version.
func (r *reader) connect(head []byte) byte {
	version := r.protocol()
	if version == version5 && !minimal(head) {
		r.fail(CodeMalformed, overlong)
	}
	flags := r.byte("connect flags")
	r.connectFlags(flags, version)
	r.uint16("keep alive")
	if version == version5 {
		r.authProperties(r.properties(TypeConnect), false)
	}
	id := r.text("client identifier")
	if len(id) == 0 && flags&connectClean == 0 && version != version5 {
		r.fail(CodeClientID, "no client identifier, and a session to keep [3.1.1: MQTT-3.1.3-8]")
	}
	if flags&connectWill != 0 {
		if version == version5 {
			r.properties(typeWill)
		}
		if topic := r.name("will topic", CodeTopicName, "[MQTT-4.7.1-1]"); len(topic) == 0 {
			r.fail(CodeTopicName, "the will topic is empty [MQTT-4.7.3-1]")
		}
		r.binary("will payload")
	}
	if flags&connectUser != 0 {
		r.text("user name")
	}
	if flags&connectPassword != 0 {
		r.binary("password")
	}
	r.end()
	return version
}

func (r *reader) connectFlags(flags, version byte) {
	var fault string
	switch {
	case flags&connectReserved != 0:
		fault = "the reserved flag is set [MQTT-3.1.2-3]"
	case flags&connectWill == 0 && flags&connectWillQoS != 0:
		fault = "a will QoS without a will [MQTT-3.1.2-11]"
	case flags&connectWill == 0 && flags&connectWillRetain != 0:
		fault = "will retain without a will [MQTT-3.1.2-13]"
	case flags&connectWillQoS == connectWillQoS:
		fault = "will QoS 3 [MQTT-3.1.2-12]"
	case version != version5 && flags&connectUser == 0 && flags&connectPassword != 0:
		fault = "a password without a user name [3.1.1: MQTT-3.1.2-22]"
	default:
		return
	}
	r.fail(CodeMalformed, fault)
}

// authProperties checks what properties say of extended authentication: MQTT
// 5, 3.1.2.11.10 and 3.15.2.2.2.
func (r *reader) authProperties(p properties, needed bool) {
	if !p.has(propAuthMethod) && (needed || p.has(propAuthData)) {
		r.fail(CodeProtocolError, "no Authentication Method [3.1.2.11.10] [3.15.2.2.2]")
	}
}
