package packet

// Bits of the first byte of a PUBLISH, and what it is for the others.
const (
	flagRetain = 0x01
	flagQoS    = 0x06
	flagDup    = 0x08

	// "Reserved" in PUBREL, SUBSCRIBE and UNSUBSCRIBE: it was their QoS in
	// MQTT 3.1.
	flagQoS1 = 0x02
)

// maxHead is the size of the longest fixed header.
const maxHead = 5

// Header reads the fixed header at the start of b: head is its size, and size
// that of the whole packet, header included. It returns 0, 0, nil while more
// bytes are needed, and an *Error as soon as what is there cannot be the start
// of a packet. Which packets may come when, and from whom, it does not know.
//
// A remaining length in more bytes than it needs is let through, because MQTT
// 3.1.1 has nothing against it; in MQTT 5 Parse refuses it (1.5.5-1).
func Header(b []byte) (head, size int, err error) {
	head, size, e := header(b)
	if e != nil {
		return 0, 0, e
	}
	return head, size, nil
}

func header(b []byte) (head, size int, e *Error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if e := checkFlags(b[0]); e != nil {
		return 0, 0, e
	}
	n := 0
	for i := 1; i < len(b); i++ {
		n |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			return i + 1, i + 1 + n, nil
		}
		if i == maxHead-1 {
			return 0, 0, &Error{CodeMalformed, names[b[0]>>4], "the remaining length has more than four bytes [1.5.5]"}
		}
	}
	return 0, 0, nil
}

// checkFlags looks at the first byte of a packet: MQTT 5, 2.1.3.
func checkFlags(first byte) *Error {
	kind, flags := first>>4, first&0x0f
	fault := ""
	switch kind {
	case 0:
		fault = "there is no such type [2.1.2]"
	case TypePublish:
		switch {
		case flags&flagQoS == flagQoS:
			fault = "QoS 3 [MQTT-3.3.1-4]"
		case flags&flagQoS == 0 && flags&flagDup != 0:
			fault = "DUP with QoS 0 [MQTT-3.3.1-2]"
		}
	case TypePubrel, TypeSubscribe, TypeUnsubscribe:
		// MQTT 3.1 has DUP here. The other versions refuse it in open.
		if flags&^flagDup != flagQoS1 {
			fault = "wrong flags in the first byte [MQTT-2.1.3-1]"
		}
	default:
		if flags != 0 {
			fault = "wrong flags in the first byte [MQTT-2.1.3-1]"
		}
	}
	if fault == "" {
		return nil
	}
	return &Error{CodeMalformed, names[kind], fault}
}

// open checks the fixed header of a frame, which should be exactly one packet,
// and returns a reader for what follows it.
func open(frame []byte, version byte) reader {
	head, size, e := header(frame)
	r := reader{err: e}
	switch {
	case e != nil:
	case size != len(frame) || size == 0:
		r.fail(CodeMalformed, "the packet is not as long as it says")
	case version == version5 && !minimal(frame[:head]):
		r.fail(CodeMalformed, overlong)
	case version != version31 && frame[0]>>4 != TypePublish && frame[0]&flagDup != 0:
		r.fail(CodeMalformed, "wrong flags in the first byte [MQTT-2.1.3-1]")
	default:
		r.b = frame[head:]
	}
	return r
}

const overlong = "a variable byte integer has more bytes than it needs [MQTT-1.5.5-1]"

// minimal says whether the last byte of a fixed header is needed: MQTT 5,
// 1.5.5-1.
func minimal(head []byte) bool { return len(head) <= 2 || head[len(head)-1] != 0 }
