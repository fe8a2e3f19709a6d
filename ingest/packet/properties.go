package packet

import "fmt"

// Property identifiers that are needed by name: MQTT 5, 2.2.2.2.
const (
	propPayloadFormat   = 0x01
	propExpiry          = 0x02
	propContentType     = 0x03
	propResponseTopic   = 0x08
	propCorrelationData = 0x09
	propSubscriptionID  = 0x0b
	propAuthMethod      = 0x15
	propAuthData        = 0x16
	propTopicAlias      = 0x23
	propUser            = 0x26
)

// A form is what the value of a property looks like.
type form byte

const (
	formNone   form = iota // no such property, or one that only a server sends
	formBool               // a byte, 0 or 1
	formUint16             // two bytes
	formUint32             // four bytes
	formLength             // a variable byte integer
	formText               // a UTF-8 string
	formTopic              // a topic name
	formBinary             // bytes
	formPair               // two UTF-8 strings
)

// A property is a line of the table in MQTT 5, 2.2.2.2, as far as it concerns
// what clients send.
type property struct {
	name   string
	form   form
	in     uint16 // where it may be: a bit for each packet type, and for the will
	server uint16 // where only a server may send it
	zero   byte   // the reason code for the value 0; 0: the value is fine
}

const (
	inWill        = 1 << typeWill
	inConnect     = 1 << TypeConnect
	inPublish     = 1 << TypePublish
	inAcks        = 1<<TypePuback | 1<<TypePubrec | 1<<TypePubrel | 1<<TypePubcomp
	inSubscribe   = 1 << TypeSubscribe
	inUnsubscribe = 1 << TypeUnsubscribe
	inDisconnect  = 1 << TypeDisconnect
	inAuth        = 1 << TypeAuth
)

// known holds the properties by identifier. Those of CONNACK alone are not in
// it: from a client they are as wrong as unknown ones.
var known = [propUser + 2]property{
	propPayloadFormat:   {"Payload Format Indicator", formBool, inPublish | inWill, 0, 0},
	propExpiry:          {"Message Expiry Interval", formUint32, inPublish | inWill, 0, 0},
	propContentType:     {"Content Type", formText, inPublish | inWill, 0, 0},
	propResponseTopic:   {"Response Topic", formTopic, inPublish | inWill, 0, CodeProtocolError},
	propCorrelationData: {"Correlation Data", formBinary, inPublish | inWill, 0, 0},
	propSubscriptionID:  {"Subscription Identifier", formLength, inSubscribe, inPublish, CodeProtocolError},
	0x11:                {"Session Expiry Interval", formUint32, inConnect | inDisconnect, 0, 0},
	propAuthMethod:      {"Authentication Method", formText, inConnect | inAuth, 0, CodeBadAuthMethod},
	propAuthData:        {"Authentication Data", formBinary, inConnect | inAuth, 0, 0},
	0x17:                {"Request Problem Information", formBool, inConnect, 0, 0},
	0x18:                {"Will Delay Interval", formUint32, inWill, 0, 0},
	0x19:                {"Request Response Information", formBool, inConnect, 0, 0},
	0x1c:                {"Server Reference", formText, 0, inDisconnect, 0},
	0x1f:                {"Reason String", formText, inAcks | inDisconnect | inAuth, 0, 0},
	0x21:                {"Receive Maximum", formUint16, inConnect, 0, CodeProtocolError},
	0x22:                {"Topic Alias Maximum", formUint16, inConnect, 0, 0},
	propTopicAlias:      {"Topic Alias", formUint16, inPublish, 0, CodeTopicAlias},
	propUser:            {"User Property", formPair, inWill | inConnect | inPublish | inAcks | inSubscribe | inUnsubscribe | inDisconnect | inAuth, 0, 0},
	0x27:                {"Maximum Packet Size", formUint32, inConnect, 0, CodeProtocolError},
}

// Properties that were checked.
type properties struct {
	raw    []byte // without their length
	seen   uint64 // a bit for each identifier that is there
	alias  uint16 // 0: none
	expiry uint32
}

func (p *properties) has(id byte) bool { return p.seen&(1<<id) != 0 }

// properties reads and checks the properties of a packet of type kind, or of a
// will.
func (r *reader) properties(kind byte) properties {
	n := r.length("property length")
	if n > len(r.b) {
		r.short("properties")
	}
	if n == 0 || r.err != nil {
		return properties{}
	}
	p := properties{raw: r.b[:n:n]}
	in := reader{b: p.raw}
	for len(in.b) > 0 {
		id := in.byte("property identifier")
		if in.belongs(id, kind, p.seen) {
			in.value(id, &p)
			p.seen |= 1 << id
		}
	}
	r.b = r.b[n:]
	if in.err != nil {
		r.fail(in.err.Code, in.err.What)
	}
	return p
}

// belongs notes a fault when a property must not be in a packet of type kind,
// or must not be there again. An identifier is a variable byte integer; all
// that are known have one byte.
func (r *reader) belongs(id, kind byte, seen uint64) bool {
	var p property
	if int(id) < len(known) {
		p = known[id]
	}
	switch {
	case p.server>>kind&1 != 0:
		r.fail(CodeProtocolError, "only a server sends a "+p.name+" here [MQTT-3.3.4-6] [3.14.2.2.5]")
	case p.form == formNone:
		r.fail(CodeMalformed, fmt.Sprintf("property 0x%02x is not known, or only a server's [2.2.2.2]", id))
	case p.in>>kind&1 == 0:
		r.fail(CodeMalformed, p.name+" does not belong here [2.2.2.2]")
	case id != propUser && seen&(1<<id) != 0:
		r.fail(CodeProtocolError, p.name+" is there twice [2.2.2.2]")
	default:
		return true
	}
	return false
}

// value reads the value of a property, and notes in p what is needed of it.
func (r *reader) value(id byte, p *properties) {
	what := known[id].name
	value := uint32(1) // what is compared with 0, for what has a zero
	switch known[id].form {
	case formBool:
		if v := r.byte(what); v > 1 {
			r.fail(CodeProtocolError, what+" is neither 0 nor 1 [2.2.2.2]")
		}
	case formUint16:
		v := r.uint16(what)
		if id == propTopicAlias {
			p.alias = v
		}
		value = uint32(v)
	case formUint32:
		value = r.uint32(what)
		if id == propExpiry {
			p.expiry = value
		}
	case formLength:
		value = uint32(r.length(what))
	case formText:
		value = uint32(len(r.text(what)))
	case formTopic:
		value = uint32(len(r.name(what, CodeProtocolError, "[MQTT-3.3.2-14]")))
	case formBinary:
		r.binary(what)
	case formPair:
		r.text(what)
		r.text(what)
	case formNone:
	}
	if code := known[id].zero; code != 0 && value == 0 {
		r.fail(code, what+" is 0 or empty [2.2.2.2]")
	}
}
