//go:build conformance

package conformance

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// A kind is the type of a control packet, the upper half of its first byte.
type kind byte

// The control packets, by their names in section 2.1.2.
const (
	CONNECT kind = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

func (k kind) String() string {
	names := [...]string{
		"0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
		"UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
	}
	return names[k&15]
}

// The properties of MQTT 5, by their names in section 2.2.2.2.
const (
	payloadFormat     = 0x01
	messageExpiry     = 0x02
	contentType       = 0x03
	responseTopic     = 0x08
	correlationData   = 0x09
	subscriptionID    = 0x0B
	sessionExpiry     = 0x11
	assignedClientID  = 0x12
	serverKeepAlive   = 0x13
	authMethod        = 0x15
	authData          = 0x16
	requestProblem    = 0x17
	willDelay         = 0x18
	requestResponse   = 0x19
	responseInfo      = 0x1A
	serverReference   = 0x1C
	reasonString      = 0x1F
	receiveMaximum    = 0x21
	topicAliasMaximum = 0x22
	topicAlias        = 0x23
	maximumQoS        = 0x24
	retainAvailable   = 0x25
	userProperty      = 0x26
	maximumPacketSize = 0x27
	wildcardAvailable = 0x28
	subIDsAvailable   = 0x29
	sharedAvailable   = 0x2A
)

// forms says how each property is encoded.
var forms = map[byte]string{
	payloadFormat: "byte", messageExpiry: "four", contentType: "text", responseTopic: "text", correlationData: "binary",
	subscriptionID: "variable", sessionExpiry: "four", assignedClientID: "text", serverKeepAlive: "two", authMethod: "text",
	authData: "binary", requestProblem: "byte", willDelay: "four", requestResponse: "byte", responseInfo: "text",
	serverReference: "text", reasonString: "text", receiveMaximum: "two", topicAliasMaximum: "two", topicAlias: "two",
	maximumQoS: "byte", retainAvailable: "byte", userProperty: "pair", maximumPacketSize: "four", wildcardAvailable: "byte",
	subIDsAvailable: "byte", sharedAvailable: "byte",
}

// serverMaySend lists the properties that a server may put into each packet.
var serverMaySend = map[kind][]byte{
	CONNACK: {
		sessionExpiry, assignedClientID, serverKeepAlive, authMethod, authData, responseInfo, serverReference, reasonString,
		receiveMaximum, topicAliasMaximum, maximumQoS, retainAvailable, userProperty, maximumPacketSize, wildcardAvailable,
		subIDsAvailable, sharedAvailable,
	},
	PUBLISH: {
		payloadFormat, messageExpiry, contentType, responseTopic, correlationData, subscriptionID, topicAlias, userProperty,
	},
	PUBACK: {reasonString, userProperty}, PUBREC: {reasonString, userProperty}, PUBREL: {reasonString, userProperty},
	PUBCOMP: {reasonString, userProperty}, SUBACK: {reasonString, userProperty}, UNSUBACK: {reasonString, userProperty},
	DISCONNECT: {serverReference, reasonString, userProperty},
	AUTH:       {authMethod, authData, reasonString, userProperty},
}

// codes5 lists the reason codes of MQTT 5 that a server may send in each packet,
// and codes311 the return codes of MQTT 3.1.1.
var codes5 = map[kind][]byte{
	CONNACK: {
		0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B,
		0x9C, 0x9D, 0x9F,
	},
	PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}, PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	PUBREL: {0x00, 0x92}, PUBCOMP: {0x00, 0x92},
	SUBACK:   {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
	UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
	DISCONNECT: {
		0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
		0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
	},
	AUTH: {0x00, 0x18},
}

var codes311 = map[kind][]byte{CONNACK: {0, 1, 2, 3, 4, 5}, SUBACK: {0x00, 0x01, 0x02, 0x80}}

// A prop is a property: a number, a text or bytes in s, or a pair.
type prop struct {
	id    byte
	n     uint32
	s     string
	value string
}

type props []prop

func num(id byte, n uint32) prop       { return prop{id: id, n: n} }
func text(id byte, s string) prop      { return prop{id: id, s: s} }
func pair(name, value string) prop     { return prop{id: userProperty, s: name, value: value} }
func (ps props) has(id byte) bool      { return ps.count(id) > 0 }
func (ps props) number(id byte) uint32 { return ps.first(id).n }
func (ps props) text(id byte) string   { return ps.first(id).s }
func (ps props) numbers(id byte) []uint32 {
	var all []uint32
	for _, p := range ps {
		if p.id == id {
			all = append(all, p.n)
		}
	}
	slices.Sort(all)
	return all
}

func (ps props) count(id byte) (n int) {
	for _, p := range ps {
		if p.id == id {
			n++
		}
	}
	return n
}

func (ps props) first(id byte) prop {
	if i := slices.IndexFunc(ps, func(p prop) bool { return p.id == id }); i >= 0 {
		return ps[i]
	}
	return prop{}
}

// pack makes a control packet of its first byte and its parts: an int is a byte,
// a uint16 two and a uint32 four, a string has its length before it, bytes are as
// they are, and props have the length of all.
func pack(first byte, parts ...any) []byte {
	body := join(parts...)
	return append(appendVariable([]byte{first}, len(body)), body...)
}

func join(parts ...any) (b []byte) {
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			if part < 0 || part > 255 {
				panic("a byte is from 0 to 255")
			}
			b = append(b, byte(part))
		case byte:
			b = append(b, part)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, part)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, part)
		case string:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(part))), part...)
		case []byte:
			b = append(b, part...)
		case props:
			var all []byte
			for _, p := range part {
				all = append(all, p.bytes()...)
			}
			b = append(appendVariable(b, len(all)), all...)
		default:
			panic(fmt.Sprintf("no such part: %T", part))
		}
	}
	return b
}

