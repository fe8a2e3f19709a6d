package ingest

import (
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/packet"
	"github.com/tributary-edge/tributary/log/record"
)

// An outgoing is a record on its way to subscribers.
type outgoing struct {
	ledger tributary.LedgerID
	lsn    tributary.LSN
	entry  *record.Entry
	retain bool // it was published with RETAIN

	name   []byte
	origin string // the client id of its publisher
	qos    byte   // as published
	props  []byte // of MQTT 5, encoded
}

// open takes up what the record says of the message. It returns false for a
// record that was none, and for a message that has expired.
func (m *outgoing) open(now time.Time) bool {
	plain := true
	for i := range m.entry.Headers {
		h := &m.entry.Headers[i]
		switch h.Key {
		case headerTopic:
			m.name = h.Value
		case headerClientID:
			m.origin = unsafeString(h.Value)
		case headerQoS:
			if len(h.Value) == 1 && h.Value[0] >= '0' && h.Value[0] <= '2' {
				m.qos = h.Value[0] - '0'
			}
		case headerPacketID, headerStamp, headerDeadReason, headerRetain, headerWritten:
		default:
			plain = false
		}
	}
	if m.name == nil {
		return false
	}
	if plain {
		return true
	}
	p, ok := propertiesOf(m.entry, now)
	m.props = packet.AppendProperties(m.props[:0], &p)
	return ok
}

func (m *outgoing) topic() string { return unsafeString(m.name) }

// unsafeString returns b as a string, for as long as nobody changes b.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// out returns the message as a PUBLISH that has no packet id yet.
func (m *outgoing) out(qos byte, retain bool, ids []uint32) packet.Out {
	return packet.Out{Topic: m.name, Payload: m.entry.Value, QoS: qos, Retain: retain, Properties: m.props, SubscriptionIDs: ids}
}

// frames are the forms of one QoS 0 message, made when they are asked for.
type frames struct {
	made    [2][2][]byte // by: is it MQTT 5, is RETAIN set
	scratch []byte
}

func (f *frames) reset() {
	for i := range f.made {
		for j := range f.made[i] {
			f.made[i][j] = f.made[i][j][:0]
		}
	}
}

// of returns the message as a packet. It is good until the next call.
func (f *frames) of(m *outgoing, version byte, retain bool, ids []uint32) []byte {
	out := m.out(0, retain, ids)
	if len(ids) > 0 && version == 5 {
		f.scratch = packet.AppendPublish(f.scratch[:0], &out, version)
		return f.scratch
	}
	made := &f.made[index(version == 5)][index(retain)]
	if len(*made) == 0 {
		*made = packet.AppendPublish(slices.Grow(*made, len(m.name)+len(m.entry.Value)+16), &out, version)
	}
	return *made
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// propertiesOf returns what MQTT 5 sends along with a message. It returns false
// for one that has expired.
func propertiesOf(e *record.Entry, now time.Time) (p packets.Properties, ok bool) {
	ok = true
	for _, h := range e.Headers {
		switch h.Key {
		case headerTopic, headerClientID, headerPacketID, headerStamp, headerDeadReason, headerQoS, headerRetain, headerWritten:
		case headerContentType:
			p.ContentType = string(h.Value)
		case headerResponseTopic:
			p.ResponseTopic = string(h.Value)
		case headerCorrelationData:
			p.CorrelationData = h.Value
		case headerPayloadFormat:
			p.PayloadFormatFlag = true
			if string(h.Value) == "1" {
				p.PayloadFormat = 1
			}
		case headerExpiry:
			seconds, _ := strconv.ParseInt(string(h.Value), 10, 64)
			left := seconds - (now.UnixMilli()-e.Millis)/1000
			if left <= 0 {
				ok = false
				continue
			}
			p.MessageExpiryInterval = uint32(min(left, seconds)) // a clock that was set back does not prolong it
		default:
			p.User = append(p.User, packets.UserProperty{Key: headerToUser(h.Key), Val: string(h.Value)})
		}
	}
	return p, ok
}
