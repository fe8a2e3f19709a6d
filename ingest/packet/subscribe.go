package packet

// Bits of the subscription options: MQTT 5, 3.8.3.1. MQTT 3 has the QoS alone.
const (
	optionQoS      = 0x03
	optionNoLocal  = 0x04
	optionRetain   = 0x30 // retain handling
	optionReserved = 0xc0
)

// subscribe checks a SUBSCRIBE.
func (r *reader) subscribe(version byte) {
	r.packetID()
	if version == version5 {
		r.properties(TypeSubscribe)
	}
	if len(r.b) == 0 {
		r.fail(CodeProtocolError, "no topic filter [MQTT-3.8.3-2]")
	}
	for len(r.b) > 0 {
		filter := r.text("topic filter")
		options := r.byte("subscription options")
		if version == version5 {
			r.options5(options, filter)
		} else if options > 2 {
			r.fail(CodeMalformed, "QoS 3, or reserved bits, in the options [3.1.1: MQTT-3-8.3-4]")
		}
	}
}

func (r *reader) options5(options byte, filter []byte) {
	switch {
	case options&optionReserved != 0:
		r.fail(CodeMalformed, "reserved bits in the options [MQTT-3.8.3-5]")
	case options&optionQoS == optionQoS:
		r.fail(CodeProtocolError, "QoS 3 in the options [3.8.3.1]")
	case options&optionRetain == optionRetain:
		r.fail(CodeProtocolError, "retain handling 3 in the options [3.8.3.1]")
	case options&optionNoLocal != 0 && isShared(filter):
		r.fail(CodeProtocolError, "no local on a shared subscription [MQTT-3.8.3-4]")
	}
}

// unsubscribe checks an UNSUBSCRIBE.
func (r *reader) unsubscribe(version byte) {
	r.packetID()
	if version == version5 {
		r.properties(TypeUnsubscribe)
	}
	if len(r.b) == 0 {
		r.fail(CodeProtocolError, "no topic filter [MQTT-3.10.3-2]")
	}
	for len(r.b) > 0 {
		r.text("topic filter")
	}
}