func (p prop) bytes() []byte {
	switch forms[p.id] {
	case "byte":
		return []byte{p.id, byte(p.n)}
	case "two":
		return join(p.id, uint16(p.n))
	case "four":
		return join(p.id, p.n)
	case "variable":
		return appendVariable([]byte{p.id}, int(p.n))
	case "pair":
		return join(p.id, p.s, p.value)
	default: // also one that the standard does not know
		return join(p.id, p.s)
	}
}

func appendVariable(b []byte, n int) []byte {
	for n > 127 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// A packet is one that the server sent.
type packet struct {
	kind  kind
	flags byte // the lower half of the first byte
	size  int  // in bytes, with the fixed header
	body  []byte

	id      uint16
	present bool   // Session Present
	code    byte   // of CONNACK, PUBACK and the like, DISCONNECT and AUTH
	codes   []byte // of SUBACK and UNSUBACK
	topic   string
	payload string
	props   props
	old     bool // a CONNACK in the form of MQTT 3.1.1
}

func (p packet) qos() byte    { return p.flags >> 1 & 3 }
func (p packet) dup() bool    { return p.flags&8 != 0 }
func (p packet) retain() bool { return p.flags&1 != 0 }

func (p packet) String() string {
	s := fmt.Sprintf("%v flags %04b", p.kind, p.flags)
	if p.kind == PUBLISH {
		return s + fmt.Sprintf(" id %d topic %q payload %.40q properties %v", p.id, p.topic, p.payload, p.props)
	}
	return s + fmt.Sprintf(" id %d code 0x%02x codes %x present %v properties %v", p.id, p.code, p.codes, p.present, p.props)
}

// parse decodes the packet as the version v has it and returns what a client
// would have to refuse as an error.
func parse(p *packet, v byte) error {
	r := reader{b: p.body}
	want := byte(0)
	if p.kind == PUBREL {
		want = 2
	}
	if p.kind != PUBLISH && p.flags != want {
		return fmt.Errorf("the reserved flags are %04b", p.flags)
	}
	switch p.kind {
	case CONNACK:
		flags := r.byte()
		p.present, p.code = flags&1 != 0, r.byte()
		if flags > 1 {
			return fmt.Errorf("the acknowledge flags are %08b", flags)
		}
		p.old = len(r.b) == 0
		if v == 5 && !p.old {
			p.props = r.props()
		}
	case PUBLISH:
		if p.qos() == 3 {
			return errors.New("both QoS bits are set")
		}
		p.topic = r.text()
		if p.qos() > 0 {
			p.id = r.two()
		}
		if v == 5 {
			p.props = r.props()
		}
		p.payload, r.b = string(r.b), nil
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p.id = r.two()
		readReason(p, v, &r)
	case SUBACK, UNSUBACK:
		p.id = r.two()
		if v == 5 {
			p.props = r.props()
		}
		if v == 5 || p.kind == SUBACK {
			p.codes, r.b = r.b, nil
		}
	case PINGRESP: // it has no body
	case DISCONNECT, AUTH:
		if v != 5 {
			return errors.New("MQTT 3.1.1 has no such packet for a client")
		}
		readReason(p, v, &r)
	case CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ:
		return errors.New("a server does not send it")
	default:
		return errors.New("there is no such packet")
	}
	if r.err != nil {
		return r.err
	}
	if len(r.b) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.b))
	}
	return p.lawful(v)
}

