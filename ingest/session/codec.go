package session

import (
	"encoding/binary"
	"errors"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/topic"
	"github.com/tributary-edge/tributary/log/record"
)

// ErrDamaged says that bytes are no event or no state: they were damaged, or
// another version of the program has written them. Nothing was changed.
var ErrDamaged = errors.New("damaged, or written by another version of the program")

// Bits of an item's first byte.
const (
	flagQoS2 = 1 << iota
	flagRetain
	flagCopied
	flagReceived
	flagIDs
	flagInherited
	flagsEnd
)

// An encoder writes items and positions. Ledgers are numbered as they come up;
// their table goes before what it has written.
type encoder struct {
	b       []byte
	ledgers []*ledger
	lsn     tributary.LSN // of the last position
}

func (e *encoder) position(p position) {
	number := 0
	if p.ledger != nil {
		for number < len(e.ledgers) && e.ledgers[number] != p.ledger {
			number++
		}
		if number == len(e.ledgers) {
			e.ledgers = append(e.ledgers, p.ledger)
		}
		number++
	}
	e.b = binary.AppendUvarint(e.b, uint64(number))
	e.b = binary.AppendVarint(e.b, int64(p.lsn-e.lsn))
	e.lsn = p.lsn
}

func (e *encoder) item(it *item) {
	flags := byte(0)
	set := func(flag byte, on bool) {
		if on {
			flags |= flag
		}
	}
	set(flagQoS2, it.qos == 2)
	set(flagRetain, it.retain)
	set(flagCopied, it.origin == copied)
	set(flagInherited, it.origin == inherited)
	set(flagReceived, it.received)
	set(flagIDs, len(it.ids()) > 0)
	e.b = append(e.b, flags)
	e.position(it.at)
	if n := len(it.ids()); n > 0 {
		e.b = binary.AppendUvarint(e.b, uint64(n))
		for _, id := range it.ids() {
			e.b = binary.AppendUvarint(e.b, uint64(id))
		}
	}
	if c := it.entry(); c != nil {
		e.b = appendBytes(e.b, appendEntry(nil, c))
	}
}

// appendTo appends the table of ledgers, and then all that was written.
func (e *encoder) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(e.ledgers)))
	for _, l := range e.ledgers {
		b = append(b, l.id[:]...)
	}
	return append(b, e.b...)
}

func appendEntry(b []byte, c *record.Entry) []byte {
	b = appendBytes(b, c.Stream)
	b = binary.AppendVarint(b, int64(c.Partition))
	b = binary.AppendUvarint(b, uint64(c.LSN))
	b = binary.AppendVarint(b, c.Offset)
	b = binary.AppendVarint(b, c.Logged)
	return record.Append(b, &c.Record, c.Millis, 0)
}

func appendBytes[T ~string | ~[]byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendSubscription(b []byte, sub *topic.Subscription) []byte {
	b = appendBytes(b, sub.Filter)
	flags := sub.QoS&3 | sub.RetainHandling&3<<4
	if sub.NoLocal {
		flags |= 1 << 2
	}
	if sub.RetainAsPublished {
		flags |= 1 << 3
	}
	return binary.AppendUvarint(append(b, flags), uint64(sub.ID))
}

func appendWill(b []byte, w *Will) []byte {
	if w == nil {
		return append(b, 0)
	}
	flags := 1 | w.QoS&3<<1
	if w.Retain {
		flags |= 1 << 3
	}
	b = appendBytes(append(b, flags), w.Topic)
	b = appendBytes(b, w.Payload)
	b = binary.BigEndian.AppendUint32(b, w.DelaySeconds)
	return appendBytes(b, w.Properties)
}

// A decoder reads from b and remembers the first failure, so that its user
// checks once, at the end. What it returns does not point into b.
type decoder struct {
	b       []byte
	bad     bool
	store   *Store
	ledgers []tributary.LedgerID
	lsn     tributary.LSN
}

func (d *decoder) fail() { d.b, d.bad = nil, true }

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many things of at least size bytes follow.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) string() string { return string(d.take(d.uvarint())) }

// bytes reads bytes, of which none are nil.
func (d *decoder) bytes() []byte { return append([]byte(nil), d.take(d.uvarint())...) }

// sequence reads the number of an event or a session.
func (d *decoder) sequence() uint64 {
	v := d.uvarint()
	if v == 0 || v >= 1<<62 {
		d.fail()
	}
	return v
}

func (d *decoder) table() {
	for range d.count(len(tributary.LedgerID{})) {
		var id tributary.LedgerID
		copy(id[:], d.take(uint64(len(id))))
		d.ledgers = append(d.ledgers, id)
	}
}

func (d *decoder) position() position {
	number := d.uvarint()
	d.lsn += tributary.LSN(d.varint())
	switch {
	case number > uint64(len(d.ledgers)):
		d.fail()
		return position{}
	case number == 0:
		return position{lsn: d.lsn}
	default:
		return d.store.position(d.ledgers[number-1], d.lsn)
	}
}

// minItem is the least that an item takes: flags and a position.
const minItem = 3

func (d *decoder) item() item {
	flags := d.byte()
	it := item{
		at:       d.position(),
		qos:      1 + flags&flagQoS2,
		retain:   flags&flagRetain != 0,
		received: flags&flagReceived != 0,
	}
	switch flags & (flagCopied | flagInherited) {
	case flagCopied:
		it.origin = copied
	case flagInherited:
		it.origin = inherited
	case flagCopied | flagInherited:
		d.fail()
	}
	if it.at.ledger == nil || flags >= flagsEnd || it.received && it.qos == 1 {
		d.fail()
	}
	if it.received && flags&flagIDs != 0 {
		d.fail()
	}
	var m more
	if flags&flagIDs != 0 {
		m.ids = make([]uint32, d.count(1))
		for i := range m.ids {
			m.ids[i] = uint32(d.uvarint())
		}
	}
	if it.origin == copied && !it.received {
		m.entry = d.entry()
	}
	if m.ids != nil || m.entry != nil {
		it.more = &m
	}
	return it
}

func (d *decoder) entry() *record.Entry {
	in := decoder{b: d.bytes()}
	var e record.Entry
	stream, partition := in.string(), in.varint()
	e.LSN, e.Offset, e.Logged = tributary.LSN(in.uvarint()), in.varint(), in.varint()
	if _, rest, err := record.Decode(in.b, &e.Record); err != nil || in.bad || len(rest) > 0 || int64(int32(partition)) != partition {
		d.fail()
		return nil
	}
	e.Stream, e.Partition = stream, int32(partition)
	return &e
}

func (d *decoder) subscription() topic.Subscription {
	sub := topic.Subscription{Filter: d.string()}
	flags := d.byte()
	sub.QoS, sub.RetainHandling = flags&3, flags>>4&3
	sub.NoLocal, sub.RetainAsPublished = flags&(1<<2) != 0, flags&(1<<3) != 0
	sub.ID = uint32(d.uvarint())
	if sub.QoS > 2 || flags>>6 != 0 || sub.Filter == "" {
		d.fail()
	}
	return sub
}

func (d *decoder) will() *Will {
	flags := d.byte()
	if flags == 0 {
		return nil
	}
	w := &Will{QoS: flags >> 1 & 3, Retain: flags&(1<<3) != 0, Topic: d.string(), Payload: d.bytes(), DelaySeconds: d.uint32(), Properties: d.bytes()}
	if flags>>4 != 0 || flags&1 == 0 || w.QoS > 2 {
		d.fail()
	}
	return w
}
