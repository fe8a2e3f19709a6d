package ingest

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/log/record"
)

// Wills are known on all gateways as well, so that one of them can publish those of a
// gateway that has died (R54). They are told and compared as retained messages are,
// under names that no topic has; the last gateway that let the client in has the word.
// They are not in the checkpoint: the home gateway has them in its log.
const willPrefix = "\x00"

// Headers of a will as gateways tell it to one another. Its topic is the name, its value
// is never empty.
const (
	headerWillTopic   = "_topic"
	headerWillPayload = "_payload"
	headerWillUser    = "_user"
	headerWillDelay   = "_delay" // seconds: 4 bytes, big endian
	headerWillProps   = "_properties"
)

func isWill(name string) bool { return len(name) > 0 && name[0] == willPrefix[0] }

// shareWill lets the other gateways know what is to be published if this one dies
// while it serves c.
func (d *Door) shareWill(c *conn, w *will) {
	if d.out.kept.stamps == nil {
		return
	}
	e := willEntry(c.id)
	delay := w.delay
	if !c.lasting {
		delay = 0
	}
	e.Value = []byte{1}
	e.Headers = append(e.Headers,
		record.Header{Key: headerWillTopic, Value: w.topic},
		record.Header{Key: headerWillPayload, Value: w.payload},
		record.Header{Key: headerQoS, Value: qosValue[w.qos]},
		record.Header{Key: headerWillUser, Value: []byte(c.claimed)},
		record.Header{Key: headerWillDelay, Value: binary.BigEndian.AppendUint32(nil, delay)},
		record.Header{Key: headerWillProps, Value: encodeWill(w.props)})
	if w.retain {
		e.Headers = append(e.Headers, record.Header{Key: headerRetain, Value: qosValue[1]})
	}
	d.tellWill(e)
}

// unshareWill lets the others know that there is none any more: if this gateway has told
// of it, or in any case, because the client is here.
func (d *Door) unshareWill(client string, inAnyCase bool) {
	r, e := d.out.kept, willEntry(client)
	if r.stamps == nil || r.entry(willPrefix+client) == nil {
		return
	}
	if s, known := r.stamps.of(willPrefix + client); inAnyCase || known && s.node == r.self {
		d.tellWill(e)
	}
}

func willEntry(client string) *record.Entry {
	return &record.Entry{Record: record.Record{Headers: []record.Header{{Key: headerTopic, Value: []byte(willPrefix + client)}}}}
}

func (d *Door) tellWill(e *record.Entry) {
	r, name := d.out.kept, string(e.Header(headerTopic))
	if r.set(name, e, stamp{r.stamps.clock.now(), r.self}) {
		if item := r.saved(name); item != nil {
			d.opt.Share(item)
		}
	}
}

// A Heirloom is the will of a client of another gateway.
type Heirloom struct {
	Client       string
	DelaySeconds uint32
}

// Testators returns the gateways, without this one, that have clients with wills. It may
// be called at any time.
func (d *Door) Testators() (all []tributary.NodeID) {
	r := d.out.kept
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.wills {
		s, known := r.stamps.of(name)
		if known && s.node != r.self && !slices.Contains(all, s.node) {
			all = append(all, s.node)
		}
	}
	return all
}

// Heirlooms returns the wills of the clients of a gateway. It may be called at any time.
func (d *Door) Heirlooms(of tributary.NodeID) (all []Heirloom) {
	r := d.out.kept
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, e := range r.wills {
		if s, known := r.stamps.of(name); known && s.node == of {
			h := Heirloom{Client: name[len(willPrefix):]}
			if b := e.Header(headerWillDelay); len(b) == 4 {
				h.DelaySeconds = binary.BigEndian.Uint32(b)
			}
			all = append(all, h)
		}
	}
	return all
}

// Inherit publishes the will of a client of another gateway, which has died, unless the
// client has come to a gateway since. The rules are asked as for the client itself. If
// two gateways do not know of one another, both may publish it.
func (d *Door) Inherit(of tributary.NodeID, client string) {
	r, name := d.out.kept, willPrefix+client
	e := r.entry(name)
	if s, known := r.stamps.of(name); e == nil || !known || s.node != of {
		return
	}
	d.unshareWill(client, true)
	m := message{
		topic: e.Header(headerWillTopic), payload: e.Header(headerWillPayload), retain: e.Header(headerRetain) != nil,
		props: decodeWill(e.Header(headerWillProps)),
	}
	if q := e.Header(headerQoS); len(q) == 1 && q[0] >= '0' && q[0] <= '2' {
		m.qos = q[0] - '0'
	}
	if len(m.topic) == 0 || bytes.ContainsAny(m.topic, "+#\x00") || d.topicCode(m.topic) != 0 {
		return // of another version of the program
	}
	user := string(e.Header(headerWillUser))
	d.sendWill(&will{message: m, c: &conn{door: d, id: client, user: user, claimed: user, idBytes: []byte(client), v5: true}})
}