// readReason reads a reason code and properties, which may both be left out.
func readReason(p *packet, v byte, r *reader) {
	if v == 5 && len(r.b) > 0 {
		p.code = r.byte()
		if len(r.b) > 0 {
			p.props = r.props()
		}
	}
}

// lawful says whether the packet has only codes and properties that its kind may
// have, and a packet identifier if it needs one.
func (p packet) lawful(v byte) error {
	lawful := codes5
	if v != 5 || p.old {
		lawful = codes311
	}
	for _, code := range append([]byte{p.code}, p.codes...) {
		if known := lawful[p.kind]; known != nil && !slices.Contains(known, code) {
			return fmt.Errorf("0x%02x is no code of %v", code, p.kind)
		}
	}
	for _, x := range p.props {
		if !slices.Contains(serverMaySend[p.kind], x.id) {
			return fmt.Errorf("property 0x%02x does not belong there", x.id)
		}
		if x.id != userProperty && x.id != subscriptionID && p.props.count(x.id) > 1 {
			return fmt.Errorf("property 0x%02x is there twice", x.id)
		}
	}
	needsID := p.kind >= PUBACK && p.kind <= UNSUBACK || p.kind == PUBLISH && p.qos() > 0
	if needsID && p.id == 0 {
		return errors.New("the packet identifier is 0")
	}
	return nil
}

// A reader takes values from the front of bytes; after an error it gives zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.err = cmp.Or(r.err, errors.New("the packet ends too early"))
		return make([]byte, 4)
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte   { return r.take(1)[0] }
func (r *reader) two() uint16  { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) four() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) bytes() string {
	return string(r.take(int(r.two())))
}

func (r *reader) text() string {
	s := r.bytes()
	if !utf8.ValidString(s) || slices.Contains([]byte(s), 0) {
		r.err = fmt.Errorf("%q is no text of MQTT", s)
	}
	return s
}

func (r *reader) variable() int {
	n := 0
	for i := range 4 {
		b := r.byte()
		n |= int(b&0x7F) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				r.err = errors.New("a variable byte integer is longer than it has to be")
			}
			return n
		}
	}
	r.err = errors.New("a variable byte integer has more than 4 bytes")
	return 0
}

func (r *reader) props() (all props) {
	in := reader{b: r.take(r.variable())}
	for len(in.b) > 0 && in.err == nil {
		p := prop{id: in.byte()}
		switch forms[p.id] {
		case "byte":
			p.n = uint32(in.byte())
		case "two":
			p.n = uint32(in.two())
		case "four":
			p.n = in.four()
		case "variable":
			p.n = uint32(in.variable())
		case "text":
			p.s = in.text()
		case "binary":
			p.s = in.bytes()
		case "pair":
			p.s, p.value = in.text(), in.text()
		default:
			in.err = fmt.Errorf("there is no property 0x%02x", p.id)
		}
		all = append(all, p)
	}
	if r.err == nil {
		r.err = in.err
	}
	return all
}
